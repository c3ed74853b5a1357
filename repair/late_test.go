package repair_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/scrub"
)

const grace = 15 * time.Minute // of orphans

// shelves is what scrub sees of a cluster: the node's states and the memory's shards.
type shelves struct {
	*blobtest.Memory
	c *cluster
}

func (s shelves) Statuses() []cairn.DriveStatus { return s.c.node.Statuses() }

func (c *cluster) scrubber() *scrub.Scrubber {
	s, err := scrub.New(scrub.Config{Meta: c.meta, Drives: shelves{c.disk, c}, Orphans: c.disk, Grace: grace, Damaged: func() { c.rep.Wake() }})
	must(c.t, err)
	return s
}

// scrubbed runs scrub beside all else until the function that it returns is called.
func (c *cluster) scrubbed() (s *scrub.Scrubber, stop func()) {
	s = c.scrubber()
	ctx, cancel := context.WithCancel(c.t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	return s, func() { cancel(); <-ended }
}

// shardsLeft counts the shards of a blob on all drives, whatever volume rows say.
func (c *cluster) shardsLeft(ref cairn.BlobRef) (n int) {
	for i := range 7 {
		for slot := range uint8(6) {
			if _, b := c.disk.Shard(c.node.ID(i), cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}); b != nil {
				n++
			}
		}
	}
	return n
}

// A node's drives appear minutes after the others'. Meanwhile objects were deleted, their slots were rebuilt elsewhere, and
// others were written. Nothing good is removed, at no moment has a blob fewer good shards than it had, and what was deleted
// stays deleted: in the end no drive holds anything of it.
func TestLateDrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 7)
		defer c.run()()
		_, stop := c.scrubbed()
		defer stop()
		c.settled()
		c.putSome()
		c.putSome()
		before := c.snapshot()
		for _, i := range []int{1, 2} { // both drives of the late node
			c.node.Set(i, cairn.DriveMissing)
		}
		c.settled()
		var gone []stored
		for i := len(c.kept) - 1; i >= 0; i -= 2 {
			s := c.kept[i]
			c.kept = append(c.kept[:i:i], c.kept[i+1:]...)
			gone = append(gone, s)
			for _, ref := range s.refs {
				c.meta.Release(ref)
				delete(before, ref)
				for d := range 7 { // as garbage collection does, where it gets through
					for slot := range uint8(6) {
						_ = c.disk.Delete(t.Context(), c.node.ID(d), []cairn.ShardID{{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}})
					}
				}
			}
		}
		left := map[cairn.BlobRef]int{}
		for _, s := range gone {
			for _, ref := range s.refs {
				left[ref] = c.shardsLeft(ref)
			}
		}
		least := c.goodShards()
		watch := func() {
			t.Helper()
			for ref, n := range c.goodShards() {
				if was, ok := least[ref]; ok && n < was {
					t.Fatalf("%s has %d good shards, had %d", ref, n, was)
				}
				least[ref] = n
			}
			for ref, was := range left {
				if n := c.shardsLeft(ref); n > was {
					t.Fatalf("%s is deleted, and %d of its shards became %d", ref, was, n)
				}
			}
		}
		for range 60 {
			time.Sleep(5*time.Second + 3*time.Nanosecond)
			watch()
		}
		c.putSome()
		c.checkData()
		for _, i := range []int{1, 2} {
			c.node.Set(i, cairn.DriveOK)
		}
		for range 60 {
			time.Sleep(time.Second + 3*time.Nanosecond)
			watch()
		}
		c.until("whole again", time.Hour, c.whole)
		time.Sleep(2 * grace)
		watch()
		c.checkIdentical(before)
		c.checkData()
		for ref := range left {
			if n := c.shardsLeft(ref); n != 0 {
				t.Errorf("%d shards of %s are left, which was deleted while their drives were away", n, ref)
			}
		}
		for ref, n := range c.goodShards() {
			v, err := c.meta.Volume(t.Context(), ref.Volume)
			must(t, err)
			if n != v.Profile.Width() {
				t.Errorf("%s of %s has %d good shards at the end", ref, v.Profile, n)
			}
		}
	})
}

// One shard is missing, another of the same blob corrupt: a scrub finds both, and repair mends both from the other four.
func TestMissingHereAndCorruptThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		defer c.run()()
		c.settled()
		c.putSome()
		before := c.snapshot()
		for _, s := range c.kept {
			v, err := c.meta.Volume(t.Context(), s.refs[0].Volume)
			must(t, err)
			c.disk.Drop(v.Slots[0], cairn.ShardID{Volume: v.ID, Blob: s.refs[0].Blob, Slot: 0})
			c.disk.Flip(v.Slots[5], cairn.ShardID{Volume: v.ID, Blob: s.refs[0].Blob, Slot: 5}, 0)
		}
		c.checkData()
		var last cairn.Progress
		must(t, c.scrubber().Check(t.Context(), scrub.Check{}, func(p cairn.Progress) { last = p }))
		// Reading has reported what it came by, and repair may have mended some before scrub came there.
		if n := len(c.meta.Findings()) + len(c.damage()); int(last.Found) > 2*len(c.kept) || n < 2*len(c.kept) {
			t.Errorf("scrub found %d, %d are known, of %d", last.Found, n, 2*len(c.kept))
		}
		c.until("whole again", time.Hour, c.whole)
		c.checkIdentical(before)
		c.checkData()
	})
}

// The drive that is being filled has no room any more, and later has some.
func TestDiskFullMidRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		var full atomic.Pointer[cairn.DriveID]
		var wrote atomic.Int64
		c.disk.Fault = func(_ context.Context, call blobtest.Call) error {
			if id := full.Load(); id != nil && call.Drive == *id {
				switch call.Op {
				case blobtest.OpAppend, blobtest.OpCreate, blobtest.OpWrite, blobtest.OpCommit:
					if wrote.Add(1) > 7 {
						return cairn.ErrFull
					}
				}
			}
			return c.driveFault(call)
		}
		defer c.run()()
		c.settled()
		c.putSome()
		c.putSome()
		before := c.snapshot()
		c.disk.Wipe(c.node.ID(2))
		id := c.node.Replace(2)
		full.Store(&id)
		had := map[cairn.BlobRef]int{}
		for range 300 {
			time.Sleep(time.Second + 3*time.Nanosecond)
			for ref, n := range c.goodShards() {
				if n < had[ref] || n < profile.Width()-1 {
					t.Fatalf("%s has %d good shards, had %d", ref, n, had[ref])
				}
				had[ref] = n
			}
		}
		if wrote.Load() <= 7 || c.whole() {
			t.Fatalf("the drive was not full in the middle of its repair: %d writes, whole %v", wrote.Load(), c.whole())
		}
		c.checkData()
		full.Store(nil)
		c.until("whole again", time.Hour, c.whole)
		c.checkIdentical(before)
		c.checkData()
	})
}
