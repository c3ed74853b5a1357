package blob

import (
	"context"
	"errors"
	"fmt"

	"cairn"
	"cairn/erasure"
)

// maxAttempts bounds how many volumes a blob is tried in.
const maxAttempts = 4

// target is where one blob goes.
type target struct {
	vol   cairn.Volume
	id    cairn.BlobID
	leave uint64 // slots that are left out from the start, as bits
}

// choose picks a volume with enough slots that can be written. A drive that still sits on an earlier write, or that failed one a
// moment ago, counts as one that cannot. When every volume has too many of those, one around them is asked for, as narrow as
// that makes it; when there is none either, they are tried.
func (s *Store) choose(ctx context.Context, want cairn.Profile, avoid []cairn.VolumeID) (target, error) {
	var spare *target
	for range maxAttempts {
		vol, id, err := s.cfg.Volumes.Pick(ctx, want, avoid)
		if err != nil {
			return s.detour(ctx, want, spare, err)
		}
		t := target{vol: vol, id: id}
		var stuck, broken int
		for i, drive := range vol.Slots {
			switch {
			case !s.cfg.Volumes.DriveState(drive).Writable():
				t.leave |= 1 << i
				broken++
			case s.drives.sick(s.drives.get(drive)):
				stuck++
			}
		}
		if ok := len(vol.Slots) - broken; ok-stuck >= vol.Profile.WriteQuorum() {
			s.leaveStuck(&t)
			return t, nil
		} else if ok >= vol.Profile.WriteQuorum() {
			spare = &t
		}
		avoid = append(avoid[:len(avoid):len(avoid)], vol.ID)
	}
	return s.detour(ctx, want, spare, fmt.Errorf("no volume for %s has enough drives that take writes: %w", want, cairn.ErrUnavailable))
}

// detour returns a target without sick drives, or else the one that there is, or else why there is none.
func (s *Store) detour(ctx context.Context, want cairn.Profile, spare *target, cause error) (target, error) {
	d, ok := s.cfg.Volumes.(Detour)
	if sick := s.drives.allSick(); ok && len(sick) > 0 && ctx.Err() == nil {
		if vol, id, err := d.PickAround(ctx, want, sick); err == nil {
			return target{vol: vol, id: id}, nil
		}
	}
	if spare == nil {
		return target{}, cause
	}
	return *spare, nil
}

func (s *Store) leaveStuck(t *target) {
	for i, drive := range t.vol.Slots {
		if s.drives.sick(s.drives.get(drive)) {
			t.leave |= 1 << i
		}
	}
}

// header describes one shard of a blob.
func (t *target) header(slot int, length int64, owner cairn.Owner) cairn.ShardHeader {
	return cairn.ShardHeader{
		ID:    cairn.ShardID{Volume: t.vol.ID, Blob: t.id, Slot: uint8(slot)},
		Epoch: t.vol.Epoch, Profile: t.vol.Profile, Unit: t.vol.Unit, BlobLen: length, Owner: owner,
	}
}

func (t *target) blob(length int64) cairn.NewBlob {
	return cairn.NewBlob{Ref: cairn.BlobRef{Volume: t.vol.ID, Blob: t.id, Length: length}, Epoch: t.vol.Epoch}
}

// pending is a blob whose bytes are all on their way to the drives.
type pending interface {
	// settle waits until the blob is durable on its quorum.
	settle(ctx context.Context) (cairn.NewBlob, error)
	// abandon stops what is under way and removes what was written, as far as the drives can be reached.
	abandon(ctx context.Context)
}

// putting is one Put under way. At most one blob is pending while the next one is read, so that the drives' last syncs
// overlap with the client's next bytes.
type putting struct {
	s       *Store
	req     cairn.BlobPut
	blobs   []cairn.NewBlob
	pending pending
}

// Put reads r.Body and stores it as blobs of cairn.MaxBlobBytes at most (shorter ones if the size is unknown), each
// durable on its write quorum when Put returns. Blobs of one body may lie in different volumes, and under a narrower
// profile than asked for. On error it has discarded what it wrote, as far as the drives could be reached.
//
// Errors: the body's and the tee's own; io.ErrUnexpectedEOF for a body shorter than r.Size; ErrQuorum, ErrFull,
// ErrUnavailable, ErrOverloaded (no memory in time), ErrCanceled.
func (s *Store) Put(ctx context.Context, r cairn.BlobPut) ([]cairn.NewBlob, error) {
	p := &putting{s: s, req: r}
	err := r.Profile.Validate()
	switch {
	case err != nil:
	case r.Size < 0:
		err = p.unknownSize(ctx)
	default:
		err = p.knownSize(ctx)
	}
	if err == nil {
		err = p.settle(ctx)
	}
	if err != nil {
		p.undo(ctx)
		if errors.Is(err, cairn.ErrStaleEpoch) {
			// The client cannot know of epochs; for it this is a reason to come back.
			err = fmt.Errorf("%v: %w", err, cairn.ErrUnavailable)
		}
		return nil, &cairn.Error{Op: "blob.put", Subject: r.Owner.Bucket + "/" + r.Owner.Key, Err: err}
	}
	return p.blobs, nil
}

func (p *putting) knownSize(ctx context.Context) error {
	for off := int64(0); off < p.req.Size; {
		n := min(cairn.MaxBlobBytes, p.req.Size-off)
		t, err := p.s.choose(ctx, p.req.Profile, nil)
		if err != nil {
			return err
		}
		g, code, err := p.s.geometry(&t.vol, n)
		if err != nil {
			return err
		}
		if g.Stripes() <= p.s.stripesPerBatch(g) {
			err = p.whole(ctx, t, g, code, off)
		} else {
			err = p.stream(ctx, t, g, code, off)
		}
		if err != nil {
			return err
		}
		off += n
	}
	return nil
}

// unknownSize makes a blob of each full batch, so that every blob's exact length is known before its first write.
func (p *putting) unknownSize(ctx context.Context) error {
	for off := int64(0); ; {
		t, err := p.s.choose(ctx, p.req.Profile, nil)
		if err != nil {
			return err
		}
		g, code, err := p.s.geometry(&t.vol, 1)
		if err != nil {
			return err
		}
		count := p.s.stripesPerBatch(g)
		g.Length = count * g.StripeBytes()
		if err := p.take(ctx, batchCost(g, g.ShardLen())); err != nil {
			return err
		}
		b := p.s.newBatch(g, code, 0, count)
		n, err := b.fillUnknown(p.req.Body)
		if err != nil || n == 0 {
			b.release()
			return err
		}
		if err := p.submit(ctx, t, b, off); err != nil {
			return err
		}
		if off += n; n < g.Length {
			return nil
		}
	}
}

// whole stores a blob that fits in one batch.
func (p *putting) whole(ctx context.Context, t target, g erasure.Geometry, code *erasure.Code, off int64) error {
	if err := p.take(ctx, batchCost(g, g.ShardLen())); err != nil {
		return err
	}
	b := p.s.newBatch(g, code, 0, g.Stripes())
	if err := b.fill(p.req.Body); err != nil {
		b.release()
		return err
	}
	return p.submit(ctx, t, b, off)
}

// submit starts the appends of a whole blob, hashes its bytes beside them, and waits for the blob before it.
func (p *putting) submit(ctx context.Context, t target, b *batch, off int64) error {
	w := p.s.appendWhole(ctx, t, b, p.owner(off), p.req.Profile)
	if p.req.Tee != nil {
		if err := b.each(p.tee); err != nil {
			w.abandon(ctx)
			return err
		}
	}
	return p.then(ctx, w)
}

func (p *putting) tee(b []byte) error {
	_, err := p.req.Tee.Write(b)
	return err
}

func (p *putting) owner(off int64) cairn.Owner {
	o := p.req.Owner
	o.Offset += off
	return o
}

// take gets memory. It waits for it only when nothing of this put holds any: two puts that each hold some and wait for
// more would wait for each other.
func (p *putting) take(ctx context.Context, n int64) error {
	if p.s.writes.try(n) {
		return nil
	}
	if err := p.settle(ctx); err != nil {
		return err
	}
	return p.s.writes.take(ctx, n, p.s.cfg.StallLimit)
}

// then settles the pending blob and puts the next one in its place.
func (p *putting) then(ctx context.Context, next pending) error {
	if err := p.settle(ctx); err != nil {
		next.abandon(ctx)
		return err
	}
	p.pending = next
	return nil
}

func (p *putting) settle(ctx context.Context) error {
	if p.pending == nil {
		return nil
	}
	b, err := p.pending.settle(ctx)
	p.pending = nil
	if err == nil {
		p.blobs = append(p.blobs, b)
	}
	return err
}

// undo removes what a failed put has written.
func (p *putting) undo(ctx context.Context) {
	if p.pending != nil {
		p.pending.abandon(ctx)
		p.pending = nil
	}
	p.s.Discard(ctx, p.blobs)
}

func (s *Store) patience() patience {
	return patience{straggler: s.cfg.WriteDeadline, stall: s.cfg.StallLimit}
}
