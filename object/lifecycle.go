package object

import (
	"context"
	"time"
)

const (
	// duePage is how many due rows are taken at a time, reindexPage how many rows of a bucket whose rules have changed.
	duePage     = 256
	reindexPage = 500
	// reindexPause lets clients' commits go before the next page.
	reindexPause = 2 * time.Millisecond
)

// runLifecycle lets rules act on what is due, and makes due rows after rules have changed.
func (s *Store) runLifecycle(ctx context.Context) {
	for sleep(ctx, s.cfg.LifecycleInterval) {
		if err := s.lifecycleOnce(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("lifecycle rules could not run, will try again", "error", err)
		}
	}
}

func (s *Store) lifecycleOnce(ctx context.Context, now time.Time) error {
	for more := true; more; {
		var err error
		if more, err = s.cfg.Meta.Reindex(ctx, reindexPage); err != nil {
			return err
		}
		if more {
			s.counters.reindexed.Add(1)
			if !sleep(ctx, reindexPause) {
				return ctx.Err()
			}
		}
	}
	for ctx.Err() == nil {
		e, err := s.cfg.Meta.ExpireDue(ctx, now, duePage)
		s.counters.hidden.Add(int64(e.Hidden))
		s.counters.removed.Add(int64(e.Removed))
		s.counters.aborted.Add(int64(e.Aborted))
		if err != nil || e.Due == 0 {
			return err
		}
	}
	return ctx.Err()
}
