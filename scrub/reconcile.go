package scrub

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"cairn"
)

const (
	// settle is how long a look-up that saw a reference may take until it is known as a reader (Config.Held).
	settle      = 2 * time.Second
	maxSuspects = 10000 // judged at once
)

// round is one comparison of slots with what Meta expects of them.
type round struct {
	*Scrubber
	pick     func(cairn.DriveID) bool
	readable map[cairn.DriveID]bool
	// mark is the orphan watermark: a blob below it that nothing refers to is never referred to again.
	mark      cairn.BlobID
	volumes   map[cairn.VolumeID]cairn.Volume
	suspected []suspect // at most maxSuspects and a page
	lacks     map[cairn.DriveID]int64
	// after is the volume up to which an earlier run of the same round has come; passed is told of each later one.
	after  cairn.VolumeID
	passed func(cairn.VolumeID)
	// unread are drives that should have been looked at and could not be.
	unread map[cairn.DriveID]bool
	failed []error     // why, one for each drive that counted as readable
	found  func(int64) // is told how many shards are not there, known before or not
}

func (s *Scrubber) newRound(pick func(cairn.DriveID) bool) *round {
	r := &round{Scrubber: s, pick: pick, readable: map[cairn.DriveID]bool{}, volumes: map[cairn.VolumeID]cairn.Volume{},
		lacks: map[cairn.DriveID]int64{}, unread: map[cairn.DriveID]bool{}, passed: func(cairn.VolumeID) {}, found: func(int64) {}}
	for _, st := range s.cfg.Drives.Statuses() {
		r.readable[st.ID] = st.State.Readable() && !st.ID.IsZero()
	}
	return r
}

// reconcile compares every slot that lies on one of the picked drives with what Meta expects of it.
func (s *Scrubber) reconcile(ctx context.Context, pick func(cairn.DriveID) bool) error {
	r := s.newRound(pick)
	return errors.Join(r.run(ctx), errors.Join(r.failed...))
}

const lightRow = "scrub.light" // the volume up to which the comparison of all slots has come, in decimal; empty at the end

// reconcileAll compares all slots. One that a restart cut short goes on where it was saved last.
func (s *Scrubber) reconcileAll(ctx context.Context) error {
	r := s.newRound(func(cairn.DriveID) bool { return true })
	if b, err := s.cfg.Meta.Config(ctx, lightRow); err == nil {
		n, _ := strconv.ParseUint(string(b), 10, 64) // what cannot be read begins anew
		r.after = cairn.VolumeID(n)
	}
	began, saved := r.after != 0, time.Now()
	r.passed = func(v cairn.VolumeID) {
		if time.Since(saved) >= saveEvery {
			began, saved = true, time.Now()
			s.saveLight(ctx, strconv.FormatUint(uint64(v), 10))
		}
	}
	if err := errors.Join(r.run(ctx), errors.Join(r.failed...)); err != nil {
		return err
	}
	if began {
		s.saveLight(ctx, "")
	}
	s.progress.update(func(st *Status) { st.Reconciled = time.Now() })
	return s.cfg.Meta.TrimFindings(ctx, cairn.MaxFindings)
}

func (s *Scrubber) saveLight(ctx context.Context, place string) {
	if err := s.cfg.Meta.PutConfig(ctx, lightRow, []byte(place)); err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("place of the comparison was not saved", "err", err)
	}
}

// run compares the slots of all volumes, and then looks for what the picked drives still hold of slots that have moved away.
// A drive that cannot be read is left out.
func (r *round) run(ctx context.Context) (err error) {
	if r.mark, err = r.cfg.Meta.AdvanceOrphanWatermark(ctx, time.Now().Add(-r.cfg.Grace)); err != nil {
		return err
	}
	var errs []error
	for after := cairn.VolumeID(0); ; {
		vs, err := r.cfg.Meta.Volumes(ctx, after, page)
		if err != nil {
			return err
		}
		for _, v := range vs {
			after = v.ID
			r.volumes[v.ID] = v
			if v.ID > r.after {
				errs = append(errs, r.volume(ctx, v))
				r.passed(v.ID)
			}
		}
		if len(vs) < page {
			break
		}
	}
	return errors.Join(append(errs, r.marks(ctx), r.stale(ctx), r.judge(ctx))...)
}

// driveFailed leaves a drive out from here on.
func (r *round) driveFailed(drive cairn.DriveID, err error) {
	r.readable[drive], r.unread[drive] = false, true
	r.failed = append(r.failed, err)
}

// marks records the drives that lack so much that it is the drive that is suspect.
func (r *round) marks(ctx context.Context) error {
	var errs []error
	for drive, n := range r.lacks {
		if n >= driveThreshold {
			errs = append(errs, r.markDrive(ctx, drive, n))
		}
	}
	return errors.Join(errs...)
}

// volume compares the slots of one volume: their digests, and where these differ, page by page.
func (r *round) volume(ctx context.Context, v cairn.Volume) error {
	slots := make([]uint8, 0, len(v.Slots))
	for i, d := range v.Slots {
		switch {
		case !r.pick(d):
		case r.readable[d]:
			slots = append(slots, uint8(i))
		default:
			r.unread[d] = true
		}
	}
	if len(slots) == 0 {
		return nil
	}
	slots, err := r.differing(ctx, v, slots)
	if err != nil || len(slots) == 0 {
		return err
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
			if !r.readable[v.Slots[slot]] {
				continue
			}
			// Listed after what is wanted: a shard is durable before its blob is committed.
			have, err := r.shards(ctx, v.Slots[slot], v.ID, slot, after, last)
			if err != nil {
				r.driveFailed(v.Slots[slot], err)
				continue
			}
			errs = append(errs, r.compareSlot(ctx, v, slot, want, have))
		}
		if err := errors.Join(errs...); err != nil || len(want) < page {
			return err
		}
		after = last
	}
}

// differing returns the slots that hold other shards than they should. What is written or released meanwhile makes sets
// differ that do not: then the names are compared for nothing.
func (r *round) differing(ctx context.Context, v cairn.Volume, slots []uint8) (differ []uint8, err error) {
	var want cairn.BlobSet
	for after := cairn.BlobID(0); ; {
		rows, err := r.cfg.Meta.Blobs(ctx, v.ID, after, page)
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			after = row.Ref.Blob
			want.Add(after)
		}
		if len(rows) < page {
			break
		}
	}
	for _, slot := range slots {
		have, err := r.cfg.Drives.Digest(ctx, v.Slots[slot], v.ID, slot)
		switch {
		case err != nil:
			r.driveFailed(v.Slots[slot], err)
		case have != want:
			differ = append(differ, slot)
		}
	}
	r.progress.update(func(st *Status) { st.Compared += int64(len(slots)); st.Differed += int64(len(differ)) })
	return differ, nil
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
	return errors.Join(r.missing(ctx, v, slot, lacking), r.suspects(ctx, v.Slots[slot], extra))
}

// missing records the shards that are still wanted, and still not there, after a second look at both sides.
func (r *round) missing(ctx context.Context, v cairn.Volume, slot uint8, lacking []cairn.BlobRef) error {
	if len(lacking) == 0 {
		return nil
	}
	if filling, err := r.beingFilled(ctx, v.ID, slot); err != nil || filling {
		r.found(int64(len(lacking)))
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
			r.driveFailed(drive, err)
			return nil
		}
	}
	r.found(int64(len(found)))
	r.lacks[drive] += int64(len(found))
	if len(found) >= slotThreshold || len(found) > 0 && r.lacks[drive] > driveThreshold {
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

// suspect is a shard that nothing seemed to ask for.
type suspect struct {
	drive cairn.DriveID
	id    cairn.ShardID
}

// suspects notes shards that may be orphans: those below the watermark. They are judged together.
func (r *round) suspects(ctx context.Context, drive cairn.DriveID, extra []cairn.ShardInfo) error {
	for _, info := range extra {
		if info.ID.Blob < r.mark {
			r.suspected = append(r.suspected, suspect{drive, info.ID})
		}
	}
	if len(r.suspected) < maxSuspects {
		return nil
	}
	return r.judge(ctx)
}

// judge hands the suspects to the sink that provably belong to nothing: they lie below the watermark, which was committed
// before this read of the references. A look-up that saw the last reference just before has the settling time to make
// itself known as a reader.
func (r *round) judge(ctx context.Context) error {
	suspected := r.suspected
	r.suspected = nil
	if len(suspected) == 0 {
		return nil
	}
	refs := make([]cairn.BlobRef, len(suspected))
	for i, s := range suspected {
		refs[i] = cairn.BlobRef{Volume: s.id.Volume, Blob: s.id.Blob}
	}
	wanted, err := r.cfg.Meta.BlobRefs(ctx, refs)
	if err != nil {
		return err
	}
	if !slices.Contains(wanted, false) {
		return nil
	}
	wait(ctx, settle)
	proven := map[cairn.DriveID][]cairn.ShardID{}
	for i, s := range suspected {
		if !wanted[i] && !r.cfg.Held(refs[i]) {
			proven[s.drive] = append(proven[s.drive], s.id)
		}
	}
	var errs []error
	for drive, ids := range proven {
		errs = append(errs, r.remove(ctx, drive, cairn.FindingOrphan, ids, func(st *Status) { st.Findings.Orphans += int64(len(ids)) }))
	}
	return errors.Join(errs...)
}

// remove hands shards to the sink, and notes that it did.
func (r *round) remove(ctx context.Context, drive cairn.DriveID, kind string, ids []cairn.ShardID, count func(*Status)) error {
	if len(ids) == 0 {
		return nil
	}
	if err := r.cfg.Orphans.Delete(ctx, drive, ids); err != nil {
		return err
	}
	r.progress.update(count)
	r.cfg.Logger.Info("superfluous shards removed", "drive", drive, "count", len(ids), "first", ids[0])
	now := time.Now()
	return r.cfg.Meta.AddFindings(ctx, []cairn.Finding{{Found: now, Resolved: now, Kind: kind, Shard: ids[0], Drive: drive,
		Count: int64(len(ids)), By: "scrub", Outcome: cairn.OutcomeRemoved}})
}
