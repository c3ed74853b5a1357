package mount

import (
	"context"
	"sync"

	"cairn/mount/cache"
)

type flightID struct {
	src   *source
	chunk int
}

// flight is one chunk on its way, and in memory behind that until its buffer is wanted. The bytes arrive in a ring: from
// some offset on to the chunk's end, and then those before it, so that who waits for the chunk's middle need not wait for
// its beginning.
type flight struct {
	flightID
	size    int // of the chunk
	from    int // where the ring begins
	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte // nil until it runs
	have    int    // valid bytes of the ring
	done    bool
	err     error
	// Guarded by fetcher.mu.
	waiting int // readers that use buf
	served  int // bytes that readers got
	planned bool
	alone   bool // it asks the store, no peer
}

// origin says where a chunk that is not here may be fetched from.
type origin bool

const (
	fromAnywhere origin = false
	fromStore    origin = true // what a peer asks for: there are no chains
)

const (
	nearBegin = 1 << 20   // who wants a byte of the chunk's first MiB gets the chunk from its beginning, by one request
	ringAlign = 128 << 10 // bytes that come before the wanted one at the most
)

// newFlight makes a flight whose first wanted byte is at offset at of the chunk.
func newFlight(id flightID, at int) *flight {
	fl := &flight{flightID: id, size: id.src.id.ChunkLen(id.chunk)}
	if at >= nearBegin {
		fl.from = at &^ (ringAlign - 1)
	}
	fl.changed = sync.NewCond(&fl.mu)
	return fl
}

// needed is how much of the ring must be there for the n bytes from off on, which lie within the chunk.
func (fl *flight) needed(off, n int) int {
	switch {
	case off >= fl.from:
		return off - fl.from + n
	case off+n <= fl.from:
		return fl.size - fl.from + off + n
	}
	return fl.size // it reaches over the place where the ring begins and ends
}

// holds tells whether n bytes from off on are in memory.
func (fl *flight) holds(off, n int) bool {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return fl.err == nil && fl.buf != nil && fl.have >= fl.needed(off, n)
}

// lacking is the next stretch of the chunk that is to be fetched: up to the chunk's end, or up to the ring's begin.
func (fl *flight) lacking() (off, n int) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if tail := fl.size - fl.from; fl.have < tail {
		return fl.from + fl.have, tail - fl.have
	} else {
		return fl.have - tail, fl.size - fl.have
	}
}

// arrived tells those who wait that n more bytes are there. Only the flight's own goroutine calls it.
func (fl *flight) arrived(n int) {
	if n == 0 {
		return
	}
	fl.mu.Lock()
	fl.have += n
	fl.changed.Broadcast()
	fl.mu.Unlock()
}

// end tells them that no more will come.
func (fl *flight) end(err error) {
	fl.mu.Lock()
	fl.done, fl.err = true, err
	fl.changed.Broadcast()
	fl.mu.Unlock()
}

// wait returns when the n bytes from off on are there, the flight has failed, or ctx has ended.
func (fl *flight) wait(ctx context.Context, off, n int) error {
	if fl.holds(off, n) {
		return nil
	}
	return fl.until(ctx, func() bool { return fl.have >= fl.needed(off, n) })
}

// over returns when the flight has ended and what came is in the cache, or ctx has ended.
func (fl *flight) over(ctx context.Context) error {
	return fl.until(ctx, func() bool { return fl.done && fl.err == nil })
}

func (fl *flight) until(ctx context.Context, enough func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		fl.changed.Broadcast()
	})
	defer stop()
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for !enough() && !fl.done && ctx.Err() == nil {
		fl.changed.Wait()
	}
	switch {
	case enough():
		return nil
	case fl.done:
		return fl.err
	}
	return ctx.Err()
}

// bytes are n bytes from an offset of the file on, which wait has answered for.
func (fl *flight) bytes(off int64, n int) []byte {
	at := off % cache.ChunkBytes
	return fl.buf[at : at+int64(n)]
}
