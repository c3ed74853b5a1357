package datanode

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

const (
	maxColdRead     = 1 << 20 // bytes that one read from the disk brings in
	tableCacheBytes = 4 << 20
)

// located is a live record whose segment cannot be recycled until release.
type located struct {
	entry
	segment *segment
	key     key
}

func (l *located) release() { l.segment.users.Add(-1) }

// locate finds a live record. ErrNotFound if there is none.
func (s *store) locate(k key) (located, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return located{}, errClosed
	}
	e := s.index.get(k)
	if e == nil {
		return located{}, cairn.ErrNotFound
	}
	g := s.segs[e.segment]
	g.users.Add(1)
	return located{*e, g, k}, nil
}

// readAt fills p from byte off of a shard's data, verified.
func (s *store) readAt(ctx context.Context, k key, p []byte, off int64) error {
	l, err := s.locate(k)
	if err != nil {
		return err
	}
	defer l.release()
	if off < 0 || off+int64(len(p)) > int64(l.length) {
		return fmt.Errorf("%d bytes at %d leave a shard of %d: %w", len(p), off, l.length, cairn.ErrInvalid)
	}
	if err := s.limits.pace.take(ctx, int64(len(p))); err != nil {
		return err
	}
	crcs, err := s.table(ctx, &l)
	if err != nil {
		return err
	}
	end := off + int64(len(p))
	if head := off % blockSize; head != 0 || (len(p) < blockSize && end < int64(l.length)) {
		n, err := s.readPart(ctx, &l, crcs, p, off)
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	whole := len(p)
	if end < int64(l.length) {
		whole = len(p) / blockSize * blockSize
	}
	if whole > 0 {
		if err := s.readBlocks(ctx, &l, crcs, p[:whole], off); err != nil {
			return err
		}
	}
	if whole < len(p) {
		_, err = s.readPart(ctx, &l, crcs, p[whole:], off+int64(whole))
	}
	return err
}

// readPart fills what it can of p from the one block that holds off.
func (s *store) readPart(ctx context.Context, l *located, crcs []uint32, p []byte, off int64) (int, error) {
	start := off / blockSize * blockSize
	block := s.blocks.get()
	defer s.blocks.put(block)
	block = block[:min(blockSize, int64(l.length)-start)]
	if err := s.readBlocks(ctx, l, crcs, block, start); err != nil {
		return 0, err
	}
	return copy(p, block[off-start:]), nil
}

// readBlocks fills p with whole blocks from byte off, and verifies them. What does not match is read once more past the
// page cache, which may hold bytes from before a write, and is corrupt if it still does not match.
func (s *store) readBlocks(ctx context.Context, l *located, crcs []uint32, p []byte, off int64) error {
	if err := s.readFile(ctx, l.segment, p, l.dataAt()+off); err != nil {
		return err
	}
	first := int(off / blockSize)
	bad := s.firstBad(p, crcs[first:])
	if bad < 0 {
		return nil
	}
	if err := s.readDirect(ctx, l.segment, p, l.dataAt()+off); err != nil {
		return err
	}
	if bad = s.firstBad(p, crcs[first:]); bad < 0 {
		return nil
	}
	s.stats.corruptions.Add(1)
	return fmt.Errorf("block %d of the shard does not match its checksum: %w", first+bad, cairn.ErrCorrupt)
}

// firstBad returns the first block of p that does not match, -1 if all do.
func (s *store) firstBad(p []byte, crcs []uint32) int {
	if s.cfg.trustDisk {
		return -1
	}
	for i := 0; len(p) > 0; i++ {
		n := min(blockSize, len(p))
		if checksum(p[:n]) != crcs[i] {
			return i
		}
		p = p[n:]
	}
	return -1
}

// table returns the checksums of a record.
func (s *store) table(ctx context.Context, l *located) ([]uint32, error) {
	switch {
	case l.length == 0:
		return nil, nil
	case l.length <= blockSize:
		return []uint32{l.crc}, nil
	}
	name := tableName{l.entry.segment, l.segment.generation, l.page}
	if crcs := s.tables.get(name); crcs != nil {
		return crcs, nil
	}
	b := make([]byte, l.dataOff)
	if err := s.readFile(ctx, l.segment, b, int64(l.page)*pageSize); err != nil {
		return nil, err
	}
	h, err := s.checkHeader(l, b)
	if err != nil {
		if err := s.readDirect(ctx, l.segment, b, int64(l.page)*pageSize); err != nil {
			return nil, err
		}
		if h, err = s.checkHeader(l, b); err != nil {
			s.stats.corruptions.Add(1)
			return nil, err
		}
	}
	s.tables.put(name, h.crcs)
	return h.crcs, nil
}

// checkHeader decodes the header in b, which must be that of l.
func (s *store) checkHeader(l *located, b []byte) (*header, error) {
	h, err := decodeHeader(b)
	if err != nil {
		return nil, err
	}
	if h.tag != l.segment.tag || h.kind != kindShard || keyOf(h.shard.ID) != l.key || h.seq != l.seq || h.dataLen != int64(l.length) {
		return nil, fmt.Errorf("record header is that of %v: %w", h.shard.ID, cairn.ErrCorrupt)
	}
	return h, nil
}

// readFile fills p from the page cache if it can, else from the disk.
func (s *store) readFile(ctx context.Context, g *segment, p []byte, at int64) error {
	if quick, ok := g.file.(vfs.NoWaitReader); ok {
		clients := s.limits.clientsOf(ctx)
		began := clients.begin()
		n, err := quick.ReadAtNoWait(p, at)
		if err == nil {
			clients.end(tookWarm, int64(n), began)
			return nil
		}
		clients.gaveUp()
		if !errors.Is(err, vfs.ErrWouldBlock) {
			return s.readFailed(err)
		}
		p, at = p[n:], at+int64(n)
	}
	for len(p) > 0 {
		n := min(len(p), maxColdRead)
		if err := s.coldRead(ctx, g, g.file, p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// readDirect fills p from the disk itself.
func (s *store) readDirect(ctx context.Context, g *segment, p []byte, at int64) error {
	for len(p) > 0 {
		n := min(len(p), maxColdRead)
		if err := s.coldRead(ctx, g, g.direct, p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// coldRead reads through a buffer of its own, on a goroutine of its own, so that a caller who gives up, or a disk that
// hangs, leaves nobody writing to p.
func (s *store) coldRead(ctx context.Context, g *segment, f vfs.File, p []byte, at int64) (err error) {
	cairn.Waited(ctx)
	clients := s.limits.clientsOf(ctx)
	began := clients.begin()
	defer func() {
		if err != nil {
			clients.gaveUp()
			return
		}
		clients.end(tookCold, int64(len(p)), began)
	}()
	w, err := s.limits.acquire(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	from := at / pageSize * pageSize // a direct file wants whole pages
	span := int(pages(at+int64(len(p))-from) * pageSize)
	pool := s.buffers
	if span <= s.small.size {
		pool = s.small
	}
	buf := pool.get()
	result := make(chan error, 1)
	g.users.Add(1) // the caller holds a use, so this cannot be the first
	go func() {
		n, err := f.ReadAt(buf[:span], from)
		if errors.Is(err, io.EOF) && n >= int(at-from)+len(p) {
			err = nil
		}
		w.end()
		g.users.Add(-1)
		result <- err
	}()
	hung := time.NewTimer(s.cfg.HungAfter)
	defer hung.Stop()
	select {
	case err := <-result:
		copy(p, buf[at-from:])
		pool.put(buf)
		s.stats.readLatency.add(time.Since(start))
		return s.readFailed(err)
	case <-ctx.Done():
		return ctx.Err() // buf is the goroutine's, and then the collector's
	case <-hung.C:
		return fmt.Errorf("a read takes longer than %v: %w", s.cfg.HungAfter, cairn.ErrUnavailable)
	}
}

// readFailed gives a failed read its kind: a file that ends early, or a place that cannot be read, is damage.
func (s *store) readFailed(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF):
		s.stats.corruptions.Add(1)
		return fmt.Errorf("segment ends before the record: %w", cairn.ErrCorrupt)
	case errors.Is(err, syscall.EIO):
		s.stats.readErrors.Add(1)
		return fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)
	}
	s.stats.readErrors.Add(1)
	return kindOf(err)
}

// verify reads a whole record, header and data, from the disk itself and checks every byte.
func (s *store) verify(ctx context.Context, k key) error {
	l, err := s.locate(k)
	if err != nil {
		return err
	}
	defer l.release()
	b := make([]byte, l.dataOff)
	if err := s.readDirect(ctx, l.segment, b, int64(l.page)*pageSize); err != nil {
		return err
	}
	h, err := s.checkHeader(&l, b)
	if err != nil {
		s.stats.corruptions.Add(1)
		return err
	}
	buf := make([]byte, min(int64(l.length), maxColdRead-blockSize))
	for off := int64(0); off < int64(l.length); off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), int64(l.length)-off)]
		if err := s.limits.pace.take(ctx, int64(len(buf))); err != nil {
			return err
		}
		if err := s.readDirect(ctx, l.segment, buf, l.dataAt()+off); err != nil {
			return err
		}
		if bad := s.firstBad(buf, h.crcs[off/blockSize:]); bad >= 0 {
			s.stats.corruptions.Add(1)
			return fmt.Errorf("block %d of the shard does not match its checksum: %w", int(off/blockSize)+bad, cairn.ErrCorrupt)
		}
	}
	return nil
}

// info describes a live shard.
func (s *store) info(k key, e *entry) cairn.ShardInfo {
	return cairn.ShardInfo{ID: k.id(), Epoch: e.epoch, Length: int64(e.length), Path: s.segs[e.segment].path,
		Offset: e.dataAt(), Time: time.Unix(int64(e.time), 0)}
}

// stat describes one shard. ErrNotFound if there is none.
func (s *store) stat(k key) (cairn.ShardInfo, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e := s.index.get(k)
	if e == nil {
		return cairn.ShardInfo{}, cairn.ErrNotFound
	}
	return s.info(k, e), nil
}

// list describes up to n shards of a slot after the given blob.
func (s *store) list(g group, after cairn.BlobID, n int) []cairn.ShardInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var infos []cairn.ShardInfo
	if n <= 0 {
		return nil
	}
	s.index.from(g, after, func(e *entry) bool {
		infos = append(infos, s.info(key{g.volume, e.blob, g.slot}, e))
		return len(infos) < n
	})
	return infos
}

// digest sums up the blobs whose shards of a slot are live.
func (s *store) digest(g group) (set cairn.BlobSet) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.index.from(g, 0, func(e *entry) bool {
		set.Add(e.blob)
		return true
	})
	return set
}

// slots tells what the drive holds of each slot.
func (s *store) slots() []cairn.VolumeSlot {
	s.mu.RLock()
	defer s.mu.RUnlock()
	slots := make([]cairn.VolumeSlot, 0, len(s.index.groups))
	for g, l := range s.index.groups {
		slots = append(slots, cairn.VolumeSlot{Volume: g.volume, Slot: g.slot, Shards: l.count, Bytes: l.bytes})
	}
	return slots
}
