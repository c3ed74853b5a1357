package repair_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
	"cairn/membership"
	"cairn/membership/membershiptest"
	"cairn/repair"
)

const unit = 64 << 10

var profile = cairn.Profile{K: 4, M: 2}

// cluster is everything from blobs down, over drives in memory.
type cluster struct {
	t     *testing.T
	node  *membershiptest.Node
	meta  *membershiptest.Meta
	disk  *blobtest.Memory
	view  *membership.View
	blobs *blob.Store
	rep   *repair.Repairer
	keep  *membership.Keeper
	vols  *membership.Steward
	rand  *rand.ChaCha8
	kept  []stored
	trace atomic.Pointer[func(repair.Step)]
}

// stored is what a test has put.
type stored struct {
	refs []cairn.BlobRef
	data []byte
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCluster(t *testing.T, drives int) *cluster {
	c := &cluster{t: t, node: membershiptest.NewNode(drives), meta: &membershiptest.Meta{}, disk: &blobtest.Memory{},
		rand: rand.NewChaCha8([32]byte{1})}
	c.disk.Fault = func(_ context.Context, call blobtest.Call) error { return c.driveFault(call) }
	var err error
	c.view, err = membership.New(membership.Config{Meta: c.meta, Node: c.node, Unit: unit})
	must(t, err)
	c.blobs, err = blob.New(blob.Config{Shards: c.disk, Volumes: c.view})
	must(t, err)
	c.rep = c.newRepairer()
	c.vols, err = membership.NewSteward(membership.StewardConfig{View: c.view, Meta: c.meta, Profile: profile, OutDelay: time.Minute,
		Damaged: func() { c.rep.Wake() }})
	must(t, err)
	c.keep, err = membership.NewKeeper(membership.KeeperConfig{Meta: c.meta, Node: c.node, NodeID: cairn.NewID(), Changed: c.vols.Wake,
		Returned: func(cairn.DriveID) { c.rep.Wake() }})
	must(t, err)
	return c
}

func (c *cluster) newRepairer() *repair.Repairer {
	r, err := repair.New(repair.Config{Meta: c.meta, Shards: c.disk, Blobs: c.blobs, Drives: c.view,
		Trace: func(s repair.Step) {
			if f := c.trace.Load(); f != nil {
				(*f)(s)
			}
		}})
	must(c.t, err)
	return r
}

// driveFault answers as a drive in its state does.
func (c *cluster) driveFault(call blobtest.Call) error {
	state := c.node.State(call.Drive)
	switch call.Op {
	case blobtest.OpAppend, blobtest.OpCreate, blobtest.OpWrite, blobtest.OpCommit, blobtest.OpDelete:
		if state == cairn.DriveReadOnly {
			return cairn.ErrReadOnly
		}
	}
	if !state.Readable() {
		return cairn.ErrUnavailable
	}
	return nil
}

// watch runs what keeps drives and volumes until ctx ends.
func (c *cluster) watch(ctx context.Context) {
	var running sync.WaitGroup
	for _, loop := range []func(context.Context) error{c.view.Run, c.keep.Run, c.vols.Run} {
		running.Go(func() { must(c.t, loop(ctx)) })
	}
	running.Wait()
}

// run starts keeper and repairer; the function it returns stops them and waits.
func (c *cluster) run() (stop func()) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var running sync.WaitGroup
	running.Go(func() { c.watch(ctx) })
	running.Go(func() { c.rep.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
		c.disk.Wait()
		must(c.t, c.blobs.Close())
	}
}

// put stores size random bytes.
func (c *cluster) put(size int64) stored {
	c.t.Helper()
	return c.putAs(profile, size)
}

func (c *cluster) putAs(profile cairn.Profile, size int64) stored {
	c.t.Helper()
	data := make([]byte, size)
	c.rand.Read(data)
	for {
		news, err := c.blobs.Put(c.t.Context(), cairn.BlobPut{Profile: profile, Size: size, Body: bytes.NewReader(data)})
		must(c.t, err)
		s := stored{data: data}
		for _, n := range news {
			s.refs = append(s.refs, n.Ref)
		}
		err = c.meta.Commit(c.t.Context(), "b/k", news...)
		if cairn.Kind(err) == cairn.ErrStaleEpoch {
			continue
		}
		must(c.t, err)
		c.kept = append(c.kept, s)
		return s
	}
}

// sizes cover one byte to several stripes with a short tail.
var sizes = []int64{1, 63, unit, 4*unit - 1, 4 * unit, 4*unit + 1, 9 * unit, 40*unit + 5}

func (c *cluster) putSome() {
	for _, size := range sizes {
		c.put(size)
	}
}

// checkData reads everything back.
func (c *cluster) checkData() {
	c.t.Helper()
	for _, s := range c.kept {
		var got bytes.Buffer
		if err := c.blobs.Get(c.t.Context(), s.refs, 0, int64(len(s.data)), &got); err != nil {
			c.t.Fatalf("reading %v: %v", s.refs, err)
		}
		if !bytes.Equal(got.Bytes(), s.data) {
			c.t.Fatalf("%v: other bytes came back", s.refs)
		}
	}
}

// shardsOf returns a blob's shards by slot as they lie on the slots' drives of now; nil where there is none.
func (c *cluster) shardsOf(ref cairn.BlobRef) [][]byte {
	v, err := c.meta.Volume(c.t.Context(), ref.Volume)
	must(c.t, err)
	shards := make([][]byte, len(v.Slots))
	for i, d := range v.Slots {
		_, shards[i] = c.disk.Shard(d, cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(i)})
	}
	return shards
}

// snapshot keeps all shards of all blobs.
func (c *cluster) snapshot() map[cairn.BlobRef][][]byte {
	all := map[cairn.BlobRef][][]byte{}
	for _, s := range c.kept {
		for _, ref := range s.refs {
			all[ref] = c.shardsOf(ref)
		}
	}
	return all
}

// checkIdentical compares all shards with those of a snapshot.
func (c *cluster) checkIdentical(before map[cairn.BlobRef][][]byte) {
	c.t.Helper()
	for ref, want := range before {
		for slot, shard := range c.shardsOf(ref) {
			if !bytes.Equal(shard, want[slot]) {
				c.t.Errorf("%s.%d: %d bytes, want the %d that were there", ref, slot, len(shard), len(want[slot]))
			}
		}
	}
}

func (c *cluster) damage() []cairn.Damage {
	rows, err := c.meta.Damage(c.t.Context(), 1<<20)
	must(c.t, err)
	return rows
}

// until waits for a condition, in the bubble's time.
func (c *cluster) until(what string, limit time.Duration, cond func() bool) time.Duration {
	c.t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			c.t.Fatalf("after %v still not: %s; status %+v; damage %v", limit, what, c.rep.Status(), c.damage())
		}
		time.Sleep(10*time.Millisecond + 7*time.Nanosecond)
	}
	return time.Since(start)
}

// whole tells whether every blob has all its spare shards.
func (c *cluster) whole() bool {
	by, err := c.rep.BlobsBySpare(c.t.Context())
	must(c.t, err)
	for spare, n := range by {
		if spare < profile.M && n > 0 {
			return false
		}
	}
	return len(c.damage()) == 0
}

// settled lets what a change set off be noticed.
func (c *cluster) settled() { time.Sleep(2*time.Second + 3*time.Nanosecond) }
