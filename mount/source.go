package mount

import (
	"context"
	"errors"
	"sync"

	"cairn/mount/cache"
)

// source is one version of an object that is open, being fetched ahead, or both. All opens of a version share one.
type source struct {
	object Object
	id     cache.ID
	cached *cache.File // nil: there is no room, it is read without a cache
	set    *sources

	refs int // guarded by set.mu

	mu         sync.Mutex
	publishing bool
	planned    bool // a plan for the whole file was made
	read       bool // a reader has been here
	readers    int  // how many mounts a chunk in memory is kept for
	lastEnd    int64
	streak     int   // reads in a row that began where the one before ended
	at         int64 // how far the reader has come
	steady     int   // reads in a row near by
}

// sources are all of them.
type sources struct {
	fetch *fetcher
	cache *cache.Cache
	whole func(*source) // told when a file has been published
	ahead bool          // files are fetched ahead of their readers

	mu   sync.Mutex
	open map[cache.ID]*source
}

// acquire opens a version. The caller must drop it.
func (s *sources) acquire(o Object) (*source, error) {
	id := cache.ID{Endpoint: s.fetch.store.Endpoint(), Key: o.Key, ETag: o.ETag, Size: o.Size}
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.open[id]
	if src == nil {
		f, err := s.cache.Acquire(id)
		switch {
		case errors.Is(err, cache.ErrNoRoom):
			s.fetch.log.Info("read without a cache", "key", o.Key, "err", err)
		case err != nil:
			s.fetch.log.Warn("read without a cache", "key", o.Key, "err", err)
		}
		src = &source{object: o, id: id, cached: f, set: s}
		s.open[id] = src
	}
	src.refs++
	return src, nil
}

func (src *source) hold() {
	src.set.mu.Lock()
	defer src.set.mu.Unlock()
	src.refs++
}

// drop lets go; the last one closes the cached file.
func (src *source) drop() {
	src.set.mu.Lock()
	src.refs--
	last := src.refs == 0
	if last {
		delete(src.set.open, src.id)
	}
	src.set.mu.Unlock()
	if !last {
		return
	}
	src.set.fetch.released(src)
	if src.cached != nil {
		src.cached.Release()
	}
}

// keep hands a fetched chunk to the cache, and publishes the file with the last one in the background: the reader who
// waits for that chunk need not wait for the disk.
func (src *source) keep(chunk int, data []byte) {
	if src.cached == nil {
		return
	}
	whole, err := src.cached.Put(chunk, data)
	if err != nil {
		src.set.fetch.log.Warn("chunk was not cached", "key", src.object.Key, "chunk", chunk, "err", err)
		return
	}
	if whole {
		src.publish()
	}
}

func (src *source) publish() {
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.publishing || src.cached.Published() {
		return
	}
	src.publishing = true
	src.hold()
	src.set.fetch.running.Go(func() {
		defer src.drop()
		if err := src.cached.Publish(); err != nil {
			src.set.fetch.log.Warn("cached file stays partial", "key", src.object.Key, "err", err)
			return
		}
		src.set.whole(src)
	})
}

// have makes the n bytes from off on readable, which must lie within one chunk: in the flight that it returns, which the
// caller must leave, or, if that is nil, in the cache. Errors: those of the store; of ctx.
func (src *source) have(ctx context.Context, off int64, n int, from origin) (fl *flight, err error) {
	chunk, at := int(off/cache.ChunkBytes), int(off%cache.ChunkBytes)
	fetch := src.set.fetch
	for {
		if fl := fetch.inMemory(src, chunk, at, n); fl != nil {
			return fl, nil
		}
		if src.cached != nil && src.cached.Ready(chunk) {
			return nil, nil
		}
		if fl, err = fetch.join(src, chunk, at, from); err != nil {
			return nil, err
		}
		if fl == nil {
			continue
		}
		if err = fl.wait(ctx, at, n); err != nil {
			fetch.leave(fl, 0)
			return nil, err
		}
		return fl, nil
	}
}

// settled returns when a chunk has been fetched and handed to the cache.
func (src *source) settled(ctx context.Context, chunk int) error {
	if src.cached.Ready(chunk) {
		return nil
	}
	fl, err := src.set.fetch.join(src, chunk, 0, fromAnywhere)
	if fl == nil || err != nil {
		return err
	}
	defer src.set.fetch.leave(fl, 0)
	return fl.over(ctx)
}
