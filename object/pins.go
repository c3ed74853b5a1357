package object

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
)

// pinShards is the number of locks that the pinned blobs are spread over.
const pinShards = 32

// pins knows which blobs this process is reading. Garbage collection deletes no pinned blob, and calls barrier between
// seeing a blob's release and asking whether it is pinned: so every look-up that may still have seen the blob referenced has
// pinned it by then, and every later look-up does not see it (a released blob is never referenced again).
type pins struct {
	shards [pinShards]pinShard
	phase  atomic.Uint64
	inside [2]atomic.Int64 // look-ups under way, by the parity of the phase in which they began
	turn   chan struct{}   // whoever waits for a barrier holds it
}

func newPins() *pins { return &pins{turn: make(chan struct{}, 1)} }

type pinShard struct {
	mu   sync.Mutex
	held map[pinKey]int // readers by blob
}

// pinKey names a blob without its length, which scrub does not know.
type pinKey struct {
	volume cairn.VolumeID
	blob   cairn.BlobID
}

func keyOf(b cairn.BlobRef) pinKey { return pinKey{b.Volume, b.Blob} }

func (p *pins) shard(b cairn.BlobRef) *pinShard {
	return &p.shards[uint64(b.Blob)%pinShards]
}

// enter begins a look-up whose blobs will be pinned; leave ends it, after the pinning.
func (p *pins) enter() (phase uint64) {
	for {
		phase = p.phase.Load()
		p.inside[phase&1].Add(1)
		if p.phase.Load() == phase {
			return phase
		}
		p.inside[phase&1].Add(-1) // a barrier began in between and may not have counted this look-up
	}
}

func (p *pins) leave(phase uint64) { p.inside[phase&1].Add(-1) }

// barrier returns when every look-up that had begun before the call has left. One goroutine at a time waits for its own. It
// goes through both parities, so that it holds also after a barrier that was given up half-way.
func (p *pins) barrier(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range 2 {
		old := p.phase.Add(1) - 1
		if err := p.drained(ctx, &p.inside[old&1]); err != nil {
			return err
		}
	}
	return nil
}

// drained waits for a counter that takes no new look-ups to reach zero. Look-ups are short, so it polls.
func (p *pins) drained(ctx context.Context, inside *atomic.Int64) error {
	if inside.Load() == 0 {
		return nil
	}
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for inside.Load() != 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

func (p *pins) pin(blobs []cairn.BlobRef) {
	for _, b := range blobs {
		s := p.shard(b)
		s.mu.Lock()
		if s.held == nil {
			s.held = make(map[pinKey]int)
		}
		s.held[keyOf(b)]++
		s.mu.Unlock()
	}
}

func (p *pins) unpin(blobs []cairn.BlobRef) {
	for _, b := range blobs {
		s := p.shard(b)
		s.mu.Lock()
		if s.held[keyOf(b)]--; s.held[keyOf(b)] == 0 {
			delete(s.held, keyOf(b))
		}
		s.mu.Unlock()
	}
}

func (p *pins) pinned(b cairn.BlobRef) bool {
	s := p.shard(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held[keyOf(b)] > 0
}

// Pinned tells whether somebody in this process is reading the blob (its Length does not matter): its shards must not be
// deleted, whoever refers to it.
func (s *Store) Pinned(b cairn.BlobRef) bool { return s.pins.pinned(b) }

// Held is what Elsewhere of another store asks: it waits until every look-up that has begun here is known as a reader, and
// tells which of the blobs are being read. It is meant for blobs that were released: a later look-up does not see those.
func (s *Store) Held(ctx context.Context, blobs []cairn.BlobRef) ([]bool, error) {
	if err := s.pins.barrier(ctx); err != nil {
		return nil, err
	}
	held := make([]bool, len(blobs))
	for i, b := range blobs {
		held[i] = s.pins.pinned(b)
	}
	return held, nil
}

// count returns how many blobs are pinned now.
func (p *pins) count() (n int) {
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.Lock()
		n += len(s.held)
		s.mu.Unlock()
	}
	return n
}
