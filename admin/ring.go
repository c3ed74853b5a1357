package admin

import (
	"context"
	"math"
	"sync"
	"time"
)

const (
	sampleEvery = 10 * time.Second
	samplesKept = int(24 * time.Hour / sampleEvery)
)

// Sample is how the process did during ten seconds, and how the store stood at their end.
type Sample struct {
	Time            time.Time `json:"time"`
	RequestsPerSec  float64   `json:"requests_per_second"`  // S3 requests that ended
	RefusedPerSec   float64   `json:"refused_per_second"`   // of them, those whose client was at fault
	ErrorsPerSec    float64   `json:"errors_per_second"`    // of them, those that the store failed
	InBytesPerSec   float64   `json:"in_bytes_per_second"`  // of request bodies
	OutBytesPerSec  float64   `json:"out_bytes_per_second"` // of answers
	P50             float64   `json:"p50_seconds"`          // half of the requests took at most this; 0 without requests
	P99             float64   `json:"p99_seconds"`
	UsedBytes       int64     `json:"used_bytes"`
	UsableBytes     int64     `json:"usable_bytes"`
	QueuedDamage    int64     `json:"queued_damage"`
	RepairBytesPerS float64   `json:"repair_bytes_per_second"`
}

// History is the last day in samples, oldest first.
type History struct {
	EverySeconds int      `json:"every_seconds"`
	Samples      []Sample `json:"samples"`
}

// ring holds a day of samples in memory. Safe for concurrent use.
type ring struct {
	mu      sync.Mutex
	samples []Sample
	next    int // where the next one goes, once the ring is full
	before  totals
	at      time.Time
}

func (r *ring) add(s Sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < samplesKept {
		r.samples = append(r.samples, s)
		return
	}
	r.samples[r.next] = s
	r.next = (r.next + 1) % samplesKept
}

func (r *ring) history() History {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := History{EverySeconds: int(sampleEvery / time.Second), Samples: make([]Sample, 0, len(r.samples))}
	h.Samples = append(h.Samples, r.samples[r.next:]...)
	h.Samples = append(h.Samples, r.samples[:r.next]...)
	return h
}

// last returns the newest sample; nil before the first.
func (r *ring) last() *Sample {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) == 0 {
		return nil
	}
	s := r.samples[(r.next+len(r.samples)-1)%len(r.samples)]
	return &s
}

// Run samples until ctx ends, and then ends the streams of events.
func (s *Server) Run(ctx context.Context) error {
	defer s.watch.stop()
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	s.ring.before, s.ring.at = s.cfg.Metrics.totals(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.sample(ctx, now)
		}
	}
}

// sample adds one. A status that cannot be had leaves the store's part zero.
func (s *Server) sample(ctx context.Context, now time.Time) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	total := s.cfg.Metrics.totals()
	one := total.since(s.ring.before, now.Sub(s.ring.at))
	s.ring.before, s.ring.at = total, now
	one.Time = now.UTC()
	if st, err := s.cfg.Cluster.Status(ctx); err == nil {
		one.UsedBytes, one.UsableBytes = st.Capacity.UsedBytes, st.Capacity.UsableBytes
		one.QueuedDamage, one.RepairBytesPerS = st.Repair.Queued, st.Repair.RateBytesPerSec
	}
	s.ring.add(one)
}

// latencyBuckets are the upper bounds of the counted latencies: half a millisecond, doubled each time.
const (
	latencyBuckets = 16
	leastLatency   = 0.0005
)

// totals are what Metrics has counted since the process began.
type totals struct {
	requests, refused, errors int64
	in, out                   int64
	took                      [latencyBuckets + 1]int64 // by bucket; the last one has no bound
}

func bucketOf(took time.Duration) int {
	for i, bound := 0, leastLatency; i < latencyBuckets; i, bound = i+1, bound*2 {
		if took.Seconds() <= bound {
			return i
		}
	}
	return latencyBuckets
}

// since turns two counts into rates.
func (t totals) since(before totals, d time.Duration) Sample {
	per := func(now, then int64) float64 { return float64(now-then) / max(d.Seconds(), 0.001) }
	var took [latencyBuckets + 1]int64
	for i := range took {
		took[i] = t.took[i] - before.took[i]
	}
	return Sample{RequestsPerSec: per(t.requests, before.requests), RefusedPerSec: per(t.refused, before.refused), ErrorsPerSec: per(t.errors, before.errors),
		InBytesPerSec: per(t.in, before.in), OutBytesPerSec: per(t.out, before.out), P50: quantile(took[:], 0.5), P99: quantile(took[:], 0.99)}
}

// quantile reads a histogram: linear within a bucket.
func quantile(counts []int64, q float64) float64 {
	var all int64
	for _, n := range counts {
		all += n
	}
	if all == 0 {
		return 0
	}
	want, below := q*float64(all), 0.0
	for i, n := range counts {
		if n == 0 || below+float64(n) < want {
			below += float64(n)
			continue
		}
		upper := leastLatency * math.Pow(2, float64(i))
		lower := upper / 2
		if i == 0 {
			lower = 0
		}
		return lower + (upper-lower)*(want-below)/float64(n)
	}
	return leastLatency * math.Pow(2, latencyBuckets)
}
