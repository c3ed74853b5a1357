package meta

import (
	"context"
	"fmt"

	"cairn"
	"cairn/meta/replica"
)

// bucket reads a bucket's row, on which the decision then rests.
func (t *txn) bucket(name string) (cairn.Bucket, error) {
	row, found, err := t.get(keyName(famBucket, name))
	if err != nil {
		return cairn.Bucket{}, err
	}
	if !found {
		return cairn.Bucket{}, errNoBucket(name)
	}
	return decodeBucket(row)
}

// BucketError is an ErrNotFound that is about the bucket rather than what is looked for in it.
type BucketError struct{ Bucket string }

// Error names the bucket.
func (e *BucketError) Error() string {
	return fmt.Sprintf("bucket %q: %v", e.Bucket, cairn.ErrNotFound)
}

// Unwrap returns cairn.ErrNotFound.
func (e *BucketError) Unwrap() error { return cairn.ErrNotFound }

func errNoBucket(name string) error { return &BucketError{name} }

func readBucket(w *replica.View, name string) (cairn.Bucket, error) {
	row, found, err := w.Get(keyName(famBucket, name), nil)
	if err != nil {
		return cairn.Bucket{}, err
	}
	if !found {
		return cairn.Bucket{}, errNoBucket(name)
	}
	return decodeBucket(row)
}

// Bucket returns a bucket's row. Errors: ErrNotFound.
func (s *Store) Bucket(ctx context.Context, name string) (b cairn.Bucket, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		b, err = readBucket(w, name)
		return err
	})
	return b, fail("meta.bucket", name, err)
}

// Buckets returns all buckets by name.
func (s *Store) Buckets(ctx context.Context) (list []cairn.Bucket, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk([]byte{famBucket}, []byte{famBucket + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				b, err := decodeBucket(row)
				if err != nil {
					return err
				}
				list = append(list, b)
			}
			return nil
		})
	})
	return list, fail("meta.buckets", "", err)
}

// CreateBucket makes a bucket and gives it an ID; a zero Created becomes now. Errors: ErrExists, with the bucket that exists.
func (s *Store) CreateBucket(ctx context.Context, b cairn.Bucket) (cairn.Bucket, error) {
	const op = "meta.create bucket"
	if b.Name == "" {
		return b, fail(op, b.Name, invalid("a bucket needs a name"))
	}
	made := b
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		row, found, err := t.get(keyName(famBucket, b.Name))
		if err != nil {
			return err
		}
		if found {
			if made, err = decodeBucket(row); err == nil {
				err = cairn.ErrExists
			}
			return err
		}
		made = b
		id, err := t.counter(counterBucket)
		if err != nil {
			return err
		}
		made.ID = id + 1
		if made.Created.IsZero() {
			made.Created = t.now
		}
		t.setCounter(counterBucket, made.ID)
		t.batch.Put(keyName(famBucket, b.Name), encodeBucket(&made))
		return nil
	})
	return made, fail(op, b.Name, err)
}

// UpdateBucket applies change to a bucket's row and commits it; change may run more than once, and may not change name or
// ID. Errors: ErrNotFound, ErrLockState, and what change returns.
func (s *Store) UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (b cairn.Bucket, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		if b, err = t.bucket(name); err != nil {
			return err
		}
		before := b
		if err := change(&b); err != nil {
			return err
		}
		b.Name, b.ID = name, before.ID
		if err := checkLock(&before, &b); err != nil {
			return err
		}
		if err := t.rulesChanged(&before, &b); err != nil {
			return err
		}
		t.batch.Put(keyName(famBucket, name), encodeBucket(&b))
		return nil
	})
	return b, fail("meta.update bucket", name, err)
}

// DeleteBucket removes an empty bucket. Errors: ErrNotFound; ErrNotEmpty while versions, delete markers or uploads exist.
func (s *Store) DeleteBucket(ctx context.Context, name string) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		b, err := t.bucket(name)
		if err != nil {
			return err
		}
		// Whatever is added to the bucket changes its statistics, so checking their row guards against all of it.
		stats := key1(famStats, b.ID)
		t.batch.Check(stats)
		for _, fam := range []byte{famCurrent, famOlder, famUpload} {
			from := key1(fam, b.ID)
			err := t.view.Walk(from, after(from), func(c replica.Cursor) error {
				if c.Valid() {
					return cairn.ErrNotEmpty
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		t.batch.Delete(keyName(famBucket, name))
		t.batch.Delete(key1(famReindex, b.ID))
		t.batch.Delete(stats)
		return nil
	})
	return fail("meta.delete bucket", name, err)
}

// Stats returns what is counted at each commit. Errors: ErrNotFound.
func (s *Store) Stats(ctx context.Context, bucket string) (st BucketStats, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		b, err := readBucket(w, bucket)
		if err != nil {
			return err
		}
		c, err := readCounters(w, key1(famStats, b.ID), 4)
		st = BucketStats{Objects: c[0], Versions: c[1], Bytes: c[2], Uploads: c[3]}
		return err
	})
	return st, fail("meta.stats", bucket, err)
}

// readCounters returns at least n counters of a row.
func readCounters(w *replica.View, key []byte, n int) ([]int64, error) {
	row, _, err := w.Get(key, nil)
	if err != nil {
		return make([]int64, n), err
	}
	list, err := replica.Counters(row)
	for len(list) < n {
		list = append(list, 0)
	}
	return list, err
}

// count changes a bucket's statistics by differences of objects, versions, bytes and uploads.
func (t *txn) count(bucket uint64, objects, versions, bytes, uploads int64) {
	if objects|versions|bytes|uploads == 0 {
		// Still a change of the bucket, for DeleteBucket's check.
		t.batch.Touch(key1(famStats, bucket))
		return
	}
	t.batch.Add(key1(famStats, bucket), objects, versions, bytes, uploads)
}
