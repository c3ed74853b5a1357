package blob

import (
	"context"
	"slices"

	"cairn"
)

// whole is a pending blob that lies in memory as one batch, and so can be tried again elsewhere.
type whole struct {
	s     *Store
	t     target
	b     *batch
	owner cairn.Owner
	want  cairn.Profile
	tally *tally
	tried []cairn.VolumeID
}

// appendWhole starts an append to every slot of the target and returns at once. It takes over the caller's hold on b.
func (s *Store) appendWhole(ctx context.Context, t target, b *batch, owner cairn.Owner, want cairn.Profile) *whole {
	w := &whole{s: s, b: b, owner: owner, want: want}
	w.start(ctx, t)
	return w
}

func (w *whole) start(ctx context.Context, t target) {
	w.t, w.tried, w.tally = t, append(w.tried, t.vol.ID), newTally(t.vol.Profile)
	tally := w.tally // late callbacks of this attempt must not reach the next one's
	tally.target = 1
	headers := make([]cairn.ShardHeader, len(t.vol.Slots))
	for i := range headers {
		if t.leave>>i&1 == 1 {
			tally.step(i, errLeftOut)
		}
	}
	for i, drive := range t.vol.Slots {
		if t.leave>>i&1 == 1 {
			continue
		}
		headers[i] = t.header(i, w.b.g.Length, w.owner)
		strip, stat := w.b.strips[i], w.s.drives.get(drive)
		strip.hold()
		w.s.shards.Append(ctx, drive, &headers[i], w.b.piece(i), func(err error) {
			strip.release()
			w.s.drives.writeFailed(ctx, stat, err)
			if late := tally.step(i, err); late {
				w.s.drives.answered(stat, err)
			}
		})
	}
}

// gaveUp notes that a drive still holds a write: new blobs leave it out until it answers.
func (w *whole) gaveUp(slot int) {
	w.s.drives.get(w.t.vol.Slots[slot]).stuckWrites.Add(1)
}

func (w *whole) settle(ctx context.Context) (cairn.NewBlob, error) {
	for {
		err := w.tally.wait(ctx, 1, w.s.patience(), w.gaveUp)
		if err == nil {
			w.b.release()
			blob := w.t.blob(w.b.g.Length)
			blob.Skipped = w.tally.skipped()
			w.s.counts.skipped.Add(int64(len(blob.Skipped)))
			return blob, nil
		}
		if ctx.Err() != nil || len(w.tried) >= maxAttempts || !w.again(ctx, err) {
			w.abandon(ctx)
			return cairn.NewBlob{}, err
		}
	}
}

// again starts over in another volume. The bytes keep their buffers if the shape is the same; otherwise they are laid out
// anew, in memory that must be free now: waiting for it here could wait for ourselves.
func (w *whole) again(ctx context.Context, cause error) bool {
	w.s.cfg.Logger.Warn("blob write failed, trying another volume", "volume", w.t.vol.ID, "blob", w.t.id, "err", cause)
	w.s.remove(ctx, w.t.vol, []cairn.ShardID{{Volume: w.t.vol.ID, Blob: w.t.id}})
	avoid := w.tried
	if cairn.Kind(cause) == cairn.ErrStaleEpoch {
		// The volume itself is well; the row that we had of it was old.
		if _, err := w.s.cfg.Volumes.Volume(ctx, w.t.vol.ID, true); err == nil {
			avoid = slices.DeleteFunc(slices.Clone(avoid), func(v cairn.VolumeID) bool { return v == w.t.vol.ID })
		}
	}
	t, err := w.s.choose(ctx, w.want, avoid)
	if err != nil {
		return false
	}
	g, code, err := w.s.geometry(&t.vol, w.b.g.Length)
	if err != nil {
		return false
	}
	if g != w.b.g {
		if g.Stripes() > 2*w.s.stripesPerBatch(g) || !w.s.writes.try(batchCost(g, g.ShardLen())) {
			return false
		}
		b := w.s.newBatch(g, code, 0, g.Stripes())
		err := b.fill(w.b.reader())
		w.b.release()
		if w.b = b; err != nil {
			return false
		}
	}
	w.s.counts.retried.Add(1)
	w.start(ctx, t)
	return true
}

func (w *whole) abandon(ctx context.Context) {
	w.s.afterwards(ctx, w.tally, 1, w.gaveUp)
	w.b.release()
	w.s.remove(ctx, w.t.vol, []cairn.ShardID{{Volume: w.t.vol.ID, Blob: w.t.id}})
}

// afterwards lets writes that cannot count any more end, for a while, so that what they wrote can be removed.
func (s *Store) afterwards(ctx context.Context, t *tally, target int, gaveUp func(int)) {
	t.mu.Lock()
	t.need = 0 // nothing is left to fail
	t.mu.Unlock()
	ctx = context.WithoutCancel(ctx)
	_ = t.wait(ctx, target, patience{stall: s.cfg.WriteDeadline, straggler: s.cfg.WriteDeadline}, gaveUp) // with need 0 it cannot fail
}
