package blobtest

import (
	"cmp"
	"context"
	"slices"

	"cairn"
)

// OpSlots, OpList, OpDigest and OpVerify are asked of a drive by scrub and repair.
const (
	OpSlots  Op = "slots"
	OpList   Op = "list"
	OpDigest Op = "digest"
	OpVerify Op = "verify"
)

// Slots lists what a drive holds, by volume and slot.
func (m *Memory) Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error) {
	if err := m.fault(ctx, Call{Drive: drive, Op: OpSlots}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found := map[cairn.ShardID]cairn.VolumeSlot{}
	for id, s := range m.shards[drive] {
		key := cairn.ShardID{Volume: id.Volume, Slot: id.Slot}
		vs := found[key]
		vs.Volume, vs.Slot = id.Volume, id.Slot
		vs.Shards++
		vs.Bytes += int64(len(s.data))
		found[key] = vs
	}
	slots := make([]cairn.VolumeSlot, 0, len(found))
	for _, vs := range found {
		slots = append(slots, vs)
	}
	slices.SortFunc(slots, func(a, b cairn.VolumeSlot) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Slot, b.Slot))
	})
	return slots, nil
}

// List lists a drive's shards of one slot with numbers above after, in order.
func (m *Memory) List(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8, after cairn.BlobID, max int) (
	[]cairn.ShardInfo, error) {
	if err := m.fault(ctx, Call{Drive: drive, Op: OpList, ID: cairn.ShardID{Volume: v, Slot: slot}}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var infos []cairn.ShardInfo
	for id, s := range m.shards[drive] {
		if id.Volume == v && id.Slot == slot && id.Blob > after {
			infos = append(infos, cairn.ShardInfo{ID: id, Epoch: s.header.Epoch, Length: int64(len(s.data)),
				Path: "memory/" + drive.String(), Time: s.time})
		}
	}
	slices.SortFunc(infos, func(a, b cairn.ShardInfo) int { return cmp.Compare(a.ID.Blob, b.ID.Blob) })
	return infos[:min(max, len(infos))], nil
}

// Digest sums up a drive's shards of one slot.
func (m *Memory) Digest(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8) (set cairn.BlobSet, err error) {
	if err := m.fault(ctx, Call{Drive: drive, Op: OpDigest, ID: cairn.ShardID{Volume: v, Slot: slot}}); err != nil {
		return set, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id := range m.shards[drive] {
		if id.Volume == v && id.Slot == slot {
			set.Add(id.Blob)
		}
	}
	return set, nil
}

// Verify reads a whole shard against its checksums.
func (m *Memory) Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	if err := m.fault(ctx, Call{Drive: drive, Op: OpVerify, ID: id}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[drive][id]
	switch {
	case s == nil:
		return fail(OpVerify, id, cairn.ErrNotFound)
	case !m.Unchecked && !slices.Equal(sums(s.data), s.sums):
		return fail(OpVerify, id, cairn.ErrCorrupt)
	}
	return nil
}
