package meta

import (
	"context"
	"errors"
	"time"

	"cairn"
	"cairn/events"
	"cairn/lifecycle"
	"cairn/meta/replica"
)

// Expired counts what a pass of ExpireDue did.
type Expired struct {
	Due     int // due rows that were read
	Looked  int // rows of versions that were read for them
	Hidden  int // current versions that a delete marker hides now
	Removed int // versions and delete markers that are gone
	Aborted int // uploads
}

func (e *Expired) add(o Expired) {
	e.Due += o.Due
	e.Looked += o.Looked
	e.Hidden += o.Hidden
	e.Removed += o.Removed
	e.Aborted += o.Aborted
}

const (
	// maxDuePerCommit bounds the keys and uploads that one commit of ExpireDue is about.
	maxDuePerCommit = 64
	// maxRemovedPerKey bounds the versions of one key that go in one commit; the rest goes in the next ones.
	maxRemovedPerKey = 500
)

// ExpireDue lets lifecycle rules act on what is due at now, at most max due rows, oldest first. Its work is proportional to
// what is due: it reads no other rows. Repeat it until Due is 0. It may run on several gateways at once.
func (s *Store) ExpireDue(ctx context.Context, now time.Time, max int) (Expired, error) {
	const op = "meta.expire"
	items, err := s.due(ctx, now, max)
	total := Expired{Due: len(items)}
	for len(items) > 0 && err == nil {
		n := min(len(items), maxDuePerCommit)
		var done Expired
		done, err = s.expireItems(ctx, now, items[:n])
		total.add(done)
		items = items[n:]
	}
	return total, fail(op, "", err)
}

func (s *Store) due(ctx context.Context, now time.Time, max int) (items []dueItem, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		items = nil
		return w.Walk([]byte{famDue}, key1(famDue, uint64(now.UnixNano())+1), func(c replica.Cursor) error {
			for ; c.Valid() && len(items) < max; c.Next() {
				value, err := c.Value()
				if err != nil {
					return err
				}
				d, err := parseDue(c.Key(), value)
				if err != nil {
					return err
				}
				items = append(items, d)
			}
			return nil
		})
	})
	return items, err
}

// expireItems decides on several due rows in one commit. A key that several rows name is looked at once.
func (s *Store) expireItems(ctx context.Context, now time.Time, items []dueItem) (done Expired, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		done, t.now = Expired{}, now
		for i := range items {
			t.batch.Delete(items[i].row) // before any row is made: it may be the same one
		}
		seen := make(map[string]bool)
		for i := range items {
			d := &items[i]
			id := d.bucket + "/" + d.key + "\x00" + d.upload
			if seen[id] {
				continue
			}
			seen[id] = true
			b, err := t.bucket(d.bucket)
			if isNotFound(err) || err == nil && b.ID != d.id {
				continue // the bucket is gone, and all that was in it
			}
			if err != nil {
				return err
			}
			if err := t.expireItem(b, d, &done); err != nil {
				return err
			}
		}
		return nil
	})
	return done, err
}

func (t *txn) expireItem(b cairn.Bucket, d *dueItem, done *Expired) error {
	if d.kind == dueUpload {
		return t.expireUpload(b, d, done)
	}
	o, err := t.object(b, d.key)
	if err != nil || o.rules == nil {
		return err
	}
	o.expires = true
	rows, facts, err := o.all()
	if err != nil {
		return err
	}
	done.Looked += len(rows)
	plan := o.rules.Plan(d.key, facts, b.Version != cairn.VersioningOff, t.now)
	if plan.Hide {
		done.Hidden++
		o.lookAgain()
		_, err := o.hide()
		return err
	}
	if len(plan.Remove) > maxRemovedPerKey {
		plan.Remove = plan.Remove[len(plan.Remove)-maxRemovedPerKey:] // the oldest first
		o.lookAgain()
	}
	for _, i := range plan.Remove {
		if rows[i] == o.current {
			err = o.removeCurrent()
		} else {
			err = o.removeOlder(rows[i])
		}
		if err == nil {
			err = o.tell(events.ExpiredDelete, &rows[i].v)
		}
		if err != nil {
			return err
		}
		done.Removed++
	}
	o.putDue(plan.Current, dueCurrent)
	o.putDue(plan.Other, dueKey)
	o.done()
	return nil
}

// all returns every version of the key, newest first, and what rules look at of them.
func (o *object) all() (rows []*versionRow, facts []lifecycle.Version, err error) {
	add := func(r *versionRow) error {
		f, err := r.facts()
		rows, facts = append(rows, r), append(facts, f)
		return err
	}
	if o.current != nil {
		if err := add(o.current); err != nil {
			return nil, nil, err
		}
	}
	if o.bucket.Version == cairn.VersioningOff {
		return rows, facts, nil
	}
	prefix := escapedKey(famOlder, o.bucket.ID, o.key)
	err = o.t.view.Walk(prefix, after(prefix), func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			r, err := decodeVersion(append([]byte(nil), row...))
			if err != nil {
				return err
			}
			r.v.Bucket, r.v.Key = o.bucket.Name, o.key
			if err := add(&r); err != nil {
				return err
			}
		}
		return nil
	})
	return rows, facts, err
}

func (t *txn) expireUpload(b cairn.Bucket, d *dueItem, done *Expired) error {
	u, err := t.upload(b, d.key, d.upload)
	var gone *UploadError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return err
	}
	rules, err := t.rules.of(&b)
	if err != nil {
		return err
	}
	due, _ := rules.AbortDue(u.Key, u.Created)
	if due.IsZero() {
		return nil
	}
	if due.After(t.now) {
		t.batch.Put(dueRow(due, b.ID, u.Key, dueUpload, u.ID), []byte(b.Name))
		return nil
	}
	done.Aborted++
	return t.abort(b, u)
}
