package erasure

import (
	"bytes"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var profiles = [][2]int{{1, 0}, {1, 2}, {2, 1}, {2, 2}, {3, 2}, {4, 2}, {8, 4}, {12, 4}, {3, 0}}

// shards cuts data by walking Locate and encodes stripe by stripe: the slow, obvious way.
func shards(t testing.TB, g Geometry, data []byte) [][]byte {
	t.Helper()
	code, err := new(Codes).Get(Scheme{K: g.K, M: g.M})
	if err != nil {
		t.Fatal(err)
	}
	out := make([][]byte, g.Width())
	for i := range out {
		out[i] = make([]byte, g.ShardLen())
	}
	for off := int64(0); off < g.Length; {
		s := g.Locate(off, g.Length)
		if s.Len <= 0 {
			t.Fatalf("%+v: Locate(%d) = %+v makes no progress", g, off, s)
		}
		copy(out[s.Slot][s.Off:s.Off+s.Len], data[off:])
		off += s.Len
	}
	for s := range g.Stripes() {
		units := make([][]byte, g.Width())
		for i := range units {
			units[i] = out[i][s*g.Unit : s*g.Unit+g.UnitLen(s)]
		}
		if err := code.Encode(units); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func fill(n int64, seed uint64) []byte {
	p := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func TestGeometryTable(t *testing.T) {
	const u = 256 << 10
	for _, c := range []struct {
		g                  Geometry
		stripes, shard     int64
		lastUnit, lastData int64 // of the last stripe; bytes in its last data slot
	}{
		{Geometry{4, 2, u, 1}, 1, 64, 64, 0},
		{Geometry{4, 2, u, 256}, 1, 64, 64, 64},
		{Geometry{4, 2, u, 257}, 1, 128, 128, 0},
		{Geometry{4, 2, u, 4 * u}, 1, u, u, u},
		{Geometry{4, 2, u, 4*u + 1}, 2, u + 64, 64, 0},
		{Geometry{4, 2, u, 4*u - 1}, 1, u, u, u - 1},
		{Geometry{1, 2, u, 1000}, 1, 1024, 1024, 1000},
		{Geometry{4, 2, u, 64 << 20}, 64, 16 << 20, u, u},
	} {
		if err := c.g.Validate(); err != nil {
			t.Errorf("%+v: %v", c.g, err)
		}
		last := c.g.Stripes() - 1
		got := []int64{c.g.Stripes(), c.g.ShardLen(), c.g.UnitLen(last), c.g.DataLen(last, c.g.K-1)}
		want := []int64{c.stripes, c.shard, c.lastUnit, c.lastData}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: stripes, shard, last unit, last data = %v, want %v", c.g, got, want)
		}
	}
	for _, g := range []Geometry{{}, {0, 2, u, 1}, {4, -1, u, 1}, {60, 5, u, 1}, {4, 2, 100, 1}, {4, 2, 0, 1}, {4, 2, u, 0},
		{64, 0, 1 << 60, 1}} {
		if g.Validate() == nil {
			t.Errorf("%+v: Validate accepts it", g)
		}
	}
}

// An aligned 64 KiB range lies in one data shard wherever the blob has a whole stripe.
func TestAlignedRangeTouchesOneShard(t *testing.T) {
	g := Geometry{K: 4, M: 2, Unit: 256 << 10, Length: 3 << 20}
	for off := int64(0); off < g.Length; off += 64 << 10 {
		if s := g.Locate(off, off+64<<10); s.Len != 64<<10 {
			t.Errorf("Locate(%d) = %+v, want 65536 bytes in one piece", off, s)
		}
	}
}

// Every byte of a blob has exactly one place, and the places fill the data units without holes but for the padding.
func TestGeometryIsABijection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.SampledFrom(profiles).Draw(t, "profile")
		g := Geometry{K: p[0], M: p[1], Unit: 64 * rapid.Int64Range(1, 4).Draw(t, "unit/64"),
			Length: rapid.Int64Range(1, 5000).Draw(t, "length")}
		seen := make(map[[2]int64]bool)
		for off := range g.Length {
			s := g.Locate(off, off+1)
			if s.Len != 1 || s.Slot < 0 || s.Slot >= g.K || s.Off < 0 || s.Off >= g.ShardLen() {
				t.Fatalf("%+v: Locate(%d) = %+v", g, off, s)
			}
			at := [2]int64{int64(s.Slot), s.Off}
			if seen[at] {
				t.Fatalf("%+v: byte %d shares place %v", g, off, at)
			}
			seen[at] = true
		}
		var held, length int64
		for s := range g.Stripes() {
			length += g.UnitLen(s)
			for i := range g.Width() {
				held += g.DataLen(s, i)
			}
		}
		if held != g.Length || length != g.ShardLen() {
			t.Fatalf("%+v: units hold %d bytes in shards of %d, want %d in %d", g, held, length, g.Length, g.ShardLen())
		}
	})
}

// Every pattern of up to M lost units comes back byte for byte, for whole shards at once (many stripes in one call).
func TestEveryErasurePattern(t *testing.T) {
	for _, p := range profiles {
		t.Run(fmt.Sprintf("%d+%d", p[0], p[1]), func(t *testing.T) {
			g := Geometry{K: p[0], M: p[1], Unit: 128, Length: int64(p[0])*128*2 + 77}
			whole := shards(t, g, fill(g.Length, 7))
			code, _ := new(Codes).Get(Scheme{K: g.K, M: g.M})
			for lost := range uint32(1) << g.Width() {
				if bits.OnesCount32(lost) > g.M {
					continue
				}
				units, want := make([][]byte, g.Width()), make([]bool, g.Width())
				for i := range units {
					if want[i] = lost>>i&1 == 1; !want[i] {
						units[i] = whole[i]
					}
				}
				if err := code.Reconstruct(units, want); err != nil {
					t.Fatalf("lost %b: %v", lost, err)
				}
				for i := range units {
					if !bytes.Equal(units[i], whole[i]) {
						t.Fatalf("lost %b: unit %d differs", lost, i)
					}
				}
			}
		})
	}
}

func TestReconstructSome(t *testing.T) {
	g := Geometry{K: 4, M: 2, Unit: 128, Length: 500}
	whole := shards(t, g, fill(g.Length, 3))
	code, _ := new(Codes).Get(Scheme{K: 4, M: 2})

	// Only what is wanted is made, in the memory that was offered.
	units := slices.Clone(whole)
	units[1], units[4] = nil, make([]byte, 0, 128)
	room := units[4][:128]
	if err := code.Reconstruct(units, []bool{4: true, 5: false}); err != nil {
		t.Fatal(err)
	}
	if units[1] != nil || !bytes.Equal(room, whole[4]) {
		t.Errorf("unit 1 = %d bytes, want none; unit 4 in place: %v", len(units[1]), bytes.Equal(room, whole[4]))
	}

	// More than M lost is an error, never a guess.
	units = slices.Clone(whole)
	units[0], units[1], units[2] = nil, nil, nil
	if err := code.Reconstruct(units, []bool{0: true, 5: false}); err == nil {
		t.Error("three of 4+2 lost: no error")
	}
	if err := code.Reconstruct(units[:5], make([]bool, 5)); err == nil {
		t.Error("five units given to 4+2: no error")
	}
	if err := code.Encode(units[:5]); err == nil {
		t.Error("encode of five units by 4+2: no error")
	}
	none, _ := new(Codes).Get(Scheme{K: 2})
	if err := none.Reconstruct([][]byte{whole[0], nil}, []bool{false, true}); err == nil {
		t.Error("a lost unit without parity: no error")
	}
}

func TestCodesAreKeptAndBounded(t *testing.T) {
	var c Codes
	a, err := c.Get(Scheme{K: 4, M: 2})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := c.Get(Scheme{K: 4, M: 2}); b != a {
		t.Error("the second Get made another code")
	}
	for k := 1; k <= 50; k++ {
		if _, err := c.Get(Scheme{K: k, M: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.made) > maxCodes {
		t.Errorf("%d codes kept, want at most %d", len(c.made), maxCodes)
	}
	if _, err := c.Get(Scheme{M: 2}); err == nil {
		t.Error("0+2 accepted")
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, p := range [][2]int{{4, 2}, {8, 4}, {12, 4}} {
		b.Run(fmt.Sprintf("%d+%d", p[0], p[1]), func(b *testing.B) {
			code, _ := new(Codes).Get(Scheme{K: p[0], M: p[1]})
			units := make([][]byte, p[0]+p[1])
			for i := range units {
				units[i] = fill(256<<10, uint64(i))
			}
			b.SetBytes(int64(p[0]) * 256 << 10)
			for b.Loop() {
				if err := code.Encode(units); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
