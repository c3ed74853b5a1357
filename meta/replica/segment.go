package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
	pb "go.etcd.io/raft/v3/raftpb"
)

// segment is one file of the log. Its header tells where the log stood when the segment was begun, so that the segments
// before it can go.
//
// Header, 512 bytes: magic (8), version (4), nonce (4), sequence number (8), index and term of the entry before (8, 8),
// hard state: term, vote, commit (8 each), CRC32C of all that (4).
type segment struct {
	f        vfs.File
	name     string
	size     int64
	seq      uint64
	nonce    uint32
	prev     uint64 // last index in the log when the segment was begun
	prevTerm uint64
	hard     *pb.HardState
	last     uint64 // highest index in it, 0 if none; guarded by raftLog.mu
}

func segmentName(seq uint64) string { return fmt.Sprintf("%016x.log", seq) }

// roll begins a new segment of at least size bytes: its header is synced, and its name with the directory.
func (l *raftLog) roll(size int64) error {
	size = max(size, segmentBytes)
	l.mu.Lock()
	seq := l.nextSeq
	l.nextSeq++
	old := ""
	if n := len(l.spare); n > 0 && size == segmentBytes {
		old, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	hard := l.hard
	l.mu.Unlock()
	if l.cur != nil {
		// The next segment must not be found without this one's last records.
		if err := l.syncFn(l.cur.f); err != nil {
			return err
		}
	}
	s := &segment{name: path.Join(l.dir, segmentName(seq)), seq: seq, nonce: rand.Uint32(), size: size, hard: hard}
	s.prev, s.prevTerm = l.last()
	if err := s.create(l.fs, old); err != nil {
		return err
	}
	if err := syncDir(l.fs, l.dir); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.segs = append(l.segs, s)
	l.cur, l.off = s, segmentHeader
	return nil
}

func (s *segment) create(fs vfs.FS, old string) (err error) {
	if old != "" {
		if err = fs.Rename(old, s.name); err != nil {
			return err
		}
	}
	if s.f, err = fs.OpenReadWrite(s.name, vfs.WriteCategoryUnspecified); err != nil {
		return err
	}
	if old == "" {
		if err = fillZeros(s.f, s.size); err != nil {
			return err
		}
	}
	if _, err = s.f.WriteAt(s.header(), 0); err != nil {
		return err
	}
	return s.f.Sync()
}

// fillZeros writes the file once: syncing blocks that were written before needs no change of the file's metadata.
func fillZeros(f vfs.File, size int64) error {
	zeros := make([]byte, 256<<10)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return err
		}
	}
	return nil
}

func (s *segment) header() []byte {
	b := make([]byte, 0, segmentHeader)
	b = append(b, logMagic...)
	b = binary.LittleEndian.AppendUint32(b, logVersion)
	b = binary.LittleEndian.AppendUint32(b, s.nonce)
	for _, v := range []uint64{s.seq, s.prev, s.prevTerm, s.hard.GetTerm(), s.hard.GetVote(), s.hard.GetCommit()} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:segmentHeader]
}

func (s *segment) parse(b []byte) error {
	const sum = 16 + 6*8
	if string(b[:8]) != logMagic || binary.LittleEndian.Uint32(b[8:]) != logVersion ||
		crc32.Checksum(b[:sum], castagnoli) != binary.LittleEndian.Uint32(b[sum:]) {
		return corrupt("log segment header")
	}
	s.nonce = binary.LittleEndian.Uint32(b[12:])
	var v [6]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	s.seq, s.prev, s.prevTerm = v[0], v[1], v[2]
	s.hard = &pb.HardState{Term: new(v[3]), Vote: new(v[4]), Commit: new(v[5])}
	return nil
}

var errEnd = errors.New("end of segment")

// read returns the record at off and the offset behind it; errEnd if there is none, ErrCorrupt if there was one.
func (s *segment) read(off int64) (*pb.HardState, []*pb.Entry, int64, error) {
	var h [recordHeader]byte
	if off+recordHeader > s.size {
		return nil, nil, off, errEnd
	}
	if _, err := s.f.ReadAt(h[:], off); err != nil {
		return nil, nil, off, s.readError(off, err)
	}
	length := int64(binary.LittleEndian.Uint32(h[:]))
	nonce := binary.LittleEndian.Uint32(h[4:])
	if nonce != s.nonce {
		if nearNonce(nonce, s.nonce) {
			return nil, nil, off, corrupt("log record's nonce")
		}
		return nil, nil, off, errEnd
	}
	if length > maxRecordLength || off+recordHeader+length > s.size {
		return nil, nil, off, corrupt("log record's length")
	}
	rec := make([]byte, recordHeader+length)
	if _, err := s.f.ReadAt(rec, off); err != nil {
		return nil, nil, off, s.readError(off, err)
	}
	if recordSum(rec) != binary.LittleEndian.Uint32(rec[8:]) {
		return nil, nil, off, corrupt("log record's checksum")
	}
	hard, entries, err := decodeRecord(rec[recordHeader:])
	return hard, entries, off + int64(len(rec)), err
}

func (s *segment) readError(off int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("file ends early: %w", cairn.ErrCorrupt)
	}
	return &cairn.Error{Op: "meta.log", Subject: fmt.Sprint(s.name, " at ", off), Err: err}
}

// retire closes a segment and keeps its file for the next one, or removes it.
func (l *raftLog) retire(s *segment) error {
	if err := s.f.Close(); err != nil {
		return err
	}
	l.mu.Lock()
	keep := len(l.spare) < maxSpare && s.size == segmentBytes
	l.mu.Unlock()
	if !keep {
		return l.fs.Remove(s.name)
	}
	// The name must say "no log" before the log forgets the segment's place, or the next start would read a gap.
	spare := strings.TrimSuffix(s.name, ".log") + ".spare"
	if err := l.fs.Rename(s.name, spare); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = append(l.spare, spare)
	return nil
}

// openLog reads a log back. Damage before its end is ErrCorrupt; damage of its last record sets dirty, since it may be a
// write that was never acknowledged, or one that was.
func openLog(fs vfs.FS, dir string) (*raftLog, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	l := &raftLog{fs: fs, dir: dir, syncFn: vfs.File.SyncData}
	for _, name := range names {
		switch path.Ext(name) {
		case ".spare":
			if err := fs.Remove(path.Join(dir, name)); err != nil {
				return nil, err
			}
		case ".log":
			if err := l.openSegment(path.Join(dir, name)); err != nil {
				l.Close()
				return nil, err
			}
		}
	}
	if len(l.segs) == 0 {
		return nil, corrupt("no log segment")
	}
	l.cur = l.segs[len(l.segs)-1]
	l.nextSeq = l.cur.seq + 2 // a bad last segment has the number behind it
	if err := l.replay(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// begin makes an opened log ready for Append: the damaged end, if any, is cleared, and a new segment begun. When the log
// is dirty the caller has noted that durably before, for the next opening will find nothing wrong.
func (l *raftLog) begin() error {
	if l.bad != "" {
		if err := l.fs.Remove(l.bad); err != nil {
			return err
		}
	}
	if l.dirty && l.off+recordHeader <= l.cur.size {
		if _, err := l.cur.f.WriteAt(make([]byte, recordHeader), l.off); err != nil {
			return err
		}
	}
	return l.roll(segmentBytes)
}

// openSegment opens one file. A last segment whose header was never synced holds nothing that counts.
func (l *raftLog) openSegment(name string) error {
	f, err := l.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	s := &segment{f: f, name: name}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	s.size = info.Size()
	head := make([]byte, segmentHeader)
	if _, err := f.ReadAt(head, 0); err != nil || s.parse(head) != nil {
		f.Close()
		if len(l.segs) > 0 {
			l.dirty, l.bad = true, name // it was being made, or it has acknowledged records
			return nil
		}
		return &cairn.Error{Op: "meta.log", Subject: name, Err: corrupt("log segment header")}
	}
	if l.bad != "" {
		f.Close()
		return &cairn.Error{Op: "meta.log", Subject: name, Err: corrupt("log segment before this one")}
	}
	if n := len(l.segs); n > 0 && s.seq-l.segs[n-1].seq > 2 {
		f.Close()
		return &cairn.Error{Op: "meta.log", Subject: name, Err: corrupt("log segment before this one is missing")}
	}
	l.segs = append(l.segs, s)
	return nil
}

func (l *raftLog) replay() error {
	first := l.segs[0]
	l.base, l.baseTerm, l.hard = first.prev, first.prevTerm, first.hard
	for i, s := range l.segs {
		off, err := l.replaySegment(s)
		lastSegment := i == len(l.segs)-1
		switch {
		case errors.Is(err, cairn.ErrCorrupt) && lastSegment && !s.anyRecordBehind(off):
			l.dirty = true
		case err != nil && !errors.Is(err, errEnd):
			return err
		case !lastSegment && l.lastLocked() != l.segs[i+1].prev:
			return &cairn.Error{Op: "meta.log", Subject: s.name, Err: corrupt("log segment is cut short")}
		}
		if lastSegment && s.size < segmentBytes {
			l.dirty = true // cut by someone: segments are written whole before their first record
		}
		l.off = off
	}
	return nil
}

func (l *raftLog) lastLocked() uint64 { return l.base + uint64(len(l.ents)) }

func (l *raftLog) replaySegment(s *segment) (int64, error) {
	off := int64(segmentHeader)
	for {
		hard, entries, next, err := s.read(off)
		if err != nil {
			return off, err
		}
		if len(entries) > 0 && entries[0].GetIndex() > l.lastLocked()+1 {
			return off, &cairn.Error{Op: "meta.log", Subject: s.name, Err: corrupt("gap in the log")}
		}
		l.hard = hard
		l.note(s, off, entries)
		l.trimCache()
		off = next
	}
}

// anyRecordBehind tells whether a whole record follows a damaged one: then the damaged one was written and synced before.
func (s *segment) anyRecordBehind(off int64) bool {
	b := make([]byte, s.size)
	n, _ := s.f.ReadAt(b, 0)
	b = b[:n]
	for at := int(off) + 1; at+recordHeader <= len(b); at++ {
		if binary.LittleEndian.Uint32(b[at+4:]) != s.nonce {
			continue
		}
		length := int64(binary.LittleEndian.Uint32(b[at:]))
		if end := int64(at) + recordHeader + length; length > 0 && end <= int64(len(b)) &&
			recordSum(b[at:end]) == binary.LittleEndian.Uint32(b[at+8:]) {
			return true
		}
	}
	return false
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		d.Close()
		return err
	}
	return d.Close()
}
