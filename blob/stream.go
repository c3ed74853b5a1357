package blob

import (
	"context"
	"sync"
	"time"

	"cairn"
	"cairn/erasure"
)

// stream is a blob that is written batch by batch. Every slot has a goroutine of its own, so that a drive that blocks
// holds up nobody but itself.
type stream struct {
	s      *Store
	t      target
	g      erasure.Geometry
	tally  *tally
	cancel context.CancelFunc
	slots  []*slotStream
	sent   int // batches handed to the slots
}

// slotStream writes one shard. Only its goroutine touches the ShardWriter.
type slotStream struct {
	st     *stream
	slot   int
	drive  cairn.DriveID
	header cairn.ShardHeader
	pieces chan piece // at most two are under way, so that sending never blocks
	commit bool       // set before pieces is closed: make the shard durable
	closed bool
	ended  chan struct{}

	mu   sync.Mutex
	late error // how the last write ended after the slot was given up
}

// piece is a part of a shard with the hold on its buffer.
type piece struct {
	strip *strip
	n     int64
}

// batchesUnderWay bounds the batches of one put: one is read and encoded while the one before it is written and hashed.
const batchesUnderWay = 2

// stream stores a blob of many batches. When it returns without error, all bytes were handed over and the blob is pending.
func (p *putting) stream(ctx context.Context, t target, g erasure.Geometry, code *erasure.Code, off int64) error {
	st := p.s.openStream(ctx, t, g, p.owner(off))
	tee := startTee(p.req.Tee)
	err := p.batches(ctx, st, tee, code)
	if teeErr := tee.stop(); err == nil {
		err = teeErr
	}
	if err != nil {
		st.abandon(ctx)
		return err
	}
	st.close(true)
	return p.then(ctx, st)
}

func (p *putting) batches(ctx context.Context, st *stream, tee *teeing, code *erasure.Code) error {
	per := p.s.stripesPerBatch(st.g)
	for first := int64(0); first < st.g.Stripes(); first += per {
		if err := st.waitFor(ctx, st.sent-batchesUnderWay+1); err != nil {
			return err
		}
		count := min(per, st.g.Stripes()-first)
		if err := p.takeForStream(ctx, st, batchCost(st.g, per*st.g.Unit)); err != nil {
			return err
		}
		b := p.s.newBatch(st.g, code, first, count)
		p.s.writes.put(batchCost(st.g, per*st.g.Unit) - batchCost(st.g, b.length)) // the last one is shorter
		if err := b.fill(p.req.Body); err != nil {
			b.release()
			return err
		}
		st.send(b)
		if err := tee.hand(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

// takeForStream gets memory for one more batch, waiting only when nothing of this put holds any but the tee, which
// always comes to an end.
func (p *putting) takeForStream(ctx context.Context, st *stream, n int64) error {
	if p.s.writes.try(n) {
		return nil
	}
	if err := st.waitFor(ctx, st.sent); err != nil {
		return err
	}
	return p.take(ctx, n)
}

func (s *Store) openStream(ctx context.Context, t target, g erasure.Geometry, owner cairn.Owner) *stream {
	ctx, cancel := context.WithCancel(ctx)
	st := &stream{s: s, t: t, g: g, tally: newTally(t.vol.Profile), cancel: cancel, slots: make([]*slotStream, g.Width())}
	for i := range t.vol.Slots {
		if t.leave>>i&1 == 1 {
			st.tally.step(i, errLeftOut)
		}
	}
	for i, drive := range t.vol.Slots {
		if t.leave>>i&1 == 1 {
			continue
		}
		w := &slotStream{st: st, slot: i, drive: drive, header: t.header(i, g.Length, owner),
			pieces: make(chan piece, batchesUnderWay), ended: make(chan struct{})}
		st.slots[i] = w
		s.late.Add(1)
		go func() {
			defer s.late.Done()
			defer close(w.ended)
			w.run(ctx)
		}()
	}
	return st
}

// run writes the pieces as they come and ends the shard.
func (w *slotStream) run(ctx context.Context) {
	tally := w.st.tally
	defer func() {
		if tally.out(w.slot) == errStraggler {
			w.mu.Lock()
			late := w.late
			w.mu.Unlock()
			w.st.s.drives.answered(w.st.s.drives.get(w.drive), late)
		}
	}()
	sw, err := w.st.s.shards.Create(ctx, w.drive, &w.header, w.st.g.ShardLen())
	if err != nil {
		w.step(ctx, err)
	}
	var flying sync.WaitGroup
	for p := range w.pieces {
		if tally.out(w.slot) != nil {
			p.strip.release()
			continue
		}
		flying.Add(1)
		sw.Write(p.strip.b[:p.n], func(err error) {
			p.strip.release()
			w.step(ctx, err)
			flying.Done()
		})
	}
	if sw == nil {
		return
	}
	if w.commit && tally.out(w.slot) == nil {
		flying.Add(1)
		sw.Commit(func(err error) {
			w.step(ctx, err)
			flying.Done()
		})
		flying.Wait()
		if tally.out(w.slot) == nil {
			return
		}
	}
	flying.Wait()
	sw.Abort() // nothing happens if the commit came through after all
}

// step counts what the slot has done, or why it is out.
func (w *slotStream) step(ctx context.Context, err error) {
	w.st.s.drives.writeFailed(ctx, w.st.s.drives.get(w.drive), err)
	if late := w.st.tally.step(w.slot, err); late {
		w.mu.Lock()
		w.late = err
		w.mu.Unlock()
	}
}

// send hands a batch to every slot that is in. The caller keeps its own hold.
func (st *stream) send(b *batch) {
	st.sent++
	for i, w := range st.slots {
		if w == nil || st.tally.out(i) != nil {
			continue
		}
		b.strips[i].hold()
		w.pieces <- piece{b.strips[i], b.length}
	}
}

// waitFor waits until every slot that is in has written n batches.
func (st *stream) waitFor(ctx context.Context, n int) error {
	if n <= 0 {
		return nil
	}
	return st.tally.wait(ctx, n, st.s.patience(), st.gaveUp)
}

func (st *stream) gaveUp(slot int) {
	st.s.drives.get(st.t.vol.Slots[slot]).stuckWrites.Add(1)
}

// close ends every slot's pieces; with commit they are made durable.
func (st *stream) close(commit bool) {
	for _, w := range st.slots {
		if w != nil && !w.closed {
			w.commit, w.closed = commit, true
			close(w.pieces)
		}
	}
}

func (st *stream) settle(ctx context.Context) (cairn.NewBlob, error) {
	if err := st.waitFor(ctx, st.sent+1); err != nil { // the commit is one more step
		st.abandon(ctx)
		return cairn.NewBlob{}, err
	}
	blob := st.t.blob(st.g.Length)
	blob.Skipped = st.tally.skipped()
	st.s.counts.skipped.Add(int64(len(blob.Skipped)))
	st.cancel() // those that committed need their context no more; stragglers should stop
	return blob, nil
}

func (st *stream) abandon(ctx context.Context) {
	st.close(false)
	st.cancel()
	st.awaitEnds()
	st.s.remove(ctx, st.t.vol, []cairn.ShardID{{Volume: st.t.vol.ID, Blob: st.t.id}})
}

// awaitEnds lets the slots' goroutines drop what they wrote, for a while: a slot that ends later leaves nothing visible.
func (st *stream) awaitEnds() {
	timer := time.NewTimer(st.s.cfg.WriteDeadline)
	defer timer.Stop()
	for _, w := range st.slots {
		if w == nil {
			continue
		}
		select {
		case <-w.ended:
		case <-timer.C:
			return
		}
	}
}
