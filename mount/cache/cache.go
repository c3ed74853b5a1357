package cache

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Errors that callers tell apart.
var (
	// ErrNoRoom tells that the file does not fit, even after everything that may go has gone: read it without the cache.
	ErrNoRoom = errors.New("no room in the cache")
	// ErrBusy tells that another process owns the directory.
	ErrBusy = errors.New("the cache directory is in use by another process")
	// ErrNotCached tells that no such file is here.
	ErrNotCached = errors.New("not in the cache")
)

// Config of a Cache. Dir is required.
type Config struct {
	Dir string
	// LimitBytes bounds the sizes of all files together. Default 80% of what the file system has free now, together with
	// what the cache holds.
	LimitBytes int64
	// FloorBytes is how much the file system must keep free. Default 1 GiB, at most a tenth of the file system.
	FloorBytes int64
	Logger     *slog.Logger
}

// Cache is a directory of files. Safe for concurrent use.
type Cache struct {
	cfg     Config
	lock    *os.File
	buffers sync.Pool

	mu    sync.Mutex
	files map[string]*entry // by ID.Name
	held  int64             // bytes of all files, the open and evicted ones among them
	stats Stats
}

// entry is a file that the directory holds; file is set while somebody has it open.
type entry struct {
	id        ID
	published bool
	pinned    bool
	used      time.Time
	file      *File
}

// Stats counts what happened since Open, and what is held now.
type Stats struct {
	LimitBytes int64 `json:"limit_bytes"`
	HeldBytes  int64 `json:"held_bytes"`
	Files      int   `json:"files"`
	Published  int   `json:"published"`
	Evictions  int64 `json:"evictions"`
	Damaged    int64 `json:"damaged_chunks"`
	NoRoom     int64 `json:"no_room"`
}

const (
	extData     = ".data"
	extManifest = ".json"
	extPart     = ".part"
	extMap      = ".map"
	defaultFree = 1 << 30
)

// Open takes the directory, makes it if it is not there, and reads what it holds. Files of another format, and leftovers of
// a crash that cannot be used, are removed. Errors: ErrBusy, and those of the file system.
func Open(cfg Config) (*Cache, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "files"), 0o700); err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cache directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%s: %w: use another --cache, or end that process", cfg.Dir, ErrBusy)
	}
	c := &Cache{cfg: cfg, lock: lock, files: map[string]*entry{}}
	c.buffers.New = func() any { b := make([]byte, ChunkBytes); return &b }
	if err := c.load(); err != nil {
		lock.Close()
		return nil, err
	}
	if err := c.setLimits(); err != nil {
		lock.Close()
		return nil, err
	}
	return c, nil
}

func (c *Cache) setLimits() error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.cfg.Dir, &fs); err != nil {
		return fmt.Errorf("cache directory: %w", err)
	}
	if c.cfg.FloorBytes == 0 {
		c.cfg.FloorBytes = min(defaultFree, int64(fs.Blocks)*fs.Bsize/10)
	}
	if c.cfg.LimitBytes == 0 {
		c.cfg.LimitBytes = (int64(fs.Bavail)*fs.Bsize + c.held) / 10 * 8
	}
	c.stats.LimitBytes = c.cfg.LimitBytes
	return nil
}

// load reads the directory. What has no believable manifest or map beside its data goes.
func (c *Cache) load() error {
	names, err := os.ReadDir(c.path(""))
	if err != nil {
		return err
	}
	keep := map[string]bool{}
	for _, n := range names {
		stem, ext := strings.TrimSuffix(n.Name(), filepath.Ext(n.Name())), filepath.Ext(n.Name())
		var e *entry
		switch ext {
		case extManifest:
			e = c.loadPublished(stem)
		case extMap:
			e = c.loadPartial(stem)
		}
		if e == nil {
			continue
		}
		if info, err := n.Info(); err == nil {
			e.used = info.ModTime()
		}
		if old := c.files[stem]; old != nil && old.published {
			continue // published, and crashed before the map was removed
		} else if old != nil {
			c.held -= old.id.Size
		}
		c.files[stem] = e
		c.held += e.id.Size
	}
	for stem, e := range c.files {
		if e.published {
			keep[stem+extData], keep[stem+extManifest] = true, true
		} else {
			keep[stem+extPart], keep[stem+extMap] = true, true
		}
	}
	for _, n := range names {
		if !keep[n.Name()] {
			if err := os.Remove(c.path(n.Name())); err != nil {
				return fmt.Errorf("cache: a leftover cannot be removed: %w", err)
			}
		}
	}
	return nil
}

func (c *Cache) path(name string) string { return filepath.Join(c.cfg.Dir, "files", name) }

func (c *Cache) loadPublished(stem string) *entry {
	m, err := readManifest(c.path(stem + extManifest))
	if err != nil || m.ID.Name() != stem || !sized(c.path(stem+extData), m.ID.Size) {
		return nil
	}
	return &entry{id: m.ID, published: true, pinned: m.Pinned}
}

func (c *Cache) loadPartial(stem string) *entry {
	m, _, err := readMap(c.path(stem + extMap))
	if err != nil || m.ID.Name() != stem || !sized(c.path(stem+extPart), m.ID.Size) {
		return nil
	}
	return &entry{id: m.ID, pinned: m.Pinned}
}

func sized(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() == size
}

// Close gives the directory up. Files must have been released.
func (c *Cache) Close() error { return c.lock.Close() }

// Stats returns what is held and what happened.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.HeldBytes, s.Files = c.held, len(c.files)
	for _, e := range c.files {
		if e.published {
			s.Published++
		}
	}
	return s
}

// Item describes a file in a listing.
type Item struct {
	ID
	Published bool      `json:"published"`
	Pinned    bool      `json:"pinned"`
	Open      bool      `json:"open"`
	Used      time.Time `json:"used"`
}

// List returns all files, the least recently used first.
func (c *Cache) List() []Item {
	c.mu.Lock()
	defer c.mu.Unlock()
	items := make([]Item, 0, len(c.files))
	for _, e := range c.files {
		items = append(items, Item{ID: e.id, Published: e.published, Pinned: e.pinned, Open: e.file != nil, Used: e.used})
	}
	slices.SortFunc(items, func(a, b Item) int { return a.Used.Compare(b.Used) })
	return items
}

// Whole tells whether a published copy is here, without opening it.
func (c *Cache) Whole(id ID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.files[id.Name()]
	return e != nil && e.published
}
