package replica

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// draw returns 64 random bits: for what must never be drawn twice, by any process. A simulation seeds it with the rest of
// crypto/rand.
func draw() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// newTicker is time.NewTicker with a period that is longer by up to a hundredth, so that nodes, and the loops of one node, do
// not march in step.
func newTicker(period time.Duration) *time.Ticker {
	return time.NewTicker(period + time.Duration(draw()%uint64(period/100+1)))
}
