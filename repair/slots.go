package repair

import (
	"cmp"
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
	fewFail       = 4    // one blob in so many may fail to be reached, and the others count
	maxAside      = 256  // blobs of a slot that were set aside; with more the pass begins anew
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
	aside []cairn.BlobRow // passed without success: tried again at the end
}

func (c cursor) fits(j *job) bool {
	return c.do == j.do && c.epoch == j.volume.Epoch && c.to == j.to && slices.Equal(c.slots, j.slots())
}

// cursor returns how far the pass of a job has come: from memory, or from the job's rows after a restart. A slot that has
// come less far than another of the job is rebuilt from where it stands.
func (r *Repairer) cursor(j *job) cursor {
	if c := r.cursors[j.volume.ID]; c.fits(j) {
		return c
	}
	c := cursor{do: j.do, slots: j.slots(), to: j.to, epoch: j.volume.Epoch}
	least := j.rows[0].Pass
	for _, row := range j.rows {
		if row.Pass.Epoch != c.epoch || row.Pass.To != c.to {
			return c
		}
		if row.Pass.After < least.After {
			least = row.Pass
		}
	}
	c.after, c.blobs, c.bytes = least.After, least.Blobs, least.Bytes
	return c
}

// saved is what a restart may count on: nothing behind the first blob that was set aside.
func (c cursor) saved(j *job) cairn.SlotPass {
	if !c.fits(j) || len(c.aside) > 0 {
		return j.rows[0].Pass
	}
	return cairn.SlotPass{Epoch: c.epoch, To: c.to, After: c.after, Blobs: c.blobs, Bytes: c.bytes}
}

// save commits how far a pass has come. A failure costs work after a restart, no more.
func (r *Repairer) save(ctx context.Context, j *job) {
	pass := r.cursors[j.volume.ID].saved(j)
	for _, row := range j.rows {
		if row.Pass == pass {
			continue
		}
		row.Pass = pass
		if err := r.cfg.Meta.RetryDamage(ctx, row); err != nil && !errors.Is(err, cairn.ErrNotFound) && ctx.Err() == nil {
			r.cfg.Logger.Debug("progress of a slot was not saved", "slot", row.Shard, "err", err)
		}
	}
}

// swap points a slot at another drive, lets the drives refuse writers that do not know it yet, and tells the cache. The
// row of damage stays: the slot is filled next. A writer that is under way with the old epoch cannot commit, so every
// blob that the new drive may lack is one that a listing after the swap shows.
func (r *Repairer) swap(ctx context.Context, v cairn.Volume, slot uint8, to cairn.DriveID) error {
	_, err := r.swapSlot(ctx, v, slot, to)
	if errors.Is(err, cairn.ErrPrecondition) {
		return nil // the volume has changed since the plan was made; the next plan sees it
	}
	return err
}

// swapSlot returns the volume's new row.
func (r *Repairer) swapSlot(ctx context.Context, v cairn.Volume, slot uint8, to cairn.DriveID) (cairn.Volume, error) {
	now, err := r.cfg.Meta.SwapSlot(ctx, cairn.SwapSlot{Volume: v.ID, Slot: slot, Epoch: v.Epoch, Old: v.Slots[slot], New: to})
	if err != nil {
		return now, err
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
	return now, nil
}

// fill rebuilds what the drives of some slots lack, for a time slice, and resolves the rows when the pass is through.
// A blob that cannot be rebuilt gets rows of its own, so that it is tried again alone and does not keep the slot from being
// done. If much fails, drives are the reason: the slot stays open, since its row remembers which drive held it before, and
// that may come back.
func (r *Repairer) fill(ctx context.Context, j *job, until time.Time) error {
	targets := make([]target, len(j.rows))
	for i, s := range j.slots() {
		targets[i] = target{slot: s, drive: j.volume.Slots[s]}
	}
	before := r.cursor(j).blobs
	through, failed, err := r.pass(ctx, j, targets, checkIndex, until)
	if err != nil {
		return err
	}
	tried := r.cursors[j.volume.ID].blobs - before
	for _, f := range failed {
		if int64(len(failed))*fewFail > tried && !errors.Is(f.err, cairn.ErrLost) {
			delete(r.cursors, j.volume.ID) // a pass that counts leaves nothing out
			return f.err
		}
		if err := r.cfg.Meta.AddDamage(ctx, f.findings(targets)); err != nil {
			delete(r.cursors, j.volume.ID)
			return err
		}
	}
	if !through {
		r.save(ctx, j)
		return nil
	}
	ids := make([]cairn.ShardID, len(j.rows))
	for i, row := range j.rows {
		ids[i] = row.Shard
	}
	if err := r.cfg.Meta.ResolveDamage(ctx, cairn.OutcomeRepaired, ids); err != nil {
		return err
	}
	delete(r.cursors, j.volume.ID)
	r.cfg.Logger.Info("slots are whole again", "volume", j.volume.ID, "slots", fmt.Sprint(j.slots()))
	return nil
}

// move rebuilds a slot on another drive for a time slice and swaps the slot when every blob is there, verified. The slot
// is then filled like any other, which finds what was committed meanwhile.
func (r *Repairer) move(ctx context.Context, j *job, until time.Time) error {
	if j.spare == planned {
		if err := r.freeze(ctx, j); err != nil {
			return err
		}
	}
	slot := j.rows[0].Shard.Slot
	through, failed, err := r.pass(ctx, j, []target{r.moving(j)}, checkBytes, until)
	if err != nil {
		return err
	}
	c := r.cursors[j.volume.ID]
	for _, f := range failed {
		c.aside = append(c.aside, f.row)
	}
	r.cursors[j.volume.ID] = c
	if len(c.aside) > maxAside {
		delete(r.cursors, j.volume.ID)
		return failed[0].err
	}
	if !through {
		r.save(ctx, j)
		return nil
	}
	if err := r.retryAside(ctx, j); err != nil {
		return err // the drive that is away may hold what cannot be rebuilt: the slot stays
	}
	delete(r.cursors, j.volume.ID)
	if err := r.swap(ctx, j.volume, slot, j.to); err != nil || j.spare != planned {
		return err
	}
	// Nothing was committed since the volume was frozen, so nothing is left to fill. If the swap was refused the row's job
	// begins anew with the next plan, for it is still there.
	now, err := r.cfg.Meta.Volume(ctx, j.volume.ID)
	if err != nil || now.Slots[slot] != j.to {
		return err
	}
	return r.cfg.Meta.ResolveDamage(ctx, cairn.OutcomeMoved, []cairn.ShardID{j.rows[0].Shard})
}

// moving is the target of a move. A drive that is to lose the slot and can be read is copied from: its own shard is one
// read, the decoding of it k.
func (r *Repairer) moving(j *job) target {
	t := target{slot: j.rows[0].Shard.Slot, drive: j.to}
	for _, d := range r.cfg.Drives.Drives() {
		if d.ID == j.volume.Slots[t.slot] && d.State.Readable() && !d.Retired {
			t.from = d.ID
		}
	}
	return t
}

// freeze makes sure that no blob is committed to a volume any more, so that the copy of a healthy slot is whole before the
// slot moves, not after: the volume is sealed, and its epoch raised once, which ends the writers that were under way.
func (r *Repairer) freeze(ctx context.Context, j *job) error {
	row := &j.rows[0]
	if j.volume.State == cairn.VolumeSealed && row.Pass.Epoch == j.volume.Epoch && row.Pass.To == j.to {
		return nil
	}
	if err := r.cfg.Meta.SealVolume(ctx, j.volume.ID); err != nil {
		return err
	}
	here := j.volume.Slots[row.Shard.Slot]
	now, err := r.swapSlot(ctx, j.volume, row.Shard.Slot, here)
	if err != nil {
		return err
	}
	j.volume = now
	row.Pass = cairn.SlotPass{Epoch: now.Epoch, To: j.to}
	return r.cfg.Meta.RetryDamage(ctx, *row)
}

// retryAside tries once more, alone, what a move has set aside.
func (r *Repairer) retryAside(ctx context.Context, j *job) error {
	c := r.cursors[j.volume.ID]
	var left []cairn.BlobRow
	var first error
	t := r.moving(j)
	for _, row := range c.aside {
		n, err := r.rebuildTimed(ctx, j, row, []target{t}, checkBytes)
		if err == nil && n > 0 {
			err = r.dropReleased(ctx, []cairn.BlobRef{row.Ref}, []target{t})
		}
		if err == nil {
			continue
		}
		left = append(left, row)
		first = cmp.Or(first, err)
	}
	c.aside = left
	r.cursors[j.volume.ID] = c
	return first
}

// pass goes on with a pass over the volume's blobs until it is through or the slice ends. failed lists what could not be
// rebuilt. It gives up with an error when much fails.
func (r *Repairer) pass(ctx context.Context, j *job, targets []target, how check, until time.Time) (
	through bool, failed []failure, err error) {
	c := r.cursor(j)
	r.cursors[j.volume.ID] = c
	for {
		page, err := r.cfg.Meta.Blobs(ctx, j.volume.ID, c.after, pageBlobs)
		if err != nil {
			return false, nil, err
		}
		done, bad, err := r.rebuildPage(ctx, j, page, targets, how, until)
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
func (r *Repairer) rebuildPage(ctx context.Context, j *job, page []cairn.BlobRow, targets []target, how check,
	until time.Time) (done int, failed []failure, err error) {
	var mu sync.Mutex
	var written []cairn.BlobRef
	var running sync.WaitGroup
	for _, row := range page {
		if done > 0 && !time.Now().Before(until) {
			break
		}
		share := r.share(j.volume, row)
		if err = r.room.Acquire(ctx, share); err != nil {
			break
		}
		done++
		running.Go(func() {
			defer r.room.Release(share)
			n, err := r.rebuildTimed(ctx, j, row, targets, how)
			r.progress.finished(nominal(j.volume.Profile, row.Ref.Length, len(targets)) - n)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, failure{row, err})
			} else if n > 0 {
				written = append(written, row.Ref)
			}
		})
	}
	running.Wait()
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

func (r *Repairer) rebuildTimed(ctx context.Context, j *job, row cairn.BlobRow, targets []target, how check) (n int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.BlobTimeout)
	defer cancel()
	if j.spare <= 0 {
		ctx = cairn.Urgent(ctx)
	}
	step := Step{Volume: j.volume.ID, Blob: row.Ref.Blob, Slots: j.slots(), Spare: j.spare, Begun: true}
	r.cfg.Trace(step)
	defer func() {
		step.Begun, step.Err = false, err
		r.cfg.Trace(step)
	}()
	for {
		n, err := r.rebuild(ctx, j.volume, row, targets, how)
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
	row cairn.BlobRow
	err error
}

// findings are rows for what is lacking, to be tried again after a while.
func (f failure) findings(targets []target) []cairn.Damage {
	found, now := make([]cairn.Damage, len(targets)), time.Now()
	for i, t := range targets {
		found[i] = cairn.Damage{Shard: cairn.ShardID{Volume: f.row.Ref.Volume, Blob: f.row.Ref.Blob, Slot: t.slot},
			Kind: cairn.DamageMissing, Drive: t.drive, Found: now, By: "repair", Note: f.err.Error(), Tries: 1,
			RetryAt: now.Add(backoff(0))}
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
