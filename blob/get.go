package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"cairn"
	"cairn/erasure"
)

// Get writes length bytes from offset off of the blobs' concatenation to w: verified, in order, decoded where shards are
// missing or bad. On error the bytes written so far were right.
//
// Errors: those of w; ErrInvalid for a range that leaves the blobs; ErrLost if so many shards are missing or corrupt that
// a blob cannot be decoded, ErrUnavailable or ErrOverloaded if it could be once drives answer again. The *cairn.Error
// names the blob.
func (s *Store) Get(ctx context.Context, blobs []cairn.BlobRef, off, length int64, w io.Writer) error {
	var total int64
	for _, b := range blobs {
		total += b.Length
	}
	if off < 0 || length < 0 || off > total || length > total-off {
		return &cairn.Error{Op: "blob.get", Err: fmt.Errorf("range %d+%d of %d bytes: %w", off, length, total, cairn.ErrInvalid)}
	}
	cold := false
	for _, ref := range blobs {
		if length == 0 {
			break
		}
		if off >= ref.Length {
			off -= ref.Length
			continue
		}
		n := min(length, ref.Length-off)
		r, err := s.openBlob(ctx, ref)
		if err == nil {
			r.cold = cold
			err = r.copy(off, off+n, w)
			cold = r.cold
		}
		if err != nil {
			return &cairn.Error{Op: "blob.get", Subject: ref.String(), Err: err}
		}
		off, length = 0, length-n
	}
	return nil
}

// blobReader reads one blob for one call. What it learns of the slots holds for that call only.
type blobReader struct {
	s    *Store
	ctx  context.Context // of the call: a reader does not outlive it, but for reads that a drive holds up
	ref  cairn.BlobRef
	g    erasure.Geometry
	code *erasure.Code
	back bool // background: other drives are no quicker, so nothing is hedged
	cold bool // reads wait for the disk: fetch ahead

	refresh sync.Once
	mu      sync.Mutex
	slots   []slotState
}

// slotState is what the call knows of one slot.
type slotState struct {
	drive  cairn.DriveID
	stat   *driveStat
	health slotHealth
	away   bool  // the drive was known to answer no reads when the call began
	err    error // of a slot that is bad
}

type slotHealth uint8

const (
	slotGood  slotHealth = iota
	slotAvoid            // slow or not readable as far as is known: only when nothing else is left
	slotBad              // tried, and of no use to this call
)

// openBlob prepares to read a blob. No shard is touched yet.
func (s *Store) openBlob(ctx context.Context, ref cairn.BlobRef) (*blobReader, error) {
	vol, err := s.cfg.Volumes.Volume(ctx, ref.Volume, false)
	if errors.Is(err, cairn.ErrNotFound) {
		// Unknown is not absent: nobody may take a blob that something refers to for one that does not exist.
		return nil, fmt.Errorf("its volume is unknown (%v): %w", err, cairn.ErrUnavailable)
	} else if err != nil {
		return nil, err
	}
	return s.openBlobIn(ctx, ref, &vol)
}

func (s *Store) openBlobIn(ctx context.Context, ref cairn.BlobRef, vol *cairn.Volume) (*blobReader, error) {
	g, code, err := s.geometry(vol, ref.Length)
	if err != nil {
		return nil, err
	}
	r := &blobReader{s: s, ctx: ctx, ref: ref, g: g, code: code, back: cairn.IsBackground(ctx),
		slots: make([]slotState, g.Width())}
	for i, drive := range vol.Slots {
		r.slots[i] = s.slotOn(drive)
	}
	return r, nil
}

func (s *Store) slotOn(drive cairn.DriveID) slotState {
	st := slotState{drive: drive, stat: s.drives.get(drive)}
	st.away = !s.cfg.Volumes.DriveState(drive).Readable()
	if st.away || s.drives.shun(st.stat) {
		st.health = slotAvoid
	}
	return st
}

// copy writes bytes pos … end-1 of the blob: the quick way while all is well, row by row otherwise.
func (r *blobReader) copy(pos, end int64, w io.Writer) (err error) {
	if !r.cold {
		if pos, err = r.hot(pos, end, w); err != nil || pos == end {
			return err
		}
	}
	return r.rows(pos, end, w)
}

// shard names a slot's shard.
func (r *blobReader) shard(slot int) cairn.ShardID {
	return cairn.ShardID{Volume: r.ref.Volume, Blob: r.ref.Blob, Slot: uint8(slot)}
}

// state returns what is known of a slot.
func (r *blobReader) state(slot int) slotState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.slots[slot]
}

// failed takes in that a read from a slot's drive failed. A shard that is not there may have moved: the volume's row is
// read afresh, once, and a slot that is elsewhere now is good again. What is missing or corrupt is reported.
func (r *blobReader) failed(slot int, drive cairn.DriveID, err error) {
	if r.ctx.Err() != nil {
		return // the caller is gone: the drive is not to blame
	}
	kind, isDamage := damageOf(err)
	if isDamage && kind == cairn.DamageMissing {
		r.refresh.Do(r.relocate)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.slots[slot]
	if s.drive != drive || s.health == slotBad {
		return
	}
	s.health, s.err = slotBad, err
	if isDamage && r.s.cfg.Damage != nil {
		r.s.cfg.Damage.Report(cairn.Damage{Shard: r.shard(slot), Kind: kind, Drive: drive, Found: time.Now(), By: "read",
			Note: err.Error()})
	}
}

// relocate looks where the slots are now.
func (r *blobReader) relocate() {
	vol, err := r.s.cfg.Volumes.Volume(r.ctx, r.ref.Volume, true)
	if err != nil || len(vol.Slots) != len(r.slots) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, drive := range vol.Slots {
		if r.slots[i].drive != drive {
			r.slots[i] = r.s.slotOn(drive)
		}
	}
}

// damageOf tells whether an error says something about the shard, rather than about the way to it.
func damageOf(err error) (cairn.DamageKind, bool) {
	switch cairn.Kind(err) {
	case cairn.ErrNotFound:
		return cairn.DamageMissing, true
	case cairn.ErrCorrupt, cairn.ErrInvalid: // ErrInvalid: the shard is shorter than the blob's length says
		return cairn.DamageCorrupt, true
	}
	return 0, false
}

// verdict says why the wanted slots' bytes cannot be had. r.mu is held.
func (r *blobReader) verdict(want uint64) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	var lost, away int
	var left uint64 // what may still be there
	kind := cairn.ErrUnavailable
	var cause error
	for i := range r.slots {
		err := r.slots[i].err
		if err == nil {
			left |= 1 << i
			continue
		}
		if cause = errors.Join(cause, fmt.Errorf("slot %d: %w", i, errText(err))); cairn.Kind(err) == cairn.ErrOverloaded {
			kind = cairn.ErrOverloaded
		}
		if _, ok := damageOf(err); ok {
			lost++
		} else {
			away++
			left |= 1 << i
		}
	}
	if !r.code.Enough(left, want) {
		kind = cairn.ErrLost
	}
	return fmt.Errorf("%d of %d shards missing or corrupt, %d unreachable, %d needed: %w (%v)",
		lost, len(r.slots), away, r.g.K, kind, cause)
}

// errText keeps an error's words without its kind: the whole has a kind of its own.
func errText(err error) error { return errors.New(err.Error()) }
