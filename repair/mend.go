package repair

import (
	"context"
	"sync"
	"time"

	"cairn"
)

// mendAll mends blobs in parallel, begins none after the slice has ended (but one at least), and returns how many it
// began; all of those have ended.
func (r *Repairer) mendAll(ctx context.Context, jobs []job, until time.Time) (begun int) {
	errs := make([]error, len(jobs))
	var mu sync.Mutex
	whole := map[cairn.Outcome][]cairn.ShardID{}
	var running sync.WaitGroup
	for i := range jobs {
		if begun > 0 && !time.Now().Before(until) || r.room.Acquire(ctx, smallPerLarge/2) != nil {
			break
		}
		begun++
		running.Go(func() {
			defer r.room.Release(smallPerLarge / 2)
			var outcome cairn.Outcome
			if outcome, errs[i] = r.mend(ctx, &jobs[i]); errs[i] == nil {
				mu.Lock()
				defer mu.Unlock()
				for _, row := range jobs[i].rows {
					whole[outcome] = append(whole[outcome], row.Shard)
				}
			}
		})
	}
	running.Wait()
	for outcome, ids := range whole {
		if err := r.cfg.Meta.ResolveDamage(ctx, outcome, ids); err != nil && ctx.Err() == nil {
			r.progress.failed(err) // the rows stay; the next round finds the shards whole
			r.cfg.Logger.Warn("repaired shards were not resolved", "count", len(ids), "err", err)
		}
	}
	for i := range begun {
		r.settle(ctx, &jobs[i], errs[i])
	}
	return max(begun, 1)
}

// mend rebuilds the damaged shards of one blob in place, and tells what became of them. A blob that nobody refers to any
// more needs nothing.
func (r *Repairer) mend(ctx context.Context, j *job) (cairn.Outcome, error) {
	id := j.rows[0].Shard.Blob
	rows, err := r.cfg.Meta.Blobs(ctx, j.volume.ID, id-1, 1)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || rows[0].Ref.Blob != id {
		r.progress.finished(0)
		return cairn.OutcomeReleased, nil
	}
	targets := make([]target, len(j.rows))
	for i, row := range j.rows {
		targets[i] = target{slot: row.Shard.Slot, drive: j.volume.Slots[row.Shard.Slot]}
	}
	n, err := r.rebuildTimed(ctx, j, rows[0], targets, checkBytes)
	r.progress.finished(nominal(j.volume.Profile, rows[0].Ref.Length, len(targets)) - n)
	if err != nil {
		return "", err
	}
	if n == 0 {
		return cairn.OutcomeWhole, nil
	}
	return cairn.OutcomeRepaired, r.dropReleased(ctx, []cairn.BlobRef{rows[0].Ref}, targets)
}
