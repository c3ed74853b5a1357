package repair

import (
	"sync"
	"time"

	"cairn"
)

// Status is what a Repairer tells about itself.
type Status struct {
	cairn.Progress
	Queued  int            `json:"queued"`            // rows of damage that are not resolved
	Moves   int            `json:"moves"`             // healthy slots that are to move
	Waiting map[string]int `json:"waiting,omitempty"` // reason → rows that nothing can be done for now
	Needs   int            `json:"needs_drives"`      // drives to add before every slot has a home
	// Oldest is when the oldest damage that is not healed was found; zero if there is none.
	Oldest time.Time `json:"oldest,omitzero"`
	// SafeIn is how long it takes until all that can be healed is: ETA without the moves of healthy slots.
	SafeIn time.Duration `json:"safe_in_ns,omitempty"`
}

// work is an amount of repair. Each blob costs something beside its bytes: lookups, syncs, reading back.
type work struct{ blobs, bytes int64 }

func (w work) add(o work) work { return work{w.blobs + o.blobs, w.bytes + o.bytes} }
func (w work) units() float64  { return float64(w.bytes) + float64(w.blobs)*blobCost }

const blobCost = 128 << 10 // bytes that cost as much as a blob does beside its bytes

// progress gathers a Status. A run of work begins when damage appears and ends when nothing is left that can be done; its
// figures stay until the next begins.
type progress struct {
	mu     sync.Mutex
	status Status
	// passed is what was worked through in this run: what was rebuilt, and what was found whole.
	passed     work
	left, heal work // at the last plan: all, and what is not a move
	passedThen work // at the last plan
	bytes      meter
	units      meter
}

func newProgress() *progress {
	return &progress{status: Status{Progress: cairn.Progress{State: "idle"}}}
}

// planned takes in a new plan: left is still to be done, of which heal is not the move of a healthy slot.
func (p *progress) planned(now time.Time, rows []cairn.Damage, pl plan, left, heal work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.status
	running := s.State == "running"
	if len(pl.jobs) > 0 && !running {
		*s = Status{Progress: cairn.Progress{State: "running", Started: now}}
		p.passed, p.bytes, p.units = work{}, meter{}, meter{}
	}
	s.Queued, s.Moves, s.Oldest, s.Waiting, s.Needs = 0, 0, time.Time{}, pl.waiting, pl.needs
	for _, row := range rows {
		switch {
		case row.Kind == cairn.DamageMove:
			s.Moves++
			continue
		case s.Queued == 0 || row.Found.Before(s.Oldest):
			s.Oldest = row.Found
		}
		s.Queued++
	}
	switch {
	case len(pl.jobs) > 0:
		s.TotalBlobs, s.TotalBytes = s.DoneBlobs+left.blobs, s.DoneBytes+left.bytes
	case len(rows) > 0:
		s.State, s.Reason = "waiting", reason(pl)
	default:
		s.State, s.Reason = "idle", ""
	}
	if running && len(pl.jobs) == 0 {
		s.Finished = now
		s.TotalBlobs, s.TotalBytes = s.DoneBlobs, s.DoneBytes
	}
	p.left, p.heal, p.passedThen = left, heal, p.passed
	p.note(now)
}

// reason names what most rows wait for.
func reason(p plan) string {
	most := ""
	for r, n := range p.waiting {
		if most == "" || n > p.waiting[most] || n == p.waiting[most] && r < most {
			most = r
		}
	}
	return most
}

// note gives the meters what was done. p.mu is held.
func (p *progress) note(now time.Time) {
	p.bytes.set(now, float64(p.status.DoneBytes))
	p.units.set(now, p.passed.units())
}

// wrote counts bytes of a blob that is being rebuilt.
func (p *progress) wrote(bytes int64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.DoneBytes += bytes
	p.passed.bytes += bytes
	p.note(now)
}

// finished counts a blob, of which rest bytes were planned and not counted by wrote: they were there, or (below 0) it was
// padding that was not planned.
func (p *progress) finished(rest int64) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.DoneBlobs++
	p.passed = p.passed.add(work{1, rest})
	p.note(now)
}

func (p *progress) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.LastError = err.Error()
}

func (p *progress) snapshot() Status {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	if s.State != "running" {
		return s
	}
	elapsed := now.Sub(s.Started)
	s.RateBytesPerSec = p.bytes.rate(now, rateWindow)
	rate := p.units.rate(now, min(max(elapsed, rateWindow), etaWindow))
	since := p.passed.units() - p.passedThen.units()
	s.ETA = eta(p.left.units()-since, rate)
	s.SafeIn = eta(p.heal.units()-since, rate)
	return s
}

const (
	rateWindow = 10 * time.Second // of the rate that is shown
	etaWindow  = 5 * time.Minute  // the most that an ETA looks back: neighbours, clients and sizes come and go in minutes
)

// eta is how long the rest takes; 0 if nothing is left or nothing moves.
func eta(left, rate float64) time.Duration {
	if left <= 0 || rate <= 0 {
		return 0
	}
	return time.Duration(left / rate * float64(time.Second))
}

// meter remembers how far a count had come in the last seconds. The zero value is ready.
type meter struct {
	samples [meterSamples]sample
	n       int // samples taken
}

type sample struct {
	at    time.Time
	count float64
}

const (
	meterEvery   = time.Second
	meterSamples = int(etaWindow/meterEvery) + 2
)

// set notes how far the count is now.
func (m *meter) set(now time.Time, count float64) {
	if m.n > 1 && now.Sub(m.at(m.n-2).at) < meterEvery {
		m.n-- // the newest sample moves on until it is a whole step from the one before
	}
	m.samples[m.n%meterSamples] = sample{now, count}
	m.n++
}

func (m *meter) at(i int) sample { return m.samples[i%meterSamples] }

// rate is the mean growth per second within the window before now; time in which nothing was noted counts.
func (m *meter) rate(now time.Time, window time.Duration) float64 {
	if m.n < 2 {
		return 0
	}
	newest := m.at(m.n - 1)
	from := newest
	for i := m.n - 2; i >= max(0, m.n-meterSamples); i-- {
		from = m.at(i)
		if now.Sub(from.at) >= window {
			break
		}
	}
	span := now.Sub(from.at).Seconds()
	if span <= 0 {
		return 0
	}
	return max(0, newest.count-from.count) / span
}
