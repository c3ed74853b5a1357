package mount

import (
	"testing"

	"cairn/mount/cache"
)

// However far the ring has come, a range is held exactly if each of its bytes has come; and what is lacking next is what
// comes next.
func TestRing(t *testing.T) {
	const size = 3<<20 + 17
	for _, at := range []int{0, 5, nearBegin - 1, nearBegin, nearBegin + 7, 2<<20 + 1, size - 1} {
		src := &source{id: cache.ID{Size: cache.ChunkBytes + size}}
		fl := newFlight(flightID{src, 1}, at)
		if fl.from > at || at-fl.from > max(nearBegin, ringAlign) {
			t.Errorf("who wants %d is served from %d", at, fl.from)
		}
		fl.buf = make([]byte, size)
		came := make([]bool, size)
		for fl.have < size {
			for _, r := range [][2]int{{0, 1}, {0, 4096}, {fl.from, 1}, {max(0, fl.from-10), 20}, {size - 1, 1}, {0, size}, {1 << 20, 4096}, {at, 1}} {
				want := true
				for i := r[0]; i < min(r[0]+r[1], size); i++ {
					want = want && came[i]
				}
				if got := fl.holds(r[0], min(r[1], size-r[0])); got != want {
					t.Fatalf("from %d, %d have come: %v is held: %v, want %v", fl.from, fl.have, r, got, want)
				}
			}
			off, n := fl.lacking()
			n = min(n, 700_000)
			for i := off; i < off+n; i++ {
				if came[i] {
					t.Fatalf("byte %d is asked for twice", i)
				}
				came[i] = true
			}
			fl.arrived(n)
		}
		if !fl.holds(0, size) {
			t.Error("all has come and is not held")
		}
	}
}
