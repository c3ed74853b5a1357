package scrub

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"golang.org/x/time/rate"

	"cairn"
)

const deepPage = 16 // shards of one drive before the next drive has its turn

// deep is the slow scrub: one walk for each drive, taken in turn.
type deep struct {
	*Scrubber
	limit    *rate.Limiter
	walks    map[cairn.DriveID]*walk
	saved    map[cairn.DriveID]place
	lastSave time.Time
}

// deepForever goes around all drives, a page of each at a time, at the rate that Cycle asks for.
func (s *Scrubber) deepForever(ctx context.Context) {
	d := &deep{Scrubber: s, limit: newLimiter(minDeepRate), walks: map[cairn.DriveID]*walk{},
		saved: map[cairn.DriveID]place{}, lastSave: time.Now()}
	for ctx.Err() == nil {
		read := false
		for _, st := range s.cfg.Drives.Statuses() {
			if !st.State.Readable() || st.ID.IsZero() {
				continue
			}
			read = d.step(ctx, st.ID) || read
			if time.Since(d.lastSave) >= saveEvery {
				d.savePlaces(ctx)
				d.lastSave = time.Now()
			}
		}
		d.limit.SetLimit(rate.Limit(max(minDeepRate, float64(d.bytes())/s.cfg.Cycle.Seconds())))
		if !read {
			wait(ctx, time.Second)
		}
	}
}

// bytes is what all drives together have to be read of in a cycle.
func (d *deep) bytes() (n int64) {
	for _, w := range d.walks {
		for _, slot := range w.slots {
			n += max(slot.Bytes, slot.Shards*minThrottle)
		}
	}
	return n
}

// step reads a page of one drive and reports whether it did: a drive that has come around rests.
func (d *deep) step(ctx context.Context, drive cairn.DriveID) bool {
	w := d.walks[drive]
	if w == nil {
		w = &walk{Scrubber: d.Scrubber, drive: drive, limit: d.limit, place: d.loadPlace(ctx, drive), read: func(info cairn.ShardInfo, _ bool) {
			d.progress.update(func(st *Status) { st.DeepBytes += info.Length; st.LastDeep = time.Now() })
		}}
		d.walks[drive] = w
	}
	if w.place == (place{Begun: w.place.Begun}) { // at the start
		if time.Since(w.place.Begun) < d.cfg.Rest {
			return false
		}
		w.place.Begun, w.slots = time.Now(), nil
	}
	end, err := w.step(ctx, deepPage)
	if end {
		d.progress.update(func(st *Status) { st.Cycles++ })
		w.place = place{Begun: w.place.Begun}
	}
	if err != nil && ctx.Err() == nil {
		d.cfg.Logger.Debug("deep scrub stopped on a drive for now", "drive", drive, "err", err)
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
func (d *deep) savePlaces(ctx context.Context) {
	for drive, w := range d.walks {
		if d.saved[drive] == w.place {
			continue
		}
		b, err := json.Marshal(w.place)
		if err == nil {
			err = d.cfg.Meta.PutConfig(ctx, placeName(drive), b)
		}
		if err != nil && ctx.Err() == nil {
			d.cfg.Logger.Debug("place of the deep scrub was not saved", "drive", drive, "err", err)
			continue
		}
		d.saved[drive] = w.place
	}
}
