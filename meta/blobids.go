package meta

import (
	"context"
	"time"

	"cairn"
	"cairn/meta/replica"

	"google.golang.org/protobuf/encoding/protowire"
)

// maxLease bounds one lease of blob IDs.
const maxLease = 1 << 32

// ReserveBlobIDs leases the n blob IDs from first on. IDs rise and are never leased twice. Errors: ErrInvalid.
func (s *Store) ReserveBlobIDs(ctx context.Context, n uint64) (first cairn.BlobID, err error) {
	const op = "meta.reserve blob ids"
	if n == 0 || n > maxLease {
		return 0, fail(op, "", invalid("a lease of %d", n))
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		next, err := t.counter(counterBlob)
		if err != nil {
			return err
		}
		next = max(next, 1) // 0 stands for "no blob"
		first = cairn.BlobID(next)
		t.setCounter(counterBlob, next+n)
		t.batch.Put(key1(famLease, next), putTime(nil, 1, t.now))
		return nil
	})
	return first, fail(op, "", err)
}

// OrphanWatermark returns the smallest blob ID that may still be referenced for the first time: a blob below it that no
// row references is an orphan for ever.
func (s *Store) OrphanWatermark(ctx context.Context) (mark cairn.BlobID, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		row, found, err := w.Get(keyName(famCounter, counterWatermark), nil)
		if err != nil || !found {
			return err
		}
		n, err := decodeNumber(row)
		mark = cairn.BlobID(n)
		return err
	})
	return mark, fail("meta.orphan watermark", "", err)
}

// AdvanceOrphanWatermark moves the watermark to the first ID of the oldest lease that is not older than leasedBefore, or
// to the next ID if all are older, and returns it. From then on no commit may reference a lower blob for the first time.
func (s *Store) AdvanceOrphanWatermark(ctx context.Context, leasedBefore time.Time) (mark cairn.BlobID, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		now, err := t.counter(counterWatermark)
		if err != nil {
			return err
		}
		next, err := t.counter(counterBlob) // also guards against leases made meanwhile
		if err != nil {
			return err
		}
		to, old, err := oldestLease(t.view, leasedBefore, next)
		if err != nil {
			return err
		}
		mark = cairn.BlobID(max(now, to))
		for _, key := range old {
			t.batch.Delete(key)
		}
		if uint64(mark) > now {
			t.setCounter(counterWatermark, uint64(mark))
		}
		return nil
	})
	return mark, fail("meta.advance orphan watermark", "", err)
}

// oldestLease returns the first ID of the oldest lease made at or after t (next if there is none), and the rows before it.
func oldestLease(w *replica.View, t time.Time, next uint64) (first uint64, old [][]byte, err error) {
	first = next
	err = w.Walk([]byte{famLease}, []byte{famLease + 1}, func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			at, err := decodeLease(row)
			if err != nil {
				return err
			}
			if !at.Before(t) {
				first, err = decodeNumber(c.Key()[1:])
				return err
			}
			old = append(old, append([]byte(nil), c.Key()...))
		}
		return nil
	})
	return first, old, err
}

func decodeLease(row []byte) (at time.Time, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		if n == 1 {
			at = f.time()
		}
		return nil
	})
	return at, err
}
