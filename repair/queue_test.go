package repair_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/repair"
)

// risk follows the job log and knows, at every step, how many shards each blob may still lose.
type risk struct {
	c *cluster

	mu     sync.Mutex
	spare  map[cairn.BlobRef]int
	count  map[int]int // spare → blobs
	refs   map[cairn.BlobID]cairn.BlobRef
	parity int
	begun  map[int]int // spare → steps that began
	wrong  []string
}

func watchRisk(c *cluster, parity int) *risk {
	r := &risk{c: c, spare: map[cairn.BlobRef]int{}, count: map[int]int{}, refs: map[cairn.BlobID]cairn.BlobRef{}, parity: parity,
		begun: map[int]int{}}
	for _, s := range c.kept {
		for _, ref := range s.refs {
			r.refs[ref.Blob] = ref
			r.spare[ref] = r.look(ref)
			r.count[r.spare[ref]]++
		}
	}
	return r
}

func (r *risk) look(ref cairn.BlobRef) int {
	shards := r.c.shardsOf(ref)
	good := 0
	for _, s := range shards {
		if s != nil {
			good++
		}
	}
	return good - (len(shards) - r.parity)
}

func (r *risk) step(s repair.Step) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ref := r.refs[s.Blob]
	if !s.Begun {
		r.count[r.spare[ref]]--
		r.spare[ref] = r.look(ref)
		r.count[r.spare[ref]]++
		return
	}
	now := r.spare[ref]
	r.begun[now]++
	for spare, n := range r.count {
		if n > 0 && spare < now && len(r.wrong) < 10 {
			r.wrong = append(r.wrong, ref.String())
			r.c.t.Errorf("work began on %s, which has %d to spare, while %d blobs had %d", ref, now, n, spare)
		}
	}
}

// Two of seven failure domains are lost while more than 2,000 blobs are damaged beside: what is nearest to loss is finished
// before anything else is touched.
func TestNearestToLossFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const damaged = 2100
		p := cairn.Profile{K: 3, M: 3}
		c := newCluster(t, 7)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		// Four volumes, each without another drive, so that there are blobs with more and with less to spare.
		for without := range 4 {
			v := cairn.Volume{Profile: p, Unit: unit}
			for i := range 7 {
				if i != without {
					v.Slots = append(v.Slots, c.node.ID(i))
				}
			}
			_, err := c.meta.CreateVolume(ctx, v)
			must(t, err)
		}
		running.Go(func() { c.watch(ctx) })
		c.settled()
		for range damaged + 400 {
			c.putAs(p, 100)
		}
		lost := []int{0, 4}
		ids := []cairn.DriveID{c.node.ID(lost[0]), c.node.ID(lost[1])}
		var found []cairn.Damage
		for i, s := range c.kept[:damaged] {
			ref := s.refs[0]
			v, err := c.meta.Volume(t.Context(), ref.Volume)
			must(t, err)
			slot := uint8(i % 6)
			for slices.Contains(ids, v.Slots[slot]) {
				slot = (slot + 1) % 6
			}
			id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}
			must(t, c.disk.Delete(t.Context(), v.Slots[slot], []cairn.ShardID{id}))
			found = append(found, cairn.Damage{Shard: id, Kind: cairn.DamageMissing, Drive: v.Slots[slot], Found: time.Now(), By: "scrub"})
		}
		for i, d := range lost {
			c.disk.Wipe(ids[i])
			c.node.Replace(d)
		}
		must(t, c.meta.AddDamage(t.Context(), found))
		c.settled() // the keeper has recorded the slots
		r := watchRisk(c, p.M)
		start := maps.Clone(r.count)
		c.traced(r.step)
		running.Go(func() { c.rep.Run(ctx) })
		c.until("whole", time.Hour, func() bool { return len(c.damage()) == 0 })
		cancel()
		running.Wait()
		c.disk.Wait()
		must(t, c.blobs.Close())
		t.Logf("blobs by spare at the start: %v; steps by spare: %v", start, r.begun)
		for _, spare := range []int{0, 1, 2} {
			if start[spare] == 0 || r.begun[spare] == 0 {
				t.Errorf("no blob had %d to spare: the test shows nothing", spare)
			}
		}
		for ref, spare := range r.spare {
			if spare != p.M {
				t.Fatalf("%s has %d to spare after all is done", ref, spare)
			}
		}
	})
}

func (c *cluster) traced(f func(repair.Step)) { c.trace.Store(&f) }

// A repairer that follows another goes on in the middle of a slot.
func TestRestartGoesOnWhereItStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const blobs = 600
		c := newCluster(t, 6)
		stop := c.run()
		c.settled()
		for range blobs {
			c.put(3 * unit)
		}
		c.disk.Wipe(c.node.ID(2))
		c.node.Replace(2)
		c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
			if call.Op == blobtest.OpRead && cairn.IsBackground(ctx) {
				time.Sleep(time.Second) // so that a slice holds some of the blobs only
			}
			return c.driveFault(call)
		}
		ended := map[cairn.BlobID]int{}
		var mu sync.Mutex
		c.traced(func(s repair.Step) {
			mu.Lock()
			defer mu.Unlock()
			if !s.Begun && s.Err == nil {
				ended[s.Blob]++
			}
		})
		c.until("the first slots are under way", time.Hour, func() bool { mu.Lock(); defer mu.Unlock(); return len(ended) >= blobs*7/16 })
		rows := c.damage()
		if !slices.ContainsFunc(rows, func(d cairn.Damage) bool { return d.Pass.After > 0 }) {
			t.Errorf("no slot remembers how far it has come: %v", rows)
		}
		stop()
		c.rep = c.newRepairer()
		stop = c.run()
		c.until("whole", time.Hour, c.whole)
		stop()
		again := 0
		for _, n := range ended {
			if n > 1 {
				again++
			}
		}
		// What the last slice of each volume had done is looked at again, no more.
		if len(ended) != blobs || again > 48 {
			t.Errorf("%d of %d blobs were rebuilt, %d of them looked at twice", len(ended), blobs, again)
		}
	})
}

// One blob that cannot be read keeps neither its slot nor the other blobs from being done, and is mended once it can be.
func TestAFailingBlobIsSetAside(t *testing.T) {
	for name, state := range map[string]cairn.DriveState{"fill": cairn.DriveMissing, "move": cairn.DriveReadOnly} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, 7)
				stop := c.run()
				c.settled()
				for range 60 {
					c.put(100)
				}
				v, err := c.meta.Volume(t.Context(), c.kept[0].refs[0].Volume)
				must(t, err)
				bad := c.kept[0].refs[0].Blob
				drive := slices.IndexFunc([]int{0, 1, 2, 3, 4, 5, 6}, func(i int) bool { return c.node.ID(i) == v.Slots[1] })
				var healed bool
				var mu sync.Mutex
				c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if !healed && call.Op == blobtest.OpRead && call.ID.Blob == bad && call.ID.Slot > 0 {
						return cairn.ErrUnavailable
					}
					return c.driveFault(call)
				}
				rebuilt := map[cairn.BlobID]bool{}
				tries := 0
				c.traced(func(s repair.Step) {
					mu.Lock()
					defer mu.Unlock()
					switch {
					case s.Begun:
					case s.Err == nil:
						rebuilt[s.Blob] = true
					case s.Blob == bad:
						tries++
					}
				})
				if state == cairn.DriveMissing {
					c.disk.Wipe(c.node.ID(drive))
					c.node.Replace(drive)
				} else {
					c.node.Set(drive, state)
				}
				others := func() bool {
					mu.Lock()
					defer mu.Unlock()
					for _, s := range c.kept {
						if ref := s.refs[0]; ref.Volume == v.ID && ref.Blob != bad && !rebuilt[ref.Blob] {
							return false
						}
					}
					return tries > 2
				}
				c.until("all others are done", 10*time.Minute, others)
				slotOpen := slices.ContainsFunc(c.damage(), func(d cairn.Damage) bool { return d.Shard == cairn.ShardID{Volume: v.ID, Slot: 1} })
				if want := state == cairn.DriveReadOnly; slotOpen != want {
					t.Errorf("the slot is open: %v, want %v", slotOpen, want)
				}
				mu.Lock()
				healed = true
				n := tries
				mu.Unlock()
				if n > 12 {
					t.Errorf("the failing blob was tried %d times", n)
				}
				c.until("whole", 20*time.Minute, func() bool {
					return c.whole() && len(c.slotsOn(c.node.ID(drive))) == 0 == (state == cairn.DriveReadOnly)
				})
				stop()
				c.checkData()
			})
		})
	}
}
