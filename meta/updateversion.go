package meta

import (
	"context"

	"cairn"
	"cairn/events"
)

// UpdateVersion changes what may change of a committed version: its tags, its lock and its access control list. Bytes, headers, IDs and times stay.
type UpdateVersion struct {
	Ref VersionRef
	// Change sees the version without its layout, and may run more than once. What it does to other fields than Tags,
	// Lock and ACL is not kept. Its error ends the update.
	Change func(b cairn.Bucket, v *cairn.Version) error
}

// UpdateVersion applies a change to one version, in one commit, and returns the version without its layout. A delete
// marker is handed to Change when it is named by ID. Errors: ErrNotFound (*BucketError; *MarkerError if a delete marker is
// the newest version and none is named), ErrNoLock, and what Change returns.
func (s *Store) UpdateVersion(ctx context.Context, r UpdateVersion) (v cairn.Version, err error) {
	const op = "meta.update version"
	subject := r.Ref.Bucket + "/" + r.Ref.Key
	lock := s.locks.of(0, r.Ref.Key)
	lock.Lock()
	defer lock.Unlock()
	_, err = s.change(ctx, s.groups.of(0, r.Ref.Key), 0, func(t *txn) error {
		b, err := t.bucket(r.Ref.Bucket)
		if err != nil {
			return err
		}
		o, err := t.object(b, r.Ref.Key)
		if err != nil {
			return err
		}
		v, err = o.update(&r)
		return err
	})
	return v, fail(op, subject, err)
}

func (o *object) update(r *UpdateVersion) (v cairn.Version, err error) {
	target, isCurrent := o.current, true
	if r.Ref.ID != 0 || r.Ref.Null {
		if target, isCurrent, err = o.find(r.Ref); err != nil {
			return v, err
		}
	}
	switch {
	case target == nil && (r.Ref.ID != 0 || r.Ref.Null):
		return v, cairn.ErrNotFound
	case target == nil:
		return v, hidden(o.t.view, o.bucket, o.key)
	}
	v = target.v
	if v.Tags, err = decodeTags(target.tags); err != nil {
		return v, err
	}
	if err := r.Change(o.bucket, &v); err != nil {
		return v, err
	}
	if v.Lock != (cairn.Lock{}) && !o.bucket.Lock.Enabled {
		return v, ErrNoLock
	}
	v.Versioned = o.bucket.Version != cairn.VersioningOff
	if isCurrent {
		if err := o.unschedule(target); err != nil {
			return v, err
		}
	}
	if err := o.tellUpdate(target, &v); err != nil {
		return v, err
	}
	target.v.Lock, target.v.ACL, target.tags = v.Lock, v.ACL, encodeTags(v.Tags)
	key := objectKey(famCurrent, o.bucket.ID, o.key)
	if !isCurrent {
		key = olderKey(o.bucket.ID, o.key, target.v.ID)
	}
	o.lookAgain()
	o.t.batch.Put(key, target.encode())
	o.done()
	return v, nil
}

// tellUpdate tells of new tags and a new list. v is the version as it will be.
func (o *object) tellUpdate(old *versionRow, v *cairn.Version) error {
	switch {
	case v.ACL != old.v.ACL:
		return o.tell(events.ACLPut, v)
	case string(encodeTags(v.Tags)) == string(old.tags):
		return nil
	case len(v.Tags) == 0:
		return o.tell(events.TaggingDelete, v)
	}
	return o.tell(events.TaggingPut, v)
}
