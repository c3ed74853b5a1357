package scrub

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"sync"
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
	Begun time.Time `json:"begun"`
}

// next returns the slots that a walk has still to look at, in order, the first of them from behind p.Blob.
func (p place) next(slots []cairn.VolumeSlot) []cairn.VolumeSlot {
	order := func(a, b cairn.VolumeSlot) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Slot, b.Slot))
	}
	slots = slices.Clone(slots)
	slices.SortFunc(slots, order)
	i, _ := slices.BinarySearchFunc(slots, cairn.VolumeSlot{Volume: p.Volume, Slot: p.Slot}, order)
	return slots[i:]
}

// walk verifies up to max of a drive's shards from p on. It returns where it stands, and whether it has come to the end.
func (s *Scrubber) walk(ctx context.Context, drive cairn.DriveID, p place, max int, limit *rate.Limiter,
	read func(bytes int64)) (place, bool, error) {
	slots, err := s.cfg.Drives.Slots(ctx, drive)
	if err != nil {
		return p, false, err
	}
	for _, slot := range p.next(slots) {
		if slot.Volume != p.Volume || slot.Slot != p.Slot {
			p.Volume, p.Slot, p.Blob = slot.Volume, slot.Slot, 0
		}
		for {
			if max <= 0 {
				return p, false, nil
			}
			shards, err := s.cfg.Drives.List(ctx, drive, p.Volume, p.Slot, p.Blob, min(page, max))
			if err != nil {
				return p, false, err
			}
			for _, info := range shards {
				if err := s.verify(ctx, drive, info, limit); err != nil {
					return p, false, err
				}
				p.Blob = info.ID.Blob
				max--
				read(info.Length)
			}
			if len(shards) == 0 {
				break
			}
		}
	}
	return p, true, nil
}

// verify reads one shard and records it if it is corrupt. An error means that the drive, or Meta, does not answer.
func (s *Scrubber) verify(ctx context.Context, drive cairn.DriveID, info cairn.ShardInfo, limit *rate.Limiter) error {
	if err := throttle(ctx, limit, max(info.Length, minThrottle)); err != nil {
		return err
	}
	err := s.cfg.Drives.Verify(ctx, drive, info.ID)
	for errors.Is(err, cairn.ErrOverloaded) && ctx.Err() == nil {
		select { // clients come first; how long that lasts is bounded by ctx alone
		case <-ctx.Done():
		case <-time.After(retryOverload):
			err = s.cfg.Drives.Verify(ctx, drive, info.ID)
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, cairn.ErrNotFound):
		if _, gone := s.cfg.Drives.Stat(ctx, drive, info.ID); gone != nil {
			return nil // released since it was listed; reconciling finds the others
		}
	case !errors.Is(err, cairn.ErrCorrupt):
		return err
	}
	if !s.readable(drive) {
		return err // not the shard is bad, but the drive
	}
	return s.corrupt(ctx, drive, info, err)
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
func (s *Scrubber) corrupt(ctx context.Context, drive cairn.DriveID, info cairn.ShardInfo, why error) error {
	v, err := s.cfg.Meta.Volume(ctx, info.ID.Volume)
	if errors.Is(err, cairn.ErrNotFound) || err == nil && (int(info.ID.Slot) >= len(v.Slots) || v.Slots[info.ID.Slot] != drive) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.record(ctx, []cairn.Damage{{Shard: info.ID, Kind: cairn.DamageCorrupt, Drive: drive, Found: time.Now(),
		By: "scrub", Note: why.Error()}})
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

// wholePass reconciles everything, then reads everything.
func (s *Scrubber) wholePass(ctx context.Context) error {
	var drives []cairn.DriveID
	var shards, bytes int64
	for _, st := range s.cfg.Drives.Statuses() {
		if st.State.Readable() && !st.ID.IsZero() {
			drives = append(drives, st.ID)
			shards += st.Shards
			bytes += st.LiveBytes
		}
	}
	s.progress.begin(time.Now(), shards, bytes)
	err := s.reconcile(ctx, func(cairn.DriveID) bool { return true })
	err = errors.Join(err, s.readAll(ctx, drives))
	s.progress.end(time.Now(), err)
	return err
}

// readAll verifies the shards of some drives at once. A drive that goes away meanwhile is an error of the pass, since it
// was not looked at, but does not keep the others from being read.
func (s *Scrubber) readAll(ctx context.Context, drives []cairn.DriveID) error {
	limit := newLimiter(s.cfg.PassBytesPerSec)
	errs := make([]error, len(drives))
	room := make(chan struct{}, passWorkers)
	var reading sync.WaitGroup
	for i, d := range drives {
		room <- struct{}{}
		reading.Go(func() {
			defer func() { <-room }()
			_, _, errs[i] = s.walk(ctx, d, place{}, math.MaxInt, limit, s.progress.read)
		})
	}
	reading.Wait()
	return errors.Join(errs...)
}

// deepForever goes around all drives, a page of each at a time, at the rate that Cycle asks for.
func (s *Scrubber) deepForever(ctx context.Context) {
	limit := newLimiter(minDeepRate)
	places := map[cairn.DriveID]place{}
	saved, lastSave := map[cairn.DriveID]place{}, time.Now()
	for ctx.Err() == nil {
		read := false
		var live int64
		for _, st := range s.cfg.Drives.Statuses() {
			if !st.State.Readable() || st.ID.IsZero() {
				continue
			}
			live += st.LiveBytes
			read = s.deepStep(ctx, st.ID, places, limit) || read
			if time.Since(lastSave) >= saveEvery {
				s.savePlaces(ctx, places, saved)
				lastSave = time.Now()
			}
		}
		limit.SetLimit(rate.Limit(max(minDeepRate, float64(live)/s.cfg.Cycle.Seconds())))
		if !read {
			wait(ctx, time.Second)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

const deepPage = 16 // shards of one drive before the next drive has its turn

// deepStep reads a page of one drive and reports whether it did: a drive that has come around rests.
func (s *Scrubber) deepStep(ctx context.Context, drive cairn.DriveID, places map[cairn.DriveID]place, limit *rate.Limiter) bool {
	p, ok := places[drive]
	if !ok {
		p = s.loadPlace(ctx, drive)
	}
	if p == (place{Begun: p.Begun}) { // at the start
		if time.Since(p.Begun) < s.cfg.Rest {
			places[drive] = p
			return false
		}
		p.Begun = time.Now()
	}
	p, end, err := s.walk(ctx, drive, p, deepPage, limit, func(bytes int64) {
		s.progress.update(func(st *Status) { st.DeepBytes += bytes; st.LastDeep = time.Now() })
	})
	if end {
		s.progress.update(func(st *Status) { st.Cycles++ })
		p = place{Begun: p.Begun}
	}
	places[drive] = p
	if err != nil && ctx.Err() == nil {
		s.cfg.Logger.Debug("deep scrub stopped on a drive for now", "drive", drive, "err", err)
	}
	return err == nil
}

func placeName(drive cairn.DriveID) string { return "scrub.place." + drive.String() }

// loadPlace reads where the walk over a drive stood. What cannot be read or decoded begins anew: that costs time only.
func (s *Scrubber) loadPlace(ctx context.Context, drive cairn.DriveID) (p place) {
	b, err := s.cfg.Meta.Config(ctx, placeName(drive))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		if !errors.Is(err, cairn.ErrNotFound) && ctx.Err() == nil {
			s.cfg.Logger.Debug("place of the deep scrub was not read", "drive", drive, "err", err)
		}
		return place{}
	}
	return p
}

// savePlaces commits the places that differ from those saved last.
func (s *Scrubber) savePlaces(ctx context.Context, places, saved map[cairn.DriveID]place) {
	for drive, p := range places {
		if saved[drive] == p {
			continue
		}
		b, err := json.Marshal(p)
		if err == nil {
			err = s.cfg.Meta.PutConfig(ctx, placeName(drive), b)
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Debug("place of the deep scrub was not saved", "drive", drive, "err", err)
			continue
		}
		saved[drive] = p
	}
}
