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

func TestWipedDriveIsRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		c.until("whole", time.Minute, c.whole)
		c.disk.Wipe(c.node.ID(2))
		c.node.Replace(2)
		first := c.until("a first byte is repaired", 2*time.Second, func() bool { return c.rep.Status().DoneBytes > 0 })
		c.until("whole again", time.Minute, c.whole)
		t.Logf("first byte after %v", first)
		c.checkIdentical(before)
		c.checkData()
	})
}

func TestTwoDrivesWipedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		for _, i := range []int{1, 4} {
			c.disk.Wipe(c.node.ID(i))
			c.node.Replace(i)
		}
		c.until("repair has begun", 2*time.Second, func() bool { return c.rep.Status().DoneBytes > 0 })
		c.putSome() // while repair runs
		c.checkData()
		c.until("whole again", time.Minute, c.whole)
		c.checkIdentical(before)
		c.checkData()
		// And two others.
		for _, i := range []int{0, 5} {
			c.disk.Wipe(c.node.ID(i))
			c.node.Replace(i)
		}
		c.settled()
		c.until("whole again", time.Minute, c.whole)
		c.checkData()
	})
}

// A drive that is unplugged and returns keeps its slots; what was written meanwhile is made up for.
func TestUnpluggedDriveReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		volume := c.kept[0].refs[0].Volume
		epoch := c.epoch(volume)
		c.node.Set(3, cairn.DriveMissing)
		c.putSome() // at once: these skip the slot, until the drive's absence is noticed
		c.settled()
		c.putSome()
		c.checkData()
		if by := c.bySpare(); by[1] == 0 || by[0] != 0 {
			t.Errorf("blobs by spare = %v with a drive away, want some with 1 to spare, none with 0", by)
		}
		if c.whole() {
			t.Error("whole though a drive is missing")
		}
		time.Sleep(5 * time.Minute) // longer than OutDelay, but there is no other drive to go to
		c.node.Set(3, cairn.DriveOK)
		c.until("whole again", time.Minute, c.whole)
		if got := c.epoch(volume); got != epoch {
			t.Errorf("epoch went from %d to %d though the drive came back", epoch, got)
		}
		c.checkIdentical(before)
		c.checkData()
		for _, s := range c.kept {
			for _, ref := range s.refs {
				if slot := slices.IndexFunc(c.shardsOf(ref), func(b []byte) bool { return b == nil }); slot >= 0 {
					t.Errorf("%s.%d is still missing", ref, slot)
				}
			}
		}
	})
}

func (c *cluster) epoch(id cairn.VolumeID) cairn.Epoch {
	v, err := c.meta.Volume(c.t.Context(), id)
	must(c.t, err)
	return v.Epoch
}

func (c *cluster) bySpare() map[int]int64 {
	by, err := c.rep.BlobsBySpare(c.t.Context())
	must(c.t, err)
	return by
}

// With two of six drives gone for good, new blobs are 2+2 on the other four, as protected as before.
func TestTwoDrivesGoneForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		c.node.Set(0, cairn.DriveMissing)
		c.node.Set(1, cairn.DriveMissing)
		c.settled()
		c.checkData()
		s := c.put(1 << 20)
		v, err := c.meta.Volume(t.Context(), s.refs[0].Volume)
		must(t, err)
		if want := (cairn.Profile{K: 2, M: 2}); v.Profile != want {
			t.Errorf("written as %s, want %s", v.Profile, want)
		}
		if slices.Contains(v.Slots, c.node.ID(0)) || slices.Contains(v.Slots, c.node.ID(1)) {
			t.Errorf("written to a drive that is gone")
		}
		if by := c.bySpare(); by[0] == 0 || by[2] == 0 {
			t.Errorf("blobs by spare = %v, want old ones with 0 and new ones with 2", by)
		}
		// Two new drives at their paths take over.
		c.node.Replace(0)
		c.node.Replace(1)
		c.settled()
		c.until("whole again", time.Minute, c.whole)
		if s := c.rep.Status(); s.Needs != 0 || s.State != "idle" {
			t.Errorf("status after all is done: %+v", s)
		}
		c.checkData()
	})
}

// A drive that stays away is given up for a spare one after OutDelay, but what it holds is not touched.
func TestSlotsMoveToASpareDrive(t *testing.T) {
	for _, state := range []cairn.DriveState{cairn.DriveMissing, cairn.DriveFailing, cairn.DriveReadOnly} {
		t.Run(state.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 7)
				defer c.run()()
				c.putSome()
				gone, held := c.node.ID(2), c.heldBy(c.node.ID(2))
				before := c.snapshot()
				c.node.Set(2, state)
				time.Sleep(50 * time.Second)
				if n := len(c.slotsOn(gone)); n == 0 {
					t.Fatal("slots left the drive before OutDelay")
				}
				time.Sleep(30 * time.Second)
				c.until("no slot is on the drive", time.Minute, func() bool { return len(c.slotsOn(gone)) == 0 })
				c.until("whole again", time.Minute, c.whole)
				c.checkIdentical(before)
				c.checkData()
				if now := c.heldBy(gone); now != held {
					t.Errorf("the drive held %d shards, now %d: repair deletes nothing", held, now)
				}
			})
		})
	}
}

func (c *cluster) slotsOn(d cairn.DriveID) (on []cairn.VolumeID) {
	vs, err := c.meta.Volumes(c.t.Context(), 0, 1000)
	must(c.t, err)
	for _, v := range vs {
		if slices.Contains(v.Slots, d) {
			on = append(on, v.ID)
		}
	}
	return on
}

// heldBy counts the shards of kept blobs that a drive has, readable or not.
func (c *cluster) heldBy(d cairn.DriveID) (n int) {
	for _, s := range c.kept {
		for _, ref := range s.refs {
			for slot := range profile.Width() {
				if _, b := c.disk.Shard(d, cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(slot)}); b != nil {
					n++
				}
			}
		}
	}
	return n
}

func TestDamagedShardsAreMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		for i, s := range c.kept {
			ref := s.refs[0]
			v, err := c.meta.Volume(t.Context(), ref.Volume)
			must(t, err)
			for j, harm := range []func(d cairn.DriveID, id cairn.ShardID){
				func(d cairn.DriveID, id cairn.ShardID) { c.disk.Flip(d, id, 0) },
				func(d cairn.DriveID, id cairn.ShardID) { c.disk.Drop(d, id) },
			} {
				slot := uint8((i + 3*j) % 6)
				id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}
				harm(v.Slots[slot], id)
				c.rep.Report(cairn.Damage{Shard: id, Kind: cairn.DamageCorrupt, Drive: v.Slots[slot], By: "read"})
			}
		}
		c.settled()
		c.until("whole again", time.Minute, c.whole)
		c.checkIdentical(before)
	})
}

// Findings about blobs that were released meanwhile are dropped, nothing is rebuilt.
func TestReleasedBlobsAreNotRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		s := c.put(1 << 20)
		ref := s.refs[0]
		v, err := c.meta.Volume(t.Context(), ref.Volume)
		must(t, err)
		id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: 1}
		c.meta.Release(ref)
		c.disk.Drop(v.Slots[1], id)
		c.rep.Report(cairn.Damage{Shard: id, Kind: cairn.DamageMissing})
		c.settled()
		if rows := c.damage(); len(rows) != 0 {
			t.Errorf("damage of a released blob stays: %v", rows)
		}
		if _, b := c.disk.Shard(v.Slots[1], id); b != nil {
			t.Error("a shard of a released blob was rebuilt")
		}
	})
}

// A blob beyond repair is set aside; the others are repaired, and it is when its shards come back.
func TestOneLostBlobHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		lost := c.kept[len(c.kept)-1].refs[0]
		v, err := c.meta.Volume(t.Context(), lost.Volume)
		must(t, err)
		for slot := range uint8(3) {
			id := cairn.ShardID{Volume: lost.Volume, Blob: lost.Blob, Slot: slot}
			c.disk.Drop(v.Slots[slot], id)
			c.rep.Report(cairn.Damage{Shard: id, Kind: cairn.DamageMissing})
		}
		delete(before, lost)
		for ref := range before {
			v, err := c.meta.Volume(t.Context(), ref.Volume)
			must(t, err)
			id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: 5}
			c.disk.Flip(v.Slots[5], id, 0)
			c.rep.Report(cairn.Damage{Shard: id, Kind: cairn.DamageCorrupt})
		}
		c.settled() // reports are recorded some at a time: the queue may have held the lost blob's alone so far
		c.until("only the lost blob is left", time.Minute, func() bool {
			rows := c.damage()
			return len(rows) == 3 && !slices.ContainsFunc(rows, func(d cairn.Damage) bool { return d.Shard.Blob != lost.Blob })
		})
		c.checkIdentical(before)
		if by := c.bySpare(); by[-1] != 1 {
			t.Errorf("blobs by spare = %v, want one with -1", by)
		}
		time.Sleep(20 * time.Second)
		tries := c.damage()[0].Tries
		if tries < 2 || tries > 10 {
			t.Errorf("%d tries within 20 s, want a few", tries)
		}
	})
}

// Three drives that are pulled and found empty at their paths: their slots stay where they are, so that what the drives
// hold counts again when they return.
func TestPulledDrivesAreNotSwappedAwayBeyondRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		was := c.node.Statuses()
		for i := range 3 {
			c.node.Replace(i) // the data stay on the identities that are gone
		}
		time.Sleep(time.Minute)
		if c.whole() {
			t.Fatal("whole with three drives gone")
		}
		c.node.Restore(was[:3]...)
		c.until("whole again", time.Minute, c.whole)
		c.checkIdentical(before)
		c.checkData()
	})
}

// A slot was swapped to a new drive and not filled yet when two more drives went: too little is left. The drive that it
// was swapped from comes back, and its shards count again.
func TestFormerDriveRescuesASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		var stuck atomic.Bool
		c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
			if stuck.Load() && cairn.IsBackground(ctx) && call.Op == blobtest.OpRead {
				return cairn.ErrUnavailable
			}
			return c.driveFault(call)
		}
		defer c.run()()
		c.putSome()
		before := c.snapshot()
		was, gone := c.node.Statuses()[0], c.node.ID(0)
		stuck.Store(true)
		c.node.Replace(0)
		c.until("slots were swapped", time.Minute, func() bool { return len(c.slotsOn(gone)) == 0 })
		c.node.Set(1, cairn.DriveMissing)
		c.node.Set(2, cairn.DriveMissing)
		stuck.Store(false)
		c.settled()
		if by := c.bySpare(); by[-1] == 0 {
			t.Fatalf("blobs by spare = %v, want some lost", by)
		}
		c.node.Restore(was)
		c.until("slots are back", time.Minute, func() bool { return len(c.slotsOn(gone)) > 0 && c.bySpare()[-1] == 0 })
		c.checkData()
		c.node.Set(1, cairn.DriveOK)
		c.node.Set(2, cairn.DriveOK)
		c.until("whole again", 10*time.Minute, c.whole)
		c.checkIdentical(before)
	})
}

var errKilled = errors.New("killed by the test")

// Repair is killed at every one of its operations in turn. What is then there is never less than before (I7), and the next
// repairer brings the same end.
func TestKilledAtEveryStep(t *testing.T) {
	for name, hurt := range map[string]func(c *cluster){
		"wiped": func(c *cluster) {
			c.disk.Wipe(c.node.ID(2))
			c.node.Replace(2)
		},
		"drained": func(c *cluster) {
			c.node.Set(2, cairn.DriveReadOnly)
			time.Sleep(2 * time.Minute)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for n := int64(1); ; n++ {
				done := false
				synctest.Test(t, func(t *testing.T) { done = killedAt(t, n, hurt) })
				if done || t.Failed() {
					t.Logf("killed at each of %d operations", n-1)
					return
				}
			}
		})
	}
}

// killedAt reports that repair came to its end before the n-th operation.
func killedAt(t *testing.T, n int64, hurt func(*cluster)) (done bool) {
	c := newCluster(t, 7)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var repairing atomic.Bool
	var ops atomic.Int64
	killed := func() error {
		if repairing.Load() && ops.Add(1) >= n {
			cancel()
			return errKilled
		}
		return nil
	}
	c.meta.Fault = func(ctx context.Context, _ string) error {
		if !cairn.IsBackground(ctx) {
			return nil // the keeper and the test
		}
		return killed()
	}
	c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
		if err := c.driveFault(call); err != nil {
			return err
		}
		if !cairn.IsBackground(ctx) {
			return nil
		}
		return killed()
	}
	keepCtx, stopKeeper := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() { c.watch(keepCtx); close(kept) }()
	defer func() { stopKeeper(); <-kept; c.disk.Wait(); must(t, c.blobs.Close()) }()

	for _, size := range []int64{1, 5 * unit} {
		c.put(size)
	}
	c.settled()
	before := c.snapshot()
	hurt(c)
	c.settled()
	had := c.goodShards()

	repairing.Store(true)
	ended := make(chan struct{})
	go func() { c.rep.Run(ctx); close(ended) }()
	for range 2000 {
		time.Sleep(10*time.Millisecond + 3*time.Nanosecond)
		if ctx.Err() != nil || c.whole() && len(c.slotsOn(c.node.ID(2))) > 0 == (c.node.State(c.node.ID(2)) == cairn.DriveOK) {
			break
		}
	}
	done = ctx.Err() == nil
	cancel()
	<-ended
	c.disk.Wait()
	repairing.Store(false)
	for ref, n := range c.goodShards() {
		if n < had[ref] {
			t.Errorf("%s has %d good shards, had %d before the repair", ref, n, had[ref])
		}
	}
	c.checkData()

	next := c.newRepairer()
	ctx2, cancel2 := context.WithCancel(t.Context())
	ended = make(chan struct{})
	go func() { next.Run(ctx2); close(ended) }()
	c.until("whole again", time.Minute, c.whole)
	cancel2()
	<-ended
	c.checkIdentical(before)
	c.checkData()
	return done
}

// goodShards counts, for each blob, the shards that its slots' drives can serve.
func (c *cluster) goodShards() map[cairn.BlobRef]int {
	good := map[cairn.BlobRef]int{}
	for _, s := range c.kept {
		for _, ref := range s.refs {
			v, err := c.meta.Volume(c.t.Context(), ref.Volume)
			must(c.t, err)
			for slot, d := range v.Slots {
				if c.disk.Verify(c.t.Context(), d, cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(slot)}) == nil {
					good[ref]++
				}
			}
		}
	}
	return good
}

func TestConfigIsValidated(t *testing.T) {
	if _, err := repair.New(repair.Config{}); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("New with nothing: %v, want ErrInvalid", err)
	}
}

func TestReportNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		for b := range cairn.BlobID(10000) { // nobody takes them up
			c.rep.Report(cairn.Damage{Shard: cairn.ShardID{Volume: 1, Blob: b + 1}})
		}
	})
}

// Findings on a drive that cannot be read any more say nothing about shards.
func TestReportsFromADeadDriveAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		ref := c.put(1).refs[0]
		c.node.Set(1, cairn.DriveFailing)
		c.settled()
		v, err := c.meta.Volume(t.Context(), ref.Volume)
		must(t, err)
		for slot, d := range v.Slots {
			c.rep.Report(cairn.Damage{Shard: cairn.ShardID{Volume: v.ID, Blob: ref.Blob, Slot: uint8(slot)}, Drive: d, Kind: cairn.DamageCorrupt})
		}
		c.settled()
		if rows := c.damage(); len(rows) != 0 {
			t.Errorf("damage %v, want none: five shards are whole, and of the sixth only its drive is known to be bad", rows)
		}
	})
}
