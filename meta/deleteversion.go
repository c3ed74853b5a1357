package meta

import (
	"context"
	"fmt"

	"cairn"
	"cairn/events"
)

// DeleteVersion removes the current version (in a versioned bucket: hides it behind a delete marker) or the one named.
// What is not there is no error unless a condition asks for it: Deleted.Found tells. Errors: ErrNotFound (*BucketError),
// ErrPrecondition, ErrForbidden (*LockError).
func (s *Store) DeleteVersion(ctx context.Context, r DeleteVersion) (d Deleted, err error) {
	const op = "meta.delete version"
	subject := r.Ref.Bucket + "/" + r.Ref.Key
	g := s.groups.of(0, r.Ref.Key)
	if o, ok, err := s.repeated(ctx, g, r.RequestID); err != nil || ok {
		if err == nil {
			d, err = decodeDeleted(o.Result)
		}
		return d, fail(op, subject, err)
	}
	lock := s.locks.of(0, r.Ref.Key)
	lock.Lock()
	defer lock.Unlock()
	o, err := s.change(ctx, g, r.RequestID, func(t *txn) error {
		b, err := t.bucket(r.Ref.Bucket)
		if err != nil {
			return err
		}
		d, err = t.delete(b, &r)
		t.batch.Result = encodeDeleted(d)
		return err
	})
	if err == nil && o.Repeat {
		d, err = decodeDeleted(o.Result)
	}
	return d, fail(op, subject, err)
}

// delete decides one deletion. It changes nothing when it fails.
func (t *txn) delete(b cairn.Bucket, r *DeleteVersion) (Deleted, error) {
	o, err := t.object(b, r.Ref.Key)
	if err != nil {
		return Deleted{}, err
	}
	o.bypass = r.Bypass
	if r.Ref.ID != 0 || r.Ref.Null {
		return o.deleteByID(r)
	}
	if err := r.If.checkDelete(o.version(), o.current == nil && o.newest != 0); err != nil {
		return Deleted{}, err
	}
	if o.current == nil && (b.Version == cairn.VersioningOff || r.If.IfSize != nil || r.If.IfModified != nil) {
		return Deleted{}, nil
	}
	if b.Version == cairn.VersioningOff {
		d := Deleted{Found: true, ID: o.current.v.ID, Null: o.current.v.Null}
		err := o.removeCurrent()
		if err == nil {
			err = o.tell(events.RemovedDelete, &o.current.v)
		}
		o.done()
		return d, err
	}
	return o.hide()
}

// hide adds a delete marker.
func (o *object) hide() (Deleted, error) {
	if err := validKey(o.key); err != nil {
		return Deleted{}, err
	}
	m := versionRow{v: cairn.Version{ID: o.nextID(), DeleteMarker: true, Modified: o.t.now,
		Null: o.bucket.Version == cairn.VersioningSuspended, Owner: o.bucket.Owner}}
	if err := o.makeRoom(m.v.Null); err != nil {
		return Deleted{}, err
	}
	o.t.batch.Put(olderKey(o.bucket.ID, o.key, m.v.ID), m.encode())
	if m.v.Null {
		o.t.batch.Put(objectKey(famNull, o.bucket.ID, o.key), appendID(nil, uint64(m.v.ID)))
	}
	o.versions++
	o.done()
	o.putDue(o.rules.MarkerExpiry(o.key, m.v.Modified), dueKey)
	kind := events.RemovedMarker
	if o.expires {
		kind = events.ExpiredMarker
	}
	if err := o.tell(kind, &m.v); err != nil {
		return Deleted{}, err
	}
	return Deleted{Found: true, ID: m.v.ID, Null: m.v.Null, DeleteMarker: true}, nil
}

// deleteByID removes one version for good. If it hid an older one, that one is current again.
func (o *object) deleteByID(r *DeleteVersion) (Deleted, error) {
	target, isCurrent, err := o.find(r.Ref)
	if err != nil {
		return Deleted{}, err
	}
	if target == nil { // whatever the condition: the version is gone, as the client wants it
		return Deleted{}, nil
	}
	if err := r.If.check(&target.v); err != nil {
		return Deleted{}, err
	}
	if isCurrent {
		if err := o.removeCurrent(); err != nil {
			return Deleted{}, err
		}
		err = o.promote(0)
	} else {
		if err := o.removeOlder(target); err != nil {
			return Deleted{}, err
		}
		if o.current == nil {
			o.lookAgain() // a delete marker may be alone now
			err = o.promote(target.v.ID)
		}
	}
	o.done()
	if err == nil {
		err = o.tell(events.RemovedDelete, &target.v)
	}
	return Deleted{Found: true, ID: target.v.ID, Null: target.v.Null, DeleteMarker: target.v.DeleteMarker}, err
}

// find returns the version that ref names, and whether it is the current one; nil if there is none.
func (o *object) find(ref VersionRef) (*versionRow, bool, error) {
	if c := o.current; c != nil && (ref.Null && c.v.Null || !ref.Null && c.v.ID == ref.ID) {
		return c, true, nil
	}
	id := ref.ID
	if ref.Null {
		n, found, err := o.nullID()
		if err != nil || !found {
			return nil, false, err
		}
		id = n
	}
	r, err := o.older(id)
	return r, false, err
}

// encodeDeleted keeps what a deletion did, for a repeat of its request.
func encodeDeleted(d Deleted) []byte {
	flags := byte(0)
	for i, set := range []bool{d.Found, d.Null, d.DeleteMarker} {
		if set {
			flags |= 1 << i
		}
	}
	return append(appendID(nil, uint64(d.ID)), flags)
}

func decodeDeleted(b []byte) (d Deleted, err error) {
	if len(b) != 9 {
		return d, fmt.Errorf("%w: %w", errResult, cairn.ErrInvalid)
	}
	id, err := decodeNumber(b[:8])
	return Deleted{ID: cairn.VersionID(id), Found: b[8]&1 != 0, Null: b[8]&2 != 0, DeleteMarker: b[8]&4 != 0}, err
}
