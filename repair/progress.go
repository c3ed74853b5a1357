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
}

const rateWindow = 10 // seconds

// progress gathers a Status. A run of work begins when damage appears and ends when nothing is left that can be done; its
// figures stay until the next begins.
type progress struct {
	mu      sync.Mutex
	status  Status
	seconds [rateWindow]int64 // bytes written in each of the last seconds, by Unix time modulo rateWindow
	last    int64             // Unix time of the newest entry of seconds
}

func newProgress() *progress {
	return &progress{status: Status{Progress: cairn.Progress{State: "idle"}}}
}

// planned takes in a new plan: leftBlobs and leftBytes are still to be rebuilt.
func (p *progress) planned(now time.Time, rows, moves int, pl plan, leftBlobs, leftBytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.status
	running := s.State == "running"
	s.Queued, s.Moves, s.Waiting, s.Needs = rows-moves, moves, pl.waiting, pl.needs
	switch {
	case len(pl.jobs) > 0:
		if !running {
			*s = Status{Progress: cairn.Progress{State: "running", Started: now}, Queued: rows - moves, Moves: moves, Waiting: pl.waiting, Needs: pl.needs}
		}
		s.TotalBlobs, s.TotalBytes = s.DoneBlobs+leftBlobs, s.DoneBytes+leftBytes
	case rows > 0:
		s.State, s.Reason = "waiting", reason(pl)
	default:
		s.State, s.Reason = "idle", ""
	}
	if running && len(pl.jobs) == 0 {
		s.Finished = now
		s.TotalBlobs, s.TotalBytes = s.DoneBlobs, s.DoneBytes
	}
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

func (p *progress) wrote(bytes int64) {
	now := time.Now().Unix()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(now)
	p.seconds[now%rateWindow] += bytes
	p.status.DoneBytes += bytes
}

func (p *progress) finishedBlobs(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.DoneBlobs += n
}

func (p *progress) failed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.LastError = err.Error()
}

// advance clears the seconds that have passed since the newest entry.
func (p *progress) advance(now int64) {
	for s := max(p.last+1, now-rateWindow+1); s <= now; s++ {
		p.seconds[s%rateWindow] = 0
	}
	p.last = max(p.last, now)
}

func (p *progress) snapshot() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(time.Now().Unix())
	s := p.status
	var sum int64
	for _, n := range p.seconds {
		sum += n
	}
	if s.State != "running" {
		return s
	}
	over := min(rateWindow, max(1, time.Since(s.Started).Seconds()))
	s.RateBytesPerSec = float64(sum) / over
	if left := s.TotalBytes - s.DoneBytes; left > 0 && s.RateBytesPerSec > 0 {
		s.ETA = time.Duration(float64(left) / s.RateBytesPerSec * float64(time.Second))
	}
	return s
}
