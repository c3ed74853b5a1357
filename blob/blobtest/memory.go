// Package blobtest helps to test what stores shards and what is built on it: a conformance suite for blob.Shards, and
// Memory, a store of shards in memory whose drives can be made slow, hung, failing, corrupt or forgetful.
package blobtest

import (
	"bytes"
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
	"time"

	"cairn"
	"cairn/blob"
)

// Op is what is asked of a Memory drive.
type Op string

// The operations that a fault can be put on.
const (
	OpAppend Op = "append"
	OpCreate Op = "create"
	OpWrite  Op = "write"
	OpCommit Op = "commit"
	OpRead   Op = "read"
	OpDelete Op = "delete"
	OpStat   Op = "stat"
)

// Call is one operation on one shard.
type Call struct {
	Drive cairn.DriveID
	Op    Op
	ID    cairn.ShardID
}

// Memory is a blob.Shards in memory. It checks what it is promised: that data does not change before done runs, that
// pieces end on 64 KiB borders and add up, that epochs do not go back. Safe for concurrent use; the zero value is ready.
type Memory struct {
	// Drives, if set before use, are all there are: others are unavailable. Unset, any drive is there.
	Drives []cairn.DriveID
	// Fault, if set before use, is asked before each operation: it may sleep, block, or return an error, with which the
	// operation fails. It runs on a goroutine of its own for Append, Write and Commit, on the caller's for the rest.
	Fault func(ctx context.Context, c Call) error
	// Unchecked turns off the verification of checksums on reads: a planted bug for tests of tests.
	Unchecked bool
	// Early makes Append and Commit call done before anything is kept, and then lose it: a planted bug.
	Early bool

	mu     sync.Mutex
	shards map[cairn.DriveID]map[cairn.ShardID]*memShard
	epochs map[cairn.DriveID]map[cairn.VolumeID]cairn.Epoch
	broken []string // promises of callers that did not hold
	open   int      // writers that were neither committed nor aborted
	calls  map[Op]int
	flying sync.WaitGroup
}

type memShard struct {
	header cairn.ShardHeader
	data   []byte
	sums   []uint32
	time   time.Time
}

const sumBytes = 64 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sums(p []byte) (out []uint32) {
	for c := range slices.Chunk(p, sumBytes) {
		out = append(out, crc32.Checksum(c, castagnoli))
	}
	return out
}

var (
	_ blob.Shards  = (*Memory)(nil)
	_ blob.Deleter = (*Memory)(nil)
	_ blob.Stater  = (*Memory)(nil)
)

func (m *Memory) fault(ctx context.Context, c Call) error {
	m.mu.Lock()
	if m.calls == nil {
		m.calls = make(map[Op]int)
	}
	m.calls[c.Op]++
	m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return fail(c.Op, c.ID, cairn.ErrCanceled)
	case m.Drives != nil && !slices.Contains(m.Drives, c.Drive):
		return fail(c.Op, c.ID, cairn.ErrUnavailable)
	case m.Fault != nil:
		return m.Fault(ctx, c)
	}
	return nil
}

func fail(op Op, id cairn.ShardID, kind error) error {
	return &cairn.Error{Op: "memory." + string(op), Subject: id.String(), Err: kind}
}

// breach notes a promise that a caller broke.
func (m *Memory) breach(format string, args ...any) {
	m.mu.Lock()
	m.broken = append(m.broken, fmt.Sprintf(format, args...))
	m.mu.Unlock()
}

// Breaches lists the promises of blob.Shards that callers broke.
func (m *Memory) Breaches() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.broken)
}

// OpenWriters is the number of shards that were created and neither committed nor aborted.
func (m *Memory) OpenWriters() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.open
}

// Calls tells how often an operation was asked for.
func (m *Memory) Calls(op Op) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

// Wait returns when no Append, Write or Commit is under way.
func (m *Memory) Wait() { m.flying.Wait() }

// checkEpoch refuses an epoch older than one that the drive has seen. m.mu is held.
func (m *Memory) checkEpoch(drive cairn.DriveID, h *cairn.ShardHeader) error {
	seen := m.epochs[drive][h.ID.Volume]
	if h.Epoch < seen {
		return cairn.ErrStaleEpoch
	}
	m.raiseEpoch(drive, h.ID.Volume, h.Epoch)
	return nil
}

func (m *Memory) raiseEpoch(drive cairn.DriveID, vol cairn.VolumeID, e cairn.Epoch) {
	if m.epochs == nil {
		m.epochs = make(map[cairn.DriveID]map[cairn.VolumeID]cairn.Epoch)
	}
	if m.epochs[drive] == nil {
		m.epochs[drive] = make(map[cairn.VolumeID]cairn.Epoch)
	}
	m.epochs[drive][vol] = max(e, m.epochs[drive][vol])
}

// Fence makes a drive refuse writes to a volume under older epochs.
func (m *Memory) Fence(_ context.Context, drive cairn.DriveID, vol cairn.VolumeID, e cairn.Epoch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.raiseEpoch(drive, vol, e)
	return nil
}

func (m *Memory) store(drive cairn.DriveID, h *cairn.ShardHeader, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.checkEpoch(drive, h); err != nil {
		return err
	}
	if m.Early {
		return nil
	}
	if m.shards == nil {
		m.shards = make(map[cairn.DriveID]map[cairn.ShardID]*memShard)
	}
	if m.shards[drive] == nil {
		m.shards[drive] = make(map[cairn.ShardID]*memShard)
	}
	m.shards[drive][h.ID] = &memShard{header: *h, data: data, sums: sums(data), time: time.Now()}
	return nil
}

// Append implements blob.Shards.
func (m *Memory) Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error)) {
	before := bytes.Clone(data)
	header := *h
	m.flying.Add(1)
	go func() {
		defer m.flying.Done()
		err := m.fault(ctx, Call{drive, OpAppend, header.ID})
		if !bytes.Equal(before, data) || *h != header {
			m.breach("%s changed before done", header.ID)
		}
		if err == nil {
			err = m.store(drive, &header, before)
		}
		done(err)
	}()
}

// Create implements blob.Shards.
func (m *Memory) Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (blob.ShardWriter, error) {
	if err := m.fault(ctx, Call{drive, OpCreate, h.ID}); err != nil {
		return nil, err
	}
	m.mu.Lock()
	err := m.checkEpoch(drive, h)
	if err == nil {
		m.open++
	}
	m.mu.Unlock()
	if err != nil {
		return nil, fail(OpCreate, h.ID, err)
	}
	return &memWriter{m: m, ctx: ctx, drive: drive, header: *h, size: size, data: make([]byte, 0, size)}, nil
}

type memWriter struct {
	m      *Memory
	ctx    context.Context
	drive  cairn.DriveID
	header cairn.ShardHeader
	size   int64
	flying sync.WaitGroup

	mu    sync.Mutex
	data  []byte
	err   error
	ended bool
}

// Write implements blob.ShardWriter.
func (w *memWriter) Write(p []byte, done func(error)) {
	w.mu.Lock()
	w.data = append(w.data, p...)
	bad := len(p)%sumBytes != 0 && int64(len(w.data)) != w.size || int64(len(w.data)) > w.size
	if bad {
		w.m.breach("%s: piece of %d bytes at %d of %d", w.header.ID, len(p), len(w.data), w.size)
	}
	w.mu.Unlock()
	before := bytes.Clone(p)
	w.flying.Add(1)
	w.m.flying.Add(1)
	go func() {
		defer w.m.flying.Done()
		err := w.m.fault(w.ctx, Call{w.drive, OpWrite, w.header.ID})
		if bad {
			err = fail(OpWrite, w.header.ID, cairn.ErrInvalid)
		}
		if !bytes.Equal(before, p) {
			w.m.breach("%s changed before done", w.header.ID)
		}
		w.fail(err)
		w.flying.Done()
		done(err)
	}()
}

func (w *memWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

// Commit implements blob.ShardWriter.
func (w *memWriter) Commit(done func(error)) {
	w.m.flying.Add(1)
	go func() {
		defer w.m.flying.Done()
		w.flying.Wait()
		w.fail(w.m.fault(w.ctx, Call{w.drive, OpCommit, w.header.ID}))
		w.mu.Lock()
		err := w.err
		if err == nil && int64(len(w.data)) != w.size {
			err = fail(OpCommit, w.header.ID, fmt.Errorf("%d of %d bytes written: %w", len(w.data), w.size, cairn.ErrInvalid))
		}
		if err == nil && w.ended {
			err = fail(OpCommit, w.header.ID, cairn.ErrCanceled)
		}
		w.mu.Unlock()
		if err == nil {
			if err = w.m.store(w.drive, &w.header, w.data); err == nil {
				w.end()
			}
		}
		done(err)
	}()
}

// Abort implements blob.ShardWriter.
func (w *memWriter) Abort() { w.end() }

func (w *memWriter) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return
	}
	w.ended = true
	w.m.mu.Lock()
	w.m.open--
	w.m.mu.Unlock()
}

// ReadAt implements blob.Shards.
func (m *Memory) ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error {
	if err := m.fault(ctx, Call{drive, OpRead, id}); err != nil {
		return err
	}
	m.mu.Lock()
	s := m.shards[drive][id]
	m.mu.Unlock()
	if s == nil {
		return fail(OpRead, id, cairn.ErrNotFound)
	}
	if off < 0 || off+int64(len(p)) > int64(len(s.data)) {
		return fail(OpRead, id, cairn.ErrInvalid)
	}
	for c := off / sumBytes; !m.Unchecked && c*sumBytes < off+int64(len(p)); c++ {
		chunk := s.data[c*sumBytes : min(int64(len(s.data)), (c+1)*sumBytes)]
		if crc32.Checksum(chunk, castagnoli) != s.sums[c] {
			return fail(OpRead, id, cairn.ErrCorrupt)
		}
	}
	copy(p, s.data[off:])
	return nil
}

// Delete implements blob.Deleter.
func (m *Memory) Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error {
	for _, id := range ids {
		if err := m.fault(ctx, Call{drive, OpDelete, id}); err != nil {
			return err
		}
		m.mu.Lock()
		delete(m.shards[drive], id)
		m.mu.Unlock()
	}
	return nil
}

// Stat implements blob.Stater.
func (m *Memory) Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error) {
	if err := m.fault(ctx, Call{drive, OpStat, id}); err != nil {
		return cairn.ShardInfo{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[drive][id]
	if s == nil {
		return cairn.ShardInfo{}, fail(OpStat, id, cairn.ErrNotFound)
	}
	return cairn.ShardInfo{ID: id, Epoch: s.header.Epoch, Length: int64(len(s.data)), Path: "memory/" + drive.String(),
		Time: s.time}, nil
}

// Shard returns a shard's header and bytes as they lie there, nil if there is none.
func (m *Memory) Shard(drive cairn.DriveID, id cairn.ShardID) (cairn.ShardHeader, []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.shards[drive][id]; s != nil {
		return s.header, s.data
	}
	return cairn.ShardHeader{}, nil
}

// Count returns how many shards lie on all drives together.
func (m *Memory) Count() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, shards := range m.shards {
		n += len(shards)
	}
	return n
}

// Flip changes one byte of a shard, as a decaying disk does: its checksum stays.
func (m *Memory) Flip(drive cairn.DriveID, id cairn.ShardID, at int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[drive][id]
	changed := *s
	changed.data = bytes.Clone(s.data)
	changed.data[at] ^= 0x40
	m.shards[drive][id] = &changed
}

// Truncate cuts a shard to n bytes.
func (m *Memory) Truncate(drive cairn.DriveID, id cairn.ShardID, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.shards[drive][id]
	changed := *s
	changed.data = s.data[:n]
	changed.sums = sums(changed.data)
	m.shards[drive][id] = &changed
}

// Drop makes a drive forget a shard.
func (m *Memory) Drop(drive cairn.DriveID, id cairn.ShardID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shards[drive], id)
}

// Wipe makes a drive forget everything.
func (m *Memory) Wipe(drive cairn.DriveID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.shards, drive)
}
