package repair

import (
	"context"
	"errors"
	"slices"
	"time"

	"cairn"
)

// Move is a healthy slot that is to lie on another drive.
type Move struct {
	Volume cairn.VolumeID
	Slot   uint8
	From   cairn.DriveID
	To     cairn.DriveID
	Blobs  int64 // of the volume
	Bytes  int64 // of the slot, about
}

// Moves is work that consists of moving healthy slots.
type Moves struct {
	// By names the work in the rows of the queue. No two works under way have the same.
	By string
	// Plan returns what is to be moved as things stand, all of it as far as that can be told; the work is done when it returns
	// nothing.
	Plan func(ctx context.Context) ([]Move, error)
	// Optional: a move whose target cannot take it any more is given up. Otherwise the slot goes elsewhere.
	Optional bool
}

// Carry carries moves out: it puts them into the queue, a few at a time, and returns when a plan has none left. before is the
// progress of an earlier run of the same work; report is called now and then. Whoever ends it by ctx may call it again later,
// or CancelMoves.
func (r *Repairer) Carry(ctx context.Context, w Moves, before cairn.Progress, report func(cairn.Progress)) error {
	c := &carrier{r: r, Moves: w, report: report}
	// An earlier run may have sealed volumes just before it ended.
	c.settled = time.Now().Add(r.cfg.Settle)
	first := true
	for {
		moves, err := w.Plan(ctx)
		if err != nil {
			return err
		}
		c.left = moves
		if first {
			c.countOn(before)
			first = false
		}
		if len(moves) == 0 {
			c.tell(0, 0)
			return nil
		}
		if err := c.through(ctx); err != nil {
			return err
		}
		select { // plans that come to nothing must not follow each other without a pause
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(drainEvery):
		}
	}
}

// carrier is moves under way.
type carrier struct {
	Moves
	r               *Repairer
	left            []Move
	settled         time.Time // when uploads in the volumes that were sealed have had time to commit
	done, doneBlobs int64
	report          func(cairn.Progress)
}

// through carries one plan out.
func (c *carrier) through(ctx context.Context) error {
	if err := c.seal(ctx); err != nil {
		return err
	}
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	for {
		if err := c.step(ctx); err != nil || len(c.left) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// seal ends the time in which the plan's volumes take new blobs: writers go elsewhere from now on.
func (c *carrier) seal(ctx context.Context) error {
	for _, m := range c.left {
		v, err := c.r.cfg.Drives.Volume(ctx, m.Volume, false)
		if errors.Is(err, cairn.ErrNotFound) || err == nil && v.State == cairn.VolumeSealed {
			continue
		}
		if err == nil {
			err = c.r.cfg.Meta.SealVolume(ctx, m.Volume)
		}
		if err == nil {
			_, err = c.r.cfg.Drives.Volume(ctx, m.Volume, true)
		}
		if err != nil {
			return err
		}
		c.settled = time.Now().Add(c.r.cfg.Settle)
	}
	return nil
}

// step takes out of the plan what is done or cannot be done, and keeps the queue fed.
func (c *carrier) step(ctx context.Context) error {
	rows, err := c.queued(ctx)
	if err != nil {
		return err
	}
	var fresh []cairn.Damage
	var gone []cairn.ShardID // from the queue
	var passedBlobs, passed int64
	window := min(len(c.left), drainAhead)
	kept := make([]Move, 0, len(c.left))
	for _, m := range c.left[:window] {
		v, err := c.r.cfg.Meta.Volume(ctx, m.Volume)
		if err != nil && !errors.Is(err, cairn.ErrNotFound) {
			return err
		}
		id := cairn.ShardID{Volume: m.Volume, Slot: m.Slot}
		row, waits := rows[id]
		switch c.judge(m, v, row, waits) {
		case moved:
			c.done, c.doneBlobs = c.done+m.Bytes, c.doneBlobs+m.Blobs
			continue
		case givenUp:
			if waits && row.By == c.By {
				gone = append(gone, id)
			}
			continue
		}
		kept = append(kept, m)
		switch {
		case !waits && time.Now().After(c.settled):
			fresh = append(fresh, cairn.Damage{Shard: id, Kind: cairn.DamageMove, Drive: m.From, To: m.To, Found: time.Now(), By: c.By})
		case waits && row.Pass.Epoch == v.Epoch:
			passedBlobs, passed = passedBlobs+row.Pass.Blobs, passed+min(row.Pass.Bytes/int64(v.Profile.K), m.Bytes)
		}
	}
	c.left = append(kept, c.left[window:]...)
	c.tell(passedBlobs, passed)
	if len(gone) > 0 {
		if err := c.r.cfg.Meta.ResolveDamage(ctx, cairn.OutcomeCanceled, gone); err != nil {
			return err
		}
	}
	if len(fresh) > 0 {
		err = c.r.cfg.Meta.AddDamage(ctx, fresh)
		c.r.Wake()
	}
	return err
}

// queued returns the rows of whole slots that wait.
func (c *carrier) queued(ctx context.Context) (map[cairn.ShardID]cairn.Damage, error) {
	all, err := c.r.cfg.Meta.Damage(ctx, rowsLoaded)
	rows := map[cairn.ShardID]cairn.Damage{}
	for _, row := range all {
		if row.Shard.Blob == 0 {
			rows[row.Shard] = row
		}
	}
	return rows, err
}

// standing is what has become of a move.
type standing uint8

const (
	toDo standing = iota
	moved
	givenUp
)

// judge tells what has become of a move, given its volume (the zero one: there is none) and its slot's row in the queue.
func (c *carrier) judge(m Move, v cairn.Volume, row cairn.Damage, waits bool) standing {
	switch {
	case int(m.Slot) >= len(v.Slots):
		return givenUp
	case v.Slots[m.Slot] != m.From && waits:
		return toDo // swapped, and looked through once more
	case v.Slots[m.Slot] != m.From:
		return moved
	case slices.Contains(v.Slots, m.To):
		return givenUp // another move was quicker: the next plan knows
	case c.Optional && (!waits || row.By == c.By) && !c.r.takes(m.To):
		return givenUp
	}
	return toDo
}

// takes tells whether a drive takes slots now.
func (r *Repairer) takes(drive cairn.DriveID) bool {
	return slices.ContainsFunc(r.cfg.Drives.Drives(), func(d cairn.Drive) bool {
		return d.ID == drive && d.State.Writable() && !d.Retired && !d.Draining
	})
}

// countOn goes on with the count of an earlier run: what is not in the plan any more was moved, reported or not.
func (c *carrier) countOn(before cairn.Progress) {
	var blobs, bytes int64
	for _, m := range c.left {
		blobs, bytes = blobs+m.Blobs, bytes+m.Bytes
	}
	c.doneBlobs = max(before.TotalBlobs-blobs, before.DoneBlobs)
	c.done = max(before.TotalBytes-bytes, before.DoneBytes)
}

// tell reports how far the work has come; passed is what has been copied of moves that are not done.
func (c *carrier) tell(passedBlobs, passed int64) {
	p := cairn.Progress{DoneBlobs: c.doneBlobs + passedBlobs, DoneBytes: c.done + passed, TotalBlobs: c.doneBlobs, TotalBytes: c.done}
	for _, m := range c.left {
		p.TotalBlobs, p.TotalBytes = p.TotalBlobs+m.Blobs, p.TotalBytes+m.Bytes
	}
	p.DoneBlobs, p.DoneBytes = min(p.DoneBlobs, p.TotalBlobs), min(p.DoneBytes, p.TotalBytes)
	c.report(p)
}

// CancelMoves takes a work's moves out of the queue. What was copied for nothing is found and removed by scrub.
func (r *Repairer) CancelMoves(ctx context.Context, by string) error {
	rows, err := r.cfg.Meta.Damage(ctx, rowsLoaded)
	if err != nil {
		return err
	}
	var ids []cairn.ShardID
	for _, row := range rows {
		if row.Kind == cairn.DamageMove && row.By == by {
			ids = append(ids, row.Shard)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return r.cfg.Meta.ResolveDamage(ctx, cairn.OutcomeCanceled, ids)
}
