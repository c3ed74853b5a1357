package scrub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cairn"
)

// Config configures a Scrubber.
type Config struct {
	Meta    Meta
	Drives  Drives
	Orphans Orphans
	// Held tells that a reader still reads a blob (Length is not set) that nothing refers to any more; its shards are left
	// alone. nil: none do.
	Held func(cairn.BlobRef) bool
	// Grace is the age from which a leased blob number can no longer be committed for the first time; default 24 h.
	Grace time.Duration
	// ReconcileEvery is how often all slots are compared with what Meta expects; default 5 min.
	ReconcileEvery time.Duration
	// Cycle is how long the deep scrub may take to come around; it sets its rate. Default 14 days.
	Cycle time.Duration
	// Rest is the least time from the begin of one deep cycle of a drive to the next; default 10 min.
	Rest time.Duration
	// PassBytesPerSec bounds the bytes that a pass reads; default 1 GiB/s. Data nodes make it yield to clients.
	PassBytesPerSec float64
	// Damaged is called after damage was recorded. It must not block.
	Damaged func()
	Logger  *slog.Logger // default: discard
}

const (
	defaultGrace     = 24 * time.Hour
	defaultReconcile = 5 * time.Minute
	defaultCycle     = 14 * 24 * time.Hour
	defaultRest      = 10 * time.Minute
	defaultPassRate  = 1 << 30
	minDeepRate      = 4 << 20  // bytes per second: small stores come around in minutes, not in 14 days
	minThrottle      = 4 << 10  // bytes that a small shard counts for: it costs a read all the same
	page             = 1000     // rows or shards listed at a time
	slotThreshold    = page / 2 // shards missing from a slot among a page of blobs: from here on the slot counts as lost
	damageLoaded     = 65536    // rows of damage looked at
	requests         = 256      // drives that wait to be reconciled; more are covered by the next round
	saveEvery        = 30 * time.Second
	retryOverload    = 200 * time.Millisecond
	retryReconcile   = 10 * time.Second // after a comparison that did not come through
	passWorkers      = 4                // drives that a pass reads at once
)

func (c *Config) setDefaults() error {
	if c.Meta == nil || c.Drives == nil || c.Orphans == nil {
		return &cairn.Error{Op: "scrub.new", Err: fmt.Errorf("Meta, Drives and Orphans are needed: %w", cairn.ErrInvalid)}
	}
	for _, d := range []struct {
		to  *time.Duration
		def time.Duration
	}{{&c.Grace, defaultGrace}, {&c.ReconcileEvery, defaultReconcile}, {&c.Cycle, defaultCycle}, {&c.Rest, defaultRest}} {
		if *d.to == 0 {
			*d.to = d.def
		}
		if *d.to < 0 {
			return &cairn.Error{Op: "scrub.new", Err: fmt.Errorf("negative duration: %w", cairn.ErrInvalid)}
		}
	}
	if c.PassBytesPerSec == 0 {
		c.PassBytesPerSec = defaultPassRate
	}
	if c.PassBytesPerSec < 0 {
		return &cairn.Error{Op: "scrub.new", Err: fmt.Errorf("negative rate: %w", cairn.ErrInvalid)}
	}
	if c.Held == nil {
		c.Held = func(cairn.BlobRef) bool { return false }
	}
	if c.Damaged == nil {
		c.Damaged = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Scrubber scrubs the drives of this process. Its methods are safe for concurrent use; Run does the work.
type Scrubber struct {
	cfg      Config
	returned chan cairn.DriveID
	start    chan *Pass
	progress *progress

	mu   sync.Mutex
	pass *Pass // waiting or under way; nil if none is
}

// New returns a Scrubber; Run does its work.
func New(cfg Config) (*Scrubber, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Scrubber{cfg: cfg, returned: make(chan cairn.DriveID, requests), start: make(chan *Pass, 1),
		progress: newProgress()}, nil
}

// Pass is one look at everything.
type Pass struct {
	done chan struct{}
	err  error // set before done is closed
}

// Wait returns when the pass has ended, with its error, or when ctx ends. All that it found has been recorded by then.
func (p *Pass) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		return &cairn.Error{Op: "scrub.wait", Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
	}
}

// Start begins a pass over everything, or joins the one that is waiting or under way.
func (s *Scrubber) Start() *Pass {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pass == nil {
		s.pass = &Pass{done: make(chan struct{})}
		s.start <- s.pass // has room: there is one pass at a time
	}
	return s.pass
}

// Reconcile asks for a drive's slots to be compared with what Meta expects, soon: the drive is new or came back. It never
// blocks.
func (s *Scrubber) Reconcile(drive cairn.DriveID) {
	select {
	case s.returned <- drive:
	default:
	}
}

// Status tells what is going on and what was found.
func (s *Scrubber) Status() Status { return s.progress.snapshot() }

// Run scrubs until ctx ends: the slow deep scrub, passes and comparisons go on side by side, so that a pass over a large
// store does not keep a drive that came back waiting.
func (s *Scrubber) Run(ctx context.Context) error {
	ctx = cairn.Background(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.deepForever(ctx) })
	running.Go(func() { s.passes(ctx) })
	all := time.NewTimer(0)
	defer all.Stop()
	for {
		pick := func(cairn.DriveID) bool { return true }
		select {
		case <-ctx.Done():
			return nil
		case <-all.C:
			all.Reset(s.cfg.ReconcileEvery)
		case id := <-s.returned:
			ids := map[cairn.DriveID]bool{id: true}
			for len(s.returned) > 0 {
				ids[<-s.returned] = true
			}
			pick = func(id cairn.DriveID) bool { return ids[id] }
		}
		err := s.reconcile(ctx, pick)
		s.complain(ctx, "comparing slots", err)
		if err != nil {
			all.Reset(min(retryReconcile, s.cfg.ReconcileEvery))
		}
	}
}

// passes runs the passes that Start asks for. One that Run's end cuts short ends with ErrCanceled.
func (s *Scrubber) passes(ctx context.Context) {
	defer func() { s.endPass(&cairn.Error{Op: "scrub.pass", Err: cairn.ErrCanceled}) }()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.start:
			err := s.wholePass(ctx)
			s.complain(ctx, "pass", err)
			s.endPass(err)
		}
	}
}

func (s *Scrubber) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.progress.failed(err)
		s.cfg.Logger.Warn("scrub did not come through", "what", what, "err", err)
	}
}

func (s *Scrubber) endPass(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pass != nil {
		s.pass.err = err
		close(s.pass.done)
		s.pass = nil
	}
}

// record commits findings and tells repair.
func (s *Scrubber) record(ctx context.Context, found []cairn.Damage) error {
	if len(found) == 0 {
		return nil
	}
	if err := s.cfg.Meta.AddDamage(ctx, found); err != nil {
		return err
	}
	for _, d := range found {
		s.progress.found(d.Kind)
		s.cfg.Logger.Info("damage found", "shard", d.Shard, "kind", d.Kind, "drive", d.Drive)
	}
	s.cfg.Damaged()
	return nil
}
