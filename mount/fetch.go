package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cairn/mount/cache"
)

const (
	pieceBytes   = 1 << 20 // a fetch tells its waiters after each piece of this size, at the latest
	stallTimeout = 15 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	reserved     = 2 // buffers that fetches ahead leave to readers who wait
)

// fetcher brings chunks, each once however many wait for it. What a reader waits for goes before what plans ask for ahead
// of readers. Each fetch owns a buffer of one chunk, and there are a fixed number of those: whoever finds none waits.
type fetcher struct {
	store    Store
	log      *slog.Logger
	patience time.Duration
	counts   *counters

	mu      sync.Mutex
	buffers int // that may still be allocated
	free    [][]byte
	flights map[flightID]*flight
	queue   []*flight // wanted by readers, oldest first
	plans   []*plan
	ahead   int       // running for plans
	idle    []*flight // done, kept for readers since their bytes are not in the cache; oldest first
	closed  bool
	running sync.WaitGroup
	ctx     context.Context // of all fetches; ended by close
	stop    context.CancelFunc
}

// counters are bytes by where they came from.
type counters struct {
	fromStore, fromCache, fromMemory atomic.Int64
	fetches, retries, failures       atomic.Int64
}

type flightID struct {
	src   *source
	chunk int
}

// flight is one chunk on its way.
type flight struct {
	flightID
	mu      sync.Mutex
	changed *sync.Cond
	buf     []byte // nil until it runs
	have    int    // bytes of buf that are valid
	done    bool
	err     error
	// Guarded by fetcher.mu.
	waiting int // readers that use buf
	planned bool
}

func newFetcher(store Store, memory int64, patience time.Duration, log *slog.Logger, counts *counters) *fetcher {
	f := &fetcher{store: store, log: log, patience: patience, counts: counts, buffers: int(memory / cache.ChunkBytes),
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
}

var errClosing = errors.New("the mount is ending")

// join finds the flight of a chunk, or queues one. The caller must leave it. It is nil if the chunk has come meanwhile.
func (f *fetcher) join(src *source, chunk int) (*flight, error) {
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
		fl = newFlight(id)
		f.flights[id] = fl
		f.queue = append(f.queue, fl)
	}
	fl.waiting++
	f.pump()
	return fl, nil
}

func newFlight(id flightID) *flight {
	fl := &flight{flightID: id}
	fl.changed = sync.NewCond(&fl.mu)
	return fl
}

// leave ends a reader's use of a flight.
func (f *fetcher) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl.waiting--
	f.settle(fl)
	f.pump()
}

// settle frees a flight that is over and that nobody uses; one whose bytes are not in the cache is kept until its buffer
// is wanted. mu is held.
func (f *fetcher) settle(fl *flight) {
	fl.mu.Lock()
	over, failed := fl.done, fl.err != nil
	fl.mu.Unlock()
	if !over || fl.waiting > 0 || f.flights[fl.flightID] != fl {
		return
	}
	if !failed && (fl.src.cached == nil || !fl.src.cached.Has(fl.chunk)) {
		for _, other := range f.idle {
			if other == fl {
				return
			}
		}
		f.idle = append(f.idle, fl)
		return
	}
	f.forget(fl)
}

// forget takes a flight's buffer back. mu is held, and nobody uses the flight.
func (f *fetcher) forget(fl *flight) {
	delete(f.flights, fl.flightID)
	fl.mu.Lock()
	if fl.buf != nil {
		f.free = append(f.free, fl.buf[:cache.ChunkBytes])
		fl.buf = nil
	}
	fl.mu.Unlock()
}

// buffer takes a buffer, the oldest idle one if there is no other; nil if all are in use. mu is held.
func (f *fetcher) buffer() []byte {
	if n := len(f.free); n > 0 {
		b := f.free[n-1]
		f.free = f.free[:n-1]
		return b
	}
	if f.buffers > 0 {
		f.buffers--
		return make([]byte, cache.ChunkBytes)
	}
	for i, fl := range f.idle {
		if fl.waiting == 0 {
			f.idle = append(f.idle[:i], f.idle[i+1:]...)
			f.forget(fl)
			return f.buffer()
		}
	}
	return nil
}

// unused counts the buffers that a fetch could take now. mu is held.
func (f *fetcher) unused() int { return len(f.free) + f.buffers + len(f.idle) }

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
	for len(f.plans) > 0 && f.unused() > reserved {
		p := f.plans[0]
		chunk, ok := p.next(func(i int) bool { return f.flights[flightID{p.src, i}] != nil })
		if !ok {
			f.plans = f.plans[1:]
			f.running.Go(p.end)
			continue
		}
		fl := newFlight(flightID{p.src, chunk})
		fl.planned = true
		f.flights[fl.flightID] = fl
		f.ahead++
		f.start(fl, f.buffer())
	}
}

func (f *fetcher) start(fl *flight, buf []byte) {
	fl.src.hold() // until the bytes are in the cache
	fl.mu.Lock()
	fl.buf = buf[:fl.src.id.ChunkLen(fl.chunk)]
	fl.mu.Unlock()
	f.running.Go(func() { f.run(fl) })
}

// add gives the fetcher a plan to work on when no reader waits. A version has one plan in its life as an open file, so
// there are no more plans than open files.
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

// run fetches one chunk, hands it to the cache, and tells those who wait.
func (f *fetcher) run(fl *flight) {
	err := f.fetch(fl)
	if err == nil {
		f.counts.fromStore.Add(int64(len(fl.buf)))
		f.counts.fetches.Add(1)
		fl.src.keep(fl.chunk, fl.buf)
	} else {
		f.counts.failures.Add(1)
		if f.ctx.Err() == nil {
			f.log.Warn("fetch failed", "key", fl.src.object.Key, "chunk", fl.chunk, "err", err)
		}
	}
	fl.mu.Lock()
	fl.done, fl.err = true, err
	fl.changed.Broadcast()
	fl.mu.Unlock()
	f.mu.Lock()
	if fl.planned {
		f.ahead--
	}
	f.settle(fl)
	f.pump()
	f.mu.Unlock()
	fl.src.drop()
}

// fetch fills the flight's buffer, going on where a broken transfer ended, until patience ends.
func (f *fetcher) fetch(fl *flight) error {
	until := time.Now().Add(f.patience)
	pause := firstPause
	for {
		before := fl.have
		err := f.transfer(fl)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrChanged) || errors.Is(err, ErrAbsent) || errors.Is(err, ErrRefused) || f.ctx.Err() != nil {
			return err
		}
		if fl.have > before {
			pause = firstPause
		}
		if time.Now().Add(pause).After(until) {
			return fmt.Errorf("given up after %v: %w", f.patience, err)
		}
		f.counts.retries.Add(1)
		select {
		case <-time.After(pause):
		case <-f.ctx.Done():
			return f.ctx.Err()
		}
		pause = min(2*pause, longestPause)
	}
}

// transfer makes one request for what the flight lacks. Only run's goroutine changes have.
func (f *fetcher) transfer(fl *flight) error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	stalled := time.AfterFunc(stallTimeout, cancel)
	defer stalled.Stop()
	off := int64(fl.chunk)*cache.ChunkBytes + int64(fl.have)
	body, err := f.store.Read(ctx, fl.src.object, off, int64(len(fl.buf)-fl.have))
	if err != nil {
		return err
	}
	defer body.Close()
	for fl.have < len(fl.buf) {
		stalled.Reset(stallTimeout)
		n, err := body.Read(fl.buf[fl.have:min(len(fl.buf), fl.have+pieceBytes)])
		fl.mu.Lock()
		fl.have += n
		if n > 0 {
			fl.changed.Broadcast()
		}
		fl.mu.Unlock()
		if err != nil && fl.have < len(fl.buf) {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// wait returns when the flight holds n bytes, has failed, or ctx has ended.
func (fl *flight) wait(ctx context.Context, n int) error {
	stop := context.AfterFunc(ctx, func() {
		fl.mu.Lock()
		defer fl.mu.Unlock()
		fl.changed.Broadcast()
	})
	defer stop()
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for fl.have < n && !fl.done && ctx.Err() == nil {
		fl.changed.Wait()
	}
	switch {
	case fl.have >= n:
		return nil
	case fl.done:
		return fl.err
	}
	return ctx.Err()
}
