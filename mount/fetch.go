package mount

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cairn/mount/cache"
)

const reserved = 2 // buffers that fetches ahead leave to readers who wait

// fetcher brings chunks, each once however many wait for it. What a reader waits for goes before what plans ask for ahead
// of readers. Each fetch owns a buffer of one chunk, and there are a fixed number of those: whoever finds none waits. A
// chunk that has come stays in memory until it was read or its buffer is wanted.
type fetcher struct {
	store    Store
	log      *slog.Logger
	patience time.Duration
	counts   *counters
	peers    *peering // nil: there are none
	maxAhead int      // fetches for plans at once, and how many chunks a plan runs ahead of a reader in order

	mu      sync.Mutex
	buffers buffers
	flights map[flightID]*flight
	queue   []*flight // wanted by readers, oldest first
	plans   []*plan
	ahead   int       // running for plans
	idle    []*flight // done, kept for readers; oldest first
	closed  bool
	running sync.WaitGroup
	ctx     context.Context // of all fetches; ended by close
	stop    context.CancelFunc
}

// counters are bytes by where they came from.
type counters struct {
	fromStore, fromCache, fromMemory atomic.Int64
	fromPeers, toPeers               atomic.Int64
	fetches, retries, failures       atomic.Int64
	peerFailures                     atomic.Int64
}

func newFetcher(store Store, memory int64, patience time.Duration, log *slog.Logger, counts *counters) *fetcher {
	n := int(memory / cache.ChunkBytes)
	f := &fetcher{store: store, log: log, patience: patience, counts: counts, buffers: buffers{left: n}, maxAhead: max(1, n/2),
		flights: map[flightID]*flight{}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	return f
}

// close ends all fetches and waits for them.
func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	plans := f.plans
	f.plans = nil
	f.mu.Unlock()
	f.stop()
	for _, p := range plans {
		p.end()
	}
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freeIdle(func(*flight) bool { return true })
	f.buffers.close()
}

var errClosing = errors.New("the mount is ending")

// join finds the flight of a chunk, or queues one that begins at an offset of it. The caller must leave it. It is nil if
// the chunk has come meanwhile.
func (f *fetcher) join(src *source, chunk, at int, from origin) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errClosing
	}
	id := flightID{src, chunk}
	fl := f.flights[id]
	if fl == nil {
		if src.cached != nil && src.cached.Has(chunk) {
			return nil, nil
		}
		fl = newFlight(id, at)
		fl.alone = from == fromStore
		f.flights[id] = fl
		f.queue = append(f.queue, fl)
	}
	fl.waiting++
	f.pump()
	return fl, nil
}

// inMemory returns the flight that holds n bytes from an offset of a chunk on, nil if there is none. The caller must leave it.
func (f *fetcher) inMemory(src *source, chunk, at, n int) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.flights[flightID{src, chunk}]
	if fl == nil || f.closed || !fl.holds(at, n) {
		return nil
	}
	fl.waiting++
	return fl
}

// leave ends a reader's use of a flight, who got some bytes of it.
func (f *fetcher) leave(fl *flight, got int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiting--
	fl.served += got
	f.settle(fl)
	f.pump()
}

// settle frees a flight that is over and that nobody uses: at once if it failed, or if its bytes are in the cache and no
// reader is expected; else it stays in memory until its buffer is wanted. mu is held.
func (f *fetcher) settle(fl *flight) {
	fl.mu.Lock()
	over, failed := fl.done, fl.err != nil
	fl.mu.Unlock()
	if !over || fl.waiting > 0 || f.flights[fl.flightID] != fl {
		return
	}
	cached := fl.src.cached != nil && fl.src.cached.Has(fl.chunk)
	if failed || cached && f.far(fl) || cached && fl.served >= fl.size*fl.src.expects() {
		f.freeIdle(func(other *flight) bool { return other == fl })
		f.forget(fl)
		return
	}
	for _, other := range f.idle {
		if other == fl {
			return
		}
	}
	f.idle = append(f.idle, fl)
}

// far tells that a reader who goes in order is so far behind that the chunk's buffer is better used for those before it.
func (f *fetcher) far(fl *flight) bool {
	at, inOrder := fl.src.reader()
	return inOrder && fl.chunk >= at+f.maxAhead
}

// freeIdle frees the idle flights that which says yes to and that nobody uses. mu is held.
func (f *fetcher) freeIdle(which func(*flight) bool) {
	kept := f.idle[:0]
	for _, fl := range f.idle {
		if fl.waiting == 0 && which(fl) {
			f.forget(fl)
		} else {
			kept = append(kept, fl)
		}
	}
	clear(f.idle[len(kept):])
	f.idle = kept
}

// released tells that nobody has a version open any more: its chunks in memory go.
func (f *fetcher) released(src *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.freeIdle(func(fl *flight) bool { return fl.src == src })
}

// forget takes a flight's buffer back. mu is held, and nobody uses the flight.
func (f *fetcher) forget(fl *flight) {
	if f.flights[fl.flightID] == fl {
		delete(f.flights, fl.flightID)
	}
	fl.mu.Lock()
	if fl.buf != nil {
		f.buffers.give(fl.buf)
		fl.buf = nil
	}
	fl.mu.Unlock()
}

// buffer takes a buffer, the oldest idle one if there is no other; nil if all are in use. mu is held.
func (f *fetcher) buffer() []byte {
	if b := f.buffers.take(); b != nil {
		return b
	}
	for i, fl := range f.idle {
		if fl.waiting == 0 {
			f.idle = append(f.idle[:i], f.idle[i+1:]...)
			f.forget(fl)
			return f.buffers.take()
		}
	}
	return nil
}

// unused counts the buffers that a fetch could take now. mu is held.
func (f *fetcher) unused() int { return f.buffers.unused() + len(f.idle) }

// pump starts what there are buffers for: readers' chunks first. mu is held.
func (f *fetcher) pump() {
	if f.closed {
		return
	}
	for len(f.queue) > 0 {
		buf := f.buffer()
		if buf == nil {
			return
		}
		fl := f.queue[0]
		f.queue = f.queue[1:]
		f.start(fl, buf)
	}
	for i := 0; i < len(f.plans) && f.ahead < f.maxAhead && f.unused() > reserved; {
		p := f.plans[i]
		chunk, state := p.next(f.maxAhead, func(i int) bool { return f.flights[flightID{p.src, i}] != nil })
		switch state {
		case planEnds:
			f.plans = append(f.plans[:i], f.plans[i+1:]...)
			f.running.Go(p.end)
			continue
		case planWaits:
			p.watch(f.lift)
			i++
			continue
		}
		buf := f.buffer()
		if buf == nil {
			p.step-- // all are in use after all
			return
		}
		fl := newFlight(flightID{p.src, chunk}, 0)
		fl.planned = true
		f.flights[fl.flightID] = fl
		f.ahead++
		f.start(fl, buf)
	}
}

// lift lets a plan run away from a reader who has not moved for a while.
func (f *fetcher) lift(p *plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.free = true
	f.pump()
}

// moved lets the plan of a version go on when its reader has come to another chunk: before those of files that nobody reads
// yet, and near him again.
func (f *fetcher) moved(src *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, p := range f.plans {
		if p.src == src {
			p.free = false
			copy(f.plans[1:], f.plans[:i])
			f.plans[0] = p
		}
	}
	f.pump()
}

func (f *fetcher) start(fl *flight, buf []byte) {
	fl.src.hold() // until the bytes are in the cache
	fl.mu.Lock()
	fl.buf = buf[:fl.size]
	fl.mu.Unlock()
	f.running.Go(func() { f.run(fl) })
}

// add gives the fetcher a plan to work on when no reader waits. A version has one plan in its life as an open file, so
// there are no more plans than open files and what their indexes name.
func (f *fetcher) add(p *plan) {
	p.src.hold()
	f.mu.Lock()
	closed := f.closed
	if !closed {
		f.plans = append(f.plans, p)
		f.pump()
	}
	f.mu.Unlock()
	if closed {
		p.end()
	}
}
