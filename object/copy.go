package object

import (
	"context"
	"errors"
	"fmt"

	"cairn"
	"cairn/meta"
)

// copyTries bounds how often a copy starts again because its source was overwritten meanwhile.
const copyTries = 4

// Copy makes a version from another one: the same blobs, counted once more; no bytes move. The ETag and the parts stay the
// source's. Errors: those of Open for the source, what r.SourceIf.Check returns, those of r.If, ErrInvalid for a delete marker.
func (s *Store) Copy(ctx context.Context, r Copy) (cairn.Version, error) {
	if err := checkKey("object.copy", r.Bucket, r.Key); err != nil {
		return cairn.Version{}, err
	}
	for try := 1; ; try++ {
		v, err := s.copyOnce(ctx, r)
		// The commit refuses a source that was released since it was looked up. Then the next look-up tells what is there
		// now; a precondition of the target fails again, and is the answer.
		if !errors.Is(err, errSourceMoved) || try == copyTries {
			return v, err
		}
	}
}

// errSourceMoved: the source of a copy was overwritten or deleted between look-up and commit.
var errSourceMoved = rule(cairn.ErrUnavailable, "source changed during the copy")

func (s *Store) copyOnce(ctx context.Context, r Copy) (cairn.Version, error) {
	src, err := s.openSource(ctx, r.From, r.SourceIf)
	if err != nil {
		return cairn.Version{}, err
	}
	defer src.Close()
	from := src.Version
	what := Attributes{Headers: from.Headers, Tags: from.Tags, Class: from.Class}
	if r.Replace != nil {
		what = r.Replace(from)
	}
	encryption, moved, err := s.recast(ctx, r, src)
	if err != nil {
		return cairn.Version{}, err
	}
	if moved {
		return s.copyBytes(ctx, r, src, what)
	}
	checksums, err := s.copyChecksums(ctx, src, r.Checksum)
	if err != nil {
		return cairn.Version{}, err
	}
	put := meta.PutVersion{
		Version: cairn.Version{
			Bucket: r.Bucket, Key: r.Key, Owner: r.Owner,
			Size: from.Size, ETag: from.ETag, Checksums: checksums, Parts: from.Parts,
			Headers: what.Headers, Tags: what.Tags, Class: what.Class, Lock: what.Lock, ACL: what.ACL,
			Encryption: encryption,
			Layout:     from.Layout,
		},
		If:     r.If,
		Source: &meta.VersionRef{Bucket: from.Bucket, Key: from.Key, ID: from.ID},
	}
	v, err := s.commit(ctx, put)
	if err == nil {
		s.counters.copies.Add(1)
		return v, nil
	}
	if s.sourceMoved(ctx, r.From, from, err) {
		return cairn.Version{}, fail("object.copy", from.Bucket+"/"+from.Key, errSourceMoved)
	}
	return cairn.Version{}, err
}

// openSource opens what is to be copied and asks the source conditions.
func (s *Store) openSource(ctx context.Context, ref meta.VersionRef, cond SourceConditions) (*Object, error) {
	src, err := s.Open(ctx, ref)
	if err != nil {
		return nil, err
	}
	if src.Version.DeleteMarker {
		err = fail("object.copy", ref.Bucket+"/"+ref.Key, fmt.Errorf("the source is a delete marker: %w", cairn.ErrInvalid))
	} else if cond.Check != nil {
		err = cond.Check(src.Version)
	}
	if err != nil {
		src.Close()
		return nil, err
	}
	return src, nil
}

// sourceMoved tells whether a commit may have failed because its source is no longer what was looked up.
func (s *Store) sourceMoved(ctx context.Context, ref meta.VersionRef, was cairn.Version, err error) bool {
	if !errors.Is(err, cairn.ErrPrecondition) && !errors.Is(err, cairn.ErrNotFound) {
		return false
	}
	now, lookErr := s.cfg.Meta.Version(ctx, ref)
	return errors.Is(lookErr, cairn.ErrNotFound) || (lookErr == nil && now.ID != was.ID)
}

// copyChecksums are the checksums of the copy: the source's, or, if another algorithm is asked for, that of its bytes, which
// are read for it.
func (s *Store) copyChecksums(ctx context.Context, src *Object, algo cairn.ChecksumAlgo) ([]cairn.Checksum, error) {
	if algo == "" {
		return src.Version.Checksums, nil
	}
	if have := pick(src.Version.Checksums, algo); len(have) == 1 && have[0].Parts == 0 {
		return have, nil
	}
	h, err := s.hashers.get(Digests{Checksum: cairn.Checksum{Algo: algo}}, src.Version.Size, MaxObjectBytes)
	if err != nil {
		return nil, err
	}
	defer s.hashers.put(h)
	if err := src.WriteRange(ctx, h, 0, src.Version.Size); err != nil {
		return nil, err
	}
	return []cairn.Checksum{h.sum().checksum}, nil
}
