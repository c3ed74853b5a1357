package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
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
// hard state: term, vote, commit (8 each), size of the file (8), CRC32C of all that (4).
type segment struct {
	f        vfs.File
	name     string
	size     int64
	made     int64 // size when it was made
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
	size = max(size, l.segSize)
	l.mu.Lock()
	seq := l.nextSeq
	l.nextSeq++
	old := ""
	if n := len(l.spare); n > 0 && size == l.segSize {
		old, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	hard := l.hard
	l.mu.Unlock()
	if l.cur != nil {
		// The next segment must not be found without this one's last records.
		if err := l.sync()(l.cur.f); err != nil {
			return err
		}
	}
	s := &segment{name: path.Join(l.dir, segmentName(seq)), seq: seq, nonce: uint32(draw()), size: size, hard: hard}
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
	zeros := make([]byte, min(256<<10, size))
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
	for _, v := range []uint64{s.seq, s.prev, s.prevTerm, s.hard.GetTerm(), s.hard.GetVote(), s.hard.GetCommit(), uint64(s.size)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return b[:segmentHeader]
}

func (s *segment) parse(b []byte) error {
	const sum = 16 + 7*8
	if string(b[:8]) != logMagic || binary.LittleEndian.Uint32(b[8:]) != logVersion ||
		crc32.Checksum(b[:sum], castagnoli) != binary.LittleEndian.Uint32(b[sum:]) {
		return corrupt("log segment header")
	}
	s.nonce = binary.LittleEndian.Uint32(b[12:])
	var v [7]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(b[16+8*i:])
	}
	s.seq, s.prev, s.prevTerm, s.made = v[0], v[1], v[2], int64(v[6])
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

// Retire closes dropped segments and keeps their files for the next ones, or removes them.
func (l *raftLog) Retire(gone []*segment) error {
	var spare []string
	for _, s := range gone {
		if err := s.f.Close(); err != nil {
			return err
		}
		if s.size != l.segSize || len(spare) == maxSpare {
			if err := l.fs.Remove(s.name); err != nil {
				return err
			}
			continue
		}
		name := strings.TrimSuffix(s.name, ".log") + ".spare"
		if err := l.fs.Rename(s.name, name); err != nil {
			return err
		}
		spare = append(spare, name)
	}
	// The directory must say "spare" for good before the file is written again, or a crash brings the old name back
	// with what is none of its records.
	if err := syncDir(l.fs, l.dir); err != nil {
		return err
	}
	l.mu.Lock()
	n := min(len(spare), maxSpare-len(l.spare))
	l.spare = append(l.spare, spare[:n]...)
	l.mu.Unlock()
	for _, name := range spare[n:] {
		if err := l.fs.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// openLog reads a log back. Damage before its end is ErrCorrupt; damage of its last record sets dirty, since it may be a
// write that was never acknowledged, or one that was.
func openLog(fs vfs.FS, dir string, segSize int64) (*raftLog, error) {
	names, err := fs.List(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	l := &raftLog{fs: fs, dir: dir, segSize: segSize, syncFn: vfs.File.SyncData}
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
	l.nextSeq = l.cur.seq + 2 // a last segment without header has the number behind it
	if err := l.replay(); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// begin makes an opened log ready for Append: the damaged end, if any, is cleared, and a new segment begun. When the log
// is dirty the caller has noted that durably before, for the next opening will find nothing wrong.
func (l *raftLog) begin() error {
	for _, name := range l.stale {
		if err := l.fs.Remove(name); err != nil {
			return err
		}
	}
	if l.dirty && l.off+recordHeader <= l.cur.size {
		if _, err := l.cur.f.WriteAt(make([]byte, recordHeader), l.off); err != nil {
			return err
		}
	}
	return l.roll(l.segSize)
}

// openSegment opens one file. A last segment without its header holds nothing: the header is synced before any record. One
// with a broken header may have held records.
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
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return err
	}
	broken := s.parse(head) != nil
	if broken || path.Base(name) != segmentName(s.seq) {
		f.Close()
		l.bad = true
		l.stale = append(l.stale, name)
		l.dirty = broken && n > 0 && !allZero(head)
		return nil
	}
	if l.bad {
		f.Close()
		return &cairn.Error{Op: "meta.log", Subject: name, Err: corrupt("log segment before this one")}
	}
	l.segs = append(l.segs, s)
	return nil
}

func allZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// replay reads the segments in order. Where one does not go on from what was read before, because an older one is gone or
// damaged, the log begins anew with it: start checks that the state holds all that came before.
func (l *raftLog) replay() error {
	var old []*segment
	for i, s := range l.segs {
		if i == 0 || l.lastLocked() != s.prev {
			old = l.segs[:i]
			clear(l.ents)
			l.base, l.baseTerm, l.hard, l.ents, l.cache, l.cached = s.prev, s.prevTerm, s.hard, nil, 0, 0
		}
		off, err := l.replaySegment(s)
		last := i == len(l.segs)-1
		switch {
		case errors.Is(err, errEnd), errors.Is(err, cairn.ErrCorrupt) && !last:
		case errors.Is(err, cairn.ErrCorrupt) && !s.anyRecordBehind(off):
			l.dirty = true
		default:
			return err
		}
		if last && s.size < s.made {
			l.dirty = true // cut by someone: segments are written whole before their first record
		}
		l.off = off
	}
	for _, s := range old {
		l.stale = append(l.stale, s.name)
		s.f.Close()
	}
	l.segs = slices.Delete(l.segs, 0, len(old))
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
