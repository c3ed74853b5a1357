// Package blob stores blobs as erasure-coded shards: it owns the way from a body to the slots of a volume and back.
//
// Writing: the body is read straight into buffers that are laid out shard by shard, several stripes at a time; parity is
// computed beside it; every slot gets its piece; the put succeeds when all slots are durable, or at least k+1 of them
// (all, if m is 1 or 0) and the others failed or passed their deadline. Those are listed as skipped, for the caller to
// record in the commit.
//
// Reading: only the units that cover the range are read, from data slots, verified below by their checksums. A slot that
// is missing, bad or slow is read around: its units are computed from any k others.
//
// Invariants: no byte reaches a reader that its drive did not verify; a put that returns nil is durable on the write
// quorum; nothing here deletes a shard unless its blob was never referenced (Discard) or was released (Delete); memory is
// bounded by Config for any load.
//
// It does not know objects, does not commit anything, chooses no drives (Volumes does), and repairs nothing: it reports
// damage and offers Reconstruct to those who repair.
package blob

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cairn"
	"cairn/erasure"
)

// Config is what a Store needs. Shards must also be a Deleter, and a Stater if Locate is to be used.
type Config struct {
	Shards  Shards
	Volumes Volumes
	Damage  Damage // nil: findings are dropped

	// MaxMemory bounds the buffers of all puts together, in bytes (128 MiB). A put waits when they are in use.
	MaxMemory int64
	// MaxReadMemory bounds the buffers of all reads together, in bytes (64 MiB).
	MaxReadMemory int64
	// WriteDeadline is how long a put waits for stragglers after the write quorum is durable (2 s); never less than ten
	// times what the middle slot took.
	WriteDeadline time.Duration
	// StallLimit is how long a put waits for the write quorum, or for memory, before it fails (30 s).
	StallLimit time.Duration
	// HedgeFloor is the least time after which a read is hedged (20 ms).
	HedgeFloor time.Duration
	// HangLimit is the time after which a read that is slower than its peers is hedged whatever the budget (500 ms).
	HangLimit time.Duration
	// HedgeBudget is the share of reads that may be hedged before HangLimit (0.05).
	HedgeBudget float64

	Logger *slog.Logger // nil: discards
}

func (c *Config) fill() error {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.WriteDeadline, 2*time.Second)
	def(&c.StallLimit, 30*time.Second)
	def(&c.HedgeFloor, 20*time.Millisecond)
	def(&c.HangLimit, 500*time.Millisecond)
	if c.MaxMemory == 0 {
		c.MaxMemory = 128 << 20
	}
	if c.MaxReadMemory == 0 {
		c.MaxReadMemory = 64 << 20
	}
	if c.HedgeBudget == 0 {
		c.HedgeBudget = 0.05
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c.validate()
}

func (c *Config) validate() error {
	bad := func(why string) error {
		return &cairn.Error{Op: "blob.new", Err: fmt.Errorf("%s: %w", why, cairn.ErrInvalid)}
	}
	switch {
	case c.Shards == nil || c.Volumes == nil:
		return bad("Shards and Volumes are needed")
	case c.MaxMemory < minMemory || c.MaxReadMemory < minMemory:
		return bad(fmt.Sprintf("MaxMemory and MaxReadMemory: want %d bytes or more", minMemory))
	case c.WriteDeadline < 0 || c.StallLimit < 0 || c.HedgeFloor < 0 || c.HangLimit < c.HedgeFloor:
		return bad("deadlines: want 0 or more, HangLimit not below HedgeFloor")
	case c.HedgeBudget < 0 || c.HedgeBudget > 1:
		return bad("HedgeBudget: want 0 to 1")
	}
	if _, ok := c.Shards.(Deleter); !ok {
		return bad("Shards must be a Deleter too")
	}
	return nil
}

// Store puts and gets blobs. It is safe for concurrent use.
type Store struct {
	cfg     Config
	shards  Shards
	deleter Deleter
	codes   erasure.Codes
	pool    bufferPool
	writes  *budget
	reads   *budget
	drives  driveStats
	counts  counts

	// late counts goroutines that outlive their call: slot writers and reads that a drive holds up.
	late sync.WaitGroup
}

// New makes a Store. Close it when no call is under way.
func New(cfg Config) (*Store, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg:     cfg,
		shards:  cfg.Shards,
		deleter: cfg.Shards.(Deleter),
		writes:  newBudget(cfg.MaxMemory),
		reads:   newBudget(cfg.MaxReadMemory),
	}
	s.pool.maxIdle = (cfg.MaxMemory + cfg.MaxReadMemory) / 2
	s.drives.init(cfg)
	return s, nil
}

// Close waits for what outlived its call because a drive held it up. No call may be under way or follow.
func (s *Store) Close() error {
	s.late.Wait()
	return nil
}

// geometry returns the shape and the code of a blob of a volume, refusing rows that no volume has.
func (s *Store) geometry(vol *cairn.Volume, length int64) (erasure.Geometry, *erasure.Code, error) {
	g := erasure.Geometry{K: vol.Profile.K, M: vol.Profile.M, Unit: vol.Unit, Length: length}
	err := g.Validate()
	if err == nil && (len(vol.Slots) != g.Width() || vol.Unit%sumBytes != 0) {
		err = fmt.Errorf("%d slots of %s with units of %d bytes", len(vol.Slots), vol.Profile, vol.Unit)
	}
	if err != nil {
		return g, nil, fmt.Errorf("volume %s: %w: %w", vol.ID, err, cairn.ErrInvalid)
	}
	code, err := s.codes.Get(erasure.Scheme(vol.Profile))
	return g, code, err
}

// sumBytes is the run of shard data that one checksum covers; pieces of a shard end on its borders.
const sumBytes = 64 << 10
