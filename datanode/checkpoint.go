package datanode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"cairn"
	"cairn/internal/vfs"
)

// A checkpoint is the index as one file, so that recovery reads only what was written since. Integers are unsigned
// varints; all is followed by the CRC32C (u32, little-endian) of what is before:
//
//	magic (8 bytes) · seq · acked · lastSegment
//	segments: count, each: id, generation, size, tail, scanFrom, sealed, dead: count, each: key
//	groups: count, each: volume, slot, entries: count, each: blob, seq, epoch, time, segment, page, length, dataOff, crc
//	deletions: count, each: key, seq, segment
//	fences: count, each: volume, epoch, segment
//	epochs: count, each: volume, epoch
//
// A key is volume, blob, slot. The file "clean" beside it holds the same CRC while the store is closed: then nothing was
// written since and nothing needs to be scanned.
const (
	checkpointMagic = "CairnIx1"
	checkpointName  = "checkpoint"
	cleanName       = "clean"

	maxCheckpointBytes = 4 << 30
)

// checkpoint writes the index durably and marks it as clean; the mark is for close, and is taken back by the first
// recovery.
func (s *store) checkpoint() error {
	sum, err := s.writeCheckpoint()
	if err != nil || s.hasUnread() {
		return err
	}
	return s.replaceFile(cleanName, binary.LittleEndian.AppendUint32(nil, sum))
}

// hasUnread tells whether the next start must look again at what this one could not read.
func (s *store) hasUnread() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.segs {
		if g.unread != 0 {
			return true
		}
	}
	return false
}

// writeCheckpoint replaces the checkpoint, all or nothing, and returns its checksum.
func (s *store) writeCheckpoint() (uint32, error) {
	b, changes := s.encodeCheckpoint()
	sum := checksum(b)
	if err := s.replaceFile(checkpointName, binary.LittleEndian.AppendUint32(b, sum)); err != nil {
		return 0, fmt.Errorf("write checkpoint: %w", err)
	}
	s.mu.Lock()
	s.changes -= changes
	s.mu.Unlock()
	return sum, nil
}

func (s *store) replaceFile(name string, b []byte) error {
	return writeFileAtomic(s.fs, s.indexPath(name), b)
}

// writeFileAtomic replaces a file: a crash leaves the old content or the whole new one.
func writeFileAtomic(fs vfs.FS, path string, b []byte) error {
	f, err := fs.Open(path+".tmp", vfs.Write|vfs.Create)
	if err != nil {
		return err
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err == nil {
		err = f.Sync() // before the rename
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(path))
}

func readFile(fs vfs.FS, path string) ([]byte, error) {
	f, err := fs.Open(path, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size > maxCheckpointBytes {
		return nil, fmt.Errorf("%s has %d bytes: %w", path, info.Size, cairn.ErrCorrupt)
	}
	b := make([]byte, info.Size)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

// encodeCheckpoint takes one consistent view of the index. It holds up writers' completion, not readers, for some 50 ms
// per million shards.
func (s *store) encodeCheckpoint() (b []byte, changes int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	put := func(vs ...uint64) {
		for _, v := range vs {
			b = binary.AppendUvarint(b, v)
		}
	}
	putKey := func(k key) { put(uint64(k.volume), uint64(k.blob), uint64(k.slot)) }
	b = append(make([]byte, 0, 4096+24*s.index.shards), checkpointMagic...)
	put(s.seq, s.acked, uint64(s.lastSegment), uint64(len(s.segs)+len(s.free)))
	putSegment := func(g *segment, sealed bool) {
		put(uint64(g.id), uint64(g.generation), uint64(g.size), uint64(g.tail), uint64(g.scanFrom()))
		put(map[bool]uint64{true: 1}[sealed], uint64(len(g.dead)))
		for _, k := range g.dead {
			putKey(k)
		}
	}
	for _, g := range s.segs {
		putSegment(g, g.sealed && g.unread == 0)
	}
	for _, g := range s.free {
		putSegment(g, false) // it may be in use before the next checkpoint
	}
	put(uint64(len(s.index.groups)))
	for g, l := range s.index.groups {
		put(uint64(g.volume), uint64(g.slot), uint64(l.count))
		for _, c := range l.chunks {
			for i := range c {
				e := &c[i]
				put(uint64(e.blob), e.seq, uint64(e.epoch), uint64(e.time), uint64(e.segment), uint64(e.page),
					uint64(e.length), uint64(e.dataOff), uint64(e.crc))
			}
		}
	}
	put(uint64(len(s.tombs)))
	for k, t := range s.tombs {
		putKey(k)
		put(t.seq, uint64(t.segment))
	}
	put(uint64(len(s.fences)))
	for v, f := range s.fences {
		put(uint64(v), uint64(f.epoch), uint64(f.segment))
	}
	put(uint64(len(s.epochs)))
	for v, e := range s.epochs {
		put(uint64(v), uint64(e))
	}
	return b, s.changes
}

// snapshot is a decoded checkpoint.
type snapshot struct {
	seq, acked  uint64
	lastSegment uint32
	clean       bool
	segments    map[uint32]segmentRow
	entries     []keyEntry
	tombs       map[key]tomb
	fences      map[cairn.VolumeID]fenceAt
	epochs      map[cairn.VolumeID]cairn.Epoch
}

type segmentRow struct {
	generation           uint32
	size, tail, scanFrom int64
	sealed               bool
	dead                 []key
}

type keyEntry struct {
	key   key
	entry entry
}

// fields reads varints; after the first bad one it yields zeros.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) next() uint64 {
	v, n := binary.Uvarint(f.b)
	if n <= 0 {
		f.b, f.bad = nil, true
		return 0
	}
	f.b = f.b[n:]
	return v
}

// count reads a number of things that take at least one byte each.
func (f *fields) count() int {
	n := f.next()
	if n > uint64(len(f.b)) {
		f.b, f.bad = nil, true
		return 0
	}
	return int(n)
}

func (f *fields) key() key {
	return key{cairn.VolumeID(f.next()), cairn.BlobID(f.next()), uint8(f.next())}
}

// decodeCheckpoint reads what encodeCheckpoint wrote and the checksum behind it. The error is cairn.ErrCorrupt.
func decodeCheckpoint(b []byte) (*snapshot, error) {
	n := len(b) - 4
	if n < len(checkpointMagic) || string(b[:len(checkpointMagic)]) != checkpointMagic ||
		checksum(b[:n]) != binary.LittleEndian.Uint32(b[n:]) {
		return nil, fmt.Errorf("checkpoint does not match its checksum: %w", cairn.ErrCorrupt)
	}
	f := &fields{b: b[len(checkpointMagic):n]}
	snap := &snapshot{seq: f.next(), acked: f.next(), lastSegment: uint32(f.next()), segments: map[uint32]segmentRow{},
		tombs: map[key]tomb{}, fences: map[cairn.VolumeID]fenceAt{}, epochs: map[cairn.VolumeID]cairn.Epoch{}}
	for range f.count() {
		id := uint32(f.next())
		row := segmentRow{generation: uint32(f.next()), size: int64(f.next()), tail: int64(f.next()),
			scanFrom: int64(f.next()), sealed: f.next() == 1}
		for range f.count() {
			row.dead = append(row.dead, f.key())
		}
		snap.segments[id] = row
	}
	for range f.count() {
		k := key{volume: cairn.VolumeID(f.next()), slot: uint8(f.next())}
		for range f.count() {
			k.blob = cairn.BlobID(f.next())
			snap.entries = append(snap.entries, keyEntry{k, entry{blob: k.blob, seq: f.next(), epoch: cairn.Epoch(f.next()),
				time: uint32(f.next()), segment: uint32(f.next()), page: uint32(f.next()), length: uint32(f.next()),
				dataOff: uint32(f.next()), crc: uint32(f.next())}})
		}
	}
	for range f.count() {
		snap.tombs[f.key()] = tomb{f.next(), uint32(f.next())}
	}
	for range f.count() {
		snap.fences[cairn.VolumeID(f.next())] = fenceAt{cairn.Epoch(f.next()), uint32(f.next())}
	}
	for range f.count() {
		snap.epochs[cairn.VolumeID(f.next())] = cairn.Epoch(f.next())
	}
	if f.bad || len(f.b) > 0 {
		return nil, fmt.Errorf("checkpoint is inconsistent: %w", cairn.ErrCorrupt)
	}
	return snap, nil
}

// loadCheckpoint returns the last checkpoint, nil if there is none that can be used.
func (s *store) loadCheckpoint() (*snapshot, error) {
	b, err := readFile(s.fs, s.indexPath(checkpointName))
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	snap, err := decodeCheckpoint(b)
	if err != nil {
		s.stats.corruptions.Add(1)
		s.log.Warn("index is rebuilt from the segments", "path", s.dir, "err", err)
		return nil, nil
	}
	mark, err := readFile(s.fs, s.indexPath(cleanName))
	if err != nil {
		return snap, ignoreAbsent(err)
	}
	snap.clean = len(mark) == 4 && string(mark) == string(b[len(b)-4:])
	if s.readOnly {
		return snap, nil
	}
	// Before the first write: the next recovery has to scan.
	if err := s.fs.Remove(s.indexPath(cleanName)); err != nil {
		return nil, err
	}
	return snap, s.fs.SyncDir(filepath.Join(s.dir, indexDir))
}
