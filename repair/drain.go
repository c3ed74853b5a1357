package repair

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cairn"
)

const (
	drainEvery = time.Second // between looks at how far a drain has come
	drainAhead = 64          // slots of a drain that wait in the queue at once
	// drainSettle lets the uploads that began in a volume commit after it was sealed and before its epoch is raised, which
	// refuses them.
	drainSettle = 30 * time.Second
)

// DrainPlan is what emptying a drive takes.
type DrainPlan struct {
	Drive cairn.DriveID `json:"drive"`
	Slots int           `json:"slots"`
	Blobs int64         `json:"blobs"`
	Bytes int64         `json:"bytes"` // of shards, about
	// NoPlace are volumes whose slot no other drive can take.
	NoPlace []cairn.VolumeID `json:"no_place,omitempty"`
}

// Refusal says why the plan cannot be carried out, and what to do; nil if it can.
func (p DrainPlan) Refusal() error {
	if len(p.NoPlace) == 0 {
		return nil
	}
	return &cairn.Error{Op: "repair.drain", Subject: p.Drive.String(), Err: fmt.Errorf(
		"%d of its %d slots have no other drive to go to (%s first): add a drive, or bring one back: %w",
		len(p.NoPlace), p.Slots, p.NoPlace[0], cairn.ErrPrecondition)}
}

// held is a slot that a drive holds.
type held struct {
	volume cairn.Volume
	slot   uint8
}

func (r *Repairer) heldBy(ctx context.Context, drive cairn.DriveID) (all []held, err error) {
	for after := cairn.VolumeID(0); ; {
		page, err := r.cfg.Meta.Volumes(ctx, after, volumePage)
		if err != nil {
			return nil, err
		}
		for _, v := range page {
			after = v.ID
			if i := slices.Index(v.Slots, drive); i >= 0 {
				all = append(all, held{v, uint8(i)})
			}
		}
		if len(page) < volumePage {
			return all, nil
		}
	}
}

// PlanDrain tells what Drain would do. It changes nothing.
func (r *Repairer) PlanDrain(ctx context.Context, drive cairn.DriveID) (DrainPlan, error) {
	p := DrainPlan{Drive: drive}
	if !slices.ContainsFunc(r.cfg.Drives.Drives(), func(d cairn.Drive) bool { return d.ID == drive && !d.Retired }) {
		return p, &cairn.Error{Op: "repair.drain", Subject: drive.String(), Err: fmt.Errorf("no such drive: %w", cairn.ErrNotFound)}
	}
	slots, err := r.heldBy(ctx, drive)
	if err != nil {
		return p, err
	}
	for _, h := range slots {
		blobs, bytes, err := r.cfg.Meta.VolumeStats(ctx, h.volume.ID)
		if err != nil {
			return p, err
		}
		p.Slots++
		p.Blobs += blobs
		p.Bytes += bytes / int64(h.volume.Profile.K)
		if to, ok := r.cfg.Drives.Replace(h.volume, h.slot); !ok || to == drive {
			p.NoPlace = append(p.NoPlace, h.volume.ID)
		}
	}
	return p, nil
}

// Drain puts every slot of a drive into the queue as a move, a few at a time, and returns when the drive has none left.
// before is the progress of an earlier run of the same job; report is called now and then. Whoever ends it by ctx may call
// it again later, or CancelDrain.
func (r *Repairer) Drain(ctx context.Context, drive cairn.DriveID, before cairn.Progress, report func(cairn.Progress)) error {
	p := before
	d := &drain{drive: drive, sealed: map[cairn.VolumeID]time.Time{}}
	if before.TotalBlobs > 0 {
		d.resumed = time.Now()
	}
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		slots, err := r.heldBy(ctx, drive)
		if err != nil {
			return err
		}
		blobs, bytes, err := r.drainStep(ctx, d, slots)
		if err != nil {
			return err
		}
		p.TotalBlobs, p.TotalBytes = max(p.TotalBlobs, blobs), max(p.TotalBytes, bytes)
		p.DoneBlobs, p.DoneBytes = p.TotalBlobs-blobs, p.TotalBytes-bytes
		report(p)
		if len(slots) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// drain is the emptying of one drive.
type drain struct {
	drive  cairn.DriveID
	sealed map[cairn.VolumeID]time.Time // volumes that were open, and when that ended
	// resumed is when the work was taken up again that somebody else had begun, who may just have sealed a volume; zero if
	// there was none.
	resumed time.Time
}

// settled tells whether the uploads that were under way when a volume was sealed have had their time.
func (d *drain) settled(id cairn.VolumeID) bool {
	return time.Since(d.sealed[id]) >= drainSettle && time.Since(d.resumed) >= drainSettle
}

// drainStep seals what is still open on the drive, keeps the queue fed, and counts what is left to copy.
func (r *Repairer) drainStep(ctx context.Context, d *drain, slots []held) (blobs, bytes int64, err error) {
	rows, err := r.cfg.Meta.Damage(ctx, rowsLoaded)
	if err != nil {
		return 0, 0, err
	}
	queued := map[cairn.ShardID]cairn.Damage{}
	waiting := 0
	for _, row := range rows {
		if row.Shard.Blob == 0 {
			queued[row.Shard] = row
		}
		if row.Kind == cairn.DamageMove && row.Drive == d.drive {
			waiting++
		}
	}
	var fresh []cairn.Damage
	for _, h := range slots {
		if h.volume.State == cairn.VolumeOpen {
			if err := r.cfg.Meta.SealVolume(ctx, h.volume.ID); err != nil {
				return 0, 0, err
			}
			if _, err := r.cfg.Drives.Volume(ctx, h.volume.ID, true); err != nil { // writers go elsewhere from now on
				return 0, 0, err
			}
			d.sealed[h.volume.ID] = time.Now()
		}
		b, n, err := r.cfg.Meta.VolumeStats(ctx, h.volume.ID)
		if err != nil {
			return 0, 0, err
		}
		id := cairn.ShardID{Volume: h.volume.ID, Slot: h.slot}
		row, ok := queued[id]
		if !ok && d.settled(h.volume.ID) && waiting+len(fresh) < drainAhead {
			fresh = append(fresh, cairn.Damage{Shard: id, Kind: cairn.DamageMove, Drive: d.drive, Found: time.Now(), By: "drain"})
		}
		if ok && row.Pass.Epoch == h.volume.Epoch {
			b, n = max(b-row.Pass.Blobs, 0), max(n-row.Pass.Bytes, 0)
		}
		blobs += b
		bytes += n / int64(h.volume.Profile.K)
	}
	if len(fresh) == 0 {
		return blobs, bytes, nil
	}
	err = r.cfg.Meta.AddDamage(ctx, fresh)
	r.Wake()
	return blobs, bytes, err
}

// CancelDrain takes the moves of a drive's slots out of the queue. What was
// copied for nothing is found and removed by scrub.
func (r *Repairer) CancelDrain(ctx context.Context, drive cairn.DriveID) error {
	rows, err := r.cfg.Meta.Damage(ctx, rowsLoaded)
	if err != nil {
		return err
	}
	var ids []cairn.ShardID
	for _, row := range rows {
		if row.Kind == cairn.DamageMove && row.Drive == drive {
			ids = append(ids, row.Shard)
		}
	}
	return r.cfg.Meta.ResolveDamage(ctx, cairn.OutcomeCanceled, ids)
}
