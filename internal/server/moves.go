package server

import (
	"context"
	"fmt"
	"iter"

	"cairn"
	"cairn/admin"
	"cairn/membership"
	"cairn/repair"
)

const (
	// maxMoves bounds one plan; what is beyond it is in the next.
	maxMoves = 1 << 16
	// shardOverhead is what a shard takes on a drive beside its data, in bytes: its header and some padding.
	shardOverhead = 6 << 10
	// maxPlans bounds a rebalance: under load there is always a little that could be moved.
	maxPlans = 8
)

// weighed walks volumes that pass with what a slot of each weighs. It stops at the first error, and leaves it in err.
func (p *parts) weighed(ctx context.Context, volumes iter.Seq[cairn.Volume], pass func(cairn.Volume) bool, err *error) iter.Seq[membership.Held] {
	return func(yield func(membership.Held) bool) {
		for v := range volumes {
			if !pass(v) {
				continue
			}
			blobs, bytes, serr := p.meta.VolumeStats(ctx, v.ID)
			if serr != nil {
				*err = serr
				return
			}
			if !yield(membership.Held{Volume: v, SlotBytes: bytes/int64(v.Profile.K) + blobs*shardOverhead}) {
				return
			}
		}
	}
}

// drivesOf are the drives of a node that were not replaced.
func (p *parts) drivesOf(node cairn.NodeID) (mine []cairn.DriveID, all []cairn.Drive) {
	all = p.view.Drives()
	for _, d := range all {
		if d.Node == node && !d.Retired {
			mine = append(mine, d.ID)
		}
	}
	return mine, all
}

// holdsAny tells which volumes have a slot on one of the drives.
func holdsAny(drives []cairn.DriveID) func(cairn.Volume) bool {
	on := make(map[cairn.DriveID]bool, len(drives))
	for _, id := range drives {
		on[id] = true
	}
	return func(v cairn.Volume) bool {
		for _, id := range v.Slots {
			if on[id] {
				return true
			}
		}
		return false
	}
}

// planEmptying plans the moves that leave nothing on a node's drives. ErrUnavailable or ErrFull, with what to add, if a slot
// has no other place.
func (p *parts) planEmptying(ctx context.Context, node cairn.NodeID) ([]membership.Move, error) {
	if err := p.view.Refresh(ctx); err != nil {
		return nil, err
	}
	mine, all := p.drivesOf(node)
	if len(mine) == 0 {
		return nil, nil
	}
	var failed error
	moves, err := membership.Drain(all, mine, p.weighed(ctx, p.view.Volumes(), holdsAny(mine), &failed), maxMoves)
	if failed != nil {
		return nil, failed
	}
	return moves, err
}

// planBalance plans the moves that make the drives equally full, among the volumes up to last.
func (p *parts) planBalance(ctx context.Context, last cairn.VolumeID) (moves []membership.Move, spread float64, err error) {
	if err := p.view.Refresh(ctx); err != nil {
		return nil, 0, err
	}
	volumes := p.view.Volumes()
	var weights []membership.Held // walked twice: as it was then
	for h := range p.weighed(ctx, volumes, func(cairn.Volume) bool { return true }, &err) {
		weights = append(weights, h)
	}
	if err != nil {
		return nil, 0, err
	}
	drives := membership.Weigh(p.view.Drives(), func(yield func(membership.Held) bool) {
		for _, h := range weights {
			if !yield(h) {
				return
			}
		}
	})
	old := func(yield func(membership.Held) bool) {
		for _, h := range weights {
			if h.Volume.ID <= last && !yield(h) {
				return
			}
		}
	}
	return membership.Rebalance(drives, old, maxMoves), membership.Spread(drives), nil
}

// lastVolume is the newest volume's ID.
func (p *parts) lastVolume() (last cairn.VolumeID) {
	for v := range p.view.Volumes() {
		last = max(last, v.ID)
	}
	return last
}

// counted turns a plan into work.
func (p *parts) counted(ctx context.Context, moves []membership.Move) ([]repair.Move, error) {
	out := make([]repair.Move, 0, len(moves))
	for _, m := range moves {
		blobs, _, err := p.meta.VolumeStats(ctx, m.Volume)
		if err != nil {
			return nil, err
		}
		out = append(out, repair.Move{Volume: m.Volume, Slot: m.Slot, From: m.From, To: m.To, Blobs: blobs, Bytes: m.Bytes})
	}
	return out, nil
}

// byJob is the name of a job's moves in the queue.
func byJob(j cairn.Job) string { return fmt.Sprintf("job %s", j.ID) }

// rebalanceRunner makes the drives equally full.
type rebalanceRunner struct{ p *parts }

// Run returns when a plan has nothing to move. What is written meanwhile finds its place by itself, so only volumes that were
// there at the beginning move.
func (r rebalanceRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	if err := r.p.view.Refresh(ctx); err != nil {
		return err
	}
	last, sources, plans := r.p.lastVolume(), map[cairn.DriveID]bool{}, 0
	plan := func(ctx context.Context) ([]repair.Move, error) {
		if plans++; plans > maxPlans {
			return nil, nil
		}
		moves, _, err := r.p.planBalance(ctx, last)
		if err != nil {
			return nil, err
		}
		for _, m := range moves {
			sources[m.From] = true
		}
		return r.p.counted(ctx, moves)
	}
	if err := r.p.repairer.Carry(ctx, repair.Moves{By: byJob(j), Plan: plan, Optional: true}, j.Progress, report); err != nil {
		return err
	}
	for id := range sources {
		r.p.scrubber.Reconcile(id) // removes what has moved, once its new home was read
	}
	return nil
}

// Cancel takes the moves out of the queue.
func (r rebalanceRunner) Cancel(ctx context.Context, j cairn.Job) error {
	return r.p.repairer.CancelMoves(ctx, byJob(j))
}

// Rebalance begins to make the drives equally full; with dry set it only says what that would take.
func (f *facts) Rebalance(ctx context.Context, dry bool) (b admin.Balance, err error) {
	moves, spread, err := f.parts.planBalance(ctx, ^cairn.VolumeID(0))
	if err != nil {
		return b, err
	}
	b = admin.Balance{Spread: spread, Slots: len(moves)}
	for _, m := range moves {
		b.Bytes += m.Bytes
	}
	if dry {
		return b, nil
	}
	j, err := f.parts.meta.CreateJob(ctx, cairn.JobRebalance, "")
	if err == nil {
		b.Job = &j
	}
	return b, err
}
