package repair

import (
	"context"

	"cairn"
	"cairn/erasure"
)

// BlobsBySpare counts the blobs of all volumes by how many more shards each may lose (below 0: it is lost as things
// stand). It costs one small read a volume and a scan of the damage, not of the blobs: a volume whose slots are sound has
// all that its profile gives, a slot that is gone, cannot be read or is being filled counts as lost for every blob in the
// volume, a damaged shard for its blob.
func (r *Repairer) BlobsBySpare(ctx context.Context) (map[int]int64, error) {
	rows, err := r.cfg.Meta.Damage(ctx, rowsLoaded)
	if err != nil {
		return nil, err
	}
	byVolume := map[cairn.VolumeID][]cairn.Damage{}
	for _, row := range rows {
		byVolume[row.Shard.Volume] = append(byVolume[row.Shard.Volume], row)
	}
	drives := map[cairn.DriveID]cairn.Drive{}
	for _, d := range r.cfg.Drives.Drives() {
		drives[d.ID] = d
	}
	bySpare := map[int]int64{}
	for after := cairn.VolumeID(0); ; {
		page, err := r.cfg.Meta.Volumes(ctx, after, volumePage)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			after = v.ID
			blobs, _, err := r.cfg.Meta.VolumeStats(ctx, v.ID)
			if err != nil {
				return nil, err
			}
			addSpare(bySpare, v, blobs, byVolume[v.ID], drives)
		}
		if len(page) < volumePage {
			return bySpare, nil
		}
	}
}

const volumePage = 1000 // volumes read at a time

// addSpare adds one volume's blobs to the counts.
func addSpare(bySpare map[int]int64, v cairn.Volume, blobs int64, rows []cairn.Damage, drives map[cairn.DriveID]cairn.Drive) {
	if blobs == 0 {
		return
	}
	var slotRows []cairn.Damage
	for _, row := range rows {
		if row.Kind == cairn.DamageSlot && int(row.Shard.Slot) < len(v.Slots) {
			slotRows = append(slotRows, row)
		}
	}
	code := erasure.Scheme(v.Profile)
	bad := badSlots(v, slotRows, drives)
	damaged := map[cairn.BlobID]uint64{}
	for _, row := range rows {
		if row.Shard.Blob != 0 && int(row.Shard.Slot) < len(v.Slots) && !bad.has(row.Shard.Slot) {
			damaged[row.Shard.Blob] |= 1 << row.Shard.Slot
		}
	}
	for _, lost := range damaged {
		if blobs == 0 {
			break // rows of blobs that were released meanwhile
		}
		bySpare[code.Spare(uint64(bad)|lost)]++
		blobs--
	}
	if blobs > 0 {
		bySpare[code.Spare(uint64(bad))] += blobs
	}
}
