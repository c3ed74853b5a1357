package datanode

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"cairn"
	"cairn/internal/vfs"
)

// A segment file begins with one page that tells its generation:
//
//	0 magic u32   4 version u32   8 segment u32   12 generation u32   16 tag [8]   24 CRC32C of the 24 bytes before
//
// Recycling rewrites the page with the next generation, which voids all records of earlier ones at once.
const (
	segmentMagic   = 0x31537243 // "CrS1"
	segmentVersion = 1
	segmentBytes   = 28
)

// segment is one file of records.
type segment struct {
	id         uint32
	generation uint32
	tag        tag
	path       string
	size       int64    // bytes that records may use, the first page included
	file       vfs.File // reads, through the page cache
	direct     vfs.File // writes, and reads that must see the disk

	// users counts reads and writes under way. They begin under the store's mutex while the segment holds something
	// live or pending, so that once it holds neither and users is zero, no one touches it.
	users atomic.Int64

	// Guarded by the store's mutex.
	tail      int64         // the next record begins here
	pending   map[int64]int // how many extents begin at a place that are reserved and not yet settled
	sealed    bool          // takes no more records
	live      int64         // shards that the index locates here
	liveBytes int64         // their records
	deletions int64         // deletions recorded here that are still needed
	fences    int64         // fences recorded here that are still in force
	dead      []key         // shards whose records here are superseded or deleted
	stuck     bool          // compaction met a bad record: the segment stays until that is replaced or deleted
	recycling bool
	// unread is where the last recovery first met a page that it could not read; 0 if there was none. Records may lie there
	// that nobody knows of, so nothing is written to the segment, copied out of it or recycled until a recovery reads it all.
	unread int64
}

// scanFrom is where a recovery must begin to look for records that a checkpoint taken now does not hold.
func (g *segment) scanFrom() int64 {
	from := g.tail
	if g.unread != 0 {
		from = min(from, g.unread)
	}
	for at := range g.pending {
		from = min(from, at)
	}
	return from
}

// idle tells whether nothing in the segment is needed any more.
func (g *segment) idle() bool {
	return g.sealed && g.unread == 0 && g.live == 0 && g.deletions == 0 && g.fences == 0 && len(g.pending) == 0
}

func (g *segment) close() error { return errors.Join(g.file.Close(), g.direct.Close()) }

func segmentName(id uint32) string { return fmt.Sprintf("%08x.seg", id) }

func parseSegmentName(name string) (uint32, bool) {
	hex, ok := strings.CutSuffix(name, ".seg")
	id, err := strconv.ParseUint(hex, 16, 32)
	return uint32(id), ok && err == nil && segmentName(uint32(id)) == name
}

// openSegment opens both handles of a segment's file.
func (s *store) openSegment(id uint32, flags vfs.Flag) (*segment, error) {
	g := &segment{id: id, path: filepath.Join(s.dir, segmentsDir, segmentName(id)), pending: map[int64]int{}}
	var err error
	if g.direct, err = s.fs.Open(g.path, flags|vfs.Direct); err != nil {
		return nil, err
	}
	if g.file, err = s.fs.Open(g.path, 0); err != nil {
		g.direct.Close()
		return nil, err
	}
	return g, nil
}

// createSegment makes a file that holds at least need bytes of records, durable and empty.
func (s *store) createSegment(need int64, privileged bool) (*segment, error) {
	size := max(s.segmentBytes, need+pageSize)
	usage, err := s.fs.StatFS(s.dir)
	if err != nil {
		return nil, err
	}
	reserve := s.reserveBytes
	if privileged {
		reserve /= 4
	}
	// Near the end of the space a smaller segment does, as long as the record fits.
	for size > need+pageSize && usage.FreeBytes-size < reserve {
		size = max(size/2/pageSize*pageSize, need+pageSize)
	}
	if usage.FreeBytes-size < reserve {
		return nil, fmt.Errorf("%d bytes free, of which %d are reserved: %w", usage.FreeBytes, reserve, cairn.ErrFull)
	}
	s.mu.Lock()
	s.lastSegment++
	id := s.lastSegment
	s.mu.Unlock()
	g, err := s.openSegment(id, vfs.Write|vfs.Create|vfs.Excl)
	if err != nil {
		return nil, err
	}
	g.size = size
	if err := s.initSegment(g); err != nil {
		// What is left is an empty or void file, which the next recovery takes for a free segment or removes.
		return nil, errors.Join(err, g.close(), s.fs.Remove(g.path))
	}
	return g, nil
}

func (s *store) initSegment(g *segment) error {
	if err := g.direct.Allocate(g.size); err != nil {
		return err
	}
	if err := s.writeSegmentHeader(g, 1); err != nil {
		return err
	}
	return s.fs.SyncDir(filepath.Join(s.dir, segmentsDir))
}

// writeSegmentHeader makes g begin the given generation, durably: all its records are void from then on.
func (s *store) writeSegmentHeader(g *segment, generation uint32) error {
	page := vfs.AlignedBuffer(pageSize)
	g.generation, g.tag = generation, makeTag(s.secret, g.id, generation)
	le := binary.LittleEndian
	le.PutUint32(page, segmentMagic)
	le.PutUint32(page[4:], segmentVersion)
	le.PutUint32(page[8:], g.id)
	le.PutUint32(page[12:], generation)
	copy(page[16:], g.tag[:])
	le.PutUint32(page[24:], checksum(page[:24]))
	if _, err := g.direct.WriteAt(page, 0); err != nil {
		return err
	}
	if err := g.direct.Sync(); err != nil {
		return err
	}
	g.tail = pageSize
	return nil
}

// decodeSegmentHeader returns the generation that the first page of segment id names.
func decodeSegmentHeader(page []byte, id uint32, secret [16]byte) (generation uint32, err error) {
	le := binary.LittleEndian
	if len(page) < segmentBytes || le.Uint32(page) != segmentMagic || le.Uint32(page[4:]) != segmentVersion ||
		le.Uint32(page[8:]) != id || checksum(page[:24]) != le.Uint32(page[24:]) {
		return 0, fmt.Errorf("segment header: %w", cairn.ErrCorrupt)
	}
	generation = le.Uint32(page[12:])
	if makeTag(secret, id, generation) != tag(page[16:24]) {
		return 0, fmt.Errorf("segment header is of another drive: %w", cairn.ErrCorrupt)
	}
	return generation, nil
}

// kindOf gives an error of the file system the kind that callers act on.
func kindOf(err error) error {
	switch {
	case err == nil:
		return nil
	case cairn.Kind(err) != nil:
		return err
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", err, cairn.ErrFull)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", err, cairn.ErrReadOnly)
	case errors.Is(err, fs.ErrClosed):
		return fmt.Errorf("drive was closed: %w", cairn.ErrUnavailable)
	}
	return fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
}
