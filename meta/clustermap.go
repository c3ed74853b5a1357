package meta

import (
	"context"
	"encoding/binary"

	"cairn"
	"cairn/meta/replica"
)

// The cluster map is the rows of volumes, drives and nodes. Its epoch rises with every change of one of them, and an index
// by epoch tells which volumes changed since, each once: a process that holds the map asks for one number when nothing
// happened, and for what changed otherwise, however many volumes there are.
//
//	famChange  epoch → volume: when it changed last
//	famChanged volume → that epoch, to find the entry that the next change replaces

// MapEpoch returns the epoch of the cluster map.
func (s *Store) MapEpoch(ctx context.Context) (at cairn.Epoch, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		at, err = mapEpoch(w)
		return err
	})
	return at, fail("meta.map epoch", "", err)
}

func mapEpoch(w *replica.View) (cairn.Epoch, error) {
	row, found, err := w.Get(keyName(famCounter, counterMap), nil)
	if err != nil || !found {
		return 0, err
	}
	at, err := decodeNumber(row)
	return cairn.Epoch(at), err
}

// ChangedVolumes returns up to max volumes that changed after an epoch of the map, in the order of their last change, and
// the epoch that a caller has reached with them. Volumes that have not changed since this index exists are not told of.
func (s *Store) ChangedVolumes(ctx context.Context, since cairn.Epoch, max int) (list []cairn.Volume, at cairn.Epoch, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		if at, err = mapEpoch(w); err != nil {
			return err
		}
		var ids []cairn.VolumeID
		err := w.Walk(key1(famChange, uint64(since)+1), []byte{famChange + 1}, func(c replica.Cursor) error {
			for ; c.Valid() && len(ids) < max; c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				id, err := decodeNumber(row)
				if err != nil {
					return err
				}
				if ids = append(ids, cairn.VolumeID(id)); len(ids) == max {
					at = cairn.Epoch(binary.BigEndian.Uint64(c.Key()[1:]))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			row, err := getRow(w, key1(famVolume, uint64(id)))
			if err != nil {
				return err
			}
			v, err := decodeVolume(id, row)
			if err != nil {
				return err
			}
			list = append(list, v)
		}
		return nil
	})
	return list, at, fail("meta.changed volumes", "", err)
}

// mapChanged raises the map's epoch and returns it.
func (t *txn) mapChanged() (cairn.Epoch, error) {
	at, err := t.counter(counterMap)
	if err != nil {
		return 0, err
	}
	t.setCounter(counterMap, at+1)
	return cairn.Epoch(at + 1), nil
}

// putVolume writes a volume's row and notes that it changed.
func (t *txn) putVolume(v *cairn.Volume) error {
	at, err := t.mapChanged()
	if err != nil {
		return err
	}
	changed := key1(famChanged, uint64(v.ID))
	row, found, err := t.get(changed)
	if err != nil {
		return err
	}
	if found {
		last, err := decodeNumber(row)
		if err != nil {
			return err
		}
		t.batch.Delete(key1(famChange, last))
	}
	t.batch.Put(changed, appendID(nil, uint64(at)))
	t.batch.Put(key1(famChange, uint64(at)), appendID(nil, uint64(v.ID)))
	t.batch.Put(key1(famVolume, uint64(v.ID)), encodeVolume(v))
	return nil
}
