package meta

import (
	"context"
	"errors"
	"fmt"

	"cairn"
	"cairn/events"
	"cairn/meta/replica"
)

// Rename gives a version another key of its bucket.
type Rename struct {
	Bucket, From, To string
	// Check sees the version and the one that it would replace (nil for none), without their layouts, in the commit; its
	// error ends the rename. It may run more than once.
	Check func(from cairn.Version, to *cairn.Version) error
	// RequestID makes a retried rename take effect once; 0 lets the store draw one.
	RequestID uint64
}

// ErrKeepsVersions: what was asked for is possible only in a bucket that never kept versions. It is an ErrInvalid.
var ErrKeepsVersions = fmt.Errorf("the bucket keeps versions: %w", cairn.ErrInvalid)

// Rename moves a version to another key, with all that belongs to it, in one commit: whoever looks sees it under one key,
// never under both or none. A version that is in its way is replaced. Errors: ErrNotFound (*BucketError), ErrInvalid (one
// key twice; ErrKeepsVersions), and what Check returns.
func (s *Store) Rename(ctx context.Context, r Rename) (v cairn.Version, err error) {
	const op = "meta.rename"
	subject := r.Bucket + "/" + r.From
	if err := validKey(r.To); err != nil {
		return v, fail(op, subject, err)
	}
	if r.From == r.To {
		return v, fail(op, subject, invalid("a key cannot be renamed to itself"))
	}
	g := s.groups.of(0, r.From)
	if o, ok, err := s.repeated(ctx, g, r.RequestID); err != nil || ok {
		v.Bucket, v.Key = r.Bucket, r.To
		if err == nil {
			err = decodePutResult(o.Result, &v)
		}
		return v, fail(op, subject, err)
	}
	o, err := s.change(ctx, g, r.RequestID, func(t *txn) error {
		b, err := t.bucket(r.Bucket)
		if err != nil {
			return err
		}
		if b.Version != cairn.VersioningOff {
			return ErrKeepsVersions
		}
		v, err = t.rename(b, &r)
		return err
	})
	if err == nil && o.Repeat {
		err = decodePutResult(o.Result, &v)
	}
	return v, fail(op, subject, err)
}

func (t *txn) rename(b cairn.Bucket, r *Rename) (v cairn.Version, err error) {
	from, err := t.object(b, r.From)
	if err != nil {
		return v, err
	}
	to, err := t.object(b, r.To)
	if err != nil {
		return v, err
	}
	if from.current == nil {
		return v, cairn.ErrNotFound
	}
	if err := r.Check(from.current.v, to.version()); err != nil {
		return v, err
	}
	if v, err = wholeVersion(t.view, b.ID, r.From, from.current); errors.Is(err, errVanished) {
		return v, replica.ErrConflict // it was replaced between two reads
	} else if err != nil {
		return v, err
	}
	if err := from.removeCurrent(); err != nil {
		return v, err
	}
	if err := t.link(v.Layout.Blobs, nil, ""); err != nil {
		return v, err
	}
	if err := from.tell(events.RemovedDelete, &v); err != nil {
		return v, err
	}
	v.Key, to.moved, to.event = r.To, true, events.CreatedCopy
	if err := to.put(&v, ""); err != nil {
		return v, err
	}
	from.done()
	to.done()
	t.batch.Result = encodePutResult(&v)
	return v, nil
}
