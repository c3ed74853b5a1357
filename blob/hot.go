package blob

import (
	"io"
	"sync/atomic"
	"time"
)

const (
	// hotBytes is how much is read and written at a time: it stays in a core's cache between the two.
	hotBytes = 256 << 10
	// A read of n bytes is cold if it takes longer than coldBase and n at coldRate: the bytes came from a disk.
	coldBase = 150 * time.Microsecond
	coldRate = 4 // bytes per nanosecond
	// coldReads is how many cold reads make it worth to fetch ahead.
	coldReads = 2
)

// hotRun is the quick way: one goroutine reads a piece and writes it, and again. The caller watches it, since a read from
// a hung drive may never return: then it takes over, and the goroutine touches neither w nor the reader again.
type hotRun struct {
	r    *blobReader
	w    io.Writer
	pos  int64 // next byte to be written; belongs to the goroutine while busy, to the caller once that is taken or done
	end  int64
	buf  *strip
	slot atomic.Int32
	// busy is 0, or the time since when a read is under way, or taken.
	busy atomic.Int64
	done chan error
}

const taken = -1

// hot copies from pos on until the end, an obstacle, or coldness; it returns how far it came. An error is the writer's or
// the context's.
func (r *blobReader) hot(pos, end int64, w io.Writer) (int64, error) {
	size := min(hotBytes, end-pos)
	if !r.s.reads.try(bufferBytes(size)) {
		size = min(size, sumBytes)
		if err := r.s.reads.take(r.ctx, bufferBytes(size), r.s.cfg.StallLimit); err != nil {
			return pos, err
		}
	}
	h := &hotRun{r: r, w: w, pos: pos, end: end, buf: r.s.pool.get(size, r.s.reads), done: make(chan error, 1)}
	r.s.late.Add(1)
	go func() {
		defer r.s.late.Done()
		err := h.run(size)
		h.buf.release()
		h.done <- err
	}()
	return h.watch()
}

// run copies piece by piece.
func (h *hotRun) run(size int64) error {
	r, strikes := h.r, 0
	for h.pos < h.end {
		span := r.g.Locate(h.pos, h.end)
		p := h.buf.b[:min(span.Len, size)]
		st := r.state(span.Slot)
		if st.health != slotGood {
			return nil
		}
		start := r.s.drives.now()
		h.slot.Store(int32(span.Slot))
		h.busy.Store(start)
		err := r.s.shards.ReadAt(r.ctx, st.drive, r.shard(span.Slot), p, span.Off)
		if !h.busy.CompareAndSwap(start, 0) {
			st.stat.stuckReads.Add(-1)
			return nil // taken over: nobody listens
		}
		if err != nil {
			r.failed(span.Slot, st.drive, err)
			return r.ctx.Err()
		}
		took := time.Duration(r.s.drives.now() - start)
		r.learn(st.stat, took)
		if _, err := h.w.Write(p); err != nil {
			return err
		}
		h.pos += int64(len(p))
		if took > coldBase+time.Duration(len(p)/coldRate) {
			if strikes++; strikes >= coldReads {
				r.cold = true
				return nil
			}
		}
	}
	return nil
}

// learn keeps a read's time for the hedging of later ones.
func (r *blobReader) learn(stat *driveStat, took time.Duration) {
	if !r.back {
		stat.saw(took)
		r.s.drives.earn()
	}
}

// watch waits for the run to end, or takes over from a read that is too slow.
func (h *hotRun) watch() (int64, error) {
	tick := time.NewTimer(h.r.s.cfg.HedgeFloor)
	defer tick.Stop()
	for {
		select {
		case err := <-h.done:
			return h.pos, err
		case <-h.r.ctx.Done():
			if since := h.busy.Load(); since > 0 && h.busy.CompareAndSwap(since, taken) {
				h.r.state(int(h.slot.Load())).stat.stuckReads.Add(1)
				return h.pos, h.r.ctx.Err()
			}
			return h.pos, <-h.done // it writes: the writer decides when that ends
		case <-tick.C:
			if h.takeOver() {
				return h.pos, nil
			}
			tick.Reset(h.r.s.cfg.HedgeFloor / 2)
		}
	}
}

func (h *hotRun) takeOver() bool {
	since := h.busy.Load()
	if since <= 0 {
		return false
	}
	slot := int(h.slot.Load())
	took := time.Duration(h.r.s.drives.now() - since)
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	if !h.r.tooSlow(slot, took) || !h.busy.CompareAndSwap(since, taken) {
		return false
	}
	h.r.avoid(slot)
	return true
}

// backgroundHedge is when a background read goes around a drive: until then its reads queue behind everyone else's.
const backgroundHedge = 30 * time.Second

// tooSlow asks whether to hedge a read from a slot. r.mu is held.
func (r *blobReader) tooSlow(slot int, took time.Duration) bool {
	if r.back {
		return took >= backgroundHedge
	}
	return took >= r.s.drives.floor && r.s.drives.slow(took, r.peers(slot))
}

// peers is the p95 of the slot's middle peer, 0 while none is known. r.mu is held.
func (r *blobReader) peers(slot int) time.Duration {
	var times []time.Duration
	for i := range r.slots {
		if i != slot {
			if t := r.slots[i].stat.p95(); t > 0 {
				times = append(times, t)
			}
		}
	}
	return median(times)
}

// avoid notes that a slot's drive let us wait. r.mu is held.
func (r *blobReader) avoid(slot int) {
	s := &r.slots[slot]
	r.s.drives.hedged(s.stat)
	if s.health == slotGood {
		s.health = slotAvoid
	}
}
