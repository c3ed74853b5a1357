package object

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"cairn"
	"cairn/meta"
)

const (
	// gcPage is how many outbox rows are taken at a time.
	gcPage = 4096
	// gcBatch is how many blobs of one volume are deleted in one call.
	gcBatch = 512
	// gcWorkers is how many such calls are under way at once.
	gcWorkers = 4
	// gcMaxBackoff bounds the pause after failures.
	gcMaxBackoff = time.Minute
	// staleInterval is the pause between looks for stale uploads, staleBatch how many are aborted in one look.
	staleInterval = 10 * time.Minute
	staleBatch    = 100
)

// Run does the background work until ctx ends: it deletes the shards of released blobs, aborts stale uploads, runs lifecycle rules, and keeps the
// MD5 lanes. One store of a process runs it, once at a time. It returns ctx's error after all of its work has stopped.
func (s *Store) Run(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.hashers.lanes.run(gctx); return nil })
	g.Go(func() error { s.collect(cairn.Background(gctx)); return nil })
	g.Go(func() error { s.expire(cairn.Background(gctx)); return nil })
	g.Go(func() error { s.runLifecycle(cairn.Background(gctx)); return nil })
	g.Wait()
	return ctx.Err()
}

// collect empties the garbage outbox, pass after pass, more slowly while it fails.
func (s *Store) collect(ctx context.Context) {
	pause := s.cfg.GCInterval
	for sleep(ctx, pause) {
		if !s.cfg.Collects() {
			continue
		}
		err := s.collectOnce(ctx, time.Now())
		switch {
		case err == nil:
			pause = s.cfg.GCInterval
		case ctx.Err() != nil:
			return
		default:
			s.counters.gcErrors.Add(1)
			pause = min(2*pause, max(gcMaxBackoff, s.cfg.GCInterval))
			s.cfg.Logger.Warn("garbage collection failed, will try again", "pause", pause, "error", err)
		}
	}
}

// collectOnce goes through the outbox once. Rows whose blobs are pinned, or whose deletion fails, stay for the next time; one
// failure does not keep the others from being deleted.
func (s *Store) collectOnce(ctx context.Context, now time.Time) error {
	var after cairn.BlobRef
	var failed error
	for {
		rows, err := s.cfg.Meta.Garbage(ctx, after, now.Add(-s.cfg.GCMinAge), gcPage)
		if err != nil || len(rows) == 0 {
			return errors.Join(failed, err)
		}
		full := len(rows) == gcPage
		after = rows[len(rows)-1].Ref
		// The rows are committed, so look-ups from here on do not see these blobs; the barrier waits for the earlier ones.
		if err := s.pins.barrier(ctx); err != nil {
			return err
		}
		failed = errors.Join(failed, s.sweep(ctx, s.unread(ctx, rows, now)))
		if !full || ctx.Err() != nil {
			return failed
		}
	}
}

// unread leaves out what other stores of the cluster read, or may read since they do not answer.
func (s *Store) unread(ctx context.Context, rows []meta.Garbage, now time.Time) []meta.Garbage {
	if s.cfg.Elsewhere == nil {
		return rows
	}
	blobs := make([]cairn.BlobRef, len(rows))
	for i, row := range rows {
		blobs[i] = row.Ref
	}
	held, all := s.cfg.Elsewhere(ctx, blobs)
	var out []meta.Garbage
	for i, row := range rows {
		if held[i] || !all && row.Time.After(now.Add(-s.cfg.GCFarAge)) {
			s.counters.gcDeferred.Add(1)
			continue
		}
		out = append(out, row)
	}
	return out
}

// sweep deletes the blobs of a page of rows that nobody reads, batched by volume, and clears their rows.
func (s *Store) sweep(ctx context.Context, rows []meta.Garbage) error {
	var g errgroup.Group
	g.SetLimit(gcWorkers)
	for _, batch := range s.batches(rows) {
		g.Go(func() error {
			if err := s.cfg.Blobs.Delete(ctx, batch); err != nil {
				return err
			}
			// Shards first, then the row: a crash in between deletes them again, which finds nothing.
			if err := s.cfg.Meta.ClearGarbage(ctx, batch); err != nil {
				return err
			}
			for _, ref := range batch {
				s.counters.gcBytes.Add(ref.Length)
			}
			s.counters.gcBlobs.Add(int64(len(batch)))
			return nil
		})
	}
	return g.Wait()
}

// batches groups the blobs that are not pinned by volume.
func (s *Store) batches(rows []meta.Garbage) [][]cairn.BlobRef {
	open := make(map[cairn.VolumeID]int) // volume → its batch that is still filling
	var out [][]cairn.BlobRef
	for _, row := range rows {
		if s.pins.pinned(row.Ref) {
			s.counters.gcDeferred.Add(1)
			continue
		}
		i, ok := open[row.Ref.Volume]
		if !ok || len(out[i]) == gcBatch {
			i = len(out)
			open[row.Ref.Volume] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], row.Ref)
	}
	return out
}

// expire aborts uploads that were never completed.
func (s *Store) expire(ctx context.Context) {
	interval := min(staleInterval, max(s.cfg.StaleUploads/4, time.Second))
	for sleep(ctx, interval) {
		if !s.cfg.Collects() {
			continue
		}
		if err := s.expireOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("stale uploads could not be aborted, will try again", "error", err)
		}
	}
}

func (s *Store) expireOnce(ctx context.Context, now time.Time) error {
	for {
		stale, err := s.cfg.Meta.StaleUploads(ctx, now.Add(-s.cfg.StaleUploads), staleBatch)
		if err != nil || len(stale) == 0 {
			return err
		}
		aborted := 0
		for _, u := range stale {
			err := s.cfg.Meta.AbortUpload(ctx, u.Bucket, u.Key, u.ID)
			if errors.Is(err, cairn.ErrNotFound) {
				continue // it was completed or aborted meanwhile
			}
			if err != nil {
				return err
			}
			aborted++
			s.counters.expired.Add(1)
			s.cfg.Logger.Info("stale upload aborted", "bucket", u.Bucket, "key", u.Key, "upload", u.ID, "created", u.Created)
		}
		if aborted == 0 {
			return nil // all of them were gone already: a later look tells
		}
	}
}

// sleep waits, and tells whether there is reason to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
