package scrub

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"cairn"
)

// place is where a walk over a drive's shards stands: behind Blob in Slot of Volume.
type place struct {
	Volume cairn.VolumeID `json:"volume"`
	Slot   uint8          `json:"slot"`
	Blob   cairn.BlobID   `json:"blob"`
	// Begun is when the walk set out; zero before the first.
	Begun time.Time `json:"begun,omitzero"`
}

func slotOrder(a, b cairn.VolumeSlot) int {
	return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Slot, b.Slot))
}

// next returns those of the slots, which are in order, that a walk has still to look at, the first of them from behind p.Blob.
func (p place) next(slots []cairn.VolumeSlot) []cairn.VolumeSlot {
	i, _ := slices.BinarySearchFunc(slots, cairn.VolumeSlot{Volume: p.Volume, Slot: p.Slot}, slotOrder)
	return slots[i:]
}

// walk reads a drive's shards in the order of their names.
type walk struct {
	*Scrubber
	drive cairn.DriveID
	slots []cairn.VolumeSlot // what the drive held when the walk set out; what came since has its turn in the next one
	place place
	limit *rate.Limiter
	// read is told of every shard that was read, and whether it was bad; it may be nil.
	read func(info cairn.ShardInfo, bad bool)
}

// open asks the drive what it holds, unless that is known.
func (w *walk) open(ctx context.Context) (err error) {
	if w.slots == nil {
		w.slots, err = w.cfg.Drives.Slots(ctx, w.drive)
		slices.SortFunc(w.slots, slotOrder)
	}
	return err
}

// step verifies up to max shards and reports whether the walk has come to its end.
func (w *walk) step(ctx context.Context, max int) (end bool, err error) {
	if err := w.open(ctx); err != nil {
		return false, err
	}
	for _, slot := range w.place.next(w.slots) {
		if slot.Volume != w.place.Volume || slot.Slot != w.place.Slot {
			w.place.Volume, w.place.Slot, w.place.Blob = slot.Volume, slot.Slot, 0
		}
		for {
			if max <= 0 {
				return false, nil
			}
			shards, err := w.cfg.Drives.List(ctx, w.drive, slot.Volume, slot.Slot, w.place.Blob, min(page, max))
			if err != nil {
				return false, err
			}
			for _, info := range shards {
				bad, err := w.verify(ctx, w.drive, info, w.limit)
				if err != nil {
					return false, err
				}
				w.place.Blob = info.ID.Blob
				max--
				w.read(info, bad)
			}
			if len(shards) == 0 {
				break
			}
		}
	}
	return true, nil
}

// metaError marks an error as one of Meta's, not of the drive that is being read.
type metaError struct{ error }

func (e metaError) Unwrap() error { return e.error }

// verify reads one shard and records it if it is corrupt. An error means that the drive, or Meta (then it is a metaError),
// does not answer.
func (s *Scrubber) verify(ctx context.Context, drive cairn.DriveID, info cairn.ShardInfo, limit *rate.Limiter) (bad bool, err error) {
	if err := throttle(ctx, limit, max(info.Length, minThrottle)); err != nil {
		return false, err
	}
	err = s.read(ctx, drive, info.ID)
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, cairn.ErrNotFound):
		if _, gone := s.cfg.Drives.Stat(ctx, drive, info.ID); gone != nil {
			return false, nil // released since it was listed; reconciling finds the others
		}
	case !errors.Is(err, cairn.ErrCorrupt):
		return false, err
	}
	if !s.readable(drive) {
		return false, err // not the shard is bad, but the drive
	}
	return s.corrupt(ctx, drive, info.ID, err)
}

// read has a drive read a shard, when clients leave it the time.
func (s *Scrubber) read(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	for {
		err := s.cfg.Drives.Verify(ctx, drive, id)
		if !errors.Is(err, cairn.ErrOverloaded) || ctx.Err() != nil {
			return err
		}
		wait(ctx, retryOverload) // how long that lasts is bounded by ctx alone
	}
}

// readable tells whether a drive counts as readable now.
func (s *Scrubber) readable(drive cairn.DriveID) bool {
	for _, st := range s.cfg.Drives.Statuses() {
		if st.ID == drive {
			return st.State.Readable()
		}
	}
	return false
}

// corrupt records a shard that does not read right, if it is one that Meta counts on.
func (s *Scrubber) corrupt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, why error) (counts bool, err error) {
	v, err := s.cfg.Meta.Volume(ctx, id.Volume)
	if errors.Is(err, cairn.ErrNotFound) || err == nil && (int(id.Slot) >= len(v.Slots) || v.Slots[id.Slot] != drive) {
		return false, nil
	}
	if err != nil {
		return false, metaError{err}
	}
	err = s.record(ctx, []cairn.Damage{{Shard: id, Kind: cairn.DamageCorrupt, Drive: drive, Found: time.Now(),
		By: "scrub", Note: why.Error()}})
	if err != nil {
		err = metaError{err}
	}
	return true, err
}

// throttle waits until n more bytes may be read.
func throttle(ctx context.Context, limit *rate.Limiter, n int64) error {
	for n > 0 {
		step := min(n, int64(limit.Burst()))
		if err := limit.WaitN(ctx, int(step)); err != nil {
			return errors.Join(cairn.ErrCanceled, err)
		}
		n -= step
	}
	return nil
}

func newLimiter(bytesPerSec float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(bytesPerSec), int(min(max(bytesPerSec/4, 64<<10), math.MaxInt32)))
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
