package datanode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// The names within a drive's directory.
const (
	segmentsDir = "segments"
	indexDir    = "index"
)

// store is the log of one drive that is open. Its goroutines (committer, piece writers) start in openStore and end in
// close. Once a write or sync has failed with anything but ErrFull the store is broken: it refuses writes until the
// drive is opened anew, because what the disk holds is no longer known.
type store struct {
	cfg          Config
	fs           vfs.FS
	log          *slog.Logger
	dir          string
	id           cairn.DriveID
	secret       [16]byte
	readOnly     bool
	segmentBytes int64
	reserveBytes int64

	mu          sync.RWMutex // guards what follows and the lower half of segment
	index       index
	segs        map[uint32]*segment // all but the free ones
	free        []*segment          // recycled: void, sealed, ready for use
	active      *segment
	arena       arena
	lastSegment uint32
	seq         uint64                         // the last that was given out, as seq or lsn
	acked       uint64                         // all records up to this lsn are durable
	epochs      map[cairn.VolumeID]cairn.Epoch // highest seen or fenced
	fences      map[cairn.VolumeID]fenceAt
	tombs       map[key]tomb  // deletions whose victims' records are still in segments
	graves      map[key]int32 // dead records per shard
	changes     int64         // records since the last checkpoint
	streams     int

	rotate  chan struct{} // holds a token; its holder alone may open segments
	queue   opQueue
	pieces  pieceQueue
	limits  *limits
	buffers *bufferPool // for a cold read, or for data that cannot be written from where it is
	small   *bufferPool // for a cold read of a block
	blocks  *bufferPool // of blockSize
	closed  bool        // no more reads begin; guarded by mu
	tables  *tableCache
	broken  atomic.Pointer[error]
	full    atomic.Bool
	wg      sync.WaitGroup
	bg      context.Context // ends when the store closes
	cancel  context.CancelFunc
	stats   *counters
}

// tomb is the record of a deletion that is still needed.
type tomb struct {
	seq     uint64
	segment uint32
}

type fenceAt struct {
	epoch   cairn.Epoch
	segment uint32
}

// counters outlive the stores of a drive.
type counters struct {
	readErrors, writeErrors, corruptions atomic.Int64
	readLatency, syncLatency             average
	lastSync                             atomic.Int64 // Unix ns of the last sync that succeeded
}

// average is a moving average of durations.
type average struct{ ns atomic.Int64 }

func (a *average) add(d time.Duration) {
	old := a.ns.Load()
	a.ns.Store(old + (int64(d)-old)/16) // a lost update does no harm
}

// failure returns why the store takes no writes, nil if it does.
func (s *store) failure() error {
	if p := s.broken.Load(); p != nil {
		return *p
	}
	if s.readOnly {
		return fmt.Errorf("file system takes no writes: %w", cairn.ErrReadOnly)
	}
	return nil
}

// writeFailed gives a failed write its kind, and breaks the store unless there was merely no space.
func (s *store) writeFailed(err error) error {
	err = kindOf(err)
	if errors.Is(err, cairn.ErrFull) {
		s.full.Store(true)
		return err
	}
	return s.breakOff(err)
}

// breakOff gives a failed write or sync its kind and breaks the store: headers may be on the disk that were never
// acknowledged, so the next ones may be written only after a recovery has sorted that out.
func (s *store) breakOff(err error) error {
	err = kindOf(err)
	s.stats.writeErrors.Add(1)
	if s.broken.CompareAndSwap(nil, &err) {
		s.log.Error("drive refuses writes after a failed one", "drive", s.id, "path", s.dir, "err", err)
	}
	return err
}

// reserve takes n bytes for one record. The extent is pending until it is settled. Privileged requests (deletes, fences,
// compaction) may use space that is kept from shards.
func (s *store) reserve(ctx context.Context, n int64, privileged bool) (*segment, int64, error) {
	g, at, _, err := s.reserveUpTo(ctx, n, n, privileged)
	return g, at, err
}

// reserveUpTo takes at least n bytes and at most want, in one extent.
func (s *store) reserveUpTo(ctx context.Context, n, want int64, privileged bool) (*segment, int64, int64, error) {
	for {
		s.mu.Lock()
		g, at, got := s.take(n, want)
		s.mu.Unlock()
		if got > 0 {
			return g, at, got, nil
		}
		select {
		case <-s.rotate:
		case <-ctx.Done():
			return nil, 0, 0, ctx.Err()
		}
		err := s.nextSegment(n, privileged)
		s.rotate <- struct{}{}
		if err != nil {
			return nil, 0, 0, err
		}
	}
}

// take reserves n to want bytes from the active segment; got is 0 if it has no room. The caller holds mu.
func (s *store) take(n, want int64) (g *segment, at, got int64) {
	g = s.active
	if g == nil || g.tail+n > g.size {
		return nil, 0, 0
	}
	at, got = g.tail, min(want, g.size-g.tail)
	g.tail += got
	g.hold(at)
	return g, at, got
}

// hold keeps the segment, and what a recovery finds in it from at on, until settle. The caller holds mu.
func (g *segment) hold(at int64) {
	g.pending[at]++
	g.users.Add(1)
}

// settle ends a reservation: its record is indexed, or its extent is given up. The caller holds mu.
func (g *segment) settle(at int64) {
	if g.pending[at]--; g.pending[at] == 0 {
		delete(g.pending, at)
	}
	g.users.Add(-1)
}

// nextSegment replaces the active segment by one with room for n bytes. The caller holds the rotate token.
func (s *store) nextSegment(n int64, privileged bool) error {
	s.mu.Lock()
	if g := s.active; g != nil && g.tail+n <= g.size {
		s.mu.Unlock()
		return nil // another caller was faster
	}
	next := s.takeFree(n)
	s.mu.Unlock()
	if next == nil {
		var err error
		if next, err = s.createSegment(n, privileged); err != nil {
			if kind := kindOf(err); errors.Is(kind, cairn.ErrFull) {
				s.full.Store(true)
				return kind
			}
			return s.writeFailed(err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active != nil {
		s.active.sealed = true
		s.dropArena()
	}
	next.sealed = false
	s.active, s.segs[next.id] = next, next
	s.full.Store(false)
	return nil
}

// takeFree returns a free segment with room for n bytes. The caller holds mu.
func (s *store) takeFree(n int64) *segment {
	for i, g := range s.free {
		if pageSize+n <= g.size {
			s.free = append(s.free[:i], s.free[i+1:]...)
			return g
		}
	}
	return nil
}

// install puts a durable record into the index. The caller holds mu.
func (s *store) install(k key, e entry) {
	g := s.segs[e.segment]
	if t, ok := s.tombs[k]; ok && t.seq > e.seq {
		s.bury(k, g)
		return
	}
	if old := s.index.get(k); old != nil {
		if old.seq > e.seq {
			s.bury(k, g)
			return
		}
		if old.segment == e.segment && old.page == e.page {
			return // a recovery met again what the checkpoint has
		}
	}
	old, replaced := s.index.put(k, e)
	if replaced {
		s.unlive(k, old)
	}
	g.live++
	g.liveBytes += e.recordBytes()
}

// unlive accounts for an entry that left the index. The caller holds mu.
func (s *store) unlive(k key, e entry) {
	g := s.segs[e.segment]
	g.live--
	g.liveBytes -= e.recordBytes()
	g.stuck = false
	s.bury(k, g)
}

// bury notes that g holds a dead record of k. The caller holds mu.
func (s *store) bury(k key, g *segment) {
	g.dead = append(g.dead, k)
	s.graves[k]++
}

// kill applies a deletion that is recorded in g. A recovery may meet the records that it kills later, so forgetting it if
// it kills nothing is up to the caller, who holds mu.
func (s *store) kill(d deletion, g *segment) {
	if e := s.index.get(d.key); e != nil && e.seq < d.seq {
		old, _ := s.index.remove(d.key)
		s.unlive(d.key, old)
	}
	old, had := s.tombs[d.key]
	if had && old.seq > d.seq {
		return
	}
	if had {
		s.segs[old.segment].deletions--
	}
	s.tombs[d.key] = tomb{d.seq, g.id}
	g.deletions++
}

// forget drops the deletion of k once no record that it kills is left in any segment. The caller holds mu.
func (s *store) forget(k key) {
	if s.graves[k] > 0 {
		return
	}
	delete(s.graves, k)
	if t, ok := s.tombs[k]; ok {
		s.segs[t.segment].deletions--
		delete(s.tombs, k)
	}
}

// setFence applies a fence that is recorded in g. The caller holds mu.
func (s *store) setFence(f fence, g *segment) {
	s.epochs[f.volume] = max(s.epochs[f.volume], f.epoch)
	old, had := s.fences[f.volume]
	if had && old.epoch > f.epoch {
		return
	}
	if had {
		s.segs[old.segment].fences--
	}
	s.fences[f.volume] = fenceAt{f.epoch, g.id}
	g.fences++
}

// admit refuses a write whose epoch is older than one seen for its volume. The caller holds mu.
func (s *store) admit(v cairn.VolumeID, e cairn.Epoch) error {
	if seen := s.epochs[v]; e < seen {
		return fmt.Errorf("epoch %d is older than %d: %w", e, seen, cairn.ErrStaleEpoch)
	}
	s.epochs[v] = e
	return nil
}

// usage returns what the status of the drive shows.
func (s *store) usage(st *cairn.DriveStatus) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var used int64
	for _, g := range s.segs {
		st.LiveBytes += g.liveBytes
		used += g.tail - pageSize
		if g == s.active {
			st.FreeBytes += g.size - g.tail
		}
	}
	for _, g := range s.free {
		st.FreeBytes += g.size - pageSize
	}
	st.DeadBytes = max(0, used-st.LiveBytes)
	st.Shards = s.index.shards
}

// close ends the goroutines, writes a checkpoint if asked to and if the store is sound, and closes all files. What is
// queued fails with ErrUnavailable. It waits for operations under way no longer than patience; if they hang on, the files
// stay open. No checkpoint must be asked for when the path may have become another directory.
func (s *store) close(patience time.Duration, save bool) error {
	s.cancel()
	s.queue.close(errClosed)
	s.pieces.close(errClosed)
	if !s.quiet(patience) {
		return &cairn.Error{Op: "datanode.close", Subject: s.dir, Err: fmt.Errorf("operations hang: %w", cairn.ErrUnavailable)}
	}
	if save && s.failure() == nil {
		// What was acknowledged is synced; a checkpoint only shortens the next start, and the directory may be gone.
		if err := s.checkpoint(); err != nil {
			s.log.Warn("index is not saved, the next start scans the segments", "path", s.dir, "err", err)
		}
	}
	return s.closeFiles()
}

// quiet waits until no goroutine and no operation touches the files, for as long as patience allows.
func (s *store) quiet(patience time.Duration) bool {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	timeout := time.After(patience)
	select {
	case <-done:
	case <-timeout:
		return false
	}
	for s.users() > 0 {
		select {
		case <-timeout:
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// users counts operations that touch the files, but for streams that wait for their writer.
func (s *store) users() (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.segs {
		n += g.users.Load()
		for _, held := range g.pending {
			n -= int64(held)
		}
	}
	return n
}

func (s *store) closeFiles() (err error) {
	s.mu.Lock()
	segs := append([]*segment{}, s.free...)
	for _, g := range s.segs {
		segs = append(segs, g)
	}
	s.mu.Unlock()
	for _, g := range segs {
		err = errors.Join(err, g.close())
	}
	return err
}

var errClosed = fmt.Errorf("drive was closed: %w", cairn.ErrUnavailable)

func (s *store) indexPath(name string) string { return filepath.Join(s.dir, indexDir, name) }

func (s *store) segmentsPath() string { return filepath.Join(s.dir, segmentsDir) }
