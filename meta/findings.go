package meta

import (
	"context"
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"cairn"
	"cairn/meta/replica"
)

// The history of findings lies in the order in which they were resolved. Two of the same shard at the same instant are one.

func findingKey(f *cairn.Finding) []byte {
	b := appendID(key1(famFinding, uint64(f.Resolved.UnixNano())), uint64(f.Shard.Volume))
	b = append(appendID(b, uint64(f.Shard.Blob)), f.Shard.Slot)
	return append(b, f.Drive[:]...)
}

// AddFindings commits findings that are no damage to be repaired. Those without a time get the commit's.
func (s *Store) AddFindings(ctx context.Context, list []cairn.Finding) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		for i := range list {
			f := list[i]
			if f.Found.IsZero() {
				f.Found = t.now
			}
			if f.Resolved.IsZero() {
				f.Resolved = t.now
			}
			t.batch.Put(findingKey(&f), encodeFinding(&f))
		}
		return nil
	})
	return fail("meta.add findings", "", err)
}

// Findings returns up to max findings: those that are open, by volume, slot and blob, and then the resolved ones, the
// latest first.
func (s *Store) Findings(ctx context.Context, max int) (list []cairn.Finding, err error) {
	rows, err := s.Damage(ctx, max)
	if err != nil {
		return nil, err
	}
	for _, d := range rows {
		f := d.Finding(cairn.OutcomeOpen, d.Found)
		f.Resolved = cairn.Finding{}.Resolved
		list = append(list, f)
	}
	var closed []cairn.Finding
	err = s.walkFindings(ctx, func() { closed = nil }, func(key, row []byte) error {
		f, err := decodeFinding(key, row)
		closed = append(closed, f)
		return err
	})
	slices.Reverse(closed)
	list = append(list, closed...)
	return list[:min(max, len(list))], fail("meta.findings", "", err)
}

// TrimFindings forgets the oldest resolved findings but keep of them.
func (s *Store) TrimFindings(ctx context.Context, keep int) error {
	var keys [][]byte
	err := s.walkFindings(ctx, func() { keys = nil }, func(key, _ []byte) error {
		keys = append(keys, slices.Clone(key))
		return nil
	})
	for drop := keys[:max(0, len(keys)-keep)]; err == nil && len(drop) > 0; {
		n := min(len(drop), maxCleared)
		_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
			for _, key := range drop[:n] {
				t.batch.Delete(key)
			}
			return nil
		})
		drop = drop[n:]
	}
	return fail("meta.trim findings", "", err)
}

// walkFindings calls f with each row, the oldest first; begin runs before the first one, again if the walk begins anew.
func (s *Store) walkFindings(ctx context.Context, begin func(), f func(key, row []byte) error) error {
	return s.read(ctx, s.groups.system(), func(w *replica.View) error {
		begin()
		return w.Walk([]byte{famFinding}, []byte{famFinding + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				if err := f(c.Key(), row); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func encodeFinding(f *cairn.Finding) []byte {
	row := putTime(putBytes(nil, 1, f.Kind), 2, f.Found)
	row = putInt(row, 3, f.Count)
	row = putBytes(putBytes(row, 4, f.By), 5, f.Note)
	row = putUint(row, 6, uint64(f.Tries))
	row = putBytes(row, 7, string(f.Outcome))
	return putTime(row, 8, f.Resolved)
}

func decodeFinding(key, row []byte) (f cairn.Finding, err error) {
	const length = 1 + 8 + 8 + 8 + 1 + 16
	if len(key) != length {
		return f, corruptRow("finding's key")
	}
	f.Shard = cairn.ShardID{Volume: cairn.VolumeID(binary.BigEndian.Uint64(key[9:])),
		Blob: cairn.BlobID(binary.BigEndian.Uint64(key[17:])), Slot: key[25]}
	f.Drive = cairn.DriveID(key[26:])
	err = eachField(row, func(n protowire.Number, v field) error {
		switch n {
		case 1:
			f.Kind = string(v.bytes)
		case 2:
			f.Found = v.time()
		case 3:
			f.Count = v.int()
		case 4:
			f.By = string(v.bytes)
		case 5:
			f.Note = string(v.bytes)
		case 6:
			f.Tries = int(v.num)
		case 7:
			f.Outcome = cairn.Outcome(v.bytes)
		case 8:
			f.Resolved = v.time()
		}
		return nil
	})
	return f, err
}
