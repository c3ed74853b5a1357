package repair_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
)

// A drive is emptied while writers go on: at no moment has any blob fewer good shards than before, its shards are copied
// and not decoded, and nothing new lands on it.
func TestDrainADrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.run()()
		c.settled()
		c.putSome()
		drive := c.kept[0].refs[0]
		v, err := c.meta.Volume(t.Context(), drive.Volume)
		must(t, err)
		from := v.Slots[0]
		held := len(c.slotsOn(from))
		plan, err := c.rep.PlanDrain(t.Context(), from)
		must(t, err)
		if err := plan.Refusal(); err != nil || plan.Slots != held || plan.Bytes == 0 {
			t.Errorf("plan = %+v, %v, want %d slots", plan, err, held)
		}
		before := c.snapshot()
		reads := c.disk.Calls(blobtest.OpRead)
		must(t, c.meta.SetDraining(t.Context(), from, true))
		c.settled()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		var last cairn.Progress
		go func() { ended <- c.rep.Drain(ctx, from, cairn.Progress{}, func(p cairn.Progress) { last = p }) }()
		for ended := ended; ; {
			for ref, n := range c.goodShards() {
				if n < profile.Width() {
					t.Fatalf("%s has %d good shards during the drain", ref, n)
				}
			}
			select {
			case err := <-ended:
				must(t, err)
			default:
				time.Sleep(50*time.Millisecond + time.Nanosecond)
				continue
			}
			break
		}
		cancel()
		if len(c.slotsOn(from)) != 0 || len(c.damage()) != 0 {
			t.Errorf("%d slots are left, rows %v", len(c.slotsOn(from)), c.damage())
		}
		if last.DoneBytes != last.TotalBytes || last.TotalBytes == 0 {
			t.Errorf("progress at the end: %+v", last)
		}
		shards := 0
		for ref := range before {
			_ = ref
			shards++
		}
		// One read a shard (these fit a piece), not k; checking a copy is no read.
		if n := c.disk.Calls(blobtest.OpRead) - reads; n > shards+2*len(sizes) {
			t.Errorf("%d reads to move at most %d shards: they were decoded", n, shards)
		}
		c.checkIdentical(before)
		c.checkData()
	})
}

func TestDrainOfTheLastPlaceIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.settled()
		c.putSome()
		plan, err := c.rep.PlanDrain(t.Context(), c.node.ID(0))
		must(t, err)
		if err := plan.Refusal(); !errors.Is(err, cairn.ErrPrecondition) {
			t.Errorf("got %v, want a refusal", err)
		}
		if _, err := c.rep.PlanDrain(t.Context(), cairn.NewID()); !errors.Is(err, cairn.ErrNotFound) {
			t.Errorf("an unknown drive: %v", err)
		}
	})
}

// A drain that is called off leaves the drive as it was, and one that is begun again after the drive died ends as a repair.
func TestDrainCanceledAndDriveDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.run()()
		c.settled()
		c.putSome()
		from := c.node.ID(1)
		before := c.snapshot()
		c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
			if cairn.IsBackground(ctx) && call.Op == blobtest.OpRead {
				time.Sleep(5 * time.Second)
			}
			return c.driveFault(call)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.rep.Drain(ctx, from, cairn.Progress{}, func(cairn.Progress) {}) }()
		c.until("moves are queued", time.Minute, func() bool { return len(c.damage()) > 0 })
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("drain ended with %v", err)
		}
		must(t, c.rep.CancelDrain(t.Context(), from))
		c.until("nothing waits", 10*time.Minute, func() bool { return len(c.damage()) == 0 })
		c.checkData()
		ctx, cancel = context.WithCancel(t.Context())
		defer cancel()
		go func() { ended <- c.rep.Drain(ctx, from, cairn.Progress{}, func(cairn.Progress) {}) }()
		time.Sleep(32*time.Second + time.Nanosecond)
		c.disk.Wipe(from)
		c.node.Replace(1)
		must(t, <-ended)
		c.until("whole", time.Hour, c.whole)
		c.checkIdentical(before)
		c.checkData()
	})
}
