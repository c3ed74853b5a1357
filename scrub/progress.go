package scrub

import (
	"sync"
	"time"

	"cairn"
)

// Status is what a Scrubber tells about itself. Its Progress is that of the pass under way or, between passes, of the last.
type Status struct {
	cairn.Progress
	Passes   int64    `json:"passes"`   // that have ended since the process started
	Findings Findings `json:"findings"` // since the process started
	// Cycles counts how often the slow deep scrub has come around on a drive since the process started.
	Cycles       int64     `json:"deep_cycles"`
	DeepBytes    int64     `json:"deep_bytes"` // read by the slow deep scrub since the process started
	LastDeep     time.Time `json:"last_deep,omitzero"`
	Reconciled   time.Time `json:"last_reconcile,omitzero"` // when all slots were compared last
	UnknownSlots int64     `json:"unknown_slots"`           // slots on drives whose volume Meta does not know, at the last comparison
}

// Findings counts what was found.
type Findings struct {
	Corrupt int64 `json:"corrupt"`
	Missing int64 `json:"missing"`
	Slots   int64 `json:"slots"`   // slots that had lost so much that they are rebuilt whole
	Orphans int64 `json:"orphans"` // shards of no blob, removed
	Stale   int64 `json:"stale"`   // shards left behind by a slot that moved, removed
}

const rateWindow = 10 // seconds

type progress struct {
	mu      sync.Mutex
	status  Status
	seconds [rateWindow]int64
	last    int64
}

func newProgress() *progress {
	return &progress{status: Status{Progress: cairn.Progress{State: "idle"}}}
}

func (p *progress) update(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
}

func (p *progress) begin(now time.Time, shards, bytes int64) {
	p.update(func(s *Status) {
		s.Progress = cairn.Progress{State: "running", Started: now, TotalBlobs: shards, TotalBytes: bytes}
	})
}

func (p *progress) end(now time.Time, err error) {
	p.update(func(s *Status) {
		s.State, s.Finished = "idle", now
		s.Passes++
		s.TotalBlobs, s.TotalBytes = s.DoneBlobs, s.DoneBytes
		if err != nil {
			s.LastError = err.Error()
		}
	})
}

// read counts a shard that a pass has read.
func (p *progress) read(bytes int64) {
	now := time.Now().Unix()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(now)
	p.seconds[now%rateWindow] += bytes
	p.status.DoneBytes += bytes
	p.status.DoneBlobs++
}

func (p *progress) advance(now int64) {
	for s := max(p.last+1, now-rateWindow+1); s <= now; s++ {
		p.seconds[s%rateWindow] = 0
	}
	p.last = max(p.last, now)
}

func (p *progress) found(k cairn.DamageKind) {
	p.update(func(s *Status) {
		switch k {
		case cairn.DamageCorrupt:
			s.Findings.Corrupt++
		case cairn.DamageSlot:
			s.Findings.Slots++
		default:
			s.Findings.Missing++
		}
	})
}

func (p *progress) failed(err error) { p.update(func(s *Status) { s.LastError = err.Error() }) }

func (p *progress) snapshot() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(time.Now().Unix())
	s := p.status
	if s.State != "running" {
		return s
	}
	var sum int64
	for _, n := range p.seconds {
		sum += n
	}
	s.RateBytesPerSec = float64(sum) / min(rateWindow, max(1, time.Since(s.Started).Seconds()))
	if left := s.TotalBytes - s.DoneBytes; left > 0 && s.RateBytesPerSec > 0 {
		s.ETA = time.Duration(float64(left) / s.RateBytesPerSec * float64(time.Second))
	}
	return s
}
