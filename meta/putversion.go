package meta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"cairn"
	"cairn/events"
	"cairn/meta/replica"
)

// Validate refuses what cannot be committed.
func (r *PutVersion) Validate() error {
	v := &r.Version
	if err := validKey(v.Key); err != nil {
		return err
	}
	size := int64(len(v.Layout.Inline))
	if size > 0 && len(v.Layout.Blobs) > 0 {
		return invalid("a layout is inline or a list of blobs")
	}
	for _, b := range v.Layout.Blobs {
		size += b.Length
	}
	if size != storedSize(v) || v.DeleteMarker {
		return invalid("layout of %d bytes for a version of %d", size, v.Size)
	}
	return nil
}

// PutVersion commits a version and returns it with its ID. Errors: ErrNotFound (*BucketError; or If-Match without a
// version), ErrPrecondition, ErrStaleEpoch, ErrInvalid (ErrNoLock, too), ErrForbidden (*LockError), ErrTooLarge; ErrUnavailable, ErrQuorum and ErrCanceled leave the
// outcome unknown, and the request may be repeated with its RequestID.
func (s *Store) PutVersion(ctx context.Context, r PutVersion) (cairn.Version, error) {
	const op = "meta.put version"
	subject := r.Version.Bucket + "/" + r.Version.Key
	v := r.Version
	if err := r.Validate(); err != nil {
		return v, fail(op, subject, err)
	}
	g := s.groups.of(0, v.Key)
	if o, ok, err := s.repeated(ctx, g, r.RequestID); err != nil || ok {
		if err == nil {
			err = decodePutResult(o.Result, &v)
		}
		return v, fail(op, subject, err)
	}
	lock := s.locks.of(0, v.Key)
	lock.Lock()
	defer lock.Unlock()
	o, err := s.change(ctx, g, r.RequestID, func(t *txn) error {
		v = r.Version
		b, err := t.bucket(v.Bucket)
		if err != nil {
			return err
		}
		obj, err := t.object(b, v.Key)
		if err != nil {
			return err
		}
		if err := r.If.check(obj.version()); err != nil {
			return err
		}
		if err := t.source(r.Source); err != nil {
			return err
		}
		if err := t.link(v.Layout.Blobs, r.NewBlobs, subject); err != nil {
			return err
		}
		if r.Source != nil && !r.Append {
			obj.event = events.CreatedCopy
		}
		if err := obj.put(&v, ""); err != nil {
			return err
		}
		obj.done()
		t.batch.Result = encodePutResult(&v)
		return nil
	})
	if err == nil && o.Repeat {
		err = decodePutResult(o.Result, &v)
	}
	return v, fail(op, subject, err)
}

// source fails unless a version that is copied from is still there.
func (t *txn) source(ref *VersionRef) error {
	if ref == nil {
		return nil
	}
	b, err := t.bucket(ref.Bucket)
	if err != nil {
		return err
	}
	t.batch.Check(objectKey(famCurrent, b.ID, ref.Key)) // guards all versions of the key
	if _, err := findVersion(t.view, b, *ref); err != nil {
		if isNotFound(err) {
			return fmt.Errorf("copy source %s/%s is gone: %w", ref.Bucket, ref.Key, cairn.ErrPrecondition)
		}
		return err
	}
	return nil
}

// repeated asks whether a caller's request ID was committed before.
func (s *Store) repeated(ctx context.Context, g *replica.Group, id uint64) (replica.Outcome, bool, error) {
	if id == 0 {
		return replica.Outcome{}, false, nil
	}
	return g.Seen(ctx, id)
}

// encodePutResult keeps what the commit assigned: ID, null, modification time.
func encodePutResult(v *cairn.Version) []byte {
	b := appendID(nil, uint64(v.ID))
	b = appendID(b, uint64(v.Modified.UnixNano()))
	flags := byte(0)
	if v.Null {
		flags |= 1
	}
	if v.Versioned {
		flags |= 2
	}
	return append(b, flags)
}

var errResult = errors.New("the request ID was used by another kind of request")

func decodePutResult(b []byte, v *cairn.Version) error {
	if len(b) != 17 {
		return fmt.Errorf("%w: %w", errResult, cairn.ErrInvalid)
	}
	v.ID = cairn.VersionID(binary.BigEndian.Uint64(b))
	v.Modified = time.Unix(0, int64(binary.BigEndian.Uint64(b[8:]))).UTC()
	v.Null, v.Versioned = b[16]&1 != 0, b[16]&2 != 0
	return nil
}
