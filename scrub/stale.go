package scrub

import (
	"context"
	"errors"

	"cairn"
)

// stale looks through what the picked drives hold of slots that lie elsewhere now.
func (r *round) stale(ctx context.Context) error {
	var errs []error
	var unknown int64
	for drive, readable := range r.readable {
		if !readable || !r.pick(drive) {
			continue
		}
		slots, err := r.cfg.Drives.Slots(ctx, drive)
		if err != nil {
			r.driveFailed(drive, err)
			continue
		}
		for _, slot := range slots {
			v, ok := r.volumes[slot.Volume]
			if !ok || int(slot.Slot) >= len(v.Slots) {
				unknown++ // perhaps made since the volumes were listed, perhaps a restored Meta lost it: not ours to judge
				continue
			}
			if v.Slots[slot.Slot] != drive {
				errs = append(errs, r.staleSlot(ctx, drive, v, slot.Slot))
			}
		}
	}
	r.progress.update(func(st *Status) { st.UnknownSlots = unknown })
	return errors.Join(errs...)
}

// staleSlot removes from a drive the shards of a slot that moved away: those of released blobs, and those that the slot's
// drive of today was seen to hold whole. While the slot is being moved or filled it touches nothing: the shards may be the
// copy in the making, or the last ones.
func (r *round) staleSlot(ctx context.Context, drive cairn.DriveID, v cairn.Volume, slot uint8) error {
	for after := cairn.BlobID(0); ; {
		infos, err := r.cfg.Drives.List(ctx, drive, v.ID, slot, after, page)
		if err != nil || len(infos) == 0 {
			return err
		}
		after = infos[len(infos)-1].ID.Blob
		held, released, err := r.sort(ctx, v.Slots[slot], infos)
		if err == nil {
			err = r.suspects(ctx, drive, released)
		}
		if err != nil {
			return err
		}
		// After the listing and the checks, so that neither can have seen a move that began since.
		if filling, err := r.beingFilled(ctx, v.ID, slot); err != nil || filling {
			return err
		}
		if now, err := r.cfg.Meta.Volume(ctx, v.ID); err != nil || now.Epoch != v.Epoch {
			return err
		}
		if err := r.remove(ctx, drive, cairn.FindingStale, held, func(st *Status) { st.Findings.Stale += int64(len(held)) }); err != nil {
			return err
		}
	}
}

// sort tells apart the shards of a slot that moved away: held are superfluous, since another drive was seen to hold them
// whole; released belong to blobs that nothing refers to. The rest are to stay.
func (r *round) sort(ctx context.Context, home cairn.DriveID, infos []cairn.ShardInfo) (
	held []cairn.ShardID, released []cairn.ShardInfo, err error) {
	refs := make([]cairn.BlobRef, len(infos))
	for i, info := range infos {
		refs[i] = cairn.BlobRef{Volume: info.ID.Volume, Blob: info.ID.Blob}
	}
	wanted, err := r.cfg.Meta.BlobRefs(ctx, refs)
	if err != nil {
		return nil, nil, err
	}
	for i, info := range infos {
		switch {
		case !wanted[i]:
			released = append(released, info)
		case r.readable[home] && r.cfg.Drives.Verify(ctx, home, info.ID) == nil:
			held = append(held, info.ID)
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
	}
	return held, released, nil
}
