// Package meta is the metadata service: buckets, versions, uploads, volumes, drives, damage and settings, as rows in a
// replicated ordered store (meta/replica).
//
// Every operation is a file. One that changes something reads rows at the leader, decides, and commits a batch that takes
// effect only if none of the rows it rests on has changed since (txn.go); on a conflict it decides again.
//
// Invariants:
//   - a key's current version is one row in the family of current versions, unless its newest version is a delete marker:
//     then there is no such row. All other versions and markers are rows of the family of older versions, newest first;
//   - whoever changes any version of a key checks and touches the row of the current one, so it guards them all;
//   - a blob's reference row counts the versions and parts that list it; the commit that releases the last one moves the
//     blob to the outbox (garbage rows), and nothing else does;
//   - a blob is referenced for the first time only above the orphan watermark and under its volume's present epoch;
//   - statistics of buckets and volumes change in the same commit as what they count.
//
// It does not move or delete bytes, does not know which drive is alive, and does not authorise anybody.
package meta

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"cairn"
	"cairn/meta/replica"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Config says how a Store runs. The zero value of each field means its default.
type Config struct {
	Cluster cairn.ClusterID
	// Homes are the drive directories that may carry voters; SetHomes changes them later.
	Homes []Home
	// Voters is how many voters are wanted, an odd number up to 9; fewer run while fewer homes are usable. Default 1.
	Voters int
	// MustExist forbids to begin with empty metadata: set it when the cluster is known to be older than this start.
	MustExist bool
	Logger    *slog.Logger
	// FS holds the homes. Default: the operating system's.
	FS vfs.FS
	// CacheBytes is the block cache of all voters of the process together. Default 48 MiB.
	CacheBytes int64
	// MemTableBytes is one voter's write buffer. Default 4 MiB.
	MemTableBytes int
	// Tick is Raft's unit of time. Default 50 ms.
	Tick time.Duration
	// Node, Peers, Seeds and Caller let voters live on several nodes, and a node without homes use those of others; see
	// replica.Config. Zero: this process has all voters.
	Node   cairn.NodeID
	Peers  Peers
	Seeds  []cairn.NodeID
	Caller func(*http.Request) (cairn.NodeID, error)
	// ReplaceAfter is how long a node may be away before its voter is replaced on another one. Default 2 minutes.
	ReplaceAfter time.Duration
	// Gone tells of nodes that are judged to be gone for long, so that their voters are replaced at once; nil: nobody judges.
	Gone func(cairn.NodeID) bool
}

// Peers reaches other nodes.
type Peers = replica.Peers

// VotersPath is the part of Handler that only nodes with the meta role may call.
const VotersPath = replica.VotersPath

// Home is a directory that may carry a voter: Dir/meta.
type Home = replica.Home

// Store is the metadata of a cluster. Safe for concurrent use.
type Store struct {
	written written
	cfg     Config
	groups  *ranges
	locks   keyLocks
	rules   ruleCache
	events  eventRules
}

// Open starts the voters that the homes hold, or begins anew if no home has ever carried metadata (unless MustExist). It
// does not wait for a leader: Ready does. Errors: ErrInvalid, and those of the file system.
func Open(cfg Config) (*Store, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g, err := replica.Open(replica.Config{
		Cluster: cfg.Cluster, Voters: cfg.Voters, MustExist: cfg.MustExist, FS: cfg.FS, Logger: cfg.Logger,
		CacheBytes: cfg.CacheBytes, MemTableBytes: cfg.MemTableBytes, Tick: cfg.Tick,
		Node: cfg.Node, Peers: cfg.Peers, Seeds: cfg.Seeds, Caller: cfg.Caller, ReplaceAfter: cfg.ReplaceAfter, Gone: cfg.Gone,
	}, cfg.Homes)
	if err != nil {
		return nil, err
	}
	return &Store{cfg: cfg, groups: oneRange(g)}, nil
}

// SetHomes tells which directories may carry voters from now on. It returns at once.
func (s *Store) SetHomes(homes []Home) {
	for _, g := range s.groups.all() {
		g.SetHomes(homes)
	}
}

// SetSeeds tells which other nodes may carry voters, as the cluster grows and shrinks.
func (s *Store) SetSeeds(nodes []cairn.NodeID) {
	for _, g := range s.groups.all() {
		g.SetSeeds(nodes)
	}
}

// Run keeps the voters: it opens those that appear, stops those whose home is lost, and seeds successors on other homes.
func (s *Store) Run(ctx context.Context) error { return s.groups.all()[0].Run(ctx) }

// Close stops the voters.
func (s *Store) Close() error {
	var errs []error
	for _, g := range s.groups.all() {
		errs = append(errs, g.Close())
	}
	return errors.Join(errs...)
}

// Ready waits until reads and writes would be answered. Errors: ErrQuorum (too few voters), ErrCanceled.
func (s *Store) Ready(ctx context.Context) error {
	for _, g := range s.groups.all() {
		if err := s.read(ctx, g, (*replica.View).Settle); err != nil {
			return fail("meta.ready", "", err)
		}
	}
	return nil
}

// Handler serves the metadata to other nodes, under /meta/.
func (s *Store) Handler() http.Handler { return s.groups.system().Handler() }

// Leader returns the node whose voter leads, and its term; zeros while that is not known.
func (s *Store) Leader() (node cairn.NodeID, term uint64) { return s.groups.system().Leader() }

// Leads tells whether this process leads, as far as it knows. It is a hint about where to work, not a lock.
func (s *Store) Leads() bool { return s.groups.system().Leads() }

// AddVoter lets a node carry metadata; RemoveVoter moves it away from a node. Both are recorded and return at once; Status
// shows the voters move. Errors: ErrNotFound (the node offers no home), ErrPrecondition (too few nodes would be left: the
// text says what to do), ErrQuorum, ErrUnavailable, ErrCanceled.
func (s *Store) AddVoter(ctx context.Context, node cairn.NodeID) error {
	return fail("meta.add voter", node.String(), s.groups.system().AddVoter(ctx, node))
}

// MayRemoveVoter says why RemoveVoter would refuse, and changes nothing.
func (s *Store) MayRemoveVoter(ctx context.Context, node cairn.NodeID) error {
	return fail("meta.remove voter", node.String(), s.groups.system().MayRemoveVoter(ctx, node))
}

// RemoveVoter: see AddVoter.
func (s *Store) RemoveVoter(ctx context.Context, node cairn.NodeID) error {
	return fail("meta.remove voter", node.String(), s.groups.system().RemoveVoter(ctx, node))
}

// News returns a channel that is closed when the leader or the voters change. Take it before looking.
func (s *Store) News() <-chan struct{} { return s.groups.system().News() }

// fail names operation and subject once.
func fail(op, subject string, err error) error {
	var named *cairn.Error
	if err == nil || errors.As(err, &named) && named.Op == op {
		return err
	}
	return &cairn.Error{Op: op, Subject: subject, Err: err}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), cairn.ErrInvalid)
}

func newRequestID() uint64 { return rand.Uint64() | 1 }
