package blob

import (
	"io"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"cairn"
)

// aheadBytes bounds what a read fetches ahead of its writer, in bytes of buffers.
const aheadBytes = 8 << 20

// row is a range of shard data, the same on all slots, of which some slots' bytes are wanted. They are read, or computed
// from others: of its group in a locally repairable code, else from any k. The slots' reads run on goroutines of their own; whatever changes the row happens under r.mu.
type row struct {
	r     *blobReader
	lo, n int64
	want  uint64 // slots, as bits
	out   []piecePlace

	have, flying uint64        // slots that were read, and whose reads are under way
	since        []int64       // when each read began; -1 once it was hedged
	waited       []atomic.Bool // the reads that had to wait for a disk or another node
	bufs         []*strip
	over         bool // settled or closed: late reads give their buffers back
	err          error
	ready        chan struct{}
	spare        int64 // what is left of the memory that was taken for the row
}

// piecePlace says where bytes of the blob are in a row.
type piecePlace struct {
	slot   int
	lo, hi int64 // in the row
}

// rows copies bytes pos … end-1 of the blob, fetching some rows ahead.
func (r *blobReader) rows(pos, end int64, w io.Writer) error {
	return r.fetch(func() *row {
		if pos >= end {
			return nil
		}
		row := r.plan(pos, end)
		for _, p := range row.out {
			pos += p.hi - p.lo
		}
		return row
	}, func(row *row) error {
		for _, p := range row.out {
			if _, err := w.Write(row.bufs[p.slot].b[p.lo:p.hi]); err != nil {
				return err
			}
		}
		return nil
	})
}

// plan makes a row of what is left of pos's stripe.
func (r *blobReader) plan(pos, end int64) *row {
	per := r.g.StripeBytes()
	end = min(end, (pos/per+1)*per)
	var spans []piecePlace
	lo, hi := int64(1)<<62, int64(0)
	var want uint64
	for pos < end {
		s := r.g.Locate(pos, end)
		spans = append(spans, piecePlace{slot: s.Slot, lo: s.Off, hi: s.Off + s.Len})
		lo, hi, want = min(lo, s.Off), max(hi, s.Off+s.Len), want|1<<s.Slot
		pos += s.Len
	}
	for i := range spans {
		spans[i].lo -= lo
		spans[i].hi -= lo
	}
	row := r.newRow(lo, hi-lo, want)
	row.out = spans
	return row
}

func (r *blobReader) newRow(lo, n int64, want uint64) *row {
	width := r.g.Width()
	return &row{r: r, lo: lo, n: n, want: want, since: make([]int64, width), waited: make([]atomic.Bool, width),
		bufs: make([]*strip, width), ready: make(chan struct{})}
}

// cost is the memory that the row can come to need: a buffer for every slot, and one more for each that is computed while
// a slow read still fills its own.
func (row *row) cost() int64 { return int64(len(row.bufs)+row.r.g.M) * bufferBytes(row.n) }

// fetch runs the rows that next plans through use, in order, some ahead. The memory for the first is waited for, more
// rows are begun only if there is some.
func (r *blobReader) fetch(next func() *row, use func(*row) error) error {
	var queue []*row
	defer func() {
		for _, row := range queue {
			row.close()
		}
	}()
	planned := next()
	for planned != nil || len(queue) > 0 {
		for planned != nil {
			cost := planned.cost()
			if len(queue) == 0 {
				if err := r.s.reads.take(r.ctx, cost, r.s.cfg.StallLimit); err != nil {
					return err
				}
			} else if int64(len(queue)+1)*cost > aheadBytes || !r.s.reads.try(cost) {
				break
			}
			planned.spare = cost
			planned.start()
			queue = append(queue, planned)
			planned = next()
		}
		row := queue[0]
		err := row.wait()
		if err == nil {
			err = use(row)
		}
		row.close()
		queue = queue[1:]
		if err != nil {
			return err
		}
	}
	return nil
}

func (row *row) start() {
	row.r.mu.Lock()
	defer row.r.mu.Unlock()
	row.pump()
}

// pump decides what to do next: nothing more, read more slots, or fail. r.mu is held.
func (row *row) pump() {
	if row.over {
		return
	}
	code := row.r.code
	if code.Enough(row.have, row.want) {
		row.settle(nil)
		return
	}
	good, avoid := row.candidates()
	if direct := row.want &^ row.have; direct&^good == 0 {
		row.launch(direct &^ row.flying)
		return
	}
	// Some slot that is wanted cannot be had, or not soon: others will do, any k at the most.
	read, ok := code.Choose(row.have|row.flying&good, row.order(good&^(row.flying|row.have)), row.want)
	row.launch(read)
	if ok {
		return
	}
	read, ok = code.Choose(row.have|row.flying, row.order(avoid&^(row.flying|row.have)), row.want)
	row.launch(read)
	if !ok && row.want&^(row.have|row.flying) != 0 {
		row.settle(row.r.verdict(row.want))
	}
}

// candidates returns the slots that are good, and those that are to be avoided, without those that failed.
func (row *row) candidates() (good, avoid uint64) {
	for i := range row.r.slots {
		switch row.r.slots[i].health {
		case slotGood:
			good |= 1 << i
		case slotAvoid:
			avoid |= 1 << i
		}
	}
	return good, avoid
}

// order lists the slots of a set: wanted ones first, then those of drives with less to do. r.mu is held.
func (row *row) order(set uint64) []int {
	return append(order(set&row.want, 0), lessLoaded(set&^row.want, func(slot int) int64 { return row.r.slots[slot].stat.load() })...)
}

// order lists the slots of a set, wanted ones first.
func order(set, want uint64) []int {
	var out []int
	for _, part := range []uint64{set & want, set &^ want} {
		for ; part != 0; part &= part - 1 {
			out = append(out, bits.TrailingZeros64(part))
		}
	}
	return out
}

// launch starts to read slots. r.mu is held.
func (row *row) launch(set uint64) {
	for ; set != 0; set &= set - 1 {
		slot := bits.TrailingZeros64(set)
		row.flying |= 1 << slot
		row.since[slot] = row.r.s.drives.now()
		st := row.r.slots[slot]
		buf := row.buffer()
		row.r.s.late.Add(1)
		go func() {
			defer row.r.s.late.Done()
			row.read(slot, st, buf)
		}()
	}
}

// buffer takes a buffer out of the row's memory. r.mu is held.
func (row *row) buffer() *strip {
	row.spare -= bufferBytes(row.n)
	return row.r.s.pool.get(row.n, row.r.s.reads)
}

// read fetches one slot's bytes and hands them to the row.
func (row *row) read(slot int, st slotState, buf *strip) {
	r := row.r
	start := r.s.drives.now()
	st.stat.flying.Add(1)
	err := r.s.shards.ReadAt(cairn.NoteWaits(r.ctx, &row.waited[slot]), st.drive, r.shard(slot), buf.b[:row.n], row.lo)
	st.stat.flying.Add(-1)
	took := time.Duration(r.s.drives.now() - start)
	if err == nil {
		r.learn(st.stat, took)
	} else {
		r.failed(slot, st.drive, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	row.flying &^= 1 << slot
	if row.since[slot] < 0 { // it was hedged
		r.s.drives.cameBack(st.stat, took)
	}
	switch {
	case row.over:
		buf.release()
		return
	case err == nil:
		row.bufs[slot] = buf
		row.have |= 1 << slot
	case r.ctx.Err() != nil:
		buf.release()
		row.settle(r.ctx.Err())
		return
	default:
		row.spare += bufferBytes(row.n)
		row.keepSpare(buf)
	}
	row.pump()
}

// keepSpare gives a buffer back to the pool, but not its cost to the budget: the row will need another. r.mu is held.
func (row *row) keepSpare(buf *strip) {
	buf.from = nil
	buf.release()
}

// settle ends the row's reading. r.mu is held.
func (row *row) settle(err error) {
	row.over, row.err = true, err
	close(row.ready)
}

// wait returns when the row's wanted bytes are there, going around drives that are too slow.
func (row *row) wait() error {
	select {
	case <-row.ready:
		return row.finish()
	default:
	}
	tick := time.NewTimer(row.r.s.cfg.HedgeFloor)
	defer tick.Stop()
	for {
		select {
		case <-row.ready:
			return row.finish()
		case <-row.r.ctx.Done():
			return row.r.ctx.Err()
		case <-tick.C:
			row.hedge()
			tick.Reset(row.r.s.cfg.HedgeFloor / 2)
		}
	}
}

// hedge avoids the slots that have been read for too long, and reads others instead. The first k to come win.
func (row *row) hedge() {
	r := row.r
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.s.drives.now()
	for set := row.flying; set != 0; set &= set - 1 {
		slot := bits.TrailingZeros64(set)
		if row.since[slot] < 0 {
			continue
		}
		if !r.tooSlow(slot, time.Duration(now-row.since[slot]), row.waited[slot].Load()) {
			continue
		}
		row.since[slot] = -1
		r.avoid(slot)
	}
	row.pump()
}

// finish computes what is wanted and was not read.
func (row *row) finish() error {
	if row.err != nil || row.want&^row.have == 0 {
		return row.err
	}
	r := row.r
	r.mu.Lock()
	units, marks := make([][]byte, len(row.bufs)), make([]bool, len(row.bufs))
	for i := range units {
		switch bit := uint64(1) << i; {
		case row.have&bit != 0:
			units[i] = row.bufs[i].b[:row.n]
		case row.want&bit != 0:
			row.bufs[i] = row.buffer()
			units[i], marks[i] = row.bufs[i].b[:0:row.n], true
		}
	}
	r.mu.Unlock()
	return r.reconstruct(units, marks)
}

// reconstruct computes the marked units and counts their bytes.
func (r *blobReader) reconstruct(units [][]byte, marks []bool) error {
	if err := r.code.Reconstruct(units, marks); err != nil {
		return err
	}
	for i, mark := range marks {
		if mark {
			r.s.counts.decoded.Add(int64(len(units[i])))
		}
	}
	return nil
}

// close gives the row's buffers back, but for those that reads still fill.
func (row *row) close() {
	row.r.mu.Lock()
	defer row.r.mu.Unlock()
	if !row.over {
		row.settle(cairn.ErrCanceled)
	}
	for i, b := range row.bufs {
		if b != nil {
			b.release()
			row.bufs[i] = nil
		}
	}
	row.r.s.reads.put(row.spare)
	row.spare = 0
}

func median(times []time.Duration) time.Duration {
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[len(times)/2]
}
