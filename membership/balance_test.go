package membership

import (
	"math"
	"slices"
	"testing"

	"cairn"
)

// Four drives that share one file system look equally full to the kernel; by what they hold they are not, and a rebalance of
// what Weigh makes of them evens them out.
func TestWeighTellsDrivesOfOneFileSystemApart(t *testing.T) {
	const free, slot = 1 << 30, 1 << 20
	w := &world{slot: slot}
	for i := range 5 {
		d := w.addDrive(8<<30, "", "", string(rune('a'+i)))
		d.FreeBytes = free // as statfs says, whatever is on it
	}
	for n := range 40 { // the fifth drive is new: it has nothing
		var slots []cairn.DriveID
		for i := range 3 {
			slots = append(slots, w.drives[(n+i)%4].ID)
		}
		w.volumes = append(w.volumes, cairn.Volume{ID: cairn.VolumeID(n + 1), Profile: cairn.Profile{K: 2, M: 1}, Epoch: 1, Slots: slots})
	}
	if moves := Rebalance(w.drives, w.held(), 100); len(moves) != 0 {
		t.Fatalf("by the kernel's figures %d moves were planned", len(moves))
	}
	w.drives = Weigh(w.drives, w.held())
	for i, want := range []int64{30, 30, 30, 30, 0} {
		if d := w.drives[i]; d.TotalBytes-d.FreeBytes != want*slot || d.FreeBytes != free {
			t.Errorf("drive %d: %d used of %d, want %d", i, d.TotalBytes-d.FreeBytes, d.TotalBytes, want*slot)
		}
	}
	before := Spread(w.drives)
	w.apply(t, Rebalance(w.drives, w.held(), 100))
	if after := Spread(w.drives); after > 0.1 || before < 1 {
		t.Errorf("spread %.2f, before %.2f", after, before)
	}
	// 120 slots on five drives are 24 each: the new one gets those and nothing else moves.
	if w.moved > 24*slot*12/10 {
		t.Errorf("%d bytes moved, the least is %d", w.moved, 24*slot)
	}
}

func TestSpread(t *testing.T) {
	drive := func(n int, total, free int64, change func(*cairn.Drive)) cairn.Drive {
		d := testDrive(n, total)
		d.TotalBytes, d.FreeBytes = total, free
		if change != nil {
			change(&d)
		}
		return d
	}
	full, empty := drive(1, 100, 0, nil), drive(2, 100, 100, nil)
	half := drive(3, 50, 25, nil)
	for _, tt := range []struct {
		name   string
		drives []cairn.Drive
		want   float64
	}{
		{"no drives", nil, 0},
		{"nothing stored", []cairn.Drive{empty}, 0},
		{"one", []cairn.Drive{half}, 0},
		{"full and empty", []cairn.Drive{full, empty}, 2},
		{"sizes do not matter", []cairn.Drive{half, drive(4, 1000, 500, nil)}, 0},
		{"a sick one does not count", []cairn.Drive{half, drive(4, 100, 0, func(d *cairn.Drive) { d.State = cairn.DriveFailing })}, 0},
		{"nor one that is drained", []cairn.Drive{half, drive(4, 100, 0, func(d *cairn.Drive) { d.Draining = true })}, 0},
		{"nor one of unknown size", []cairn.Drive{half, drive(4, 0, 0, nil)}, 0},
	} {
		if got := Spread(slices.Clone(tt.drives)); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
