package mount

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"cairn/mount/cache"
)

// WarmProgress tells how far a warming has come.
type WarmProgress struct {
	Objects      int   `json:"objects"` // that are to be cached
	DoneObjects  int   `json:"done_objects"`
	Bytes        int64 `json:"bytes"`
	DoneBytes    int64 `json:"done_bytes"`
	SkippedBytes int64 `json:"skipped_bytes"` // of objects for which there is no room
}

const (
	warmAtOnce = 4 // objects under way; each has many chunks in flight
	warmEvery  = 500 * time.Millisecond
)

// Warm fetches every object below prefix into the cache, without a mount, and tells its progress now and then. It returns
// when all are cached whole. Errors: those of the store; of tell.
func Warm(ctx context.Context, store Store, c *cache.Cache, prefix string, log *slog.Logger, tell func(WarmProgress) error) error {
	var counts counters
	f := newFetcher(store, defaultMemory, defaultPatience, log, &counts)
	defer f.close()
	return warm(ctx, &sources{fetch: f, cache: c, whole: func(*source) {}, open: map[cache.ID]*source{}}, prefix, tell)
}

func warm(ctx context.Context, s *sources, prefix string, tell func(WarmProgress) error) error {
	objects, err := allBelow(ctx, s.fetch.store, prefix, nil)
	if err != nil {
		return err
	}
	w := &warming{sources: s, tell: tell, told: time.Now()}
	for _, o := range objects {
		if o.Size > 0 {
			w.Objects++
			w.Bytes += o.Size
		}
	}
	for _, o := range objects {
		if o.Size == 0 {
			continue
		}
		if err := w.begin(ctx, o); err != nil {
			w.drop()
			return err
		}
	}
	for len(w.under) > 0 {
		if err := w.finishOne(ctx); err != nil {
			w.drop()
			return err
		}
	}
	return tell(w.WarmProgress)
}

// maxWarm bounds the objects of one warming, which are listed first.
const maxWarm = 1 << 20

// allBelow lists all objects whose keys begin with prefix.
func allBelow(ctx context.Context, store Store, prefix string, all []Object) ([]Object, error) {
	for next := ""; ; {
		p, err := store.List(ctx, prefix, next)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Objects...)
		for _, c := range p.Prefixes {
			if all, err = allBelow(ctx, store, c, all); err != nil {
				return nil, err
			}
		}
		if len(all) > maxWarm {
			return nil, fmt.Errorf("more than %d objects below %q: warm a longer prefix", maxWarm, prefix)
		}
		if next = p.Next; next == "" {
			return all, nil
		}
	}
}

// warming is one under way.
type warming struct {
	WarmProgress
	sources *sources
	tell    func(WarmProgress) error
	told    time.Time
	under   []*source
}

// begin starts an object when fewer than warmAtOnce are under way.
func (w *warming) begin(ctx context.Context, o Object) error {
	for len(w.under) >= warmAtOnce {
		if err := w.finishOne(ctx); err != nil {
			return err
		}
	}
	src, err := w.sources.acquire(o)
	if err != nil {
		return err
	}
	if src.cached == nil {
		w.SkippedBytes += o.Size
		src.drop()
		return nil
	}
	w.under = append(w.under, src)
	w.sources.fetch.add(&plan{src: src})
	return nil
}

// finishOne waits for the oldest object under way to be whole, telling the progress meanwhile. Chunks that a plan failed to
// bring are asked for once more, the way a reader would.
func (w *warming) finishOne(ctx context.Context) error {
	src := w.under[0]
	tick := time.NewTicker(warmEvery)
	defer tick.Stop()
	for i := 0; i < src.id.Chunks(); i++ {
		n := src.id.ChunkLen(i)
		if err := src.settled(ctx, i); err != nil {
			return fmt.Errorf("%s: %w", src.object.Key, err)
		}
		w.DoneBytes += int64(n)
		select {
		case <-tick.C:
			if err := w.tell(w.WarmProgress); err != nil {
				return err
			}
		default:
		}
	}
	if src.cached.Missing() > 0 {
		return fmt.Errorf("%s: the cache's disk did not take it", src.object.Key)
	}
	src.publish()
	select {
	case <-src.cached.Done():
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(w.sources.fetch.patience):
		return errors.New(src.object.Key + ": the cache's disk did not sync it in time")
	}
	w.under = w.under[1:]
	src.drop()
	w.DoneObjects++
	return nil
}

func (w *warming) drop() {
	for _, src := range w.under {
		src.drop()
	}
	w.under = nil
}
