package blob

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
)

func newDriveStats(drives int) (*driveStats, []*driveStat) {
	d := &driveStats{}
	d.init(Config{HedgeFloor: 20 * time.Millisecond, HangLimit: time.Second, HedgeBudget: 0.05})
	var all []*driveStat
	for i := range drives {
		all = append(all, d.get(cairn.DriveID{byte(i), byte(i >> 8), 1}))
	}
	return d, all
}

// A drive that is slow again and again is asked less and less often; one that was well for a while begins anew.
func TestSlowDriveIsAvoidedForLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, all := newDriveStats(1)
		s := all[0]
		avoided := func() time.Duration {
			d.hedged(s)
			start := time.Now()
			for d.shun(s) {
				time.Sleep(time.Millisecond)
			}
			d.cameBack(s, time.Minute)
			return time.Since(start)
		}
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 32} {
			if got := avoided(); got.Round(100*time.Millisecond) != want*time.Second {
				t.Errorf("time %d: avoided for %v, want %v", i, got, want*time.Second)
			}
		}
		time.Sleep(11 * time.Second)
		if got := avoided(); got.Round(100*time.Millisecond) != time.Second {
			t.Errorf("after a good time: avoided for %v, want 1 s", got)
		}
		d.hedged(s)
		d.cameBack(s, 50*time.Millisecond) // the machine was busy, that was all
		if d.shun(s) {
			t.Error("avoided for a hiccup")
		}
	})
}

// However many drives are slow, no more than a tenth is avoided, and four in a small store.
func TestAvoidedDrivesAreBounded(t *testing.T) {
	for _, tt := range []struct{ drives, want int }{{6, 4}, {30, 4}, {100, 10}} {
		synctest.Test(t, func(t *testing.T) {
			d, all := newDriveStats(tt.drives)
			count := func() (n int) {
				for _, s := range all {
					if d.shun(s) {
						n++
					}
				}
				return n
			}
			for _, s := range all {
				d.hedged(s)
			}
			if n := count(); n != tt.want {
				t.Errorf("%d of %d drives are avoided, want %d", n, tt.drives, tt.want)
			}
			time.Sleep(2 * time.Second)
			if n := count(); n != 0 {
				t.Errorf("%d are still avoided", n)
			}
		})
	}
}

// Readers that may choose go to the drives that have less to do: quick ones, and those with fewer reads under way.
func TestTwoChoices(t *testing.T) {
	_, all := newDriveStats(4)
	for i, s := range all {
		s.saw(time.Duration(1+9*(i%2)) * time.Millisecond) // drives 1 and 3 are slow
	}
	all[0].flying.Add(3) // drive 0 is quick and busy
	var first [4]int
	const rounds = 4000
	for range rounds {
		slots := lessLoaded(0b1111, func(slot int) int64 { return all[slot].load() })
		if sorted := slices.Sorted(slices.Values(slots)); !slices.Equal(sorted, []int{0, 1, 2, 3}) {
			t.Fatalf("got %v", slots)
		}
		first[slots[0]]++
	}
	// The best wins 7 of 16 draws of two, the next 5, the other two share 4.
	if first[2] < rounds*6/16 || first[0] < rounds*4/16 || first[1]+first[3] > rounds*5/16 {
		t.Errorf("first were %v of %d", first, rounds)
	}
}
