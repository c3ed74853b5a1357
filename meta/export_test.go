package meta

import (
	"context"

	"cairn/meta/replica"
)

// FlushForTest writes every voter's state into tables.
func (s *Store) FlushForTest() { s.groups.system().FlushAll() }

// LeadForTest asks the voter at a home to lead.
func (s *Store) LeadForTest(dir string) { s.groups.system().Lead(dir) }

// BareScan reads rows of current versions as they are: what a page of a listing costs at the least.
func BareScan(ctx context.Context, s *Store, bucket string, max int) (n int, err error) {
	b, err := s.Bucket(ctx, bucket)
	if err != nil {
		return 0, err
	}
	err = s.read(ctx, s.groups.of(b.ID, ""), func(w *replica.View) error {
		from := key1(famCurrent, b.ID)
		return w.Walk(from, after(from), func(c replica.Cursor) error {
			for n = 0; n < max && c.Valid(); n++ {
				if _, err := c.Value(); err != nil {
					return err
				}
				c.Next()
			}
			return nil
		})
	})
	return n, err
}

// ListSteps counts the steps inside the state that a walk over the first max rows of a bucket's current versions makes.
func ListSteps(ctx context.Context, s *Store, bucket string, max int) (steps int, err error) {
	b, err := s.Bucket(ctx, bucket)
	if err != nil {
		return 0, err
	}
	err = s.read(ctx, s.groups.of(b.ID, ""), func(w *replica.View) error {
		from := key1(famCurrent, b.ID)
		return w.Walk(from, after(from), func(c replica.Cursor) error {
			for n := 0; n < max && c.Valid(); n++ {
				c.Next()
			}
			steps = c.Steps()
			return nil
		})
	})
	return steps, err
}

// FillEventQueueForTest makes a target's queue count as full.
func (s *Store) FillEventQueueForTest(ctx context.Context, target string) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		t.batch.Add(keyName(famEventStats, target), maxQueuedEvents, 0)
		return nil
	})
	return err
}

// PutBetweenReads puts r, and has another writer run each time that its decision has read the key's row and not yet what that
// names.
func PutBetweenReads(ctx context.Context, s *Store, r PutVersion, other func() error) error {
	first := true
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		v := r.Version
		b, err := t.bucket(v.Bucket)
		if err != nil {
			return err
		}
		obj, err := t.object(b, v.Key)
		if err != nil {
			return err
		}
		if first {
			first = false
			if err := other(); err != nil {
				return err
			}
		}
		if err := t.link(v.Layout.Blobs, r.NewBlobs, ""); err != nil {
			return err
		}
		if err := obj.put(&v, ""); err != nil {
			return err
		}
		obj.done()
		return nil
	})
	return err
}
