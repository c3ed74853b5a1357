package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"
	"sync"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"
)

// raftLog is one voter's log: records appended to preallocated segment files that are recycled, since rewriting a written
// block and syncing it costs half of growing a file. A record carries its segment's random nonce and a CRC32C, so that
// what an earlier use of the file left behind is never taken for a record, and a damaged record is told from the end.
//
// A record holds the hard state and a run of entries. Entries overwrite those of the same and higher index before them.
// Only committed, applied and flushed entries are ever dropped, whole segments at a time.
//
// raftLog is the raft.Storage of its voter. Append is called by one goroutine at a time; reads may run beside it.
type raftLog struct {
	fs      vfs.FS
	dir     string
	segSize int64 // of new segments

	// cur is written by Append alone.
	cur *segment
	off int64
	buf []byte

	mu       sync.Mutex
	syncFn   func(vfs.File) error // SyncData; a test of the tests replaces it
	segs     []*segment           // oldest first, cur is the last
	spare    []string             // files to be recycled, at most maxSpare
	nextSeq  uint64
	hard     *pb.HardState
	conf     *pb.ConfState // as of the state's applied index when the log was opened
	base     uint64        // index before the first entry
	baseTerm uint64
	ents     []entryPos // ents[i] is entry base+1+i
	cache    int        // entries from this place on are in memory
	cached   int64      // bytes of them
	dirty    bool       // the log ended in a damaged record when it was opened
	bad      bool       // the last segment has no header
	stale    []string   // files of no use, to be removed by begin
}

type entryPos struct {
	term  uint64
	seg   *segment
	off   int64 // of the record that holds it
	entry *pb.Entry
}

const (
	segmentHeader   = 512
	recordHeader    = 12
	maxSpare        = 2
	maxCachedBytes  = 4 << 20
	logMagic        = "CAIRNLOG"
	logVersion      = 1
	maxRecordLength = 256 << 20
)

// newLog starts an empty log behind (base, term): the state that goes with it holds all entries up to base.
func newLog(fs vfs.FS, dir string, segSize int64, base, term uint64) (*raftLog, error) {
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	l := &raftLog{fs: fs, dir: dir, segSize: segSize, base: base, baseTerm: term, nextSeq: 1, syncFn: vfs.File.SyncData,
		hard: &pb.HardState{Term: new(term), Vote: new(uint64(0)), Commit: new(base)}}
	return l, l.roll(segSize)
}

// Append stores a hard state (nil: unchanged) and entries, and syncs. After an error the log is not usable.
func (l *raftLog) Append(hard *pb.HardState, entries []*pb.Entry) error {
	l.mu.Lock()
	if hard != nil {
		l.hard = hard
	}
	hs := l.hard
	l.mu.Unlock()
	l.buf = encodeRecord(l.buf[:0], hs, entries)
	need := int64(len(l.buf))
	if l.off+need > l.cur.size {
		if err := l.roll(need + segmentHeader); err != nil {
			return err
		}
	}
	sealRecord(l.buf, l.cur.nonce)
	if _, err := l.cur.f.WriteAt(l.buf, l.off); err != nil {
		return err
	}
	if err := l.sync()(l.cur.f); err != nil {
		return err
	}
	if cap(l.buf) > 4<<20 {
		l.buf = nil // one huge entry must not pin its size
	} else {
		l.buf = l.buf[:0]
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(l.cur, l.off, entries)
	l.off += need
	l.trimCache()
	return nil
}

func (l *raftLog) sync() func(vfs.File) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.syncFn
}

// setHard changes what the next record will say of the hard state: for commit indexes, which need no write of their own.
func (l *raftLog) setHard(hard *pb.HardState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hard = hard
}

// note records where entries are. Called with mu held.
func (l *raftLog) note(seg *segment, off int64, entries []*pb.Entry) {
	for _, e := range entries {
		i := e.GetIndex()
		if i <= l.base {
			if i == l.base {
				l.baseTerm = e.GetTerm()
			}
			continue
		}
		at := int(i - l.base - 1)
		if at < len(l.ents) {
			for _, p := range l.ents[max(at, l.cache):] {
				l.cached -= entryCost(p.entry)
			}
			clear(l.ents[at:])
			l.ents = l.ents[:at]
			l.cache = min(l.cache, at)
		}
		l.ents = append(l.ents, entryPos{term: e.GetTerm(), seg: seg, off: off, entry: e})
		l.cached += entryCost(e)
		seg.last = max(seg.last, i)
	}
}

func entryCost(e *pb.Entry) int64 { return int64(len(e.GetData())) + 100 }

// trimCache forgets the oldest entries beyond the bound. Called with mu held.
func (l *raftLog) trimCache() {
	for l.cached > maxCachedBytes && l.cache < len(l.ents) {
		l.cached -= entryCost(l.ents[l.cache].entry)
		l.ents[l.cache].entry = nil
		l.cache++
	}
}

// Drop forgets entries up to index, and returns the segments that hold no later one, for Retire. It does no I/O.
func (l *raftLog) Drop(index uint64) []*segment {
	l.mu.Lock()
	defer l.mu.Unlock()
	drop := 0
	for drop < len(l.segs)-1 && l.segs[drop].last <= index {
		drop++
	}
	if drop == 0 {
		return nil
	}
	gone := slices.Clone(l.segs[:drop])
	l.segs = slices.Delete(l.segs, 0, drop)
	l.forget(min(index, l.segs[0].prev)) // the first segment that stays tells what lies before it
	return gone
}

// forget moves base forward to index. Called with mu held.
func (l *raftLog) forget(index uint64) {
	if index <= l.base {
		return
	}
	n := int(index - l.base)
	l.baseTerm = l.ents[n-1].term
	for _, p := range l.ents[min(l.cache, n):n] {
		l.cached -= entryCost(p.entry)
	}
	l.ents = slices.Delete(l.ents, 0, n)
	l.cache = max(0, l.cache-n)
	l.base = index
}

// Size is the number of bytes in segments, and the first index that is kept.
func (l *raftLog) Size() (bytes int64, first uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs[:len(l.segs)-1] {
		bytes += s.size
	}
	return bytes, l.base + 1
}

// last returns the position of the last entry.
func (l *raftLog) last() (index, term uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.ents); n > 0 {
		return l.base + uint64(n), l.ents[n-1].term
	}
	return l.base, l.baseTerm
}

// keepFrom returns the index up to which segments may be dropped so that at least keep bytes of log stay.
func (l *raftLog) keepFrom(keep int64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var sum int64
	for _, s := range slices.Backward(l.segs) {
		if sum += s.size; sum >= keep {
			return s.prev
		}
	}
	return l.base
}

// Close closes the files.
func (l *raftLog) Close() (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segs {
		if e := s.f.Close(); err == nil {
			err = e
		}
	}
	l.segs = nil
	return err
}

// The methods of raft.Storage.

// InitialState returns the hard state and the configuration that goes with the state's applied index.
func (l *raftLog) InitialState() (*pb.HardState, *pb.ConfState, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hard, l.conf, nil
}

// FirstIndex returns the first index that is kept.
func (l *raftLog) FirstIndex() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.base + 1, nil
}

// LastIndex returns the last index in the log.
func (l *raftLog) LastIndex() (uint64, error) {
	i, _ := l.last()
	return i, nil
}

// Term returns the term of an entry or of the one before the first.
func (l *raftLog) Term(i uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case i < l.base:
		return 0, raft.ErrCompacted
	case i == l.base:
		return l.baseTerm, nil
	case i > l.base+uint64(len(l.ents)):
		return 0, raft.ErrUnavailable
	}
	return l.ents[i-l.base-1].term, nil
}

// Snapshot is never available: a voter that lags behind the log is replaced by one seeded from a checkpoint (seed.go).
func (l *raftLog) Snapshot() (*pb.Snapshot, error) {
	return nil, raft.ErrSnapshotTemporarilyUnavailable
}

// Entries returns the entries [lo, hi), at least one and at most about maxBytes.
func (l *raftLog) Entries(lo, hi, maxBytes uint64) ([]*pb.Entry, error) {
	l.mu.Lock()
	if lo <= l.base {
		l.mu.Unlock()
		return nil, raft.ErrCompacted
	}
	if hi > l.base+uint64(len(l.ents))+1 {
		l.mu.Unlock()
		return nil, raft.ErrUnavailable
	}
	// Segments are not recycled under us: Drop runs on the goroutine that also runs raft's reads (voter.go).
	pos := slices.Clone(l.ents[lo-l.base-1 : hi-l.base-1])
	l.mu.Unlock()
	list := make([]*pb.Entry, 0, len(pos))
	var size uint64
	for i := range pos {
		e, err := l.load(pos, i, lo+uint64(i))
		if err != nil {
			return nil, err
		}
		size += uint64(len(e.GetData())) + 24
		if len(list) > 0 && size > maxBytes {
			break
		}
		list = append(list, e)
	}
	return list, nil
}

// load returns the entry at pos[i], reading its record, and with it its neighbours in the record, if it is not in memory.
func (l *raftLog) load(pos []entryPos, i int, index uint64) (*pb.Entry, error) {
	if pos[i].entry != nil {
		return pos[i].entry, nil
	}
	seg, off := pos[i].seg, pos[i].off
	_, entries, _, err := seg.read(off)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		d := int(e.GetIndex()) - int(index) + i
		if d >= i && d < len(pos) && pos[d].seg == seg && pos[d].off == off {
			pos[d].entry = e
		}
	}
	if pos[i].entry == nil {
		return nil, &cairn.Error{Op: "meta.log", Subject: fmt.Sprint("entry ", index), Err: cairn.ErrCorrupt}
	}
	return pos[i].entry, nil
}

// encodeRecord appends a record without nonce and CRC: those depend on the segment (sealRecord).
//
// Format: length of the payload (4 bytes), segment's nonce (4), CRC32C of nonce and payload (4), payload: term, vote,
// commit, number of entries, and of each entry type, term, index, data; numbers as varints.
func encodeRecord(buf []byte, hard *pb.HardState, entries []*pb.Entry) []byte {
	buf = append(buf, make([]byte, recordHeader)...)
	for _, v := range []uint64{hard.GetTerm(), hard.GetVote(), hard.GetCommit(), uint64(len(entries))} {
		buf = protowire.AppendVarint(buf, v)
	}
	for _, e := range entries {
		buf = protowire.AppendVarint(buf, uint64(e.GetType()))
		buf = protowire.AppendVarint(buf, e.GetTerm())
		buf = protowire.AppendVarint(buf, e.GetIndex())
		buf = protowire.AppendBytes(buf, e.GetData())
	}
	return buf
}

func sealRecord(rec []byte, nonce uint32) {
	binary.LittleEndian.PutUint32(rec, uint32(len(rec)-recordHeader))
	binary.LittleEndian.PutUint32(rec[4:], nonce)
	binary.LittleEndian.PutUint32(rec[8:], recordSum(rec))
}

// recordSum covers length, nonce and payload.
func recordSum(rec []byte) uint32 {
	return crc32.Update(crc32.Checksum(rec[:8], castagnoli), castagnoli, rec[recordHeader:])
}

func decodeRecord(payload []byte) (*pb.HardState, []*pb.Entry, error) {
	var head [4]uint64
	for i := range head {
		v, n := protowire.ConsumeVarint(payload)
		if n < 0 {
			return nil, nil, corrupt("log record")
		}
		head[i], payload = v, payload[n:]
	}
	hard := &pb.HardState{Term: new(head[0]), Vote: new(head[1]), Commit: new(head[2])}
	if head[3] > uint64(len(payload)) {
		return nil, nil, corrupt("log record's count")
	}
	entries := make([]*pb.Entry, 0, head[3])
	for range head[3] {
		e, rest, err := decodeLogEntry(payload)
		if err != nil {
			return nil, nil, err
		}
		entries, payload = append(entries, e), rest
	}
	return hard, entries, nil
}

func decodeLogEntry(b []byte) (*pb.Entry, []byte, error) {
	var head [3]uint64
	for i := range head {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, nil, corrupt("log record's entry")
		}
		head[i], b = v, b[n:]
	}
	data, n := protowire.ConsumeBytes(b)
	if n < 0 {
		return nil, nil, corrupt("log record's data")
	}
	return &pb.Entry{Type: pb.EntryType(head[0]).Enum(), Term: new(head[1]), Index: new(head[2]), Data: data}, b[n:], nil
}

// nearNonce tells whether a is b but for a few flipped bits: then a record was here, and is damaged.
func nearNonce(a, b uint32) bool { return bits.OnesCount32(a^b) <= 4 }
