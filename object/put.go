package object

import (
	"context"
	"errors"
	"slices"

	"cairn"
	"cairn/meta"
)

// earlyCheckBytes is the body size from which a put asks beforehand whether its conditions hold. A smaller body costs less
// than the look-up would; for all of them the commit decides.
const earlyCheckBytes = 1 << 20

// Put stores one object and commits it as its key's current version. It answers after the commit is durable. Errors: a rule of
// this package, *DigestError, io.ErrUnexpectedEOF for a body shorter than its size, whatever the body's reader returns,
// ErrPrecondition or ErrNotFound of r.If, ErrUnavailable, ErrQuorum, ErrOverloaded, ErrFull, ErrCanceled. After an error that
// leaves the outcome open (ErrUnavailable, ErrCanceled) the object is whole or not there, and a repetition is safe.
func (s *Store) Put(ctx context.Context, r Put) (cairn.Version, error) {
	if err := r.validate(); err != nil {
		return cairn.Version{}, err
	}
	if err := s.checkEarly(ctx, r); err != nil {
		return cairn.Version{}, err
	}
	seal, err := s.newSeal(ctx, r.Bucket, r.Encrypt)
	if err != nil {
		return cairn.Version{}, err
	}
	st, err := s.ingest(ctx, body{
		r: r.Body, size: r.Size, want: r.Want, seal: seal,
		owner:     cairn.Owner{Bucket: r.Bucket, Key: r.Key},
		inlineMax: s.cfg.InlineMax,
	})
	if err != nil {
		return cairn.Version{}, err
	}
	v, err := s.commit(ctx, meta.PutVersion{
		Version: cairn.Version{
			Bucket: r.Bucket, Key: r.Key, Owner: r.Owner,
			Size: st.size, ETag: st.etag, Checksums: []cairn.Checksum{st.checksum},
			Headers: r.What.Headers, Tags: r.What.Tags, Class: r.What.Class, Lock: r.What.Lock, ACL: r.What.ACL,
			Encryption: seal.record(),
			Layout:     st.layout,
		},
		NewBlobs: st.newBlobs,
		If:       r.If,
	})
	if err != nil {
		return v, err
	}
	s.counters.puts.Add(1)
	s.counters.putBytes.Add(st.size)
	if len(st.newBlobs) == 0 {
		s.counters.inlinePuts.Add(1)
	}
	return v, nil
}

func (r *Put) validate() error {
	if err := checkKey("object.put", r.Bucket, r.Key); err != nil {
		return err
	}
	if r.Body == nil {
		return fail("object.put", r.Bucket+"/"+r.Key, cairn.ErrInvalid)
	}
	return checkSize("object.put", r.Bucket+"/"+r.Key, r.Size)
}

// checkEarly fails a large upload whose conditions do not hold before its body is read.
func (s *Store) checkEarly(ctx context.Context, r Put) error {
	if (r.If.IfMatch == nil && r.If.IfNoneMatch == nil) || (r.Size >= 0 && r.Size < earlyCheckBytes) {
		return nil
	}
	v, err := s.cfg.Meta.Version(ctx, meta.VersionRef{Bucket: r.Bucket, Key: r.Key})
	switch {
	case errors.Is(err, cairn.ErrNotFound):
		return checkConditions(r, nil)
	case err != nil:
		return err
	}
	return checkConditions(r, &v)
}

// checkConditions tells whether a put's conditions hold against the current version, nil for none.
func checkConditions(r Put, current *cairn.Version) error {
	subject := r.Bucket + "/" + r.Key
	if len(r.If.IfMatch) > 0 {
		switch {
		case current == nil:
			return fail("object.put", subject, cairn.ErrNotFound)
		case !matches(r.If.IfMatch, current.ETag):
			return fail("object.put", subject, cairn.ErrPrecondition)
		}
	}
	if current != nil && matches(r.If.IfNoneMatch, current.ETag) {
		return fail("object.put", subject, cairn.ErrPrecondition)
	}
	return nil
}

func matches(etags []string, etag string) bool {
	return slices.Contains(etags, "*") || slices.Contains(etags, etag)
}

// commit puts a version; on failure it takes care of the blobs that were written for it.
func (s *Store) commit(ctx context.Context, r meta.PutVersion) (cairn.Version, error) {
	v, err := s.cfg.Meta.PutVersion(ctx, r)
	if err == nil {
		return v, nil
	}
	s.afterCommit(ctx, r.NewBlobs, err)
	if errors.Is(err, cairn.ErrStaleEpoch) {
		// A slot moved between the write and the commit. The bytes have gone by, so only the client can send them again.
		err = fail("object.put", r.Version.Bucket+"/"+r.Version.Key, staleWrite{err})
	}
	return cairn.Version{}, explain(err)
}

// staleWrite turns a stale epoch at the commit into ErrUnavailable: sent again, the write goes to the new slots.
type staleWrite struct{ cause error }

func (e staleWrite) Error() string {
	return "a drive was replaced during the write: " + e.cause.Error()
}

// Unwrap returns ErrUnavailable.
func (e staleWrite) Unwrap() error { return cairn.ErrUnavailable }
