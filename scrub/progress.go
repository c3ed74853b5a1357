package scrub

import (
	"sync"
	"time"

	"cairn"
)

// Status is what a Scrubber tells about itself. How far a check is, its caller is told.
type Status struct {
	Checks   int64    `json:"checks"`   // of everything, that have ended since the process started
	Findings Findings `json:"findings"` // since the process started
	// Cycles counts how often the slow deep scrub has come around on a drive since the process started.
	Cycles     int64     `json:"deep_cycles"`
	DeepBytes  int64     `json:"deep_bytes"` // read by the slow deep scrub since the process started
	LastDeep   time.Time `json:"last_deep,omitzero"`
	Reconciled time.Time `json:"last_reconcile,omitzero"` // when all slots were compared last
	// Compared counts slots whose digests were compared, Differed those of them that had to be compared by name.
	Compared     int64  `json:"compared"`
	Differed     int64  `json:"differed"`
	UnknownSlots int64  `json:"unknown_slots"` // slots on drives whose volume Meta does not know, at the last comparison
	LastError    string `json:"last_error,omitempty"`
}

// Findings counts what was found.
type Findings struct {
	Corrupt int64 `json:"corrupt"`
	Missing int64 `json:"missing"`
	Slots   int64 `json:"slots"`   // slots that had lost so much that they are rebuilt whole
	Drives  int64 `json:"drives"`  // drives that lacked so much that they are suspect
	Orphans int64 `json:"orphans"` // shards of no blob, removed
	Stale   int64 `json:"stale"`   // shards left behind by a slot that moved, removed
}

type progress struct {
	mu     sync.Mutex
	status Status
}

func (p *progress) update(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
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
	return p.status
}
