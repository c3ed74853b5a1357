package repair_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/repair"
)

// emptying plans the moves of every slot on some drives to the first of the others that may take it.
func (c *cluster) emptying(drives ...cairn.DriveID) func(context.Context) ([]repair.Move, error) {
	return func(ctx context.Context) (moves []repair.Move, err error) {
		volumes, err := c.meta.Volumes(ctx, 0, 1000)
		for _, v := range volumes {
			slots := slices.Clone(v.Slots)
			for i, from := range v.Slots {
				if !slices.Contains(drives, from) {
					continue
				}
				at := slices.IndexFunc(c.view.Drives(), func(d cairn.Drive) bool {
					return d.State.Writable() && !slices.Contains(slots, d.ID) && !slices.Contains(drives, d.ID)
				})
				if at < 0 {
					return nil, cairn.ErrUnavailable
				}
				slots[i] = c.view.Drives()[at].ID
				blobs, bytes, serr := c.meta.VolumeStats(ctx, v.ID)
				err = errors.Join(err, serr)
				moves = append(moves, repair.Move{Volume: v.ID, Slot: uint8(i), From: from, To: slots[i], Blobs: blobs, Bytes: bytes / int64(v.Profile.K)})
			}
		}
		return moves, err
	}
}

// Two drives are emptied at once while a writer goes on: no blob has fewer good shards than its profile gives at any moment, the
// slots go where the plan says, what the writer was told is durable is so afterwards, and progress only grows.
func TestCarryEmptiesDrivesUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 8)
		defer c.run()()
		c.settled()
		c.putSome()
		leaving := []cairn.DriveID{c.node.ID(0), c.node.ID(1)}
		before := c.snapshot()
		for _, id := range leaving {
			must(t, c.meta.SetDraining(t.Context(), id, true))
		}
		c.settled()
		var last cairn.Progress
		ended := make(chan error, 1)
		go func() {
			ended <- c.rep.Carry(t.Context(), repair.Moves{By: "job 1", Plan: c.emptying(leaving...)}, cairn.Progress{}, func(p cairn.Progress) {
				if p.DoneBytes < last.DoneBytes || p.DoneBytes > p.TotalBytes {
					t.Errorf("progress went from %+v to %+v", last, p)
				}
				last = p
			})
		}()
		for done := false; !done; {
			select {
			case err := <-ended:
				must(t, err)
				done = true
			default:
				c.put(9 * unit) // all slots or none: a put that lacks one would be found below
				time.Sleep(500*time.Millisecond + time.Nanosecond)
			}
			for ref, n := range c.goodShards() {
				if n < profile.Width() {
					t.Fatalf("%s has %d good shards during the move", ref, n)
				}
			}
		}
		for _, id := range leaving {
			if n := len(c.slotsOn(id)); n != 0 {
				t.Errorf("%d slots are left on %s", n, id)
			}
		}
		if rows := c.damage(); len(rows) != 0 || last.DoneBytes != last.TotalBytes || last.TotalBytes == 0 {
			t.Errorf("at the end: rows %v, progress %+v", rows, last)
		}
		c.checkIdentical(before)
		c.checkData()
	})
}

// A carry that ends in the middle goes on where it was, counts on, and may be called off, which empties the queue.
func TestCarryResumesAndIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.run()()
		c.settled()
		c.putSome()
		from := c.node.ID(0)
		for i := range 7 {
			if len(c.slotsOn(c.node.ID(i))) > len(c.slotsOn(from)) {
				from = c.node.ID(i)
			}
		}
		must(t, c.meta.SetDraining(t.Context(), from, true)) // else new volumes come to it
		c.settled()
		before := c.snapshot()
		slow := func(ctx context.Context, call blobtest.Call) error {
			if cairn.IsBackground(ctx) && call.Op == blobtest.OpRead {
				time.Sleep(10*time.Second + time.Nanosecond) // several looks at how far it is, for each volume
			}
			return c.driveFault(call)
		}
		c.disk.Fault = slow
		w := repair.Moves{By: "job 7", Plan: c.emptying(from)}
		var last cairn.Progress
		carry := func(until func(p cairn.Progress) bool) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			var said atomic.Pointer[cairn.Progress]
			said.Store(&last)
			go func() { ended <- c.rep.Carry(ctx, w, last, func(p cairn.Progress) { said.Store(&p) }) }()
			defer func() { last = *said.Load() }()
			c.until("carried so far", time.Hour, func() bool { return until(*said.Load()) || len(ended) > 0 })
			cancel()
			if err := <-ended; !until(*said.Load()) || err != nil && !errors.Is(err, context.Canceled) {
				t.Fatalf("it ended with %v at %+v", err, *said.Load())
			}
		}
		carry(func(p cairn.Progress) bool { return p.DoneBytes > 0 && p.DoneBytes < p.TotalBytes })
		total := last.TotalBytes
		must(t, c.rep.CancelMoves(t.Context(), "job 8"))
		if len(c.damage()) == 0 {
			t.Error("another work's moves were called off")
		}
		must(t, c.rep.CancelMoves(t.Context(), w.By))
		c.until("nothing waits", 10*time.Minute, func() bool { return len(c.damage()) == 0 })
		left := len(c.slotsOn(from))
		if left == 0 {
			t.Fatal("it was not called off in the middle")
		}
		carry(func(p cairn.Progress) bool { return len(c.slotsOn(from)) == 0 && p.DoneBytes == p.TotalBytes })
		if last.TotalBytes < total {
			t.Errorf("in all %d bytes, before the break %d", last.TotalBytes, total)
		}
		c.checkIdentical(before)
		c.checkData()
	})
}

// An optional move whose target breaks is given up: the slot stays where it is.
func TestCarryGivesOptionalMovesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 8)
		defer c.run()()
		c.settled()
		c.putSome()
		from, plans := c.node.ID(0), 0
		held := c.slotsOn(from)
		plan := func(ctx context.Context) ([]repair.Move, error) {
			if plans++; plans > 1 {
				return nil, nil
			}
			moves, err := c.emptying(from)(ctx)
			for _, m := range moves {
				for i := range 8 {
					if c.node.ID(i) == m.To {
						c.node.Set(i, cairn.DriveReadOnly)
					}
				}
			}
			return moves, err
		}
		must(t, c.rep.Carry(t.Context(), repair.Moves{By: "job 1", Plan: plan, Optional: true}, cairn.Progress{}, func(cairn.Progress) {}))
		now := c.slotsOn(from) // the volumes that were sealed have successors, with slots there too
		for _, id := range held {
			if !slices.Contains(now, id) {
				t.Errorf("the slot of %s has moved", id)
			}
		}
		if len(held) == 0 || len(c.damage()) != 0 {
			t.Errorf("%d slots were there, rows %v", len(held), c.damage())
		}
		c.checkData()
	})
}
