package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cairn"
)

// overloadWait is how long a rebuild stands back when a drive's queues are full.
const overloadWait = 200 * time.Millisecond

const (
	maxPassErrors = 16   // blobs of one slice that may fail to be reached before a pass is given up for now
	maxPassLost   = 1024 // blobs of one slice that may be found lost
)

// cursor is how far a pass over a volume has come. It is valid for the same work at the same epoch only: a pass that
// counts has seen every blob while the slots were where they are.
type cursor struct {
	do    action
	slots []uint8
	to    cairn.DriveID
	epoch cairn.Epoch
	after cairn.BlobID
	blobs int64 // passed
	bytes int64
}

func (c cursor) fits(j *job) bool {
	return c.do == j.do && c.epoch == j.volume.Epoch && c.to == j.to && slices.Equal(c.slots, j.slots())
}

// swap points a slot at another drive, lets the drives refuse writers that do not know it yet, and tells the cache. The
// row of damage stays: the slot is filled next. A writer that is under way with the old epoch cannot commit, so every
// blob that the new drive may lack is one that a listing after the swap shows.
func (r *Repairer) swap(ctx context.Context, v cairn.Volume, slot uint8, to cairn.DriveID) error {
	now, err := r.cfg.Meta.SwapSlot(ctx, cairn.SwapSlot{Volume: v.ID, Slot: slot, Epoch: v.Epoch, Old: v.Slots[slot], New: to})
	if errors.Is(err, cairn.ErrPrecondition) {
		return nil // the volume has changed since the plan was made; the next plan sees it
	}
	if err != nil {
		return err
	}
	r.cfg.Logger.Info("slot moved", "volume", v.ID, "slot", slot, "from", v.Slots[slot], "to", to, "epoch", now.Epoch)
	for _, d := range now.Slots {
		if err := r.cfg.Shards.Fence(ctx, d, v.ID, now.Epoch); err != nil {
			// Not needed for correctness: the commit checks the epoch too.
			r.cfg.Logger.Debug("drive was not fenced", "drive", d, "volume", v.ID, "err", err)
		}
	}
	if _, err := r.cfg.Drives.Volume(ctx, v.ID, true); err != nil {
		r.cfg.Logger.Debug("cached volume was not renewed", "volume", v.ID, "err", err)
	}
	return nil
}

// fill rebuilds what the drives of some slots lack, for a time slice, and resolves the rows when the pass is through.
// A blob that is lost gets rows of its own, so that it does not keep the slot from being done. One whose shards merely
// cannot be reached now keeps the slot open, to be tried again: the slot's row remembers which drive held it before.
func (r *Repairer) fill(ctx context.Context, j *job, until time.Time) error {
	targets := make([]target, len(j.rows))
	for i, s := range j.slots() {
		targets[i] = target{slot: s, drive: j.volume.Slots[s]}
	}
	through, failed, err := r.pass(ctx, j, targets, checkIndex, until)
	if err != nil {
		return err
	}
	for _, f := range failed {
		if !errors.Is(f.err, cairn.ErrLost) {
			delete(r.cursors, j.volume.ID) // a pass that counts leaves nothing out
			return f.err
		}
		if err := r.cfg.Meta.AddDamage(ctx, f.findings(targets)); err != nil {
			return err
		}
	}
	if !through {
		return nil
	}
	ids := make([]cairn.ShardID, len(j.rows))
	for i, row := range j.rows {
		ids[i] = row.Shard
	}
	if err := r.cfg.Meta.ResolveDamage(ctx, ids); err != nil {
		return err
	}
	delete(r.cursors, j.volume.ID)
	r.cfg.Logger.Info("slots are whole again", "volume", j.volume.ID, "slots", fmt.Sprint(j.slots()))
	return nil
}

// move rebuilds a slot on another drive for a time slice and swaps the slot when every blob is there, verified. The slot
// is then filled like any other, which finds what was committed meanwhile.
func (r *Repairer) move(ctx context.Context, j *job, until time.Time) error {
	slot := j.rows[0].Shard.Slot
	through, failed, err := r.pass(ctx, j, []target{{slot: slot, drive: j.to}}, checkBytes, until)
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		delete(r.cursors, j.volume.ID)
		return failed[0].err // the drive that is away may hold what cannot be rebuilt: the slot stays
	}
	if !through {
		return nil
	}
	delete(r.cursors, j.volume.ID)
	return r.swap(ctx, j.volume, slot, j.to)
}

// pass goes on with a pass over the volume's blobs until it is through or the slice ends. failed lists what could not be
// rebuilt. It gives up with an error when much fails.
func (r *Repairer) pass(ctx context.Context, j *job, targets []target, how check, until time.Time) (
	through bool, failed []failure, err error) {
	c := r.cursors[j.volume.ID]
	if !c.fits(j) {
		c = cursor{do: j.do, slots: j.slots(), to: j.to, epoch: j.volume.Epoch}
	}
	for {
		page, err := r.cfg.Meta.Blobs(ctx, j.volume.ID, c.after, pageBlobs)
		if err != nil {
			return false, nil, err
		}
		done, bad, err := r.rebuildPage(ctx, j.volume, page, targets, how, until)
		failed = append(failed, bad...)
		if err != nil {
			return false, nil, err
		}
		if tooMany(failed) {
			delete(r.cursors, j.volume.ID)
			return false, nil, failed[0].err
		}
		for _, row := range page[:done] {
			c.after = row.Ref.Blob
			c.blobs++
			c.bytes += row.Ref.Length
		}
		r.cursors[j.volume.ID] = c
		if done == len(page) && len(page) < pageBlobs {
			return true, failed, nil
		}
		if !time.Now().Before(until) {
			return false, failed, nil
		}
	}
}

// rebuildPage rebuilds the blobs of a page in parallel, begins none after the slice has ended (but one at least), and
// returns how many it began; all of those have ended.
func (r *Repairer) rebuildPage(ctx context.Context, v cairn.Volume, page []cairn.BlobRow, targets []target, how check,
	until time.Time) (done int, failed []failure, err error) {
	var mu sync.Mutex
	var written []cairn.BlobRef
	var running sync.WaitGroup
	for _, row := range page {
		if done > 0 && !time.Now().Before(until) {
			break
		}
		share := r.share(v, row)
		if err = r.room.Acquire(ctx, share); err != nil {
			break
		}
		done++
		running.Go(func() {
			defer r.room.Release(share)
			n, err := r.rebuildTimed(ctx, v, row, targets, how)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, failure{row.Ref, err})
			} else if n > 0 {
				written = append(written, row.Ref)
			}
		})
	}
	running.Wait()
	r.progress.finishedBlobs(int64(done))
	if ctx.Err() != nil {
		return 0, nil, ctx.Err()
	}
	if err != nil {
		return 0, nil, err
	}
	return done, failed, r.dropReleased(ctx, written, targets)
}

func (r *Repairer) share(v cairn.Volume, row cairn.BlobRow) int64 {
	if shardLength(v.Profile, v.Unit, row.Ref.Length) <= smallShard {
		return 1
	}
	return smallPerLarge
}

func (r *Repairer) rebuildTimed(ctx context.Context, v cairn.Volume, row cairn.BlobRow, targets []target, how check) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.BlobTimeout)
	defer cancel()
	for {
		n, err := r.rebuild(ctx, v, row, targets, how)
		if !errors.Is(err, cairn.ErrOverloaded) {
			return n, err
		}
		select { // clients come first
		case <-ctx.Done():
			return n, err
		case <-time.After(overloadWait):
		}
	}
}

// tooMany tells that going on is of no use now: much cannot be reached, or so much is lost that a row for each blob would
// swamp the queue.
func tooMany(failed []failure) bool {
	lost := 0
	for _, f := range failed {
		if errors.Is(f.err, cairn.ErrLost) {
			lost++
		}
	}
	return len(failed)-lost > maxPassErrors || lost > maxPassLost
}

// failure is a blob that was not rebuilt, and why.
type failure struct {
	ref cairn.BlobRef
	err error
}

func (f failure) findings(targets []target) []cairn.Damage {
	found := make([]cairn.Damage, len(targets))
	for i, t := range targets {
		found[i] = cairn.Damage{Shard: cairn.ShardID{Volume: f.ref.Volume, Blob: f.ref.Blob, Slot: t.slot},
			Kind: cairn.DamageMissing, Drive: t.drive, Found: time.Now(), By: "repair", Note: f.err.Error()}
	}
	return found
}

// dropReleased deletes shards that were written for blobs that nobody refers to any more: they were released while the
// rebuild ran, and whoever deleted their shards may have come before this one was there. A blob that lost its last
// reference never gets another (I4).
func (r *Repairer) dropReleased(ctx context.Context, written []cairn.BlobRef, targets []target) error {
	if len(written) == 0 {
		return nil
	}
	wanted, err := r.cfg.Meta.BlobRefs(ctx, written)
	if err != nil {
		return err
	}
	for _, t := range targets {
		var ids []cairn.ShardID
		for i, ref := range written {
			if !wanted[i] {
				ids = append(ids, cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: t.slot})
			}
		}
		if len(ids) == 0 {
			continue
		}
		if err := r.cfg.Shards.Delete(ctx, t.drive, ids); err != nil {
			r.cfg.Logger.Debug("shards of released blobs stay for scrub", "drive", t.drive, "count", len(ids), "err", err)
		}
	}
	return nil
}
