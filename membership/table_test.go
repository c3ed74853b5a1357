package membership

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"cairn"
)

// The table keeps every field of a volume's row: one that is added to the row has to be added to the table.
func TestTableKeepsEveryField(t *testing.T) {
	v := cairn.Volume{ID: 700, Profile: cairn.Profile{K: 2, M: 1}, Unit: 64 << 10, Epoch: 1 << 40, State: cairn.VolumeSealed,
		Slots: []cairn.DriveID{{1}, {2}, {3}}}
	for _, value := range []reflect.Value{reflect.ValueOf(v)} {
		for i := range value.NumField() {
			if value.Field(i).IsZero() {
				t.Errorf("give Volume.%s a value in this test", value.Type().Field(i).Name)
			}
		}
	}
	got, ok := newTable().with([]cairn.Volume{v}).get(700)
	if !ok || !reflect.DeepEqual(got, v) {
		t.Errorf("got %+v, want %+v", got, v)
	}
}

// Rows that change their width leave no gaps behind: a page's slots stay within what a row's offset can say.
func TestTableOfChangingWidth(t *testing.T) {
	tab := newTable()
	for n := range 3000 {
		v := cairn.Volume{ID: 1, Profile: cairn.Profile{K: 60 + n%4, M: 1}, Unit: 64 << 10, Epoch: cairn.Epoch(n + 1)}
		for i := range v.Profile.Width() {
			v.Slots = append(v.Slots, cairn.DriveID{byte(i), byte(n % 4)})
		}
		tab = tab.with([]cairn.Volume{v})
		if got, _ := tab.get(1); !reflect.DeepEqual(got, v) || len(tab.pages[0].slots) != len(v.Slots) {
			t.Fatalf("got %+v in %d slots, want %+v", got, len(tab.pages[0].slots), v)
		}
	}
}

// Against a map: rows are found, newer rows stay, and older tables do not change.
func TestTableAgainstMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, model := newTable(), map[cairn.VolumeID]cairn.Volume{}
		before, was := now, map[cairn.VolumeID]cairn.Volume{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			var rows []cairn.Volume
			for range rapid.IntRange(1, 5).Draw(t, "rows") {
				v := cairn.Volume{ID: cairn.VolumeID(rapid.IntRange(1, 1500).Draw(t, "id")), Epoch: cairn.Epoch(rapid.IntRange(1, 4).Draw(t, "epoch")),
					State:   cairn.VolumeState(rapid.IntRange(0, 1).Draw(t, "state")),
					Profile: cairn.Profile{K: rapid.IntRange(1, 4).Draw(t, "k"), M: 1}, Unit: int64(rapid.IntRange(1, 2).Draw(t, "unit")) << 16}
				for range v.Profile.Width() {
					v.Slots = append(v.Slots, cairn.DriveID{byte(rapid.IntRange(0, 9).Draw(t, "drive"))})
				}
				rows = append(rows, v)
				if have, ok := model[v.ID]; !ok || v.Epoch > have.Epoch || v.Epoch == have.Epoch && v.State >= have.State {
					model[v.ID] = v
				}
			}
			if rapid.Bool().Draw(t, "keep") {
				before, was = now, map[cairn.VolumeID]cairn.Volume{}
				for v := range now.all() {
					was[v.ID] = v
				}
			}
			now = now.with(rows)
		}
		same := func(tab *table, want map[cairn.VolumeID]cairn.Volume) {
			n, last := 0, cairn.VolumeID(0)
			for v := range tab.all() {
				if n++; v.ID <= last || !reflect.DeepEqual(v, want[v.ID]) {
					t.Fatalf("after %v came %+v, want %+v", last, v, want[v.ID])
				}
				last = v.ID
				if open, ok := tab.open[v.ID]; ok != (v.State == cairn.VolumeOpen) || ok && !reflect.DeepEqual(open, v) {
					t.Fatalf("open: %+v, %v; want %+v", open, ok, v)
				}
			}
			if n != len(want) || tab.count != n {
				t.Fatalf("%d volumes, counted %d, want %d", n, tab.count, len(want))
			}
		}
		same(now, model)
		same(before, was)
	})
}

// A cluster of 10,000 drives and 2,000,000 volumes (far fewer in an ordinary run): the map's size in memory, and how
// long a change of it, the placement of a volume, and the plans after the loss and the arrival of drives take. The figures
// are for reading; what is checked is the map's size, and that the plans are right.
func TestScale(t *testing.T) {
	drives, volumes := 400, 40_000
	if os.Getenv("CAIRN_SOAK") != "" {
		drives, volumes = 10_000, 2_000_000
	}
	w := &world{slot: 4 << 30}
	for i := range drives {
		node := i / 20
		w.addDrive(int64(8+8*(i%2))<<40, fmt.Sprint("z", node%4), fmt.Sprint("r", node%20), fmt.Sprint("n", node))
	}
	p := NewPlacer(w.drives, nil)
	const placed = 100
	start := time.Now()
	for n := range uint64(placed) {
		if _, err := p.Place(wide6.Width(), n); err != nil {
			t.Fatal(err)
		}
	}
	place := time.Since(start) / placed

	rng := rand.New(rand.NewPCG(1, 2))
	heap := heapBytes()
	tab, page := newTable(), make([]cairn.Volume, 0, volumePage)
	start = time.Now()
	for id := 1; id <= volumes; id++ {
		v := cairn.Volume{ID: cairn.VolumeID(id), Profile: wide6, Unit: 256 << 10, Epoch: 1, State: cairn.VolumeSealed}
		first := rng.IntN(drives)
		for i := range wide6.Width() { // nodes in a row are in different zones and racks, or at least different nodes
			v.Slots = append(v.Slots, w.drives[(first+i*20)%drives].ID)
		}
		if page = append(page, v); len(page) == volumePage || id == volumes {
			tab, page = tab.with(page), page[:0]
		}
	}
	load := time.Since(start)
	size := heapBytes() - heap
	perVolume := float64(size) / float64(volumes)
	if perVolume > 64 {
		t.Errorf("the map takes %.0f bytes for each volume, want 64 at most", perVolume)
	}
	for v := range tab.all() {
		for _, id := range v.Slots {
			w.charge(id, w.slot)
		}
	}

	v, _ := tab.get(cairn.VolumeID(volumes / 2))
	v.Epoch++
	start = time.Now()
	tab = tab.with([]cairn.Volume{v})
	change := time.Since(start)

	known := map[cairn.DriveID]cairn.Drive{}
	for _, d := range w.drives {
		known[d.ID] = d
	}
	lost := w.drives[drives/2]
	lost.State, lost.Retired = cairn.DriveMissing, true
	known[lost.ID] = lost
	start = time.Now()
	s := newSnapshot(tab, known, nil, cairn.NodeID{})
	snap := time.Since(start)
	start = time.Now()
	damage := slotDamage(time.Now(), time.Minute, s)
	find := time.Since(start)
	if want := volumes * 6 / drives; len(damage) < want/2 || len(damage) > want*2 {
		t.Errorf("%d slots on the lost drive, want about %d", len(damage), want)
	}
	start = time.Now()
	for _, d := range damage {
		vol, _ := tab.get(d.Shard.Volume)
		to, ok := s.placer().Replace(s.drives, vol, d.Shard.Slot)
		if !ok || slices.Contains(vol.Slots, to) {
			t.Fatalf("slot %v goes to %v", d.Shard, to)
		}
	}
	replace := time.Since(start)

	for range drives / 100 {
		w.addDrive(16<<40, fmt.Sprint("z", len(w.drives)%4), "new", fmt.Sprint("new", len(w.drives)))
	}
	held := func(yield func(Held) bool) {
		for v := range tab.all() {
			if !yield(Held{Volume: v, SlotBytes: w.slot}) {
				return
			}
		}
	}
	start = time.Now()
	moves := Rebalance(w.drives, held, 1000)
	balance := time.Since(start)
	if len(moves) < 100 {
		t.Errorf("%d moves to %d new drives", len(moves), drives/100)
	}
	start = time.Now()
	leaving, err := Drain(w.drives, []cairn.DriveID{w.drives[0].ID}, held, 1000)
	if err != nil || len(leaving) == 0 {
		t.Errorf("%d moves, %v", len(leaving), err)
	}
	t.Logf("%d drives, %d volumes: the map takes %.1f MiB (%.1f bytes for a volume), loads in %v; one change %v, a snapshot %v; "+
		"placing a volume %v; the %d slots of a lost drive are found in %v and placed in %v; %d moves to %d new drives planned in %v, "+
		"%d moves of a drain in %v; heap %.1f MiB", drives, volumes, float64(size)/(1<<20), perVolume, load, change, snap, place, len(damage),
		find, replace, len(moves), drives/100, balance, len(leaving), time.Since(start), float64(heapBytes())/(1<<20))
	runtime.KeepAlive(tab)
}

var wide6 = cairn.Profile{K: 4, M: 2}

// heapBytes is what lives on the heap.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
