package cache

import (
	"fmt"
	"os"
)

// Pin keeps a file from being evicted, or lets it be evicted again; it survives restarts. Errors: ErrNotCached.
func (c *Cache) Pin(id ID, pinned bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := id.Name()
	e := c.files[name]
	if e == nil {
		return fmt.Errorf("%s: %w", id.Key, ErrNotCached)
	}
	if e.published {
		m, err := readManifest(c.path(name + extManifest))
		if err != nil {
			return err
		}
		m.Pinned = pinned
		if err := writeManifest(c.path(name+extManifest), m); err != nil {
			return err
		}
	} else if err := c.pinPartial(name, e, pinned); err != nil {
		return err
	}
	e.pinned = pinned
	if e.file != nil {
		e.file.pinned = pinned
	}
	return nil
}

// pinPartial rewrites the head of a map in place; it is one sector's worth, and a torn one costs the partial file only.
func (c *Cache) pinPartial(name string, e *entry, pinned bool) error {
	f, err := os.OpenFile(c.path(name+extMap), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	head := make([]byte, mapHead)
	copy(head, manifest{Format: formatVersion, ID: e.id, Pinned: pinned}.encode())
	if _, err := f.WriteAt(head, 0); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Evict removes a file that nobody has open, pinned or not. Errors: ErrNotCached; ErrBusy when it is open.
func (c *Cache) Evict(id ID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := id.Name()
	e := c.files[name]
	if e == nil {
		return fmt.Errorf("%s: %w", id.Key, ErrNotCached)
	}
	if e.file != nil {
		return fmt.Errorf("%s is open: %w", id.Key, ErrBusy)
	}
	c.forgetEntry(name, e)
	c.stats.Evictions++
	return nil
}

// Verify compares all bytes of a file with their checksums. Damaged chunks are forgotten, and a published file that has one
// is removed: the next reader fetches it anew.
func (c *Cache) Verify(id ID) (damaged int, err error) {
	if c.lookup(id) == nil {
		return 0, fmt.Errorf("%s: %w", id.Key, ErrNotCached)
	}
	f, err := c.Acquire(id)
	if err != nil {
		return 0, err
	}
	defer f.Release()
	return f.Verify()
}

func (c *Cache) lookup(id ID) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.files[id.Name()]
}
