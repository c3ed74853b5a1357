package blob

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
)

// driveStat is what the store has learned of a drive by using it.
type driveStat struct {
	stuckWrites atomic.Int32 // writes that were given up and have not come back
	failedUntil atomic.Int64 // ns since driveStats.zero: a write failed here shortly before, and new ones go elsewhere
	stuckReads  atomic.Int32 // reads that were hedged and have not come back
	avoidUntil  atomic.Int64 // ns since driveStats.zero: a read was hedged here shortly before
	strikes     atomic.Int32 // how often in a row it was avoided and then was slow again
	flying      atomic.Int32 // reads under way
	usual       atomic.Int64 // ns that a read takes, smoothed

	mu    sync.Mutex
	hist  [latencyBuckets]uint32 // reads by the bits of their microseconds
	total uint32
}

const (
	latencyBuckets = 24   // up to 8 s
	latencyMemory  = 1024 // reads after which the older half of the weight is dropped
	// avoidFor is how long readers prefer other drives after a read had to be hedged. It doubles, maxStrikes times at most,
	// when a drive is slow again within probation.
	avoidFor   = time.Second
	maxStrikes = 5
	probation  = 10 * time.Second
	// failedFor is how long new blobs go around a drive on which a write failed because it, or its node, does not answer: until
	// its node is suspect to all, if that is so.
	failedFor = 3 * time.Second
	// avoidShare bounds the drives that are avoided at once: one in so many of those in use, fewest of them in any case, since
	// a small store has to go around as many as its profile can lose.
	avoidShare = 10
	fewest     = 4
	// usualWeight is the share of a new read in the smoothed time: one in this many.
	usualWeight = 8
	// hiccups times the hedge floor is how late a read may be without its drive being avoided.
	hiccups = 5
	// maxStuckReads bounds the reads, and their buffers, that a drive may sit on.
	maxStuckReads = 32
)

// saw records how long a read took.
func (d *driveStat) saw(t time.Duration) {
	if usual := d.usual.Load(); usual == 0 {
		d.usual.Store(int64(t)) // a race of two loses one of many measurements
	} else {
		d.usual.Store(usual + (int64(t)-usual)/usualWeight)
	}
	bucket := min(bits.Len64(uint64(t.Microseconds())), latencyBuckets-1)
	d.mu.Lock()
	d.hist[bucket]++
	if d.total++; d.total >= latencyMemory {
		d.total = 0
		for i := range d.hist {
			d.hist[i] /= 2
			d.total += d.hist[i]
		}
	}
	d.mu.Unlock()
}

// p95 is an upper bound of what 95 of 100 reads take, 0 while nothing is known.
func (d *driveStat) p95() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	above := uint32(0)
	for i := latencyBuckets - 1; i > 0; i-- {
		if above += d.hist[i]; above*20 > d.total {
			return time.Microsecond << i
		}
	}
	return 0
}

// driveStats keeps a record for every drive that was ever used; a cluster has at most some thousands.
type driveStats struct {
	zero   time.Time
	floor  time.Duration
	hang   time.Duration
	share  int64 // thousandths of a hedge that every read earns
	tokens atomic.Int64
	hedges atomic.Int64 // for Stats

	mu sync.RWMutex
	of map[cairn.DriveID]*driveStat
}

const (
	hedge     = 1000       // what one costs
	maxTokens = 50 * hedge // what can be saved up
)

func (d *driveStats) init(cfg Config) {
	d.zero, d.floor, d.hang = time.Now(), cfg.HedgeFloor, cfg.HangLimit
	d.share = int64(cfg.HedgeBudget * hedge)
	d.tokens.Store(maxTokens / 5)
	d.of = make(map[cairn.DriveID]*driveStat)
}

func (d *driveStats) get(id cairn.DriveID) *driveStat {
	d.mu.RLock()
	s := d.of[id]
	d.mu.RUnlock()
	if s != nil {
		return s
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s = d.of[id]; s == nil {
		s = new(driveStat)
		d.of[id] = s
	}
	return s
}

// now is the time since the store was made, in nanoseconds, never 0.
func (d *driveStats) now() int64 { return int64(time.Since(d.zero)) + 1 }

// earn is called for every read.
func (d *driveStats) earn() {
	if d.tokens.Load() < maxTokens {
		d.tokens.Add(d.share)
	}
}

// writeFailed notes how a write ended. Only a drive or node that does not answer is gone around: what is full or read-only has a
// state of its own, and who gave up by himself has learned nothing.
func (d *driveStats) writeFailed(ctx context.Context, s *driveStat, err error) {
	if err != nil && ctx.Err() == nil && cairn.Kind(err) == cairn.ErrUnavailable {
		s.failedUntil.Store(d.now() + int64(failedFor))
	}
}

// answered notes that a write ended that had been given up. If it failed, that was no answer of the drive's: the writer's context
// has ended, so new blobs go around the drive for a while.
func (d *driveStats) answered(s *driveStat, err error) {
	if err != nil {
		s.failedUntil.Store(d.now() + int64(failedFor))
	}
	s.stuckWrites.Add(-1)
}

// sick tells whether a drive takes no writes now, as far as this store has seen.
func (d *driveStats) sick(s *driveStat) bool {
	return s.stuckWrites.Load() > 0 || d.now() < s.failedUntil.Load()
}

// allSick lists the drives that take no writes now.
func (d *driveStats) allSick() (list []cairn.DriveID) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for id, s := range d.of {
		if d.sick(s) {
			list = append(list, id)
		}
	}
	return list
}

// spend tells whether the budget has room for a hedge, and takes it.
func (d *driveStats) spend() bool {
	for {
		have := d.tokens.Load()
		if have < hedge {
			return false
		}
		if d.tokens.CompareAndSwap(have, have-hedge) {
			return true
		}
	}
}

// slow tells whether a read that has taken so long is to be hedged, given what its peers take in 95 of 100 cases: after
// three times that, within the budget; beyond the hang limit in any case.
func (d *driveStats) slow(took, peers time.Duration) bool {
	if took < max(d.floor, 3*peers) {
		return false
	}
	return took >= max(d.hang, 3*peers) || d.spend()
}

// hedged notes that a drive let a reader down: others avoid it for a while, unless too many are avoided already. Then the
// fault is not the drives', and to crowd what is left would make it worse.
func (d *driveStats) hedged(s *driveStat) {
	d.hedges.Add(1)
	s.stuckReads.Add(1)
	now, until := d.now(), s.avoidUntil.Load()
	if until != 0 && now < until {
		return // one of many readers that were caught at once
	}
	if until == 0 || now-until > int64(probation) {
		s.strikes.Store(0)
	}
	if !d.mayAvoid(s, now) {
		return
	}
	s.avoidUntil.Store(now + int64(avoidFor)<<min(s.strikes.Load(), maxStrikes))
	s.strikes.Add(1)
}

// mayAvoid tells whether the number of drives that are avoided has room for another.
func (d *driveStats) mayAvoid(s *driveStat, now int64) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	avoided := 0
	for _, other := range d.of {
		if until := other.avoidUntil.Load(); other != s && until != 0 && now < until {
			avoided++
		}
	}
	return avoided < max(fewest, len(d.of)/avoidShare)
}

// cameBack notes that a hedged read has ended after all. If that was soon, the machine was busy rather than the drive slow,
// and readers need not avoid it.
func (d *driveStats) cameBack(s *driveStat, took time.Duration) {
	s.stuckReads.Add(-1)
	if took < hiccups*d.floor {
		s.avoidUntil.Store(0)
		s.strikes.Store(0)
	}
}

// load is what a further read on the drive may take: what one takes, for each that is under way and this one.
func (s *driveStat) load() int64 { return s.usual.Load() * int64(1+s.flying.Load()) }

// lessLoaded lists the slots of a set so that the drives with less to do tend to come first: of two drawn at random the
// better comes next (Mitzenmacher, "The Power of Two Choices", 2001). To take the best each time would send all readers to
// one drive at once.
func lessLoaded(set uint64, load func(slot int) int64) []int {
	slots := order(set, 0)
	for i := range slots {
		rest := slots[i:]
		a, b := rand.IntN(len(rest)), rand.IntN(len(rest))
		if load(rest[b]) < load(rest[a]) {
			a = b
		}
		rest[0], rest[a] = rest[a], rest[0]
	}
	return slots
}

// shun tells whether readers should go to other drives first.
func (d *driveStats) shun(s *driveStat) bool {
	until := s.avoidUntil.Load()
	return until != 0 && d.now() < until || s.stuckReads.Load() >= maxStuckReads
}
