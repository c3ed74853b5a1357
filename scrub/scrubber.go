package scrub

import (
	"context"
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
	// ReconcileEvery is how often all slots are compared with what Meta expects, at the most; default 5 min. Comparing
	// takes a twentieth of the time, or happens every four hours.
	ReconcileEvery time.Duration
	// Cycle is how long the deep scrub may take to come around; it sets its rate. Default 14 days.
	Cycle time.Duration
	// Rest is the least time from the begin of one deep cycle of a drive to the next; default 10 min.
	Rest time.Duration
	// CheckBytesPerSec bounds the bytes that a check reads; default 1 GiB/s. Data nodes make it yield to clients.
	CheckBytesPerSec float64
	// Damaged is called after damage was recorded. It must not block.
	Damaged func()
	Logger  *slog.Logger // default: discard
}

const (
	defaultGrace     = 24 * time.Hour
	defaultReconcile = 5 * time.Minute
	defaultCycle     = 14 * 24 * time.Hour
	defaultRest      = 10 * time.Minute
	defaultCheckRate = 1 << 30
	minDeepRate      = 4 << 20  // bytes per second: small stores come around in minutes, not in 14 days
	minThrottle      = 4 << 10  // bytes that a small shard counts for: it costs a read all the same
	page             = 1000     // rows or shards listed at a time
	slotThreshold    = page / 2 // shards missing from a slot among a page of blobs: from here on the slot counts as lost
	driveThreshold   = page     // shards missing from a drive in one comparison: from here on its slots count as lost
	reconcileShare   = 20       // one comparison of all slots takes no more than one in so many
	maxReconcile     = 4 * time.Hour
	markEvery        = 24 * time.Hour // between two findings that the same drive is suspect
	damageLoaded     = 65536          // rows of damage looked at
	requests         = 256            // drives that wait to be reconciled; more are covered by the next round
	saveEvery        = 30 * time.Second
	retryOverload    = 200 * time.Millisecond
	retryReconcile   = 10 * time.Second // after a comparison that did not come through
	checkWorkers     = 4                // drives, or blobs, that a check reads at once
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
	if c.CheckBytesPerSec == 0 {
		c.CheckBytesPerSec = defaultCheckRate
	}
	if c.CheckBytesPerSec < 0 {
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

// Scrubber scrubs the drives of this process, or of the cluster. Its methods are safe for concurrent use; Run does the work.
type Scrubber struct {
	cfg      Config
	returned chan cairn.DriveID
	progress *progress

	mu     sync.Mutex
	marked map[cairn.DriveID]time.Time // drives that were found suspect, and when
}

// New returns a Scrubber; Run does its work.
func New(cfg Config) (*Scrubber, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Scrubber{cfg: cfg, returned: make(chan cairn.DriveID, requests), progress: &progress{},
		marked: map[cairn.DriveID]time.Time{}}, nil
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

// Run scrubs until ctx ends: the slow deep scrub and the comparisons go on side by side, and checks beside both.
func (s *Scrubber) Run(ctx context.Context) error {
	ctx = cairn.Background(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	running.Go(func() { s.deepForever(ctx) })
	all := time.NewTimer(0)
	defer all.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-all.C:
			began := time.Now()
			err = s.reconcileAll(ctx)
			all.Reset(max(s.cfg.ReconcileEvery, min(maxReconcile, reconcileShare*time.Since(began))))
		case id := <-s.returned:
			ids := map[cairn.DriveID]bool{id: true}
			for len(s.returned) > 0 {
				ids[<-s.returned] = true
			}
			err = s.reconcile(ctx, func(id cairn.DriveID) bool { return ids[id] })
		}
		if err != nil {
			s.complain(ctx, "comparing slots", err)
			all.Reset(min(retryReconcile, s.cfg.ReconcileEvery))
		}
	}
}

func (s *Scrubber) complain(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		s.progress.failed(err)
		s.cfg.Logger.Warn("scrub did not come through", "what", what, "err", err)
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

// markDrive records that much of what a drive should hold is missing, once a day.
func (s *Scrubber) markDrive(ctx context.Context, drive cairn.DriveID, missing int64) error {
	now := time.Now()
	s.mu.Lock()
	last, ok := s.marked[drive]
	s.mu.Unlock()
	if ok && now.Sub(last) < markEvery {
		return nil
	}
	err := s.cfg.Meta.AddFindings(ctx, []cairn.Finding{{Found: now, Resolved: now, Kind: cairn.FindingDrive, Drive: drive, Count: missing,
		By: "scrub", Note: fmt.Sprintf("%d shards or more that it should hold are missing: its slots are rebuilt whole; look at the disk", missing),
		Outcome: cairn.OutcomeNoted}})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.marked[drive] = now
	s.mu.Unlock()
	s.progress.update(func(st *Status) { st.Findings.Drives++ })
	s.cfg.Logger.Warn("a drive lacks much of what it should hold", "drive", drive, "missing", missing)
	return nil
}
