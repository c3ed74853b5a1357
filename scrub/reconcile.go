package scrub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"cairn"
)

// round is one comparison of slots with what Meta expects of them.
type round struct {
	*Scrubber
	pick     func(cairn.DriveID) bool
	readable map[cairn.DriveID]bool
	// mark is the orphan watermark: a blob below it that nothing refers to is never referred to again.
	mark    cairn.BlobID
	volumes map[cairn.VolumeID]cairn.Volume
}

// reconcile compares every slot that lies on one of the picked drives with what Meta expects of it, and then looks for
// what those drives still hold of slots that have moved away. A drive that cannot be read is left out.
func (s *Scrubber) reconcile(ctx context.Context, pick func(cairn.DriveID) bool) error {
	r := &round{Scrubber: s, pick: pick, readable: map[cairn.DriveID]bool{}, volumes: map[cairn.VolumeID]cairn.Volume{}}
	var errs []error
	for _, st := range s.cfg.Drives.Statuses() {
		r.readable[st.ID] = st.State.Readable() && !st.ID.IsZero()
	}
	var err error
	if r.mark, err = s.cfg.Meta.AdvanceOrphanWatermark(ctx, time.Now().Add(-s.cfg.Grace)); err != nil {
		return err
	}
	for after := cairn.VolumeID(0); ; {
		vs, err := s.cfg.Meta.Volumes(ctx, after, page)
		if err != nil {
			return err
		}
		for _, v := range vs {
			after = v.ID
			r.volumes[v.ID] = v
			errs = append(errs, r.volume(ctx, v))
		}
		if len(vs) < page {
			break
		}
	}
	errs = append(errs, r.stale(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	s.progress.update(func(st *Status) { st.Reconciled = time.Now() })
	return nil
}

// volume compares the slots of one volume, a page of blobs at a time.
func (r *round) volume(ctx context.Context, v cairn.Volume) error {
	slots := make([]uint8, 0, len(v.Slots))
	for i, d := range v.Slots {
		if r.pick(d) && r.readable[d] {
			slots = append(slots, uint8(i))
		}
	}
	if len(slots) == 0 {
		return nil
	}
	for after := cairn.BlobID(0); ; {
		want, err := r.cfg.Meta.Blobs(ctx, v.ID, after, page)
		if err != nil {
			return err
		}
		last := cairn.BlobID(math.MaxUint64)
		if len(want) == page {
			last = want[page-1].Ref.Blob
		}
		var errs []error
		for _, slot := range slots {
			// Listed after what is wanted: a shard is durable before its blob is committed.
			have, err := r.shards(ctx, v.Slots[slot], v.ID, slot, after, last)
			if err == nil {
				err = r.compareSlot(ctx, v, slot, want, have)
			}
			errs = append(errs, err)
		}
		if err := errors.Join(errs...); err != nil || len(want) < page {
			return err
		}
		after = last
	}
}

// shards lists what a drive holds of a slot with numbers above after, up to last.
func (r *round) shards(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8, after, last cairn.BlobID) (
	have []cairn.ShardInfo, err error) {
	for {
		infos, err := r.cfg.Drives.List(ctx, drive, v, slot, after, page)
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			if info.ID.Blob > last {
				return have, nil
			}
			have = append(have, info)
			after = info.ID.Blob
		}
		if len(infos) < page {
			return have, nil
		}
	}
}

func (r *round) compareSlot(ctx context.Context, v cairn.Volume, slot uint8, want []cairn.BlobRow, have []cairn.ShardInfo) error {
	lacking, extra := compare(want, have)
	return errors.Join(r.missing(ctx, v, slot, lacking), r.orphans(ctx, v.Slots[slot], extra))
}

// missing records the shards that are still wanted, and still not there, after a second look at both sides.
func (r *round) missing(ctx context.Context, v cairn.Volume, slot uint8, lacking []cairn.BlobRef) error {
	if len(lacking) == 0 {
		return nil
	}
	if filling, err := r.beingFilled(ctx, v.ID, slot); err != nil || filling {
		return err
	}
	wanted, err := r.cfg.Meta.BlobRefs(ctx, lacking)
	if err != nil {
		return err
	}
	// The slot may have moved since the volume was read.
	if now, err := r.cfg.Meta.Volume(ctx, v.ID); err != nil || now.Epoch != v.Epoch {
		return err
	}
	drive := v.Slots[slot]
	var found []cairn.Damage
	for i, ref := range lacking {
		id := cairn.ShardID{Volume: v.ID, Blob: ref.Blob, Slot: slot}
		if !wanted[i] {
			continue
		}
		_, err := r.cfg.Drives.Stat(ctx, drive, id)
		switch {
		case errors.Is(err, cairn.ErrNotFound):
			found = append(found, cairn.Damage{Shard: id, Kind: cairn.DamageMissing, Drive: drive, Found: time.Now(), By: "scrub"})
		case err != nil:
			return err
		}
	}
	if len(found) >= slotThreshold {
		found = []cairn.Damage{{Shard: cairn.ShardID{Volume: v.ID, Slot: slot}, Kind: cairn.DamageSlot, Drive: drive,
			Found: time.Now(), By: "scrub", Note: fmt.Sprintf("%d shards or more are missing", len(found))}}
	}
	return r.record(ctx, found)
}

// beingFilled tells whether a slot is to be rebuilt whole, so that what it lacks is known already.
func (r *round) beingFilled(ctx context.Context, v cairn.VolumeID, slot uint8) (bool, error) {
	rows, err := r.cfg.Meta.Damage(ctx, damageLoaded)
	if err != nil {
		return false, err
	}
	for _, row := range rows {
		if row.Shard == (cairn.ShardID{Volume: v, Slot: slot}) {
			return true, nil
		}
	}
	return false, nil
}

// orphans hands shards to the sink that provably belong to nothing: below the watermark, which was committed before this
// read of the references.
func (r *round) orphans(ctx context.Context, drive cairn.DriveID, extra []cairn.ShardInfo) error {
	var ids []cairn.ShardID
	var refs []cairn.BlobRef
	for _, info := range extra {
		if info.ID.Blob < r.mark {
			ids = append(ids, info.ID)
			refs = append(refs, cairn.BlobRef{Volume: info.ID.Volume, Blob: info.ID.Blob})
		}
	}
	if len(ids) == 0 {
		return nil
	}
	wanted, err := r.cfg.Meta.BlobRefs(ctx, refs)
	if err != nil {
		return err
	}
	var proven []cairn.ShardID
	for i, id := range ids {
		if !wanted[i] && !r.cfg.Held(refs[i]) {
			proven = append(proven, id)
		}
	}
	return r.remove(ctx, drive, proven, func(st *Status) { st.Findings.Orphans += int64(len(proven)) })
}

func (r *round) remove(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID, count func(*Status)) error {
	if len(ids) == 0 {
		return nil
	}
	if err := r.cfg.Orphans.Delete(ctx, drive, ids); err != nil {
		return err
	}
	r.progress.update(count)
	r.cfg.Logger.Info("superfluous shards removed", "drive", drive, "count", len(ids), "first", ids[0])
	return nil
}
