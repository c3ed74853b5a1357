package bench

import (
	"hash/crc32"
	"math/rand/v2"
	"sync"
)

// payloadStarts is how many different bodies of one size there are; object i has body i modulo this.
const payloadStarts = 16

// payloadStep is the distance between the bodies' first bytes in the pool.
const payloadStep = 4096

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// payload is a pool of random bytes that object bodies are slices of, with their checksums. Safe for concurrent use.
type payload struct {
	pool []byte

	mu   sync.Mutex
	sums map[[2]int]uint32 // (start, size) → CRC32C
}

// newPayload makes a pool for bodies of up to maxBytes, the same for the same seed.
func newPayload(maxBytes int, seed uint64) *payload {
	p := &payload{pool: make([]byte, maxBytes+payloadStarts*payloadStep), sums: make(map[[2]int]uint32)}
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	src := rand.NewChaCha8(key)
	src.Read(p.pool)
	return p
}

// body returns the bytes of object i when its size is size.
func (p *payload) body(i, size int) []byte {
	start := i % payloadStarts * payloadStep
	return p.pool[start : start+size]
}

// sum returns the CRC32C of body(i, size).
func (p *payload) sum(i, size int) uint32 {
	k := [2]int{i % payloadStarts, size}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.sums[k]
	if !ok {
		s = crc32.Checksum(p.body(i, size), castagnoli)
		p.sums[k] = s
	}
	return s
}
