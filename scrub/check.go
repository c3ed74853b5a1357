package scrub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"cairn"
)

// Check asks for a look at everything, at one drive, or at the blobs of some objects.
type Check struct {
	// Name is what the progress is saved under, so that a check of the same name goes on where it was cut short.
	Name string
	// Drive: only what this drive holds and should hold; zero: all drives.
	Drive cairn.DriveID
	// Content: only these blobs, on all their drives; nil: whatever the drives hold.
	Content Content
}

// Content lists the blobs of some objects.
type Content interface {
	// Bytes is about what Blobs will list in all.
	Bytes(ctx context.Context) (int64, error)
	// Blobs returns the blobs of a page, the first of them with place "", and the place of the next page, "" behind the last.
	Blobs(ctx context.Context, place string) (refs []cairn.BlobRef, next string, err error)
}

// checkRow is what is saved of a check.
type checkRow struct {
	Progress cairn.Progress          `json:"progress"`
	Places   map[cairn.DriveID]place `json:"places,omitempty"`  // of drives that are being read
	Through  map[cairn.DriveID]bool  `json:"through,omitempty"` // drives that were read
	Absent   map[cairn.DriveID]int64 `json:"absent,omitempty"`  // drives that could not be looked at
	Compared bool                    `json:"compared,omitempty"`
	Page     string                  `json:"page,omitempty"` // of the content
}

// check is a Check under way.
type check struct {
	*Scrubber
	asked  Check
	limit  *rate.Limiter
	report func(cairn.Progress)

	mu    sync.Mutex
	row   checkRow
	saved time.Time

	telling sync.Mutex // orders the reports

	missed sync.Mutex // one at a time
	round  *round     // for what is missing of the content
}

func checkName(name string) string { return "scrub.check." + name }

// Check looks, as fast as background work may go, and returns when it has looked at all there is. What it finds is recorded
// by then and counted in the progress that report is told of, now and then and at the end; Found and Unchecked tell whether
// all is clean. A drive that does not answer is counted as unchecked and left out; an error means that Meta did not answer,
// or that ctx ended: another Check of the same name goes on.
func (s *Scrubber) Check(ctx context.Context, c Check, report func(cairn.Progress)) error {
	ctx = cairn.Background(ctx)
	k := &check{Scrubber: s, asked: c, limit: newLimiter(s.cfg.CheckBytesPerSec), report: report, saved: time.Now(),
		row: checkRow{Places: map[cairn.DriveID]place{}, Through: map[cairn.DriveID]bool{}, Absent: map[cairn.DriveID]int64{}}}
	k.load(ctx)
	err := k.run(ctx)
	if err == nil { // what was written and deleted meanwhile made the total a guess
		k.row.Progress.TotalBlobs, k.row.Progress.TotalBytes = k.row.Progress.DoneBlobs, k.row.Progress.DoneBytes
	}
	k.save(context.WithoutCancel(ctx), err == nil)
	k.report(k.row.Progress)
	if err != nil {
		return err
	}
	if c.Content == nil && c.Drive.IsZero() {
		s.progress.update(func(st *Status) { st.Checks++ })
	}
	return nil
}

func (k *check) run(ctx context.Context) error {
	if k.asked.Content != nil {
		return k.readContent(ctx)
	}
	var drives []cairn.DriveID
	for _, st := range k.cfg.Drives.Statuses() {
		switch {
		case st.ID.IsZero() || !k.picks(st.ID):
		case st.State.Readable():
			drives = append(drives, st.ID)
		default:
			k.absent(st.ID)
		}
	}
	walks := k.measure(ctx, drives)
	if !k.row.Compared {
		if err := k.compare(ctx); err != nil {
			return err
		}
	}
	return k.readDrives(ctx, walks)
}

func (k *check) picks(id cairn.DriveID) bool { return k.asked.Drive.IsZero() || k.asked.Drive == id }

// measure finds out how much there is to read, and returns the walks that are to be gone.
func (k *check) measure(ctx context.Context, drives []cairn.DriveID) (walks []*walk) {
	p := &k.row.Progress
	resumed := p.TotalBlobs > 0 // then that was counted already
	for _, id := range drives {
		if k.row.Through[id] {
			continue
		}
		w := &walk{Scrubber: k.Scrubber, drive: id, limit: k.limit, place: k.row.Places[id], read: k.read}
		if err := w.open(ctx); err != nil {
			k.absent(id)
			continue
		}
		for _, slot := range w.slots {
			if resumed {
				break
			}
			p.TotalBlobs += slot.Shards
			p.TotalBytes += slot.Bytes
		}
		walks = append(walks, w)
	}
	k.tell()
	return walks
}

// compare looks for what is missing.
func (k *check) compare(ctx context.Context) error {
	r := k.newRound(k.picks)
	r.found = func(n int64) { k.count(func(p *cairn.Progress) { p.Found += n }) }
	if err := r.run(ctx); err != nil {
		return err
	}
	for id := range r.unread {
		k.absent(id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.row.Compared = true
	return nil
}

// readDrives verifies all shards of some drives, a few drives at once.
func (k *check) readDrives(ctx context.Context, walks []*walk) error {
	errs := make([]error, len(walks))
	room := make(chan struct{}, checkWorkers)
	var reading sync.WaitGroup
	for i, w := range walks {
		room <- struct{}{}
		reading.Go(func() {
			defer func() { <-room }()
			errs[i] = k.readDrive(ctx, w)
		})
	}
	reading.Wait()
	return errors.Join(errs...)
}

func (k *check) readDrive(ctx context.Context, w *walk) error {
	for ctx.Err() == nil {
		end, err := w.step(ctx, deepPage)
		if meta := (metaError{}); errors.As(err, &meta) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			k.cfg.Logger.Info("a drive could not be checked", "drive", w.drive, "err", err)
			k.absent(w.drive)
			return nil
		}
		k.passed(ctx, w, end)
		if end {
			return nil
		}
	}
	return &cairn.Error{Op: "scrub.check", Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
}

// passed notes how far a walk has come, and saves that now and then.
func (k *check) passed(ctx context.Context, w *walk, end bool) {
	k.mu.Lock()
	k.row.Places[w.drive] = w.place
	if end {
		delete(k.row.Places, w.drive)
		k.row.Through[w.drive] = true
	}
	k.mu.Unlock()
	k.tell()
	k.saveSometimes(ctx)
}

// read counts a shard that was read.
func (k *check) read(info cairn.ShardInfo, bad bool) {
	k.count(func(p *cairn.Progress) {
		p.DoneBlobs++
		p.DoneBytes += info.Length
		if bad {
			p.Found++
		}
	})
}

func (k *check) count(f func(*cairn.Progress)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f(&k.row.Progress)
}

// absent counts a drive that could not be looked at.
func (k *check) absent(id cairn.DriveID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.row.Absent[id]++; k.row.Absent[id] == 1 {
		k.row.Progress.Unchecked++
	}
	names := make([]string, 0, len(k.row.Absent))
	for id := range k.row.Absent {
		names = append(names, id.String())
	}
	slices.Sort(names)
	if len(names) > maxNamed {
		names = append(names[:maxNamed], "…")
	}
	k.row.Progress.Reason = fmt.Sprintf("%d drives could not be looked at: %s", len(k.row.Absent), strings.Join(names, ", "))
}

const maxNamed = 4 // drives that a reason names

// tell reports how far the check is, to one caller at a time.
func (k *check) tell() {
	k.telling.Lock()
	defer k.telling.Unlock()
	k.mu.Lock()
	p := k.row.Progress
	k.mu.Unlock()
	k.report(p)
}

// load goes on with what a check of the same name has done. What cannot be read begins anew: that costs time only.
func (k *check) load(ctx context.Context) {
	b, err := k.cfg.Meta.Config(ctx, checkName(k.asked.Name))
	if err != nil || len(b) == 0 {
		return
	}
	row := checkRow{}
	if json.Unmarshal(b, &row) != nil || row.Places == nil && row.Page == "" && !row.Compared && len(row.Through) == 0 {
		return
	}
	row.Absent = map[cairn.DriveID]int64{} // they may be back
	row.Progress.Unchecked, row.Progress.Reason = 0, ""
	if row.Places == nil {
		row.Places = map[cairn.DriveID]place{}
	}
	if row.Through == nil {
		row.Through = map[cairn.DriveID]bool{}
	}
	k.row = row
}

func (k *check) saveSometimes(ctx context.Context) {
	k.mu.Lock()
	due := time.Since(k.saved) >= saveEvery
	if due {
		k.saved = time.Now()
	}
	k.mu.Unlock()
	if due {
		k.save(ctx, false)
	}
}

// save commits how far the check is; one that is done leaves nothing behind.
func (k *check) save(ctx context.Context, done bool) {
	ctx, cancel := context.WithTimeout(ctx, saveTimeout)
	defer cancel()
	k.mu.Lock()
	b, err := json.Marshal(k.row)
	k.mu.Unlock()
	if done {
		b = nil
	}
	if err == nil {
		err = k.cfg.Meta.PutConfig(ctx, checkName(k.asked.Name), b)
	}
	if err != nil {
		k.cfg.Logger.Debug("place of a check was not saved", "check", k.asked.Name, "err", err)
	}
}

// Forget drops what was saved of a check that will not be gone on with.
func (s *Scrubber) Forget(ctx context.Context, name string) error {
	return s.cfg.Meta.PutConfig(ctx, checkName(name), nil)
}

const saveTimeout = 5 * time.Second

// readContent verifies all shards of the content's blobs, a page at a time.
func (k *check) readContent(ctx context.Context) error {
	k.round = k.newRound(k.picks)
	k.round.found = func(n int64) { k.count(func(p *cairn.Progress) { p.Found += n }) }
	total, err := k.asked.Content.Bytes(ctx)
	if err != nil {
		return err
	}
	k.count(func(p *cairn.Progress) { p.TotalBytes = max(total, p.DoneBytes) })
	for {
		refs, next, err := k.asked.Content.Blobs(ctx, k.row.Page)
		if err != nil {
			return err
		}
		if err := k.readBlobs(ctx, refs); err != nil {
			return err
		}
		k.mu.Lock()
		k.row.Page = next
		k.mu.Unlock()
		k.tell()
		if next == "" {
			return nil
		}
		k.saveSometimes(ctx)
	}
}

func (k *check) readBlobs(ctx context.Context, refs []cairn.BlobRef) error {
	errs := make([]error, len(refs))
	room := make(chan struct{}, checkWorkers)
	var reading sync.WaitGroup
	for i, ref := range refs {
		room <- struct{}{}
		reading.Go(func() {
			defer func() { <-room }()
			errs[i] = k.readBlob(ctx, ref)
			k.tell()
		})
	}
	reading.Wait()
	return errors.Join(errs...)
}

// readBlob verifies the shards of one blob.
func (k *check) readBlob(ctx context.Context, ref cairn.BlobRef) error {
	v, err := k.cfg.Meta.Volume(ctx, ref.Volume)
	if err != nil {
		return err
	}
	for slot, drive := range v.Slots {
		if err := k.readShard(ctx, v, ref, uint8(slot), drive); err != nil {
			return err
		}
	}
	k.count(func(p *cairn.Progress) { p.DoneBlobs++; p.DoneBytes += ref.Length })
	return nil
}

func (k *check) readShard(ctx context.Context, v cairn.Volume, ref cairn.BlobRef, slot uint8, drive cairn.DriveID) error {
	if err := throttle(ctx, k.limit, max(ref.Length/int64(v.Profile.K), minThrottle)); err != nil {
		return err
	}
	id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}
	if !k.readable(drive) {
		k.absent(drive)
		return nil
	}
	err := k.Scrubber.read(ctx, drive, id)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &cairn.Error{Op: "scrub.check", Err: errors.Join(cairn.ErrCanceled, ctx.Err())}
	case errors.Is(err, cairn.ErrCorrupt) && k.readable(drive):
		bad, err := k.corrupt(ctx, drive, id, err)
		if bad {
			k.count(func(p *cairn.Progress) { p.Found++ })
		}
		return err
	case errors.Is(err, cairn.ErrNotFound):
		k.missed.Lock()
		defer k.missed.Unlock()
		return k.round.missing(ctx, v, slot, []cairn.BlobRef{ref})
	}
	k.absent(drive)
	return nil
}
