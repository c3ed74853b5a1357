package datanode

import (
	"context"
	"errors"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"cairn"
)

// throttle holds back the background work of a drive, or of a whole node. Work takes bytes of its drive's throttle, which
// takes them of the node's.
type throttle struct {
	node   *throttle // nil: it is the node's own
	normal *rate.Limiter
	urgent *rate.Limiter // at the ceiling, whatever clients feel
	moved  atomic.Int64  // bytes since the last beat

	mu    sync.Mutex
	pace  pace
	rates [movedBeats]float64 // bytes per second in the last beats
	beats int
}

const (
	takeBurst  = 1 << 20 // bytes that are taken in one go
	movedBeats = 20      // beats over which Pace.Moved is the mean
)

func newThrottle(b cairn.Band, node *throttle) *throttle {
	return &throttle{node: node, pace: newPace(b), normal: rate.NewLimiter(rate.Limit(b.Ceiling), takeBurst),
		urgent: rate.NewLimiter(rate.Limit(b.Ceiling), takeBurst)}
}

// take waits until background work may move n more bytes. Work of clients does not wait.
func (t *throttle) take(ctx context.Context, n int64) error {
	if !cairn.IsBackground(ctx) {
		return nil
	}
	limit := t.normal
	if cairn.IsUrgent(ctx) {
		limit = t.urgent
	}
	for left := n; left > 0; {
		step := min(left, takeBurst)
		if err := limit.WaitN(ctx, int(step)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.Join(cairn.ErrOverloaded, err) // the turn would come after ctx's end
		}
		left -= step
	}
	t.moved.Add(n)
	if t.node != nil {
		return t.node.take(ctx, n)
	}
	return nil
}

// step makes the next pace out of what clients felt since the last.
func (t *throttle) step(band cairn.Band, elapsed time.Duration, felt beat) {
	felt.elapsed, felt.moved = elapsed, t.moved.Swap(0)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace = t.pace.to(band).next(felt)
	t.rates[t.beats%movedBeats] = float64(felt.moved) / max(elapsed.Seconds(), 1e-3)
	t.beats++
	t.normal.SetLimit(rate.Limit(t.pace.rate))
	t.urgent.SetLimit(rate.Limit(band.Ceiling))
}

// now tells how fast background work may go and goes.
func (t *throttle) now() cairn.Pace {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := 0.0
	for _, r := range t.rates {
		sum += r
	}
	p := t.pace
	return cairn.Pace{Band: p.band, Now: int64(p.rate), Moved: int64(sum / float64(max(1, min(t.beats, movedBeats)))), Slowdown: p.slow, Why: p.why}
}

// quiet tells that no background work was done since the last beat; atFloor, that it may not do less.
func (t *throttle) quiet() bool { return t.moved.Load() == 0 }
func (t *throttle) atFloor() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pace.rate <= float64(t.pace.band.Floor)
}

// The kinds of clients' operations; within one, operations of a size are compared with each other.
const (
	tookWarm   = iota // read out of the page cache
	tookCold          // read from the disk
	tookAppend        // a whole shard, durable
	tookPiece         // a piece of a shard, written
	tookKinds
)

const (
	sizeClasses = 16 // by powers of two from 4 KiB on
	classes     = tookKinds * sizeClasses
)

func class(kind int, n int64) int {
	return kind*sizeClasses + min(bits.Len64(uint64(n)>>12), sizeClasses-1)
}

// clients measures how long clients' operations on a drive take.
type clients struct {
	underway atomic.Int64
	took     [classes]struct{ count, sum atomic.Int64 }
	usual    usual // of the goroutine that takes the beats
}

// begin notes that an operation has begun; it returns when, for end. A nil *clients measures nothing.
func (c *clients) begin() time.Time {
	if c == nil {
		return time.Time{}
	}
	c.underway.Add(1)
	return time.Now()
}

func (c *clients) end(kind int, n int64, began time.Time) {
	if c == nil {
		return
	}
	c.underway.Add(-1)
	s := &c.took[class(kind, n)]
	s.count.Add(1)
	s.sum.Add(int64(time.Since(began)))
}

// gaveUp is end for an operation that failed: it tells nothing.
func (c *clients) gaveUp() {
	if c != nil {
		c.underway.Add(-1)
	}
}

// measured returns done, which also ends the measuring of an operation that begins now.
func (c *clients) measured(kind int, n int64, done func(error)) func(error) {
	if c == nil {
		return done
	}
	began := c.begin()
	return func(err error) {
		if err != nil {
			c.gaveUp()
		} else {
			c.end(kind, n, began)
		}
		if done != nil {
			done(err)
		}
	}
}

// felt sums up what clients felt since the last call.
func (c *clients) felt(quiet, atFloor bool) beat {
	var seen [classes]took
	for i := range seen {
		seen[i] = took{count: c.took[i].count.Swap(0), sum: time.Duration(c.took[i].sum.Swap(0))}
	}
	b := beat{underway: int(c.underway.Load())}
	b.ended, b.slowdown = c.usual.weigh(&seen, quiet, atFloor)
	return b
}

// keepPace takes the beats until ctx ends.
func (n *Node) keepPace(ctx context.Context) error {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			n.beat(now.Sub(last))
			last = now
		}
	}
}

// beat lets every drive's pace, and the node's, follow what clients felt.
func (n *Node) beat(elapsed time.Duration) {
	limits := n.Throttle()
	quiet, floor := n.pace.quiet(), n.pace.atFloor()
	all := beat{}
	for _, d := range n.drives {
		// The drives share cores, and maybe a disk: a drive is undisturbed when the whole node is.
		felt := d.limits.clients.felt(quiet, floor || d.limits.pace.atFloor())
		d.limits.pace.step(limits.Drive, elapsed, felt)
		all.slowdown += felt.slowdown * float64(felt.ended)
		all.ended += felt.ended
		all.underway += felt.underway
	}
	all.slowdown /= max(1, float64(all.ended))
	n.pace.step(limits.Node, elapsed, all)
}

// SetThrottle bounds background work from now on. ErrInvalid beyond the limits.
func (n *Node) SetThrottle(t cairn.Throttle) error {
	if err := t.Validate(); err != nil {
		return err
	}
	n.throttle.Store(&t)
	return nil
}

// Throttle is what bounds background work now.
func (n *Node) Throttle() cairn.Throttle { return *n.throttle.Load() }

// Pace tells how fast the background work of all drives together may go and goes.
func (n *Node) Pace() cairn.Pace { return n.pace.now() }
