package meta

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"cairn"
	"cairn/meta/replica"
)

// CreateVolume commits a new volume and assigns its ID and epoch 1. Errors: ErrInvalid.
func (s *Store) CreateVolume(ctx context.Context, v cairn.Volume) (cairn.Volume, error) {
	const op = "meta.create volume"
	if err := v.Profile.Validate(); err != nil {
		return v, fail(op, "", err)
	}
	if len(v.Slots) != v.Profile.Width() || v.Unit <= 0 || v.Unit%(64<<10) != 0 {
		return v, fail(op, "", invalid("volume of profile %s with %d slots, unit %d", v.Profile, len(v.Slots), v.Unit))
	}
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		id, err := t.counter(counterVolume)
		if err != nil {
			return err
		}
		v.ID, v.Epoch = cairn.VolumeID(id+1), 1
		t.setCounter(counterVolume, id+1)
		return t.putVolume(&v)
	})
	return v, fail(op, v.ID.String(), err)
}

// Volume returns a volume's row. Errors: ErrNotFound.
func (s *Store) Volume(ctx context.Context, id cairn.VolumeID) (v cairn.Volume, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		row, err := getRow(w, key1(famVolume, uint64(id)))
		if err != nil {
			return err
		}
		v, err = decodeVolume(id, row)
		return err
	})
	return v, fail("meta.volume", id.String(), err)
}

// Volumes returns up to max volumes with IDs above after, in order.
func (s *Store) Volumes(ctx context.Context, after cairn.VolumeID, max int) (list []cairn.Volume, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk(key1(famVolume, uint64(after)+1), []byte{famVolume + 1}, func(c replica.Cursor) error {
			for ; c.Valid() && len(list) < max; c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				v, err := decodeVolume(cairn.VolumeID(binary.BigEndian.Uint64(c.Key()[1:])), row)
				if err != nil {
					return err
				}
				list = append(list, v)
			}
			return nil
		})
	})
	return list, fail("meta.volumes", "", err)
}

// SealVolume ends a volume's time of taking new blobs; the epoch stays, since no slot changes. Errors: ErrNotFound.
func (s *Store) SealVolume(ctx context.Context, id cairn.VolumeID) error {
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		v, err := t.volume(id)
		if err != nil || v.State == cairn.VolumeSealed {
			return err
		}
		v.State = cairn.VolumeSealed
		return t.putVolume(&v)
	})
	return fail("meta.seal volume", id.String(), err)
}

// SwapSlot points one slot at another drive and raises the epoch; it returns the new row. With New the same as Old it only
// ends the writers that are under way. Errors: ErrNotFound, ErrPrecondition (the volume is not at r.Epoch with r.Old in the
// slot, or has r.New in another).
func (s *Store) SwapSlot(ctx context.Context, r SwapSlot) (v cairn.Volume, err error) {
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		if v, err = t.volume(r.Volume); err != nil {
			return err
		}
		if int(r.Slot) >= len(v.Slots) || v.Epoch != r.Epoch || v.Slots[r.Slot] != r.Old {
			return fmt.Errorf("slot %d at epoch %d is not as expected: %w", r.Slot, v.Epoch, cairn.ErrPrecondition)
		}
		if r.New != r.Old && slices.Contains(v.Slots, r.New) {
			return fmt.Errorf("drive %s holds another slot of it: %w", r.New, cairn.ErrPrecondition)
		}
		v.Slots[r.Slot] = r.New
		v.Epoch++
		return t.putVolume(&v)
	})
	return v, fail("meta.swap slot", fmt.Sprintf("%s.%d", r.Volume, r.Slot), err)
}

// VolumeStats returns how many blobs a volume's reference rows name, and their bytes.
func (s *Store) VolumeStats(ctx context.Context, id cairn.VolumeID) (blobs, bytes int64, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		c, err := readCounters(w, key1(famVolStats, uint64(id)), 2)
		blobs, bytes = c[0], c[1]
		return err
	})
	return blobs, bytes, fail("meta.volume stats", id.String(), err)
}
