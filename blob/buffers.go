package blob

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sync/semaphore"

	"cairn"
)

const (
	minClass = 12 // the smallest buffer: 4 KiB, what O_DIRECT wants things aligned to
	maxClass = 26 // the largest: 64 MiB
	align    = 1 << minClass
	// minMemory is the least bound that still lets a wide stripe through.
	minMemory = 4 << 20
)

// budget bounds the bytes that are in use. Whoever waits for it holds nothing of it, so that no two wait for each other.
type budget struct {
	sem  *semaphore.Weighted
	size int64
	used atomic.Int64
}

func newBudget(size int64) *budget { return &budget{sem: semaphore.NewWeighted(size), size: size} }

// try takes n bytes if they are free.
func (b *budget) try(n int64) bool {
	if !b.sem.TryAcquire(n) {
		return false
	}
	b.used.Add(n)
	return true
}

// take waits for n bytes, at most for limit: then the store is overloaded.
func (b *budget) take(ctx context.Context, n int64, limit time.Duration) error {
	if n > b.size {
		return fmt.Errorf("buffers of %d bytes, of %d allowed: %w", n, b.size, cairn.ErrTooLarge)
	}
	if b.try(n) {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if b.sem.Acquire(wait, n) == nil {
		b.used.Add(n)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return fmt.Errorf("no memory for buffers within %v: %w", limit, cairn.ErrOverloaded)
}

// put gives n bytes back; a nil budget had nothing taken from it.
func (b *budget) put(n int64) {
	if b != nil && n > 0 {
		b.used.Add(-n)
		b.sem.Release(n)
	}
}

// strip is one slot's buffer, aligned to 4 KiB, with a count of those who still look at it. The last one gives it back,
// and its bytes to the budget that they were taken from: a drive that sits on a buffer keeps just that one.
type strip struct {
	b     []byte // the whole buffer; a power of two bytes
	class int
	pool  *bufferPool
	from  *budget
	refs  atomic.Int32
}

func (s *strip) hold() { s.refs.Add(1) }

func (s *strip) release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("blob: a buffer was released twice")
	case n == 0:
		from, size := s.from, int64(len(s.b))
		s.pool.put(s)
		from.put(size)
	}
}

// bufferPool keeps buffers for reuse, so that large ones are neither cleared nor collected again and again.
type bufferPool struct {
	maxIdle int64

	mu   sync.Mutex
	idle int64
	free [maxClass + 1][]*strip
}

// classOf returns the class of the smallest buffer of n bytes or more.
func classOf(n int64) int { return max(minClass, bits.Len64(uint64(max(n, 1)-1))) }

// bufferBytes is what a buffer for n bytes costs.
func bufferBytes(n int64) int64 { return 1 << classOf(n) }

// get returns a buffer for n bytes with one holder, whose cost the caller took from the budget before. Its bytes are
// whatever was in it last.
func (p *bufferPool) get(n int64, from *budget) *strip {
	class := classOf(n)
	p.mu.Lock()
	var s *strip
	if free := p.free[class]; len(free) > 0 {
		s = free[len(free)-1]
		free[len(free)-1] = nil
		p.free[class] = free[:len(free)-1]
		p.idle -= 1 << class
	}
	p.mu.Unlock()
	if s == nil {
		s = &strip{b: aligned(1 << class), class: class, pool: p}
	}
	s.from = from
	s.refs.Store(1)
	return s
}

// put keeps a buffer. What is too much goes to the collector, the most common size first.
func (p *bufferPool) put(s *strip) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free[s.class] = append(p.free[s.class], s)
	p.idle += 1 << s.class
	for p.idle > p.maxIdle {
		fullest := minClass
		for c := range p.free {
			if len(p.free[c])<<c > len(p.free[fullest])<<fullest {
				fullest = c
			}
		}
		free := p.free[fullest]
		free[len(free)-1] = nil
		p.free[fullest] = free[:len(free)-1]
		p.idle -= 1 << fullest
	}
}

// aligned allocates n bytes at a multiple of 4 KiB. The runtime places such sizes so by itself, but promises nothing.
func aligned(n int) []byte {
	b := make([]byte, n)
	if uintptr(unsafe.Pointer(unsafe.SliceData(b)))%align == 0 {
		return b
	}
	b = make([]byte, n+align)
	skip := align - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%align)
	return b[skip : skip+n : skip+n]
}
