package blob

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"cairn"
	"cairn/erasure"
)

const (
	// hotBytes is how much is read and written at a time: it stays in a core's cache between the two.
	hotBytes = 256 << 10
	// starvedFloors, in HedgeFloors, is when a read is hedged that has asked no disk and no other node yet.
	starvedFloors = 10
	// coldReads is how many reads that had to wait, for a disk or another node, make it worth to fetch ahead.
	coldReads = 2
)

// hotRun is the quick way: one goroutine reads a piece and writes it, and again. The caller watches it, since a read from
// a hung drive may never return: then it takes over, and the goroutine touches neither w nor the reader again.
type hotRun struct {
	r       *blobReader
	w       io.Writer
	pos     int64 // next byte to be written; belongs to the goroutine while busy, to the caller once that is taken or done
	end     int64
	buf     *strip
	units   []*strip // of a stripe that is decoded, by slot
	strikes int      // reads that had to wait so far
	ctx     context.Context
	waited  atomic.Bool // set by the read under way (cairn.NoteWaits)
	slot    atomic.Int32
	// busy is 0, or the time since when a read is under way, or taken.
	busy atomic.Int64
	done chan error
}

const taken = -1

var (
	// errLeave ends a run before the end: the rest is for rows, or somebody took over.
	errLeave = errors.New("not the quick way")
	// errAgain says that something was learned about a slot, by which to try the same bytes once more.
	errAgain = errors.New("read failed")
)

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
	h.ctx = cairn.NoteWaits(r.ctx, &h.waited)
	r.s.late.Add(1)
	go func() {
		defer r.s.late.Done()
		err := h.run(size)
		h.buf.release()
		for _, u := range h.units {
			if u != nil {
				u.release()
			}
		}
		if err == errLeave {
			err = nil
		}
		h.done <- err
	}()
	return h.watch()
}

// run copies piece by piece.
func (h *hotRun) run(size int64) error {
	for h.pos < h.end {
		span := h.r.g.Locate(h.pos, h.end)
		var err error
		if h.r.state(span.Slot).health == slotGood {
			err = h.direct(span, size)
		} else {
			err = h.decode()
		}
		if err != nil && err != errAgain {
			return err
		}
	}
	return nil
}

// direct copies bytes as they lie in one shard.
func (h *hotRun) direct(span erasure.Span, size int64) error {
	p := h.buf.b[:min(span.Len, size)]
	if err := h.read(span.Slot, p, span.Off); err != nil {
		return err
	}
	_, err := h.w.Write(p)
	h.pos += int64(len(p))
	return err
}

// read fills p, unless the shard is bad, its drive slow, or both cores have better things to do than to wait for disks.
func (h *hotRun) read(slot int, p []byte, off int64) error {
	if h.strikes >= coldReads {
		h.r.cold = true
		return errLeave
	}
	r, st := h.r, h.r.state(slot)
	start := r.s.drives.now()
	h.slot.Store(int32(slot))
	h.busy.Store(start)
	h.waited.Store(false)
	err := r.s.shards.ReadAt(h.ctx, st.drive, r.shard(slot), p, off)
	if !h.busy.CompareAndSwap(start, 0) {
		r.s.drives.cameBack(st.stat, time.Duration(r.s.drives.now()-start))
		return errLeave // taken over: nobody listens
	}
	if err != nil {
		r.failed(slot, st.drive, err)
		if err := r.ctx.Err(); err != nil {
			return err
		}
		return errAgain
	}
	r.learn(st.stat, time.Duration(r.s.drives.now()-start))
	if h.waited.Load() {
		h.strikes++
	}
	return nil
}

// decode copies the rest of a stripe of which some unit cannot be read: others are read one after the other into
// buffers that the next stripe uses again, so that they stay in the cache. What lies before the gap is written at once.
func (h *hotRun) decode() error {
	r := h.r
	row := r.plan(h.pos, h.end)
	from, ok := row.sources()
	if !ok {
		return errLeave
	}
	units, marks := make([][]byte, r.g.Width()), make([]bool, r.g.Width())
	rest := row.out
	for _, slot := range from {
		if !h.unit(slot, row.n) {
			return errLeave
		}
		p := h.units[slot].b[:row.n]
		if err := h.read(slot, p, row.lo); err != nil {
			return err
		}
		units[slot] = p
		if len(rest) > 0 && slot == rest[0].slot {
			if err := h.write(rest[:1], units); err != nil {
				return err
			}
			rest = rest[1:]
		}
	}
	for _, p := range rest {
		if len(units[p.slot]) == 0 {
			if !h.unit(p.slot, row.n) {
				return errLeave
			}
			units[p.slot], marks[p.slot] = h.units[p.slot].b[:0:row.n], true
		}
	}
	if err := r.reconstruct(units, marks); err != nil {
		return err
	}
	return h.write(rest, units)
}

// sources lists the slots to decode from: good ones, then those that were slow a moment ago. With as many drives lost as
// may be, there is no other choice, and the slowness of a busy machine says little about a drive. It reports false if all
// together do not suffice. What is wanted comes first.
func (row *row) sources() ([]int, bool) {
	r := row.r
	r.mu.Lock()
	defer r.mu.Unlock()
	good, avoid := row.candidates()
	for i := range r.slots {
		if r.slots[i].away {
			avoid &^= 1 << i
		}
	}
	all := append(order(good, row.want), order(avoid, row.want)...)
	read, ok := r.code.Choose(0, all, row.want)
	return slices.DeleteFunc(all, func(slot int) bool { return read>>slot&1 == 0 }), ok
}

// write writes pieces of a decoded stripe.
func (h *hotRun) write(pieces []piecePlace, units [][]byte) error {
	for _, p := range pieces {
		if _, err := h.w.Write(units[p.slot][p.lo:p.hi]); err != nil {
			return err
		}
		h.pos += p.hi - p.lo
	}
	return nil
}

// unit provides a slot's buffer for n bytes, if there is memory for it now.
func (h *hotRun) unit(slot int, n int64) bool {
	if h.units == nil {
		h.units = make([]*strip, h.r.g.Width())
	}
	if u := h.units[slot]; u != nil {
		if int64(len(u.b)) >= n {
			return true
		}
		h.units[slot] = nil
		u.release()
	}
	if !h.r.s.reads.try(bufferBytes(n)) {
		return false
	}
	h.units[slot] = h.r.s.pool.get(n, h.r.s.reads)
	return true
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
	if !h.r.tooSlow(slot, took, h.waited.Load()) || !h.busy.CompareAndSwap(since, taken) {
		return false
	}
	h.r.avoid(slot)
	return true
}

// backgroundHedge is when a background read goes around a drive: until then its reads queue behind everyone else's.
const backgroundHedge = 30 * time.Second

// tooSlow asks whether to hedge a read from a slot. One that has not waited for a disk or another node copies from memory and
// lacks a core: to hedge it early would only take a core from others. r.mu is held.
func (r *blobReader) tooSlow(slot int, took time.Duration, waited bool) bool {
	if r.back {
		return took >= backgroundHedge
	}
	floor := r.s.drives.floor
	if !waited {
		floor *= starvedFloors
	}
	return took >= floor && r.s.drives.slow(took, r.peers(slot))
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
