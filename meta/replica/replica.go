// Package replica keeps one ordered set of keys on several voters that agree by Raft (go.etcd.io/raft/v3). It knows
// nothing of buckets and versions: callers read keys, build a Batch of changes with the keys on which the decision
// rests, and commit it.
//
// It owns: the voters' directories (`<home>/meta`), the log, the state, elections, and the replacement of voters whose
// home is lost. Inside one process a voter is a few goroutines, and messages between voters pass by reference. Voters may
// also live on other nodes (Config.Node and Peers): then messages, reads and commits go over HTTP (serve.go, remote.go), and
// a node without voters uses those of others.
//
// How a commit is decided. A reader notes the index of the state that it read (View.Index). The leader refuses a batch if
// one of its checked keys was written after that index, looking at everything that is in its log, applied or not; so
// what reaches the log is unconditional, and applying it needs no reads. The leader can tell because it has, in memory,
// the keys written lately (conflicts.go); what is older than its memory counts as a conflict, and callers read again.
//
// Invariants:
//   - a commit is answered after a majority of voters has it in a synced log, and the leader has applied it;
//   - a voter votes and acknowledges only after what it says is synced (the leader's own appends alone leave early);
//   - the state is never synced by itself: the log is its write-ahead log, and is cut only behind what the state has flushed;
//   - a request ID takes effect once, also across a change of leader, as long as it is among the latest dedupeEntries entries;
//   - a voter that fails (I/O error, corruption, lost directory) stops alone; its successor is another voter with another
//     ID, seeded from a checkpoint of a healthy one, and never returns with less than it acknowledged.
//
// It does not shrink the set of voters because one is lost: that one stays in the configuration until a spare home can
// replace it, since a smaller set would tolerate no more losses and hold fewer copies.
package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrConflict tells that a checked key changed since it was read: read again, decide again, commit again.
var ErrConflict = errors.New("conflict")

// Home is a directory that may carry a voter.
type Home struct {
	Drive  cairn.DriveID
	Dir    string // the voter lives in Dir/meta
	Usable bool   // false: its content cannot be told now
}

// Peers reaches other nodes.
type Peers interface {
	// Peer returns a client and the base URL ("https://10.0.0.2:9002") of a node. Errors: ErrNotFound, ErrUnavailable.
	Peer(node cairn.NodeID) (*http.Client, string, error)
}

// Config says how a Group runs. The zero value of each field means its default.
type Config struct {
	Cluster cairn.ClusterID
	// Voters is how many voters are wanted, an odd number; fewer run while fewer homes are usable. Default 1.
	Voters int
	// MustExist forbids to start a new, empty group: the voters must be found on the homes.
	MustExist bool
	// Node is the node whose homes these are. Zero: all voters are of this process, and the fields below are not used.
	Node cairn.NodeID
	// Peers reaches the other nodes.
	Peers Peers
	// Seeds are nodes that carried voters when this one last heard of them. A node that has seeds joins their group, and
	// never begins one.
	Seeds []cairn.NodeID
	// Caller tells which node sent a request to Handler.
	Caller func(*http.Request) (cairn.NodeID, error)
	// FS holds the homes. Default vfs.Default.
	FS     vfs.FS
	Logger *slog.Logger
	// Tick is Raft's unit of time. Default 50 ms; an election starts after 8 to 16 ticks without a leader.
	Tick time.Duration
	// StallLimit is how long a sync of the leader's log may take before it hands its leadership on. Default 1 s.
	StallLimit time.Duration
	// HangLimit is how long a sync may take before its voter counts as failed. Default 10 s.
	HangLimit time.Duration
	// CacheBytes is the block cache that all voters of the process share. Default 48 MiB.
	CacheBytes int64
	// MemTableBytes is the size of one voter's write buffer. Default 4 MiB.
	MemTableBytes int
	// LogBytes is how much of the log a voter keeps for others that lag. Default 16 MiB.
	LogBytes int64
	// SegmentBytes is the size of the log's files. Default 8 MiB.
	SegmentBytes int64
	// QueueBytes bounds the proposals that wait at the leader. Default 16 MiB.
	QueueBytes int64
	// ReplaceAfter is how long a node may be away before its voter is replaced on another one. Default 2 minutes.
	ReplaceAfter time.Duration
	// Gone tells of nodes that others have judged to be gone for long: their voters are replaced at once. It is called often
	// and must not block; nil: nobody judges.
	Gone func(cairn.NodeID) bool
}

const (
	electionTicks  = 8
	heartbeatTicks = 1
	maxEntryBytes  = 1 << 20 // proposals are gathered into entries of about this size
	maxMessages    = 256     // in flight to one voter
	maxInflight    = 16 << 20
	dedupeEntries  = 4096 // entries whose request IDs are remembered
	// MaxBatchBytes bounds one Batch.
	MaxBatchBytes = 32 << 20
)

func (c Config) withDefaults() (Config, error) {
	set := func(p *int64, d int64) {
		if *p == 0 {
			*p = d
		}
	}
	setDur := func(p *time.Duration, d time.Duration) {
		if *p == 0 {
			*p = d
		}
	}
	if c.Voters == 0 {
		c.Voters = 1
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Gone == nil {
		c.Gone = func(cairn.NodeID) bool { return false }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = 4 << 20
	}
	setDur(&c.Tick, 50*time.Millisecond)
	setDur(&c.StallLimit, time.Second)
	setDur(&c.HangLimit, 10*time.Second)
	setDur(&c.ReplaceAfter, 2*time.Minute)
	set(&c.CacheBytes, 48<<20)
	set(&c.LogBytes, 16<<20)
	set(&c.SegmentBytes, 8<<20)
	set(&c.QueueBytes, 16<<20)
	if c.Voters < 1 || c.Voters%2 == 0 || c.Voters > 9 {
		return c, &cairn.Error{Op: "meta.open", Subject: fmt.Sprint("voters ", c.Voters),
			Err: fmt.Errorf("want an odd number from 1 to 9: %w", cairn.ErrInvalid)}
	}
	if !c.Node.IsZero() && (c.Peers == nil || c.Caller == nil) || c.Node.IsZero() && len(c.Seeds) > 0 {
		return c, &cairn.Error{Op: "meta.open", Subject: c.Node.String(),
			Err: fmt.Errorf("a node among others needs Node, Peers and Caller: %w", cairn.ErrInvalid)}
	}
	return c, nil
}
