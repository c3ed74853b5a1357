package datanode

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"

	"cairn"
	"golang.org/x/time/rate"
)

const (
	compactBurst  = 1 << 20 // bytes that compaction may read in one go
	compactAtOnce = 64      // copies that wait for the committer
	shortOfSpace  = 0.1     // share of a segment that must be dead when space is short
)

// compactWorst copies what lives in the segment with the most dead bytes, if it has enough of them; it reports whether
// there was one.
func (s *store) compactWorst(ctx context.Context, limit *rate.Limiter) (bool, error) {
	g := s.worst()
	if g == nil {
		return false, nil
	}
	c := &compaction{store: s, from: g, limit: limit, turns: make(chan struct{}, compactAtOnce)}
	return true, c.run(ctx)
}

// worst picks a segment to compact, nil if none is bad enough.
func (s *store) worst() *segment {
	s.mu.RLock()
	defer s.mu.RUnlock()
	least := s.cfg.CompactDead
	if s.full.Load() {
		least = min(least, shortOfSpace)
	}
	var worst *segment
	for _, g := range s.segs {
		if !g.sealed || g.recycling || g.stuck || g.unread != 0 || g.idle() || len(g.pending) > 0 {
			continue
		}
		if dead := 1 - float64(g.liveBytes)/float64(g.size-pageSize); dead >= least {
			least, worst = dead, g
		}
	}
	return worst
}

// compaction copies the live records of one segment to the end of the log. Copies keep their seq, so that a delete or a
// replacement that happens meanwhile wins over them; the segment is recycled only when the copies are durable and nothing
// in it is needed any more.
type compaction struct {
	*store
	from  *segment
	limit *rate.Limiter
	turns chan struct{}
	wg    sync.WaitGroup

	mu  sync.Mutex
	err error
	bad int
}

func (c *compaction) run(ctx context.Context) error {
	shards, dels, fences := c.inventory()
	var err error
	for _, ke := range shards {
		if err = c.copyShard(ctx, ke); err != nil {
			break
		}
	}
	for len(dels) > 0 && err == nil {
		n := min(len(dels), maxListPayload/deletionBytes)
		err = c.push(ctx, &op{kind: opDelete, copied: true, dels: dels[:n]})
		dels = dels[n:]
	}
	for len(fences) > 0 && err == nil {
		n := min(len(fences), maxListPayload/16)
		err = c.push(ctx, &op{kind: opFence, copied: true, fences: fences[:n]})
		fences = fences[n:]
	}
	c.wg.Wait()
	if c.bad > 0 {
		c.log.Warn("segment holds bad shards and is not compacted until they are repaired", "path", c.from.path, "shards", c.bad)
		c.store.mu.Lock()
		c.from.stuck = true
		c.store.mu.Unlock()
	}
	return errors.Join(err, c.err)
}

// inventory lists what is needed of the segment, in the order of the disk.
func (c *compaction) inventory() (shards []keyEntry, dels []deletion, fences []fence) {
	s := c.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.index.all(func(k key, e *entry) {
		if e.segment == c.from.id {
			shards = append(shards, keyEntry{k, *e})
		}
	})
	slices.SortFunc(shards, func(a, b keyEntry) int { return cmp.Compare(a.entry.page, b.entry.page) })
	for k, t := range s.tombs {
		if t.segment == c.from.id {
			dels = append(dels, deletion{k, t.seq})
		}
	}
	for v, f := range s.fences {
		if f.segment == c.from.id {
			fences = append(fences, fence{v, f.epoch})
		}
	}
	return shards, dels, fences
}

// push hands a record to the committer, when it is its turn.
func (c *compaction) push(ctx context.Context, o *op) error {
	select {
	case c.turns <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.wg.Add(1)
	o.done = c.done
	if err := c.queue.push(o); err != nil {
		o.finish(err)
	}
	return c.failed()
}

func (c *compaction) done(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
	<-c.turns
	c.wg.Done()
}

func (c *compaction) failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// copyShard copies one record if it is still where it was and good. A bad one stays, for whoever repairs it.
func (c *compaction) copyShard(ctx context.Context, ke keyEntry) error {
	l, err := c.locate(ke.key)
	if errors.Is(err, cairn.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.release()
	if l.segment != c.from || l.page != ke.entry.page {
		return nil
	}
	err = c.copyRecord(ctx, &l)
	if errors.Is(err, cairn.ErrCorrupt) {
		c.stats.corruptions.Add(1)
		c.bad++
		return nil
	}
	return err
}

func (c *compaction) copyRecord(ctx context.Context, l *located) error {
	b := make([]byte, l.dataOff)
	if err := c.readDirect(ctx, l.segment, b, int64(l.page)*pageSize); err != nil {
		return err
	}
	h, err := c.checkHeader(l, b)
	if err != nil {
		return err
	}
	if h.dataLen <= largeAppend {
		data, err := c.readGood(ctx, l, h, 0, h.dataLen)
		if err != nil {
			return err
		}
		return c.push(ctx, &op{kind: opAppend, copied: true, data: data,
			h: header{kind: kindShard, seq: h.seq, time: h.time, shard: h.shard}})
	}
	return c.copyLarge(ctx, l, h)
}

// copyLarge streams a record in pieces, one at a time.
func (c *compaction) copyLarge(ctx context.Context, l *located, h *header) error {
	w, err := c.newStream(ctx, header{kind: kindShard, seq: h.seq, time: h.time, shard: h.shard, dataLen: h.dataLen}, true)
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	for off := int64(0); off < h.dataLen; off += compactBurst {
		data, err := c.readGood(ctx, l, h, off, min(compactBurst, h.dataLen-off))
		if err != nil {
			w.Abort()
			return err
		}
		w.Write(data, func(err error) { result <- err })
		if err := <-result; err != nil {
			w.Abort()
			return err
		}
	}
	w.Commit(func(err error) { result <- err })
	return <-result
}

// readGood reads n bytes of data from byte off, a whole number of blocks, and verifies them.
func (c *compaction) readGood(ctx context.Context, l *located, h *header, off, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if err := c.limit.WaitN(ctx, int(n)); err != nil {
		return nil, err
	}
	if err := c.limits.pace.take(cairn.Background(ctx), 2*n); err != nil { // read here, and written elsewhere
		return nil, err
	}
	data := make([]byte, n)
	if err := c.readDirect(ctx, l.segment, data, l.dataAt()+off); err != nil {
		return nil, err
	}
	if c.firstBad(data, h.crcs[off/blockSize:]) >= 0 {
		return nil, cairn.ErrCorrupt
	}
	return data, nil
}
