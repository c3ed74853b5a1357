package meta

import (
	"context"
	"encoding/binary"

	"cairn"
	"cairn/meta/replica"
)

// AddDamage commits findings. One about a shard that has a row already changes nothing: the first finding stands.
func (s *Store) AddDamage(ctx context.Context, list []cairn.Damage) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		seen := make(map[cairn.ShardID]bool, len(list))
		for i := range list {
			d := list[i]
			_, found, err := t.get(damageKey(d.Shard))
			if err != nil {
				return err
			}
			if found || seen[d.Shard] {
				continue
			}
			seen[d.Shard] = true
			if d.Found.IsZero() {
				d.Found = t.now
			}
			t.batch.Put(damageKey(d.Shard), encodeDamage(&d))
		}
		return nil
	})
	return fail("meta.add damage", "", err)
}

// Damage returns up to max findings, by volume, slot and blob.
func (s *Store) Damage(ctx context.Context, max int) (list []cairn.Damage, err error) {
	err = s.walkDamage(ctx, func() { list = nil }, func(id cairn.ShardID, row []byte) (bool, error) {
		if len(list) == max {
			return false, nil
		}
		d, err := decodeDamage(id, row)
		list = append(list, d)
		return true, err
	})
	return list, fail("meta.damage", "", err)
}

// DamageCount returns how many findings there are of each kind.
func (s *Store) DamageCount(ctx context.Context) (map[cairn.DamageKind]int64, error) {
	counts := make(map[cairn.DamageKind]int64)
	err := s.walkDamage(ctx, func() { clear(counts) }, func(id cairn.ShardID, row []byte) (bool, error) {
		d, err := decodeDamage(id, row)
		counts[d.Kind]++
		return true, err
	})
	return counts, fail("meta.damage count", "", err)
}

// walkDamage calls f with each row; begin runs before the first one, again if the walk begins anew.
func (s *Store) walkDamage(ctx context.Context, begin func(), f func(id cairn.ShardID, row []byte) (bool, error)) error {
	return s.read(ctx, s.groups.system(), func(w *replica.View) error {
		begin()
		return w.Walk([]byte{famDamage}, []byte{famDamage + 1}, func(c replica.Cursor) error {
			for ; c.Valid(); c.Next() {
				k := c.Key()
				if len(k) != 18 {
					return corruptRow("damage's key")
				}
				id := cairn.ShardID{Volume: cairn.VolumeID(binary.BigEndian.Uint64(k[1:])), Slot: k[9],
					Blob: cairn.BlobID(binary.BigEndian.Uint64(k[10:]))}
				row, err := c.Value()
				if err != nil {
					return err
				}
				if more, err := f(id, row); err != nil || !more {
					return err
				}
			}
			return nil
		})
	})
}

// ResolveDamage takes rows out of the queue and puts what became of them into the history of findings.
func (s *Store) ResolveDamage(ctx context.Context, outcome cairn.Outcome, ids []cairn.ShardID) error {
	for len(ids) > 0 {
		n := min(len(ids), maxCleared)
		_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
			for _, id := range ids[:n] {
				row, found, err := t.get(damageKey(id))
				if err != nil {
					return err
				}
				if !found {
					continue
				}
				d, err := decodeDamage(id, row)
				if err != nil {
					return err
				}
				f := d.Finding(outcome, t.now)
				t.batch.Put(findingKey(&f), encodeFinding(&f))
				t.batch.Delete(damageKey(id))
			}
			return nil
		})
		if err != nil {
			return fail("meta.resolve damage", "", err)
		}
		ids = ids[n:]
	}
	return nil
}

// RetryDamage updates a finding's row, its Tries and Note above all, if it is still there. Errors: ErrNotFound.
func (s *Store) RetryDamage(ctx context.Context, d cairn.Damage) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		_, found, err := t.get(damageKey(d.Shard))
		if err != nil {
			return err
		}
		if !found {
			return cairn.ErrNotFound
		}
		t.batch.Put(damageKey(d.Shard), encodeDamage(&d))
		return nil
	})
	return fail("meta.retry damage", d.Shard.String(), err)
}
