package repair_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
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
		written := c.writers(ctx, 3)
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
		meanwhile := written()
		for _, s := range meanwhile {
			for _, ref := range s.refs {
				v, err := c.meta.Volume(t.Context(), ref.Volume)
				must(t, err)
				if slices.Contains(v.Slots, from) {
					t.Errorf("%s was written to the drive that is being emptied", ref)
				}
			}
		}
		if len(meanwhile) < 10 {
			t.Errorf("%d blobs were written meanwhile", len(meanwhile))
		}
		c.kept = append(c.kept, meanwhile...)
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

// writers puts blobs from several goroutines until ctx ends; the function it returns waits and tells what they stored.
func (c *cluster) writers(ctx context.Context, n int) func() []stored {
	var mu sync.Mutex
	var all []stored
	var running sync.WaitGroup
	for w := range n {
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				data := bytes.Repeat([]byte{byte(w), byte(i)}, int(sizes[i%len(sizes)]/2)+1)
				s, err := c.store(data)
				if err != nil {
					c.t.Errorf("writer %d: %v", w, err)
					return
				}
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
				time.Sleep(time.Second + time.Duration(w+1)*time.Microsecond)
			}
		})
	}
	return func() []stored {
		running.Wait()
		return all
	}
}

// store stores bytes as often as it takes for a commit not to come too late.
func (c *cluster) store(data []byte) (s stored, err error) {
	for {
		news, err := c.blobs.Put(c.t.Context(), cairn.BlobPut{Profile: profile, Size: int64(len(data)), Body: bytes.NewReader(data)})
		if err != nil {
			return s, err
		}
		s = stored{data: data}
		for _, n := range news {
			s.refs = append(s.refs, n.Ref)
		}
		if err = c.meta.Commit(c.t.Context(), "b/k", news...); cairn.Kind(err) != cairn.ErrStaleEpoch {
			return s, err
		}
	}
}

// A drain that is taken up again leaves the uploads that are under way the same time as a new one.
func TestResumedDrainLetsUploadsCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.run()()
		c.settled()
		c.putSome()
		v, err := c.meta.Volume(t.Context(), c.kept[0].refs[0].Volume)
		must(t, err)
		from := v.Slots[0]
		must(t, c.meta.SetDraining(t.Context(), from, true))
		c.settled()
		for _, id := range c.slotsOn(from) { // the process before this one did so, just now
			must(t, c.meta.SealVolume(t.Context(), id))
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- c.rep.Drain(ctx, from, cairn.Progress{TotalBlobs: 9}, func(cairn.Progress) {}) }()
		time.Sleep(29*time.Second + time.Nanosecond)
		if got := c.epoch(v.ID); got != v.Epoch || len(c.damage()) != 0 {
			t.Errorf("epoch %d and rows %v before the uploads had their time", got, c.damage())
		}
		must(t, <-ended)
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
