package membership

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cairn"
)

// world is drives and volumes whose slots all weigh the same, and the bytes that plans have moved.
type world struct {
	drives  []cairn.Drive
	index   map[cairn.DriveID]int
	volumes []cairn.Volume
	slot    int64
	moved   int64
}

func (w *world) addDrive(size int64, domains ...string) *cairn.Drive {
	if w.index == nil {
		w.index = map[cairn.DriveID]int{}
	}
	d := testDrive(len(w.drives)+1, size, domains...)
	d.TotalBytes = size
	w.index[d.ID] = len(w.drives)
	w.drives = append(w.drives, d)
	return &w.drives[len(w.drives)-1]
}

func (w *world) charge(id cairn.DriveID, bytes int64) { w.drives[w.index[id]].FreeBytes -= bytes }

// fill places volumes until the drives are so full.
func (w *world) fill(t testing.TB, p cairn.Profile, share float64, seed uint64) {
	t.Helper()
	for n := uint64(0); w.share() < share; n++ {
		var free []cairn.Drive
		for _, d := range w.drives {
			if d.FreeBytes >= w.slot {
				free = append(free, d)
			}
		}
		slots, err := Place(free, p.Width(), seed<<32|n)
		if err != nil {
			t.Fatal(err)
		}
		w.volumes = append(w.volumes, cairn.Volume{ID: cairn.VolumeID(len(w.volumes) + 1), Profile: p, Epoch: 1, Slots: slots})
		for _, id := range slots {
			w.charge(id, w.slot)
		}
	}
}

func (w *world) held() iter.Seq[Held] {
	return func(yield func(Held) bool) {
		for _, v := range w.volumes {
			if !yield(Held{Volume: v, SlotBytes: w.slot}) {
				return
			}
		}
	}
}

// share is how full all drives are together.
func (w *world) share() float64 {
	var used, total int64
	for _, d := range w.drives {
		used, total = used+d.TotalBytes-d.FreeBytes, total+d.TotalBytes
	}
	return float64(used) / float64(total)
}

// spread is the difference between the fullest and the emptiest drive, as a share of the mean.
func (w *world) spread() float64 {
	least, most := 1.0, 0.0
	for _, d := range w.drives {
		least, most = min(least, fullness(d)), max(most, fullness(d))
	}
	return (most - least) / w.share()
}

// apply does the moves, and checks each.
func (w *world) apply(t testing.TB, moves []Move) {
	t.Helper()
	for _, m := range moves {
		v := &w.volumes[m.Volume-1]
		if v.Slots[m.Slot] != m.From || m.From == m.To || m.Bytes != w.slot {
			t.Fatalf("move %+v of volume %+v", m, v)
		}
		before := w.crowds(*v)
		slots := append([]cairn.DriveID(nil), v.Slots...)
		slots[m.Slot] = m.To
		v.Slots = slots
		for i, id := range slots {
			if id == m.To && i != int(m.Slot) {
				t.Fatalf("move %+v puts two slots on one drive", m)
			}
		}
		for level, n := range w.crowds(*v) {
			if n > before[level] {
				t.Fatalf("move %+v puts %d pairs of slots into one domain of level %d, before %d", m, n, level, before[level])
			}
			if n < before[level] {
				break
			}
		}
		w.charge(m.From, -w.slot)
		w.charge(m.To, w.slot)
		if w.drives[w.index[m.To]].FreeBytes < 0 {
			t.Fatalf("move %+v overfills its target", m)
		}
		w.moved += m.Bytes
	}
}

// crowds counts, for each level, the pairs of slots that share a domain.
func (w *world) crowds(v cairn.Volume) (pairs [3]int) {
	for i, a := range v.Slots {
		for _, b := range v.Slots[:i] {
			da, db := w.drives[w.index[a]].Domains, w.drives[w.index[b]].Domains
			for level := range min(len(da), len(db)) {
				if da[level] != db[level] {
					break
				}
				pairs[level]++
			}
		}
	}
	return pairs
}

// rebalance plans and applies until nothing is left to do.
func (w *world) rebalance(t testing.TB, batch int) {
	t.Helper()
	for rounds := 0; ; rounds++ {
		moves := Rebalance(w.drives, w.held(), batch)
		if len(moves) > batch {
			t.Fatalf("%d moves, want %d at most", len(moves), batch)
		}
		if len(moves) == 0 {
			return
		}
		w.apply(t, moves)
		if rounds > 10000 {
			t.Fatal("the plans do not end")
		}
	}
}

// mixedWorld has n drives of four sizes, four to a node, in four zones of two racks.
func mixedWorld(n int) *world {
	w := &world{slot: 2 << 30}
	for i := range n {
		node := i / 4
		w.addDrive(int64(1+i%4)<<40, fmt.Sprint("z", node%4), fmt.Sprint("r", node/4%2), fmt.Sprint("n", node))
	}
	return w
}

var eight2 = cairn.Profile{K: 8, M: 2}

// The spread over 100 drives of mixed sizes stays within 5%, when they are filled, when some are added, and when one is lost;
// and hardly more bytes move than must.
func TestBalanceAndMovement(t *testing.T) {
	w := mixedWorld(100)
	w.fill(t, eight2, 0.5, 1)
	if got := w.spread(); got > 0.05 {
		t.Errorf("after filling, the spread is %.1f%%", 100*got)
	}
	t.Logf("%d volumes: spread %.2f%%", len(w.volumes), 100*w.spread())

	var added int64
	for i := range 20 {
		added += w.addDrive(4<<40, fmt.Sprint("z", i%4), fmt.Sprint("r", i/4%2), fmt.Sprint("new", i)).TotalBytes
	}
	ideal := w.share() * float64(added)
	w.rebalance(t, 500)
	t.Logf("20 drives added: spread %.2f%%, moved %.3f of the ideal", 100*w.spread(), float64(w.moved)/ideal)
	if got := w.spread(); got > 0.05 {
		t.Errorf("after growth, the spread is %.1f%%", 100*got)
	}
	if ratio := float64(w.moved) / ideal; ratio > 1.2 || ratio < 0.5 {
		t.Errorf("growth moved %.2f of the ideal bytes", ratio)
	}

	w.moved = 0
	gone := w.drives[3].ID
	lost := w.drives[3].TotalBytes - w.drives[3].FreeBytes
	moves, err := Drain(w.drives, []cairn.DriveID{gone}, w.held(), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	w.apply(t, moves)
	w.drives[3].State = cairn.DriveMissing
	left := &world{drives: append(append([]cairn.Drive(nil), w.drives[:3]...), w.drives[4:]...)}
	t.Logf("a drive lost: spread %.2f%%, moved %.3f of the ideal", 100*left.spread(), float64(w.moved)/float64(lost))
	if got := left.spread(); got > 0.05 {
		t.Errorf("after the loss, the spread is %.1f%%", 100*got)
	}
	if ratio := float64(w.moved) / float64(lost); ratio > 1.2 || ratio < 1 {
		t.Errorf("the loss moved %.2f of the ideal bytes", ratio)
	}
	if again, err := Drain(w.drives, []cairn.DriveID{gone}, w.held(), 10); err != nil || len(again) != 0 {
		t.Errorf("when all is done, %d moves are planned, %v", len(again), err)
	}
}

// Plans are bounded, and begin with the fullest drive and the emptiest.
func TestRebalanceGreatestGainFirst(t *testing.T) {
	w := &world{slot: 1 << 30}
	for i := range 6 {
		w.addDrive(1<<40, fmt.Sprint("n", i))
	}
	w.fill(t, cairn.Profile{K: 2, M: 1}, 0.3, 1)
	empty := w.addDrive(1<<40, "n6").ID
	w.addDrive(1<<40, "n7").FreeBytes -= 200 << 30 // bytes of others
	fullest := 0
	for i, d := range w.drives[:6] {
		if fullness(d) > fullness(w.drives[fullest]) {
			fullest = i
		}
	}
	moves := Rebalance(w.drives, w.held(), 3)
	if len(moves) != 3 || moves[0].From != w.drives[fullest].ID || moves[0].To != empty {
		t.Errorf("got %+v, want three moves, first from the fullest to the empty drive", moves)
	}
	w.drives[fullest].State = cairn.DriveHung
	for _, m := range Rebalance(w.drives, w.held(), 100) {
		if m.From == w.drives[fullest].ID || m.To == w.drives[fullest].ID {
			t.Errorf("%+v has to do with a hung drive", m)
		}
	}
}

func TestDrainIsRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(w *world)
		leave int // drives, from the first
		kind  error
		want  string
	}{
		{"room for all", func(w *world) {
			for i := range 4 {
				w.addDrive(100<<30, fmt.Sprint("n", i))
			}
		}, 1, nil, ""},
		{"no other drive", func(w *world) {
			for i := range 3 {
				w.addDrive(100<<30, fmt.Sprint("n", i))
			}
		}, 1, cairn.ErrUnavailable, "add a drive"},
		{"only drives of nodes that have a slot", func(w *world) {
			for i := range 6 {
				w.addDrive(100<<30, fmt.Sprint("n", i/2))
			}
		}, 2, cairn.ErrUnavailable, "another node"},
		{"another drive of the same node", func(w *world) {
			for i := range 6 {
				w.addDrive(100<<30, fmt.Sprint("n", i/2))
			}
		}, 1, nil, ""},
		{"no room", func(w *world) {
			for i := range 4 {
				w.addDrive(100<<30, fmt.Sprint("n", i))
			}
			w.drives[3].FreeBytes = 5 << 30
		}, 1, cairn.ErrFull, "slots with"},
		{"the other drive is read-only", func(w *world) {
			for i := range 4 {
				w.addDrive(100<<30, fmt.Sprint("n", i))
			}
			w.drives[3].State = cairn.DriveReadOnly
		}, 1, cairn.ErrUnavailable, "add a drive"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{slot: 1 << 30}
			tt.build(w)
			p := cairn.Profile{K: 2, M: 1}
			place := w.drives
			if len(place) == 4 {
				place = place[:3]
			}
			for n := range uint64(20) {
				slots, err := Place(place, 3, n)
				if err != nil {
					t.Fatal(err)
				}
				w.volumes = append(w.volumes, cairn.Volume{ID: cairn.VolumeID(n + 1), Profile: p, Slots: slots})
				for _, id := range slots {
					w.charge(id, w.slot)
				}
			}
			var leaving []cairn.DriveID
			slots := 0
			for _, d := range w.drives[:tt.leave] {
				leaving = append(leaving, d.ID)
				for _, v := range w.volumes {
					for _, id := range v.Slots {
						if id == d.ID {
							slots++
						}
					}
				}
			}
			moves, err := Drain(w.drives, leaving, w.held(), 1000)
			if tt.kind != nil {
				if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || len(moves) > 0 {
					t.Errorf("got %d moves, %v, want %v with %q", len(moves), err, tt.kind, tt.want)
				}
				return
			}
			if err != nil || len(moves) != slots {
				t.Fatalf("%d moves of %d slots, %v", len(moves), slots, err)
			}
			w.apply(t, moves)
		})
	}
}

// Whatever the drives and volumes: plans keep the rules that apply checks, end, and never leave the drives more uneven.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := &world{slot: 1 << 30}
		n := rapid.IntRange(4, 24).Draw(rt, "drives")
		for i := range n {
			w.addDrive(int64(rapid.IntRange(20, 200).Draw(rt, "size"))<<30, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "zone"),
				"", fmt.Sprint("n", i/2))
		}
		p := cairn.Profile{K: 2, M: 1}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		for id := range 40 { // badly placed on purpose
			perm := rng.Perm(n)[:3]
			v := cairn.Volume{ID: cairn.VolumeID(id + 1), Profile: p}
			full := false
			for _, i := range perm {
				full = full || w.drives[i].FreeBytes < w.slot
			}
			for _, i := range perm {
				v.Slots = append(v.Slots, w.drives[i].ID)
				if !full {
					w.drives[i].FreeBytes -= w.slot
				}
			}
			if full {
				break
			}
			w.volumes = append(w.volumes, v)
		}
		before := w.spread()
		w.rebalance(t, rapid.IntRange(1, 10).Draw(rt, "batch"))
		if after := w.spread(); after > before+1e-9 {
			rt.Fatalf("spread %.3f, before %.3f", after, before)
		}
		gone := w.drives[0].ID
		for {
			moves, err := Drain(w.drives, []cairn.DriveID{gone}, w.held(), 5)
			if err != nil || len(moves) == 0 {
				break
			}
			w.apply(t, moves)
			for _, m := range moves {
				if m.From != gone || m.To == gone {
					rt.Fatalf("%+v is no drain of %v", m, gone)
				}
			}
		}
	})
}
