package datanode

import (
	"context"
	"fmt"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

const (
	maxBatchBytes  = 2 << 20   // data that one group commit writes
	largeAppend    = 128 << 10 // longer appends are written as streams, without a copy
	maxListPayload = 64 << 10  // bytes of deletions or fences in one record
)

// committer makes queued operations durable, many with one sync. It is one goroutine per store: batches are durable in
// the order of their lsn.
func (s *store) committer() {
	defer s.wg.Done()
	b := &batch{store: s, buf: vfs.AlignedBuffer(256 << 10)}
	for {
		ops := s.queue.pop(maxBatchBytes)
		if ops == nil {
			return
		}
		b.run(ops)
	}
}

// batch is one group commit; its buffer is used again by the next.
type batch struct {
	store *store
	ops   []*op
	buf   []byte
	used  int
	runs  []run
	lsn   uint64
	fresh map[key]struct{} // shards that this batch appends
}

// run is a stretch of the buffer that goes to one place.
type run struct {
	segment  *segment
	at       int64
	from, to int // in buf
}

func (b *batch) run(ops []*op) {
	s := b.store
	b.ops, b.used, b.runs, b.fresh = ops, 0, b.runs[:0], nil
	now := time.Now()
	w := s.limits.watchWrite(0)
	defer w.end()
	for _, o := range ops {
		if o.err = b.stage(o, now); o.err != nil && o.segment != nil {
			s.mu.Lock()
			o.segment.settle(o.at)
			s.mu.Unlock()
			o.segment = nil
		}
	}
	err := s.failure()
	if err == nil {
		err = b.write()
	}
	b.apply(err)
	s.queue.mu.Lock()
	s.queue.inHand = nil
	s.queue.mu.Unlock()
	for _, o := range ops {
		if o.err == nil {
			o.err = err
		}
		o.finish(o.err)
	}
	b.ops = nil
	if len(b.buf) > maxBatchBytes {
		b.buf = vfs.AlignedBuffer(256 << 10)
	}
}

// stage gives o its place in the log and encodes it.
func (b *batch) stage(o *op, now time.Time) error {
	s := b.store
	switch o.kind {
	case opCommit:
		return b.stageCommit(o, now)
	case opDelete:
		if !o.copied {
			b.findVictims(o)
		}
		if len(o.dels) == 0 {
			return nil
		}
		o.h.kind, o.data = kindDelete, nil
	case opFence:
		o.h.kind, o.data = kindFence, encodeFences(o.fences)
	case opAppend:
		o.h.kind = kindShard
	}
	if err := s.assign(o, now); err != nil {
		return err
	}
	b.lsn = o.h.lsn
	if err := b.reserve(o); err != nil {
		return err
	}
	if o.kind == opAppend {
		b.note(keyOf(o.h.shard.ID))
	}
	return nil
}

// assign numbers o's record and completes its header but for the place.
func (s *store) assign(o *op, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.kind == opAppend && !o.copied {
		if err := s.admit(o.h.shard.ID.Volume, o.h.shard.Epoch); err != nil {
			return err
		}
	}
	s.number(&o.h, o.copied && o.kind == opAppend, now)
	if o.kind == opDelete {
		for i := range o.dels {
			if !o.copied {
				o.dels[i].seq = o.h.seq
			}
		}
		o.data = encodeDeletions(o.dels)
	}
	o.h.dataLen = int64(len(o.data))
	o.h.crcs = checksums(o.h.crcs[:0], o.data)
	o.h.place(false)
	return nil
}

// number draws the log numbers of a record. The caller holds mu.
func (s *store) number(h *header, copied bool, now time.Time) {
	s.seq++
	h.lsn, h.acked = s.seq, s.acked
	if !copied {
		h.seq, h.time = s.seq, now
	}
}

func (b *batch) note(k key) {
	if b.fresh == nil {
		b.fresh = map[key]struct{}{}
	}
	b.fresh[k] = struct{}{}
}

// findVictims lists which of the shards to delete are there, or are about to be.
func (b *batch) findVictims(o *op) {
	s := b.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range o.ids {
		_, fresh := b.fresh[k]
		if fresh || s.index.get(k) != nil {
			o.dels = append(o.dels, deletion{key: k})
		}
	}
}

// reserve takes the record's extent, and encodes it into the buffer.
func (b *batch) reserve(o *op) error {
	n := o.h.recordBytes()
	g, at, err := b.store.reserveSmall(b.store.bg, n, o.copied || o.kind != opAppend)
	if err != nil {
		return err
	}
	o.segment, o.at = g, at
	o.h.segment, o.h.generation, o.h.tag = g.id, g.generation, g.tag
	p := b.extend(g, at, n)
	o.h.encode(p)
	copy(p[o.h.dataOff:], o.data)
	return nil
}

// extend returns n zero bytes of the buffer that will be written at the given place.
func (b *batch) extend(g *segment, at, n int64) []byte {
	if b.used+int(n) > len(b.buf) {
		grown := vfs.AlignedBuffer(max(2*len(b.buf), b.used+int(n)))
		copy(grown, b.buf[:b.used])
		b.buf = grown
	}
	p := b.buf[b.used : b.used+int(n)]
	clear(p)
	if last := len(b.runs) - 1; last >= 0 && b.runs[last].segment == g && b.runs[last].at+int64(b.runs[last].to-b.runs[last].from) == at {
		b.runs[last].to += int(n)
	} else {
		b.runs = append(b.runs, run{g, at, b.used, b.used + int(n)})
	}
	b.used += int(n)
	return p
}

// stageCommit encodes the header of a streamed shard in front of its data.
func (b *batch) stageCommit(o *op, now time.Time) error {
	s, h := b.store, &o.stream.h
	o.segment, o.at = o.stream.segment, o.stream.at
	if err := o.stream.take(); err != nil {
		return err
	}
	s.mu.Lock()
	if !o.copied {
		if err := s.admit(h.shard.ID.Volume, h.shard.Epoch); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	s.number(h, o.copied, now)
	b.lsn = h.lsn
	s.mu.Unlock()
	h.encode(b.extend(o.segment, o.at, h.dataOff))
	b.note(keyOf(h.shard.ID))
	return nil
}

// write puts the buffer where it belongs and syncs every segment that this batch makes records in durable. The data of
// streams is written already: their segments' sync covers it.
func (b *batch) write() error {
	s := b.store
	for _, r := range b.runs {
		if _, err := r.segment.direct.WriteAt(b.buf[r.from:r.to], r.at); err != nil {
			return s.breakOff(err)
		}
	}
	var last *segment
	for _, r := range b.runs {
		if r.segment == last || b.syncedBefore(r) {
			continue
		}
		last = r.segment
		start := time.Now()
		if err := r.segment.direct.Sync(); err != nil {
			return s.breakOff(err)
		}
		s.stats.syncLatency.add(time.Since(start))
	}
	if last != nil {
		s.stats.lastSync.Store(time.Now().UnixNano())
	}
	return nil
}

// syncedBefore tells whether an earlier run went to the same segment.
func (b *batch) syncedBefore(r run) bool {
	for _, e := range b.runs {
		if e.from == r.from {
			return false
		}
		if e.segment == r.segment {
			return true
		}
	}
	return false
}

// apply brings the index up to date with what is now durable, or gives the extents up.
func (b *batch) apply(err error) {
	s := b.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range b.ops {
		if o.segment == nil {
			continue
		}
		if err == nil && o.err == nil {
			s.applyOp(o)
			s.changes++
		}
		o.segment.settle(o.at)
	}
	if err == nil {
		s.acked = max(s.acked, b.lsn)
	}
}

func (s *store) applyOp(o *op) {
	switch o.kind {
	case opAppend:
		s.install(keyOf(o.h.shard.ID), entryOf(&o.h, o.at))
	case opCommit:
		s.install(keyOf(o.stream.h.shard.ID), entryOf(&o.stream.h, o.at))
	case opDelete:
		for _, d := range o.dels {
			s.kill(d, o.segment)
			s.forget(d.key)
		}
	case opFence:
		for _, f := range o.fences {
			s.setFence(f, o.segment)
		}
	}
}

// entryOf is the index entry of a record that begins at the given byte.
func entryOf(h *header, at int64) entry {
	e := entry{blob: h.shard.ID.Blob, seq: h.seq, epoch: h.shard.Epoch, time: uint32(h.time.Unix()), segment: h.segment,
		page: uint32(at / pageSize), length: uint32(h.dataLen), dataOff: uint32(h.dataOff)}
	if len(h.crcs) == 1 {
		e.crc = h.crcs[0]
	}
	return e
}

// append queues one whole shard.
func (s *store) append(ctx context.Context, h *cairn.ShardHeader, data []byte, done func(error)) {
	if len(data) > largeAppend {
		w, err := s.create(ctx, h, int64(len(data)))
		if err != nil {
			done(err)
			return
		}
		w.Write(data, nil)
		w.Commit(done)
		return
	}
	o := &op{kind: opAppend, data: data, bytes: int64(len(data)) + pageSize}
	o.h.shard = *h
	err := s.admissible(h, int64(len(data)))
	if err == nil {
		err = s.limits.pace.take(ctx, int64(len(data)))
	}
	if err != nil {
		done(err)
		return
	}
	o.done = s.limits.clientsOf(ctx).measured(tookAppend, int64(len(data)), done)
	if err := s.queue.push(o); err != nil {
		o.done(err)
	}
}

// admissible refuses at once what the committer would refuse.
func (s *store) admissible(h *cairn.ShardHeader, size int64) error {
	if err := s.failure(); err != nil {
		return err
	}
	o := &h.Owner
	if size < 0 || size > maxRecordBytes-2*pageSize || len(o.Bucket) > maxOwnerBytes || len(o.Key) > maxOwnerBytes ||
		len(o.Upload) > maxOwnerBytes || h.Profile.K > 255 || h.Profile.M > 255 {
		return fmt.Errorf("%d bytes with an owner of %d: %w", size, len(o.Bucket)+len(o.Key)+len(o.Upload), cairn.ErrTooLarge)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if seen := s.epochs[h.ID.Volume]; h.Epoch < seen {
		return fmt.Errorf("epoch %d is older than %d: %w", h.Epoch, seen, cairn.ErrStaleEpoch)
	}
	return nil
}

// delete makes the deletion of shards durable; those that are not there are deleted already.
func (s *store) delete(ctx context.Context, ids []key) error {
	for len(ids) > 0 {
		n := min(len(ids), maxListPayload/deletionBytes)
		if err := s.do(ctx, &op{kind: opDelete, ids: ids[:n], bytes: pageSize}); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// do queues an op and waits for it.
func (s *store) do(ctx context.Context, o *op) error {
	if err := s.failure(); err != nil {
		return err
	}
	result := make(chan error, 1)
	o.done = func(err error) { result <- err }
	if err := s.queue.push(o); err != nil {
		return err
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fence makes a fence durable, and keeps it from falling.
func (s *store) fence(ctx context.Context, f fence) error {
	s.mu.RLock()
	held, ok := s.fences[f.volume]
	s.mu.RUnlock()
	if ok && held.epoch >= f.epoch {
		return nil
	}
	return s.do(ctx, &op{kind: opFence, fences: []fence{f}, bytes: pageSize})
}
