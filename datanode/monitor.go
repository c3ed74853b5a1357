package datanode

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"cairn"
	"cairn/internal/vfs"
	"golang.org/x/sync/errgroup"
)

const (
	filesEvery      = 4                // polls between looks at all segment files
	fullMarginBytes = 32 << 20         // a drive with less to give, or a fiftieth of its size, is full
	readErrorWindow = 10 * time.Second // this many read errors within it make a drive failing
	maxReadErrors   = 16
)

// Run watches the drives until ctx ends: it opens those that appear, closes those that vanish or fail, and marks those
// that are full, read-only or hung. It also keeps the pace of background work.
func (n *Node) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range n.drives {
		g.Go(func() error { return d.monitor(ctx) })
	}
	g.Go(func() error { return n.watchdog(ctx) })
	g.Go(func() error { return n.keepPace(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// watchdog looks for operations that do not return. It does no I/O, so it cannot hang itself.
func (n *Node) watchdog(ctx context.Context) error {
	tick := time.NewTicker(max(time.Millisecond, min(n.cfg.HungAfter/4, n.cfg.PollEvery)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			for _, d := range n.drives {
				d.watch(now)
			}
		}
	}
}

// watch makes the drive hung, or no longer hung.
func (d *drive) watch(now time.Time) {
	d.mu.RLock()
	s, state := d.store, d.state
	d.mu.RUnlock()
	took := d.limits.longest(now)
	switch {
	case took > d.cfg.HungAfter && s != nil:
		if state != cairn.DriveHung {
			d.setState(cairn.DriveHung, fmt.Sprintf("an operation takes longer than %v", d.cfg.HungAfter))
		}
		// Also what slipped in before the state changed.
		err := fmt.Errorf("drive hangs: %w", cairn.ErrUnavailable)
		s.queue.fail(err)
		s.pieces.fail(err)
	case state == cairn.DriveHung && s != nil:
		d.setState(cairn.DriveOK, "")
	}
}

func (d *drive) monitor(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.PollEvery)
	defer tick.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.check(round)
		}
	}
}

// check brings the state of the drive up to date. It may hang with the drive.
func (d *drive) check(round int) {
	d.mu.RLock()
	s, state, retryAt := d.store, d.state, d.retryAt
	d.mu.RUnlock()
	if s == nil {
		if !time.Now().Before(retryAt) {
			d.open()
		}
		return
	}
	if state == cairn.DriveHung {
		return
	}
	w := d.limits.watchWrite(d.cfg.probeNumber())
	defer w.end()
	if err := d.sameDirs(s, round%filesEvery == 0); err != nil {
		d.lose(openFailure(err), err)
		d.open() // what is there now may be a drive, too
		return
	}
	if err := s.failure(); err != nil && !errors.Is(err, cairn.ErrReadOnly) {
		d.lose(cairn.DriveFailing, err)
		return
	}
	if d.readErrs.exceeded(time.Now(), d.stats.readErrors.Load()) {
		d.lose(cairn.DriveFailing, fmt.Errorf("%d read errors within %v", maxReadErrors, readErrorWindow))
		return
	}
	d.checkWrites(s)
}

// checkWrites writes to the disk if nobody did lately, and tells ok, full and read-only apart.
func (d *drive) checkWrites(s *store) {
	idle := time.Since(time.Unix(0, d.stats.lastSync.Load())) >= d.cfg.ProbeEvery
	refused := s.failure()
	var err error
	if idle || refused != nil {
		err = d.probe(0)
		if err == nil && refused != nil { // writable again; what the disk holds has to be read anew
			d.lose(cairn.DriveReadOnly, refused)
			d.open()
			return
		}
	}
	usage, uerr := d.cfg.FS.StatFS(d.path)
	if uerr == nil {
		d.mu.Lock()
		d.usage = usage
		d.mu.Unlock()
	}
	switch {
	case errors.Is(err, cairn.ErrReadOnly), refused != nil && absent(err): // the probe's file was never made
		d.unlessHung(cairn.DriveReadOnly, "file system takes no writes")
	case err != nil && !errors.Is(err, cairn.ErrFull):
		d.lose(openFailure(err), err)
	case err != nil || d.isFull(s):
		d.unlessHung(cairn.DriveFull, "no space for new shards")
	default:
		d.mu.Lock()
		d.retries = 0
		d.mu.Unlock()
		d.unlessHung(cairn.DriveOK, "")
	}
}

// isFull tells whether the drive should get no new shards. A drive that was full must have some room again first.
func (d *drive) isFull(s *store) bool {
	st := d.status()
	margin := min(fullMarginBytes, st.TotalBytes/50)
	if st.State == cairn.DriveFull {
		margin *= 2
	}
	return st.FreeBytes < margin || s.full.Load() && st.FreeBytes < s.segmentBytes+margin
}

// unlessHung sets the state; a hung drive's state is the watchdog's.
func (d *drive) unlessHung(state cairn.DriveState, reason string) {
	d.mu.RLock()
	hung := d.state == cairn.DriveHung
	d.mu.RUnlock()
	if !hung {
		d.setState(state, reason)
	}
}

// lose closes the store, first for its users and then for good.
func (d *drive) lose(state cairn.DriveState, why error) {
	d.mu.Lock()
	d.retries++
	d.retryAt = time.Time{}
	if state == cairn.DriveFailing {
		d.retryAt = time.Now().Add(min(maxRetryDelay, d.cfg.PollEvery<<min(d.retries, 6)))
	}
	d.readErrs = errorWindow{since: time.Now(), base: d.stats.readErrors.Load()}
	d.mu.Unlock()
	d.setState(state, why.Error())
	if err := d.close(false); err != nil {
		d.cfg.Log.Warn("drive was not closed cleanly", "path", d.path, "err", err)
	}
}

// sameDirs tells whether the path still is the directory that was opened; with files set, also whether the segments are
// the files that are open.
func (d *drive) sameDirs(s *store, files bool) error {
	now, err := d.look()
	if err != nil {
		return err
	}
	d.mu.RLock()
	same := now == d.place
	d.mu.RUnlock()
	if !same {
		return fmt.Errorf("another directory is at the path: %w", errForeign)
	}
	if !files {
		return nil
	}
	return s.sameFiles()
}

// sameFiles tells whether every segment's name still stands for the file that is open.
func (s *store) sameFiles() error {
	s.mu.RLock()
	segs := make([]*segment, 0, len(s.segs))
	for _, g := range s.segs {
		if !g.recycling {
			segs = append(segs, g)
		}
	}
	s.mu.RUnlock()
	for _, g := range segs {
		named, err := s.fs.Stat(g.path)
		s.mu.RLock()
		gone := s.segs[g.id] != g || g.recycling
		s.mu.RUnlock()
		if gone {
			continue // recycled meanwhile
		}
		if err != nil {
			return fmt.Errorf("a segment is gone: %w", err)
		}
		opened, err := g.file.Stat()
		if err != nil {
			return err
		}
		if named.Inode != opened.Inode || named.Dev != opened.Dev {
			return fmt.Errorf("another file is at %s: %w", g.path, errForeign)
		}
	}
	return nil
}

// probe writes to the disk and syncs. Only opening a drive makes the file: one that has vanished since is no accident.
func (d *drive) probe(create vfs.Flag) (err error) {
	f, err := d.cfg.FS.Open(filepath.Join(d.path, probeName), vfs.Write|create)
	if err != nil {
		return kindOf(err)
	}
	defer func() { err = kindOf(errors.Join(err, f.Close())) }()
	stamp := make([]byte, pageSize)
	copy(stamp, time.Now().UTC().Format(time.RFC3339Nano))
	if _, err = f.WriteAt(stamp, 0); err != nil {
		return err
	}
	start := time.Now()
	if err = f.Sync(); err != nil {
		return err
	}
	d.stats.syncLatency.add(time.Since(start))
	d.stats.lastSync.Store(time.Now().UnixNano())
	return nil
}

// errorWindow counts errors over a while.
type errorWindow struct {
	since time.Time
	base  int64
}

// exceeded tells whether more than maxReadErrors happened within the window; total is the count since ever.
func (w *errorWindow) exceeded(now time.Time, total int64) bool {
	if now.Sub(w.since) > readErrorWindow {
		w.since, w.base = now, total
	}
	return total-w.base >= maxReadErrors
}
