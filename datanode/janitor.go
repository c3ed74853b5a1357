package datanode

import (
	"context"
	"errors"
	"time"

	"golang.org/x/time/rate"
)

// janitor recycles segments, compacts them and writes checkpoints, one thing at a time. It is one goroutine per store.
func (s *store) janitor() {
	defer s.wg.Done()
	tick := time.NewTicker(s.cfg.janitorEvery)
	defer tick.Stop()
	limit := rate.NewLimiter(rate.Limit(s.cfg.CompactBytesPerSec), compactBurst)
	saved := time.Now()
	for {
		select {
		case <-s.bg.Done():
			return
		case <-tick.C:
		}
		save := time.Since(saved) >= s.cfg.CheckpointEvery
		if save {
			saved = time.Now()
		}
		if err := s.tidy(s.bg, limit, save); err != nil && s.bg.Err() == nil {
			s.log.Warn("housekeeping of a drive failed", "path", s.dir, "err", err)
		}
	}
}

// tidy does what is to be done now: a checkpoint if asked for, recycling, and the compaction of one segment.
func (s *store) tidy(ctx context.Context, limit *rate.Limiter, save bool) error {
	if s.failure() != nil {
		return nil
	}
	if save && s.hasChanges() {
		if err := s.saveIndex(); err != nil {
			return err
		}
	}
	if err := s.recycleIdle(); err != nil {
		return err
	}
	if found, err := s.compactWorst(ctx, limit); err != nil || !found {
		return err
	}
	return s.recycleIdle()
}

// saveIndex writes a checkpoint while the store is in use.
func (s *store) saveIndex() error {
	w := s.limits.watchWrite(s.cfg.janitorNumber())
	defer w.end()
	_, err := s.writeCheckpoint()
	if err != nil {
		return s.writeFailed(err)
	}
	return nil
}

func (s *store) hasChanges() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changes > 0
}

// recycleIdle makes every segment that holds nothing needed free, or removes it.
func (s *store) recycleIdle() error {
	for {
		g := s.takeIdle()
		if g == nil {
			return nil
		}
		if err := s.recycle(g); err != nil {
			return err
		}
	}
}

// takeIdle picks an idle segment that nobody reads; nobody can begin to.
func (s *store) takeIdle() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segs {
		if g != s.active && !g.recycling && g.idle() && g.users.Load() == 0 {
			g.recycling = true
			return g
		}
	}
	return nil
}

// recycle voids all records of g, durably, before anything that relies on them being gone: reuse, and forgetting the
// deletions that kept them dead.
func (s *store) recycle(g *segment) error {
	keep := s.keepsFree(g)
	err := s.voidSegment(g, keep)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		// Half done, even for want of space: the file may be void or without a name, so nothing may rely on it any more.
		return s.breakOff(err)
	}
	delete(s.segs, g.id)
	for _, k := range g.dead {
		if s.graves[k]--; s.graves[k] <= 0 {
			s.forget(k)
		}
	}
	g.dead, g.stuck, g.recycling = nil, false, false
	s.changes++
	if keep {
		s.free = append(s.free, g)
	}
	s.full.Store(false)
	return nil
}

func (s *store) voidSegment(g *segment, keep bool) error {
	w := s.limits.watchWrite(s.cfg.janitorNumber())
	defer w.end()
	if keep {
		return s.writeSegmentHeader(g, g.generation+1)
	}
	if err := s.fs.Remove(g.path); err != nil {
		return err
	}
	return errors.Join(s.fs.SyncDir(s.segmentsPath()), g.close())
}

// keepsFree tells whether a recycled segment is worth keeping: rewriting it is faster than growing a new one, unless
// the space is short or enough are kept.
func (s *store) keepsFree(g *segment) bool {
	usage, err := s.fs.StatFS(s.dir)
	s.mu.RLock()
	defer s.mu.RUnlock()
	info, serr := g.file.Stat()
	return err == nil && serr == nil && info.Size >= g.size && len(s.free) < s.cfg.FreeSegments &&
		usage.FreeBytes > s.reserveBytes
}
