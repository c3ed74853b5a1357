package membership_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/membership"
	"cairn/membership/membershiptest"
)

var (
	_ blob.Volumes = (*membership.View)(nil)
	_ blob.Detour  = (*membership.View)(nil)
)

var wide = cairn.Profile{K: 4, M: 2}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newView(t testing.TB, drives int) (*membership.View, *membershiptest.Node, *membershiptest.Meta) {
	node, meta := membershiptest.NewNode(drives), &membershiptest.Meta{}
	v, err := membership.New(membership.Config{Meta: meta, Node: node, LeaseIDs: 100})
	must(t, err)
	return v, node, meta
}

// A writer that knows of two sick drives, of which nobody else does, gets a volume without them, as wide as that allows, and the
// next one gets the same. What others are given is as it was.
func TestPickAround(t *testing.T) {
	v, node, _ := newView(t, 7)
	first, _, err := v.Pick(t.Context(), wide, nil)
	must(t, err)
	sick := []cairn.DriveID{first.Slots[0], first.Slots[3]}
	around, _, err := v.PickAround(t.Context(), wide, sick)
	must(t, err)
	if around.Profile.String() != "3+2" || slices.Contains(around.Slots, sick[0]) || slices.Contains(around.Slots, sick[1]) {
		t.Errorf("got %s on %v, want 3+2 without %v", around.Profile, around.Slots, sick)
	}
	again, _, err := v.PickAround(t.Context(), wide, sick)
	must(t, err)
	if again.ID != around.ID {
		t.Errorf("a second one was made: %s beside %s", again.ID, around.ID)
	}
	if vol, _, err := v.Pick(t.Context(), wide, nil); err != nil || vol.Profile != wide {
		t.Errorf("others get %s, %v", vol.Profile, err)
	}
	for i := range 4 {
		node.Set(i, cairn.DriveMissing)
	}
	v.Poll()
	var left []cairn.DriveID
	for _, d := range v.Drives() {
		if d.State.Writable() {
			left = append(left, d.ID)
		}
	}
	if _, _, err := v.PickAround(t.Context(), wide, left[:1]); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("with two drives left: %v", err)
	}
}

func TestPickNarrowsAndWidens(t *testing.T) {
	v, node, _ := newView(t, 6)
	pick := func() cairn.Volume {
		t.Helper()
		vol, _, err := v.Pick(t.Context(), wide, nil)
		must(t, err)
		for _, d := range vol.Slots {
			if node.State(d) != cairn.DriveOK {
				t.Errorf("%s of %s has a slot on a drive that is %s", vol.ID, vol.Profile, node.State(d))
			}
		}
		return vol
	}
	first := pick()
	for _, step := range []struct {
		drive int
		state cairn.DriveState
		want  string
	}{{0, cairn.DriveMissing, "3+2"}, {1, cairn.DriveReadOnly, "2+2"}, {2, cairn.DriveFull, "1+2"}, {2, cairn.DriveOK, "2+2"},
		{1, cairn.DriveOK, "3+2"}, {0, cairn.DriveOK, "4+2"}} {
		node.Set(step.drive, step.state)
		v.Poll()
		if got := pick(); got.Profile.String() != step.want {
			t.Errorf("drive %d %s: wrote as %s, want %s", step.drive, step.state, got.Profile, step.want)
		}
	}
	if got := pick(); got.ID != first.ID {
		t.Errorf("with all drives back %s is used, want %s again", got.ID, first.ID)
	}
	for i := range 5 {
		node.Set(i, cairn.DriveFailing)
	}
	v.Poll()
	if _, _, err := v.Pick(t.Context(), wide, nil); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("Pick with one drive: %v, want ErrUnavailable", err)
	}
}

// A volume with a sick slot is taken only when nothing whole is left, and only with a write quorum.
func TestPickTakesPartialVolumesLast(t *testing.T) {
	v, node, meta := newView(t, 3)
	one := cairn.Profile{K: 1, M: 2}
	vol, _, err := v.Pick(t.Context(), one, nil)
	must(t, err)
	node.Set(0, cairn.DriveFailing)
	v.Poll()
	got, _, err := v.Pick(t.Context(), one, nil)
	must(t, err)
	if got.ID != vol.ID {
		t.Errorf("Pick took %v, want the volume with two of three slots", got)
	}
	node.Set(1, cairn.DriveFailing)
	v.Poll()
	if _, _, err := v.Pick(t.Context(), one, nil); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("Pick below the write quorum: %v, want ErrUnavailable", err)
	}
	vs, err := meta.Volumes(t.Context(), 0, 10)
	must(t, err)
	if len(vs) != 1 {
		t.Errorf("%d volumes were made, want 1", len(vs))
	}
}

func TestPickWithFullDrives(t *testing.T) {
	v, node, _ := newView(t, 6)
	for i := range 6 {
		node.Set(i, cairn.DriveFull)
	}
	v.Poll()
	if _, _, err := v.Pick(t.Context(), wide, nil); cairn.Kind(err) != cairn.ErrFull {
		t.Errorf("Pick on full drives: %v, want ErrFull", err)
	}
}

func TestPickAvoids(t *testing.T) {
	v, _, meta := newView(t, 6)
	for range 3 {
		slots, err := membership.Place(v.Drives(), 6, 1)
		must(t, err)
		_, err = meta.CreateVolume(t.Context(), cairn.Volume{Profile: wide, Unit: 64 << 10, Slots: slots})
		must(t, err)
	}
	must(t, v.Refresh(t.Context()))
	used := map[cairn.VolumeID]int{}
	for range 300 {
		vol, _, err := v.Pick(t.Context(), wide, []cairn.VolumeID{2})
		must(t, err)
		used[vol.ID]++
	}
	if used[2] != 0 || used[1] < 75 || used[3] < 75 {
		t.Errorf("volumes were picked %v times; want 2 never, the others alike", used)
	}
	if vol, _, err := v.Pick(t.Context(), wide, []cairn.VolumeID{1, 2, 3}); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("all are to be avoided: got %v, %v, want ErrUnavailable", vol.ID, err)
	}
}

func TestBlobIDsAreUniqueAndLeasesAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, _, meta := newView(t, 6)
		var mu sync.Mutex
		seen := map[cairn.BlobID]bool{}
		var picking sync.WaitGroup
		for range 8 {
			picking.Go(func() {
				for range 200 {
					_, id, err := v.Pick(t.Context(), wide, nil)
					mu.Lock()
					if err != nil || seen[id] || id == 0 {
						t.Errorf("blob ID %d: seen before: %v, %v", id, seen[id], err)
					}
					seen[id] = true
					mu.Unlock()
				}
			})
		}
		picking.Wait()
		_, before, err := v.Pick(t.Context(), wide, nil)
		must(t, err)
		time.Sleep(25 * time.Hour)
		_, id, err := v.Pick(t.Context(), wide, nil)
		must(t, err)
		mark, err := meta.AdvanceOrphanWatermark(t.Context(), time.Now().Add(-24*time.Hour))
		must(t, err)
		if id < mark || before >= mark {
			t.Errorf("after a day the watermark is %d; the ID from before is %d, the new one %d", mark, before, id)
		}
	})
}

func TestVolumeFreshAndCached(t *testing.T) {
	v, node, meta := newView(t, 7)
	vol, _, err := v.Pick(t.Context(), wide, nil)
	must(t, err)
	to, ok := v.Replace(vol, 3)
	if !ok || slices.Contains(vol.Slots, to) {
		t.Fatalf("Replace: %v, %v", to, ok)
	}
	now, err := meta.SwapSlot(t.Context(), cairn.SwapSlot{Volume: vol.ID, Slot: 3, Epoch: vol.Epoch, Old: vol.Slots[3], New: to})
	must(t, err)
	if got, err := v.Volume(t.Context(), vol.ID, false); err != nil || got.Epoch != vol.Epoch {
		t.Errorf("cached: epoch %d, %v, want %d", got.Epoch, err, vol.Epoch)
	}
	for _, fresh := range []bool{true, false} {
		if got, err := v.Volume(t.Context(), vol.ID, fresh); err != nil || got.Epoch != now.Epoch || got.Slots[3] != to {
			t.Errorf("fresh %v: %v, %v, want epoch %d", fresh, got, err, now.Epoch)
		}
	}
	if _, err := v.Volume(t.Context(), 99, false); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("unknown volume: %v, want ErrNotFound", err)
	}
	if got := v.DriveState(cairn.NewID()); got != cairn.DriveMissing {
		t.Errorf("unknown drive is %s, want missing", got)
	}
	node.Set(0, cairn.DriveHung)
	v.Poll()
	if got := v.DriveState(node.ID(0)); got != cairn.DriveHung {
		t.Errorf("hung drive is %s", got)
	}
}

func TestDrivesAndVolumesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, node, meta := newView(t, 6)
		var leaderless atomic.Bool
		meta.Fault = func(context.Context, string) error {
			if leaderless.Load() {
				return cairn.ErrQuorum
			}
			return nil
		}
		var mu sync.Mutex
		var returned []cairn.DriveID
		damaged := 0
		w, err := membership.NewSteward(membership.StewardConfig{View: v, Meta: meta, Profile: wide, SealBlobs: 3,
			Damaged: func() { mu.Lock(); damaged++; mu.Unlock() }})
		must(t, err)
		k, err := membership.NewKeeper(membership.KeeperConfig{Meta: meta, Node: node, NodeID: cairn.NewID(), Changed: w.Wake,
			Returned: func(id cairn.DriveID) { mu.Lock(); returned = append(returned, id); mu.Unlock() }})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, loop := range []func(context.Context) error{v.Run, k.Run, w.Run} {
			running.Go(func() { must(t, loop(ctx)) })
		}
		defer running.Wait()
		defer cancel()
		open := func() (ids []cairn.VolumeID) {
			vs, err := meta.Volumes(t.Context(), 0, 100)
			must(t, err)
			for _, vol := range vs {
				if vol.State == cairn.VolumeOpen {
					ids = append(ids, vol.ID)
				}
			}
			return ids
		}
		time.Sleep(2 * time.Second)
		mu.Lock()
		n := len(returned)
		mu.Unlock()
		if ids := open(); len(ids) != 4 || n != 6 {
			t.Fatalf("open volumes %v, returned drives %d; want 4 and 6", ids, n)
		}
		vol, err := meta.Volume(t.Context(), 1)
		must(t, err)
		for b := range cairn.BlobID(3) {
			must(t, meta.Commit(t.Context(), "b/k", cairn.NewBlob{Ref: cairn.BlobRef{Volume: 1, Blob: 10 + b, Length: 1}, Epoch: vol.Epoch}))
		}
		time.Sleep(20 * time.Second)
		if ids := open(); len(ids) != 4 || slices.Contains(ids, 1) {
			t.Errorf("open volumes %v; want volume 1 sealed and four others open", ids)
		}
		// A lost leader keeps no state from being known.
		gone := node.ID(2)
		leaderless.Store(true)
		node.Replace(2)
		time.Sleep(500 * time.Millisecond)
		if got := v.DriveState(gone); got != cairn.DriveMissing {
			t.Errorf("replaced drive is %s though nothing could be committed, want missing", got)
		}
		leaderless.Store(false)
		time.Sleep(2 * time.Second)
		rows, err := meta.Damage(t.Context(), 100)
		must(t, err)
		mu.Lock()
		told := damaged
		mu.Unlock()
		if len(rows) < 5 || rows[0].Kind != cairn.DamageSlot || rows[0].Drive != gone || told == 0 {
			t.Errorf("damage %v, repair told %d times; want a slot of each volume on %s", rows, told, gone)
		}
		must(t, meta.ResolveDamage(t.Context(), cairn.OutcomeRepaired, []cairn.ShardID{rows[0].Shard}))
		time.Sleep(6 * time.Second)
		if again, err := meta.Damage(t.Context(), 100); err != nil || len(again) != len(rows) {
			t.Errorf("%d findings, %v; a slot whose drive is still gone was forgotten", len(again), err)
		}
	})
}

// A disk of a machine that died is taken over by the node it was put into; a copy of one that is in use is not.
func TestDriveMovesBetweenNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meta, disk := &membershiptest.Meta{}, membershiptest.NewNode(1)
		old, err := meta.PutNode(t.Context(), cairn.Node{ID: cairn.NewID(), Roles: cairn.RoleData, State: cairn.NodeUp})
		must(t, err)
		must(t, meta.PutDrives(t.Context(), []cairn.Drive{{ID: disk.ID(0), Node: old.ID, Path: "elsewhere"}}))
		here := cairn.NodeID(cairn.NewID())
		returned := 0
		var mu sync.Mutex
		var said bytes.Buffer
		k, err := membership.NewKeeper(membership.KeeperConfig{Meta: meta, Node: disk, NodeID: here, Domains: []string{"z"},
			Logger:   slog.New(slog.NewTextHandler(&said, nil)),
			Returned: func(cairn.DriveID) { mu.Lock(); returned++; mu.Unlock() }})
		must(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { must(t, k.Run(ctx)) })
		defer func() {
			cancel()
			running.Wait()
			if n := strings.Count(said.String(), "one of the two is a copy"); n != 1 {
				t.Errorf("the operator was told %d times: %s", n, said.String())
			}
		}()
		check := func(node cairn.NodeID, times int) {
			t.Helper()
			time.Sleep(5 * time.Second)
			rows, err := meta.Drives(t.Context())
			must(t, err)
			mu.Lock()
			defer mu.Unlock()
			if len(rows) != 1 || rows[0].Node != node || returned != times {
				t.Errorf("rows %+v, returned %d times; want the drive on %v, %d", rows, returned, node, times)
			}
		}
		check(old.ID, 0)
		old.State = cairn.NodeDown
		_, err = meta.PutNode(t.Context(), old)
		must(t, err)
		check(here, 1)
		// What others think of this node makes its own drives no other.
		_, err = meta.PutNode(t.Context(), cairn.Node{ID: here, Roles: cairn.RoleData, State: cairn.NodeDown})
		must(t, err)
		check(here, 1)
	})
}

// The view goes around a node that is down, and says which nodes hold slots.
func TestViewKnowsNodes(t *testing.T) {
	v, disk, meta := newView(t, 6)
	n, err := meta.PutNode(t.Context(), cairn.Node{ID: cairn.NewID(), Roles: cairn.RoleData, State: cairn.NodeUp})
	must(t, err)
	var rows []cairn.Drive
	for i := range 7 { // one more than the process has itself
		d := cairn.Drive{ID: cairn.NewID(), Node: n.ID, Path: "far", FreeBytes: 1 << 40}
		if i < 6 {
			d.ID, d.Node = disk.ID(i), cairn.NodeID{1}
		}
		rows = append(rows, d)
	}
	must(t, meta.PutDrives(t.Context(), rows))
	_, err = meta.CreateVolume(t.Context(), cairn.Volume{Profile: cairn.Profile{K: 1, M: 1}, Unit: 64 << 10, Slots: []cairn.DriveID{rows[0].ID, rows[6].ID}})
	must(t, err)
	must(t, v.Refresh(t.Context()))
	if got := v.DriveState(rows[6].ID); got != cairn.DriveOK || !v.Holds(n.ID) || v.Holds(cairn.NodeID{2}) {
		t.Errorf("the drive is %s, its node holds slots: %v, another: %v", got, v.Holds(n.ID), v.Holds(cairn.NodeID{2}))
	}
	n.State = cairn.NodeDown
	_, err = meta.PutNode(t.Context(), n)
	must(t, err)
	must(t, v.Refresh(t.Context()))
	if got := v.DriveState(rows[6].ID); got != cairn.DriveMissing || len(v.Nodes()) != 1 {
		t.Errorf("the drive of a node that is down is %s; nodes %v", got, v.Nodes())
	}
	if got := v.DriveState(rows[0].ID); got != cairn.DriveOK {
		t.Errorf("a drive of another node is %s", got)
	}
}

func BenchmarkPick(b *testing.B) {
	v, _, _ := newView(b, 6)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, _, err := v.Pick(context.Background(), wide, nil); err != nil {
				b.Error(err)
			}
		}
	})
}
