// Package erasure turns bytes into stripes and back: the geometry of a blob (which unit of which shard holds which byte)
// and the code over its units. Bytes in, bytes out: it does no I/O, knows no drives and imports nothing of Cairn.
//
// A blob of Length bytes is cut into stripes of K·Unit bytes. Unit i of a stripe goes to slot i; M parity units go to
// slots K … K+M-1. A shard is the units of one slot in order, so the place of any byte is found by arithmetic alone. The
// last stripe, when it is short, has shorter units: its bytes divided by K, rounded up to 64 bytes, padded with zeros that
// are stored like data.
//
// The code works on each byte column by itself (Reed-Solomon over GF(2⁸), J. S. Plank, "A Tutorial on Reed-Solomon Coding
// for Fault-Tolerance in RAID-like Systems", 1997), so any range of a shard can be coded as long as the same range is taken
// of every shard; it need not be a stripe.
package erasure

import (
	"fmt"
	"math/bits"
)

// Grain is what a unit's length is rounded up to, in bytes: a whole number of vector registers and of cache lines.
const Grain = 64

// MaxSlots bounds K+M.
const MaxSlots = 64

// Geometry is the shape of one blob. The zero value is not valid. All methods are pure and assume that Validate passed.
type Geometry struct {
	K, M   int   // data and parity units of a stripe
	Unit   int64 // bytes of one unit of a whole stripe, a multiple of Grain
	Length int64 // bytes of the blob, 1 or more
}

// Validate refuses a shape that no blob has.
func (g Geometry) Validate() error {
	switch {
	case g.K < 1 || g.M < 0 || g.K+g.M > MaxSlots:
		return fmt.Errorf("erasure: %d+%d shards: want 1 or more data shards, at most %d in all", g.K, g.M, MaxSlots)
	case g.Unit < Grain || g.Unit%Grain != 0:
		return fmt.Errorf("erasure: unit of %d bytes: want a multiple of %d", g.Unit, Grain)
	case g.Length < 1:
		return fmt.Errorf("erasure: blob of %d bytes: want 1 or more", g.Length)
	}
	if hi, lo := bits.Mul64(uint64(g.K), uint64(g.Unit)); hi != 0 || lo > 1<<62 {
		return fmt.Errorf("erasure: stripes of %d × %d bytes are too long", g.K, g.Unit)
	}
	return nil
}

// Width is the number of slots, K+M.
func (g Geometry) Width() int { return g.K + g.M }

// StripeBytes is how many bytes of the blob a whole stripe holds.
func (g Geometry) StripeBytes() int64 { return int64(g.K) * g.Unit }

// Stripes is the number of stripes, the last of which may be short.
func (g Geometry) Stripes() int64 {
	per := g.StripeBytes()
	return g.Length/per + min(g.Length%per, 1)
}

// UnitLen is the length in bytes of each unit of a stripe, padding included.
func (g Geometry) UnitLen(stripe int64) int64 {
	per := g.StripeBytes()
	rest := g.Length - stripe*per
	if rest >= per {
		return g.Unit
	}
	return shortUnit(g.K, rest)
}

// shortUnit divides rest bytes by k and rounds up to Grain.
func shortUnit(k int, rest int64) int64 {
	each := (rest + int64(k) - 1) / int64(k)
	return (each + Grain - 1) / Grain * Grain
}

// DataLen is how many bytes of the blob a slot's unit of a stripe holds: UnitLen without the padding, 0 for parity.
func (g Geometry) DataLen(stripe int64, slot int) int64 {
	if slot >= g.K {
		return 0
	}
	rest := min(g.Length-stripe*g.StripeBytes(), g.StripeBytes())
	unit := g.UnitLen(stripe)
	return max(0, min(unit, rest-int64(slot)*unit))
}

// ShardLen is the length of every shard of the blob in bytes, padding included.
func (g Geometry) ShardLen() int64 {
	per := g.StripeBytes()
	n := g.Length / per * g.Unit
	if rest := g.Length % per; rest > 0 {
		n += shortUnit(g.K, rest)
	}
	return n
}

// Span is a run of the blob's bytes that lies in one piece in one shard.
type Span struct {
	Slot int
	Off  int64 // in the shard's data
	Len  int64
}

// Locate returns the longest span that begins at byte off of the blob and ends before byte end. It wants
// 0 ≤ off < end ≤ Length.
func (g Geometry) Locate(off, end int64) Span {
	per := g.StripeBytes()
	stripe := off / per
	in := off - stripe*per
	unit := g.UnitLen(stripe)
	slot := in / unit
	at := in - slot*unit
	return Span{
		Slot: int(slot),
		Off:  stripe*g.Unit + at,
		Len:  min(unit-at, end-off), // padding comes after the blob's last byte, so that end keeps clear of it
	}
}
