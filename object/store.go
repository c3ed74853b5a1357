// Package object turns blobs and metadata into S3's objects: versions, uploads and parts. It is the one way in and out: every
// frontend (S3, Hub, mount) goes through a Store.
//
// It owns the order of things. A put stores the bytes, verifies every digest that the client declared, and only then commits
// the version; until then nothing is visible, and afterwards everything is (I5). A read looks the version up, pins its
// blobs against garbage collection in this process, and reads (I2). What a commit releases is listed in the metadata's
// outbox, and deleted from the drives by Run once nobody reads it here (I4): a released blob is never referenced again.
//
// When a commit's outcome is unknown (a timeout, a lost leader), the blobs that were written for it stay: they may be
// referenced. Scrub finds them, and the orphan watermark of the metadata proves whether they are orphans.
//
// It deliberately does not: authenticate or authorise (iam, s3api), parse or print XML, know drives, volumes or stripes
// (blob), or decide what is committed (meta). Pins are known to one process; with several frontends over one metadata
// service, only the minimum age of garbage protects the readers of the others.
package object

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"cairn"
)

// Config of a Store. Meta and Blobs are required; the other zero values mean the defaults named here.
type Config struct {
	Meta  Meta
	Blobs Blobs
	// DefaultProfile serves buckets that name none. Default 4+2.
	DefaultProfile cairn.Profile
	// InlineMax is the size in bytes up to which a body travels in its metadata row. Default 8 KiB, where both ways cost the
	// same with five voters and 4+2 (BenchmarkInline): reading and deleting a row is cheaper then. At most 1 MiB;
	// negative: only empty bodies do.
	InlineMax int64
	// StaleUploads is the age at which an upload that was never completed is aborted. Default 7 days.
	StaleUploads time.Duration
	// LifecycleInterval is the pause between looks for what lifecycle rules make due. Default 1 minute.
	LifecycleInterval time.Duration
	// GCInterval is the pause between looks at the garbage outbox. Default 1 s.
	GCInterval time.Duration
	// GCMinAge is how long a released blob stays before its shards are deleted. Default 5 s.
	GCMinAge time.Duration
	// Keys makes and opens the data keys of encrypted objects. Default: none; then a wish for encryption is refused, and so is
	// opening an object that has it.
	Keys Keys
	// Encryption is the rule for buckets that have none of their own. Default: plain bytes.
	Encryption cairn.EncryptionRule
	// Collects tells whether this store deletes what was released and aborts stale uploads now; of the stores of a cluster,
	// one does. Default: always.
	Collects func() bool
	// Elsewhere asks the other stores of the cluster which of the blobs they read (see Held); all tells that every one has
	// answered. nil: there are no others.
	Elsewhere func(ctx context.Context, blobs []cairn.BlobRef) (held []bool, all bool)
	// GCFarAge is how long a released blob stays while not all other stores answer: longer than reads take. Default 1 h.
	GCFarAge time.Duration
	// Logger takes background events and refusals. Default: none.
	Logger *slog.Logger
}

const maxInlineMax = 1 << 20

func (c *Config) setDefaults() error {
	if c.Meta == nil || c.Blobs == nil {
		return fail("object.new", "", fmt.Errorf("no metadata or blob store: %w", cairn.ErrInvalid))
	}
	if c.Collects == nil {
		c.Collects = func() bool { return true }
	}
	if c.DefaultProfile == (cairn.Profile{}) {
		c.DefaultProfile = cairn.Profile{K: 4, M: 2}
	}
	if err := c.DefaultProfile.Validate(); err != nil {
		return err
	}
	if c.InlineMax > maxInlineMax {
		return fail("object.new", "", fmt.Errorf("InlineMax is %d, at most %d: %w", c.InlineMax, maxInlineMax, cairn.ErrInvalid))
	}
	if c.InlineMax == 0 {
		c.InlineMax = 8 << 10
	}
	c.InlineMax = max(c.InlineMax, 0)
	if c.Encryption.Scheme != "" && c.Keys == nil {
		return fail("object.new", "", fmt.Errorf("a default encryption without keys: %w", cairn.ErrInvalid))
	}
	for _, d := range []struct {
		value    *time.Duration
		fallback time.Duration
	}{
		{&c.StaleUploads, 7 * 24 * time.Hour},
		{&c.LifecycleInterval, time.Minute},
		{&c.GCInterval, time.Second},
		{&c.GCMinAge, 5 * time.Second},
		{&c.GCFarAge, time.Hour},
	} {
		if *d.value < 0 {
			return fail("object.new", "", fmt.Errorf("negative duration: %w", cairn.ErrInvalid))
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Store stores and serves objects. Its methods are safe for concurrent use. Errors carry root kinds, and where S3 tells
// more than a kind does, one of this package's rules (ErrNoSuchUpload …) or a *DigestError.
type Store struct {
	cfg      Config
	hashers  hasherPool
	heads    sync.Pool // *[]byte of InlineMax+1: the start of a body of unknown size
	profiles profiles
	pins     *pins
	counters counters
	minPart  int64 // MinPartBytes, less in tests that make many uploads
}

// New returns a store over a metadata service and a blob store. Its background work is in Run; puts of many bodies at once
// are hashed faster while it runs.
func New(cfg Config) (*Store, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, minPart: MinPartBytes, pins: newPins()}
	s.hashers.lanes = &lanes{}
	return s, nil
}

// cleanupTimeout bounds clean-up work that goes on after its request was canceled.
const cleanupTimeout = 10 * time.Second

// discard deletes blobs that were certainly never committed.
func (s *Store) discard(ctx context.Context, blobs []cairn.NewBlob) {
	if len(blobs) == 0 {
		return
	}
	s.counters.discarded.Add(int64(len(blobs)))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	s.cfg.Blobs.Discard(ctx, blobs)
}

// afterCommit cleans up after a commit that failed with err: what is certainly not committed is discarded, the rest is
// left to orphan collection.
func (s *Store) afterCommit(ctx context.Context, blobs []cairn.NewBlob, err error) {
	if len(blobs) == 0 {
		return
	}
	if neverCommitted(err) {
		s.discard(ctx, blobs)
		return
	}
	s.counters.unknownCommits.Add(1)
	s.cfg.Logger.Warn("commit with unknown outcome: its blobs are left to orphan collection",
		"blobs", len(blobs), "first", blobs[0].Ref, "error", err)
}

// drainEOF reads the body's end. A body that goes on past its declared size is refused; and only at the end do frontends
// know that the last chunk's signature and the trailer are right.
func drainEOF(body io.Reader) error {
	var one [1]byte
	for range 100 {
		n, err := body.Read(one[:])
		switch {
		case n > 0:
			return fail("object.read body", "", ErrBodyTooLong)
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
	return fail("object.read body", "", io.ErrNoProgress)
}
