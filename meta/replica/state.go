package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Keys of the replica itself; those of callers start with 1 or more.
var (
	appliedKey    = []byte{0, 'a'}
	requestPrefix = []byte{0, 'r'}
	requestEnd    = []byte{0, 'r' + 1}
)

// requestKey is the row of an entry's request IDs.
func requestKey(index uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), requestPrefix...), index)
}

// state is one voter's copy of the keys: a Pebble without a write-ahead log, since the Raft log is one. After a crash it
// stands at an earlier applied index, which is written in the same batch as what it tells of.
type state struct {
	db   *pebble.DB
	fuse *fuse
	conf *pb.ConfState
	at   position
	// table is the row of members as the state was opened; nil if it has none.
	table *members
}

// position is a place in the log.
type position struct{ index, term uint64 }

// shared is what all voters of a process use together.
type shared struct {
	cache *pebble.Cache
	files *pebble.FileCache
}

const maxOpenTables = 1000 // of all voters together

func newShared(cacheBytes int64) *shared {
	return &shared{cache: pebble.NewCache(cacheBytes), files: pebble.NewFileCache(2, maxOpenTables)}
}

func (s *shared) close() {
	s.files.Unref()
	s.cache.Unref()
}

func stateOptions(cfg *Config, sh *shared, fail func(error)) *pebble.Options {
	turns := newCompactions()
	lg := &pebbleLogger{log: cfg.Logger, fail: func(err error) {
		turns.end() // a store that is about to be given up begins nothing new
		fail(err)
	}}
	o := &pebble.Options{
		FS:                          stateFS{cfg.FS, lg},
		Cache:                       sh.cache,
		FileCache:                   sh.files,
		FormatMajorVersion:          pebble.FormatNewest,
		DisableWAL:                  true,
		MemTableSize:                uint64(cfg.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       8,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		Merger:                      newMerger(),
		Logger:                      lg,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 1 },
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { lg.background(err) },
			DataCorruption: func(info pebble.DataCorruptionInfo) {
				lg.fail(fmt.Errorf("state table %s: %v: %w", info.Path, info.Details, cairn.ErrCorrupt))
			},
		},
	}
	o.Experimental.CompactionScheduler = turns
	// Values stay with their keys: separating them would save a sixth of a small put's CPU, but Pebble 2.1.7 dereferences
	// nil on its own goroutine, and so ends the process, when a write of a value file fails (TestFaultSweep).
	// Rows are not compressed: each voter would pay for it at every flush and compaction, 6% of a small put's CPU in all,
	// and inline bodies are mostly weights and archives, which do not shrink.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionNone })
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// createState makes an empty state that stands at pos; table may be nil.
func createState(cfg *Config, sh *shared, dir string, pos position, conf *pb.ConfState, table *members) error {
	f := newFuse()
	o := stateOptions(cfg, sh, f.blow)
	o.ErrorIfExists = true
	return f.run(func() error {
		db, err := pebble.Open(dir, o)
		if err != nil {
			return err
		}
		err = db.Set(appliedKey, encodeApplied(pos, conf), pebble.NoSync)
		if err == nil && table != nil {
			err = db.Set(membersKey, table.encode(), pebble.NoSync)
		}
		if err == nil {
			err = db.Flush()
		}
		if e := db.Close(); err == nil {
			err = e
		}
		return err
	})
}

// openState opens a state; fail hears of what ends it later.
func openState(cfg *Config, sh *shared, dir string, fail func(error)) (*state, error) {
	s := &state{fuse: newFuse()}
	o := stateOptions(cfg, sh, func(err error) {
		s.fuse.blow(err)
		fail(err)
	})
	o.ErrorIfNotExists = true
	err := s.fuse.run(func() error {
		db, err := pebble.Open(dir, o)
		if err != nil {
			return err
		}
		row, closer, err := db.Get(appliedKey)
		if err == nil {
			s.at, s.conf, err = decodeApplied(row)
			closer.Close()
		}
		if err == nil {
			s.table, err = readMembers(db)
		}
		if err != nil {
			db.Close() // it is given up because of this error
			return fmt.Errorf("applied row: %w: %w", err, cairn.ErrCorrupt)
		}
		s.db = db
		return nil
	})
	return s, err
}

// readMembers reads the row of members; nil if there is none.
func readMembers(db *pebble.DB) (*members, error) {
	row, closer, err := db.Get(membersKey)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	return decodeMembers(row)
}

// close closes the store, or abandons it.
func (s *state) close() error { return s.fuse.run(s.db.Close) }

// fuse bounds calls into a Pebble that may have met a fatal error: its goroutine is then parked, perhaps with locks held,
// so a call may never return. Such a call is left behind with the store.
type fuse struct {
	once  sync.Once
	blown chan struct{}
	err   error // set before blown is closed
}

func newFuse() *fuse { return &fuse{blown: make(chan struct{})} }

func (f *fuse) blow(err error) {
	f.once.Do(func() {
		f.err = err
		close(f.blown)
	})
}

// run calls fn; when the fuse blows it waits a little longer, then gives up.
func (f *fuse) run(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- guard(fn) }()
	select {
	case err := <-done:
		return err
	case <-f.blown:
	}
	select {
	case err := <-done:
		return err
	case <-time.After(time.Second):
		return f.err
	}
}

func encodeApplied(pos position, conf *pb.ConfState) []byte {
	b := protowire.AppendVarint(nil, pos.index)
	b = protowire.AppendVarint(b, pos.term)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, conf)
	if err != nil {
		panic(err) // a message without required fields or strings always encodes
	}
	return b
}

func decodeApplied(b []byte) (pos position, conf *pb.ConfState, err error) {
	for _, p := range []*uint64{&pos.index, &pos.term} {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return pos, nil, corrupt("applied row")
		}
		*p, b = v, b[n:]
	}
	conf = &pb.ConfState{}
	return pos, conf, proto.Unmarshal(b, conf)
}

// pebbleLogger passes Pebble's messages on. Fatalf must not return, and must not end the process: it marks the voter as
// failed, and leaves the goroutine by a panic that guard recovers, or, on a goroutine of Pebble's own, parks it for good
// (the store is abandoned with it; its files are closed by the end of the process).
type pebbleLogger struct {
	log  *slog.Logger
	fail func(error)
}

func (l *pebbleLogger) Infof(format string, args ...any) {}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("meta state", "err", fmt.Sprintf(format, args...))
}

// background takes errors of flushes and compactions: Pebble tries again, but a drive that refuses writes is of no use.
func (l *pebbleLogger) background(err error) {
	l.fail(fmt.Errorf("state: background: %w", err))
}

type fatalPanic struct{ err error }

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("state: "+format, args...)
	l.fail(err)
	if guarded() {
		panic(fatalPanic{err})
	}
	select {}
}

// stateFS is the file system as Pebble sees it. When a directory cannot be synced Pebble panics, on whatever goroutine it
// is; this ends the voter instead.
type stateFS struct {
	vfs.FS
	lg *pebbleLogger
}

// OpenDir opens a directory whose Sync does not fail.
func (fs stateFS) OpenDir(name string) (vfs.File, error) {
	f, err := fs.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return stateDir{f, fs.lg}, nil
}

// Create syncs the directory before it makes a marker file: Pebble's marker must not outlive a crash that the manifest it
// points at does not, and POSIX orders the two names by a sync alone.
func (fs stateFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(fs.PathBase(name), "marker.") {
		if err := syncDir(fs.FS, fs.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return fs.FS.Create(name, category)
}

type stateDir struct {
	vfs.File
	lg *pebbleLogger
}

func (d stateDir) Sync() error {
	if err := d.File.Sync(); err != nil {
		d.lg.Fatalf("directory sync: %w", err)
	}
	return nil
}

// guard runs f and turns a fatal error of Pebble's into an ordinary one.
//
//go:noinline
func guard(f func() error) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case fatalPanic:
			err = p.err
		default:
			panic(p)
		}
	}()
	return f()
}

// guarded tells whether the calling goroutine is inside guard.
func guarded() bool {
	pcs := make([]uintptr, 128)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "replica.guard") {
			return true
		}
		if !more {
			return false
		}
	}
}

// copyDir copies the files of a flat directory and syncs them.
func copyDir(fs vfs.FS, from, to string) error {
	if err := fs.MkdirAll(to, 0o755); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := vfs.Copy(fs, fs.PathJoin(from, name), fs.PathJoin(to, name)); err != nil {
			return err
		}
	}
	return syncDir(fs, to)
}
