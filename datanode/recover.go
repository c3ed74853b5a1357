package datanode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"

	"cairn"
	"cairn/internal/vfs"
)

const (
	scanBytes          = 1 << 20 // of one read where nothing is found; less behind a record
	minScanBytes       = 16 << 10
	maxUnreadablePages = 16 // in one recovery; with more, what the drive holds is unknown, and unknown is not absent
)

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// openStore recovers the log in a drive's directory and starts it.
func openStore(cfg Config, dir string, f format, readOnly bool, stats *counters, limits *limits) (*store, error) {
	s := &store{cfg: cfg, fs: cfg.FS, log: cfg.Log, dir: dir, id: f.Drive, secret: f.Secret, readOnly: readOnly,
		index: newIndex(), segs: map[uint32]*segment{}, epochs: map[cairn.VolumeID]cairn.Epoch{},
		fences: map[cairn.VolumeID]fenceAt{}, tombs: map[key]tomb{}, graves: map[key]int32{},
		rotate: make(chan struct{}, 1), limits: limits, stats: stats, tables: newTableCache(tableCacheBytes),
		buffers: newBufferPool(maxColdRead + 2*pageSize), small: newBufferPool(blockSize + 2*pageSize), blocks: newBufferPool(blockSize)}
	s.rotate <- struct{}{}
	s.queue = opQueue{maxOps: cfg.QueueOps, maxBytes: cfg.QueueBytes, wake: make(chan struct{}, 1)}
	s.pieces.init(cfg.QueueBytes)
	s.bg, s.cancel = context.WithCancel(cairn.Background(context.Background()))
	if err := s.sizes(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.closeFiles())
	}
	s.start()
	return s, nil
}

// sizes settles what depends on the size of the file system.
func (s *store) sizes() error {
	usage, err := s.fs.StatFS(s.dir)
	if err != nil {
		return err
	}
	s.segmentBytes, s.reserveBytes = s.cfg.SegmentBytes, s.cfg.ReserveBytes
	if s.segmentBytes == 0 {
		s.segmentBytes = max(minSegmentBytes, min(maxSegmentBytes, usage.TotalBytes/64/pageSize*pageSize))
	}
	if s.reserveBytes == 0 {
		s.reserveBytes = min(1<<30, usage.TotalBytes/20)
	}
	return nil
}

func (s *store) start() {
	if s.readOnly {
		return
	}
	s.wg.Add(2 + s.cfg.StreamWriters)
	go s.committer()
	for i := range s.cfg.StreamWriters {
		go s.pieceWriter(1 + i)
	}
	go s.janitor()
}

// found is a record that a scan met.
type found struct {
	h       *header
	at      int64
	segment *segment
	data    []byte // of deletions and fences
}

// recovery rebuilds the index from the last checkpoint and the records after it.
type recovery struct {
	*store
	snap       *snapshot
	records    []found
	scanned    map[*segment]bool
	unreadable int
}

func (s *store) recover() error {
	r := &recovery{store: s, scanned: map[*segment]bool{}}
	if !s.readOnly {
		if err := r.makeDirs(); err != nil {
			return err
		}
	}
	var err error
	if r.snap, err = s.loadCheckpoint(); err != nil {
		return err
	}
	if r.snap == nil {
		r.snap = &snapshot{}
	}
	if err := r.openSegments(); err != nil {
		return err
	}
	for _, g := range s.segs {
		if err := r.scanTail(g); err != nil {
			return err
		}
	}
	r.seq = max(r.snap.seq, r.snap.acked)
	r.acked = r.snap.acked
	for _, f := range r.records {
		r.seq = max(r.seq, f.h.seq, f.h.lsn)
		r.acked = max(r.acked, f.h.acked)
	}
	if err := r.dropTorn(); err != nil {
		return err
	}
	r.replay()
	return r.finish()
}

func (r *recovery) makeDirs() error {
	for _, d := range []string{segmentsDir, indexDir} {
		if err := r.fs.Mkdir(filepath.Join(r.dir, d)); err != nil {
			return err
		}
	}
	return r.fs.SyncDir(r.dir)
}

// openSegments opens every segment file and finds out its generation.
func (r *recovery) openSegments() error {
	names, err := r.fs.ReadDir(filepath.Join(r.dir, segmentsDir))
	if err != nil {
		return ignoreAbsent(err) // read-only and never written
	}
	r.lastSegment = r.snap.lastSegment
	for _, name := range names {
		id, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		r.lastSegment = max(r.lastSegment, id)
		if err := r.adopt(id); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (r *recovery) adopt(id uint32) error {
	flags := vfs.Write
	if r.readOnly {
		flags = 0
	}
	g, err := r.openSegment(id, flags)
	if err != nil {
		return err
	}
	r.segs[id] = g
	g.sealed, g.tail = true, pageSize
	info, err := g.file.Stat()
	if err != nil {
		return err
	}
	row, known := r.snap.segments[id]
	g.size = max(info.Size/pageSize*pageSize, row.size)
	page := vfs.AlignedBuffer(pageSize)
	if _, err := g.direct.ReadAt(page, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	g.generation, err = decodeSegmentHeader(page, id, r.secret)
	if err == nil {
		g.tag = makeTag(r.secret, id, g.generation)
	} else if err = r.mendHeader(g, row, known, info.Size); err != nil {
		return err
	}
	if known && row.generation == g.generation {
		g.tail = row.tail
		for _, k := range row.dead {
			r.bury(k, g)
		}
	}
	return nil
}

// mendHeader deals with a first page that does not say what generation the segment is of: the checkpoint knows, or the
// records tell, or there are none.
func (r *recovery) mendHeader(g *segment, row segmentRow, known bool, fileBytes int64) error {
	generation := row.generation
	if !known {
		newest := func(h *header, at int64) error {
			if h.segment == g.id && h.tag == makeTag(r.secret, g.id, h.generation) {
				generation = max(generation, h.generation)
			}
			return nil
		}
		if err := r.scan(g, pageSize, nil, newest); err != nil {
			return err
		}
	}
	if generation == 0 && fileBytes < 2*pageSize && !r.readOnly { // a crash while it was made
		delete(r.segs, g.id)
		return errors.Join(g.close(), r.fs.Remove(g.path))
	}
	generation = max(generation, 1)
	g.generation, g.tag = generation, makeTag(r.secret, g.id, generation)
	r.log.Warn("segment header is mended", "path", g.path, "generation", generation)
	if r.readOnly {
		return nil
	}
	return r.writeSegmentHeader(g, generation)
}

// scanTail collects the records of g that the checkpoint does not hold.
func (r *recovery) scanTail(g *segment) error {
	from := int64(pageSize)
	if row, ok := r.snap.segments[g.id]; ok && row.generation == g.generation {
		if r.snap.clean || row.sealed && row.scanFrom == row.tail {
			return nil
		}
		from = row.scanFrom
	}
	r.scanned[g] = true
	return r.scan(g, from, &g.tag, func(h *header, at int64) error {
		f := found{h: h, at: at, segment: g}
		end := at + h.recordBytes()
		if end > g.size {
			return nil
		}
		g.tail = max(g.tail, end)
		r.records = append(r.records, f)
		return nil
	})
}

// scan calls visit with every record header from byte from to the end of g. Every page may begin one: an extent that was
// reserved and never finished hides nothing behind it. With want set, only headers with that tag count, and their data
// is passed over.
func (r *recovery) scan(g *segment, from int64, want *tag, visit func(*header, int64) error) error {
	info, err := g.file.Stat()
	if err != nil {
		return err
	}
	buf := vfs.AlignedBuffer(scanBytes)
	var start, have int64 // buf[:have] is the file from start
	window := int64(minScanBytes)
	for at := from; at < info.Size; {
		if at < start || at+fixedBytes > start+have {
			n, err := g.direct.ReadAt(buf[:window], at)
			if err != nil && !errors.Is(err, io.EOF) {
				if window > pageSize { // find out which page it is
					window = pageSize
					continue
				}
				if r.unreadable++; r.unreadable > maxUnreadablePages {
					return err
				}
				r.skip(g, at)
				at += pageSize
				continue
			}
			if window *= 2; at != start+have { // behind a record: the next header is probably right there
				window = minScanBytes
			}
			start, have, window = at, int64(n), min(window, scanBytes)
			if n < fixedBytes {
				return nil
			}
		}
		h, err := r.headerAt(g, buf[at-start:have], at)
		if err != nil {
			if r.unreadable++; r.unreadable > maxUnreadablePages {
				return err
			}
			r.skip(g, at)
		}
		if h == nil || (want != nil && h.tag != *want) {
			at += pageSize
			continue
		}
		if err := visit(h, at); err != nil {
			return err
		}
		at += pageSize
		if want != nil {
			at += h.recordBytes() - pageSize
		}
	}
	return nil
}

// skip passes over a page that cannot be read, and remembers that the segment is not known whole.
func (r *recovery) skip(g *segment, at int64) {
	r.stats.readErrors.Add(1)
	r.log.Warn("a page of a segment cannot be read: the segment is left alone", "path", g.path, "offset", at)
	if g.unread == 0 || at < g.unread {
		g.unread = at
	}
}

// headerAt decodes the header that begins b, reading the rest of it from the file if need be; nil if there is none. An error
// means that there may be one.
func (r *recovery) headerAt(g *segment, b []byte, at int64) (*header, error) {
	n, ok := peekHeader(b)
	if !ok {
		return nil, nil
	}
	if n > int64(len(b)) {
		b = make([]byte, n)
		if _, err := g.file.ReadAt(b, at); errors.Is(err, io.EOF) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	h, err := decodeHeader(b)
	if err != nil {
		return nil, nil // bytes of a client, or of a record that was void
	}
	return h, nil
}

// dropTorn voids the records that may not have been acknowledged and whose data is not whole, and loads the lists.
// A record at or below acked was durable once: if it is bad now it has rotted, and reading it will say so.
func (r *recovery) dropTorn() error {
	kept := r.records[:0]
	for _, f := range r.records {
		if f.h.kind == kindShard && f.h.lsn <= r.acked {
			kept = append(kept, f)
			continue
		}
		data, err := r.load(f)
		if err == nil {
			f.data = data
			kept = append(kept, f)
			continue
		}
		if !errors.Is(err, cairn.ErrCorrupt) {
			return err
		}
		r.log.Info("unfinished record is dropped", "path", f.segment.path, "offset", f.at, "shard", f.h.shard.ID)
		if err := r.void(f); err != nil {
			return err
		}
	}
	r.records = kept
	return nil
}

// load reads and checks the data of a record; it returns that of lists only.
func (r *recovery) load(f found) ([]byte, error) {
	buf := make([]byte, min(f.h.dataLen, scanBytes))
	for off := int64(0); off < f.h.dataLen; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), f.h.dataLen-off)]
		if _, err := f.segment.file.ReadAt(buf, f.at+f.h.dataOff+off); err != nil {
			if errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("segment ends within a record: %w", cairn.ErrCorrupt)
			}
			return nil, err
		}
		if r.firstBad(buf, f.h.crcs[off/blockSize:]) >= 0 {
			return nil, fmt.Errorf("data does not match: %w", cairn.ErrCorrupt)
		}
	}
	if f.h.kind == kindShard {
		return nil, nil
	}
	return buf, nil
}

// void overwrites the header of a torn record: once later records are acknowledged it would pass for a rotten one.
func (r *recovery) void(f found) error {
	if r.readOnly {
		return nil
	}
	_, err := f.segment.direct.WriteAt(vfs.AlignedBuffer(pageSize), f.at)
	return err
}

// replay applies checkpoint and records to the empty index, in the order in which they were written.
func (r *recovery) replay() {
	for v, e := range r.snap.epochs {
		r.epochs[v] = e
	}
	current := func(id uint32) *segment {
		g := r.segs[id]
		if g == nil || r.snap.segments[id].generation != g.generation {
			return nil // recycled since: whatever was needed of it is in later records
		}
		return g
	}
	for _, ke := range r.snap.entries {
		if current(ke.entry.segment) != nil {
			r.install(ke.key, ke.entry)
		}
	}
	for k, t := range r.snap.tombs {
		if g := current(t.segment); g != nil {
			r.tombs[k] = t
			g.deletions++
		}
	}
	for v, f := range r.snap.fences {
		if g := current(f.segment); g != nil {
			r.setFence(fence{v, f.epoch}, g)
		}
	}
	slices.SortFunc(r.records, func(a, b found) int { return cmp.Compare(a.h.lsn, b.h.lsn) })
	for _, f := range r.records {
		r.replayOne(f)
	}
}

func (r *recovery) replayOne(f found) {
	switch f.h.kind {
	case kindShard:
		k := keyOf(f.h.shard.ID)
		r.epochs[k.volume] = max(r.epochs[k.volume], f.h.shard.Epoch)
		r.install(k, entryOf(f.h, f.at))
	case kindDelete:
		ds, err := decodeDeletions(f.data)
		if err != nil {
			return // its checksum was right, so this cannot be
		}
		for _, d := range ds {
			r.kill(d, f.segment)
		}
	case kindFence:
		fs, err := decodeFences(f.data)
		if err != nil {
			return
		}
		for _, n := range fs {
			r.setFence(n, f.segment)
		}
	}
}

// finish forgets deletions that kill nothing, makes what was found durable, and picks the segment to go on with.
func (r *recovery) finish() error {
	for k := range r.tombs {
		r.forget(k)
	}
	if r.readOnly {
		return nil
	}
	for g := range r.scanned {
		// A record may have been found in the page cache alone: sync before anyone relies on it.
		if err := g.direct.Sync(); err != nil {
			return err
		}
	}
	for _, g := range r.segs {
		if g.unread != 0 {
			continue
		}
		if r.scanned[g] || r.snap.clean && !r.snap.segments[g.id].sealed {
			r.offer(g)
		}
	}
	r.acked = r.seq
	if r.active != nil {
		r.active.sealed = false
	}
	r.changes = int64(len(r.records))
	return nil
}

// offer makes g, whose end is known, the segment to go on with if it has more room than what was offered before. One
// that is empty is free.
func (r *recovery) offer(g *segment) {
	switch {
	case g.tail == pageSize && len(g.dead) == 0:
		delete(r.segs, g.id)
		r.free = append(r.free, g)
	case r.active == nil || g.size-g.tail > r.active.size-r.active.tail:
		r.active = g
	}
}
