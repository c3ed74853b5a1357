package cache

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Acquire opens a file, and begins it if it is not here: room is made by evicting the least recently used files that nobody
// has open and nobody has pinned. Errors: ErrNoRoom, and those of the file system.
func (c *Cache) Acquire(id ID) (*File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := id.Name()
	e := c.files[name]
	if e != nil && e.file == nil {
		f, err := c.reopen(e)
		if err != nil {
			c.cfg.Logger.Warn("cached file is not usable, it is fetched again", "key", id.Key, "err", err)
			c.forgetEntry(name, e)
			e = nil
		} else {
			e.file = f
		}
	}
	if e == nil {
		f, err := c.begin(id)
		if err != nil {
			return nil, err
		}
		e = &entry{id: id, file: f}
		c.files[name] = e
	}
	e.file.refs++
	e.used = time.Now()
	return e.file, nil
}

// reopen opens a file of an earlier run or an earlier holder. mu is held.
func (c *Cache) reopen(e *entry) (*File, error) {
	name := e.id.Name()
	f := &File{cache: c, id: e.id, published: e.published, pinned: e.pinned, done: make(chan struct{}),
		checked: make([]bool, e.id.Chunks())}
	var err error
	if e.published {
		m, err := readManifest(c.path(name + extManifest))
		if err != nil {
			return nil, err
		}
		f.sums, f.there = m.Sums, make([]bool, e.id.Chunks())
		for i := range f.there {
			f.there[i] = true
		}
		close(f.done)
		f.data, err = os.OpenFile(c.path(name+extData), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		return f, nil
	}
	m, there, err := readMap(c.path(name + extMap))
	if err != nil {
		return nil, err
	}
	f.sums, f.there = m.Sums, there
	for _, ok := range there {
		if !ok {
			f.missing++
		}
	}
	if f.data, err = os.OpenFile(c.path(name+extPart), os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if f.index, err = os.OpenFile(c.path(name+extMap), os.O_RDWR, 0); err != nil {
		return nil, errors.Join(err, f.data.Close())
	}
	f.direct = openDirect(c.path(name + extPart))
	return f, nil
}

// openDirect opens a file for writes past the page cache; nil where that cannot be.
func openDirect(path string) *os.File {
	f, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil
	}
	return f
}

// begin makes the files of a new entry. mu is held.
func (c *Cache) begin(id ID) (_ *File, err error) {
	if err := c.makeRoom(id.Size); err != nil {
		return nil, err
	}
	name := id.Name()
	f := &File{cache: c, id: id, done: make(chan struct{}), there: make([]bool, id.Chunks()), sums: make([]uint32, id.Chunks()),
		checked: make([]bool, id.Chunks()), missing: id.Chunks()}
	defer func() {
		if err == nil {
			return
		}
		if f.data != nil {
			f.data.Close()
		}
		if f.index != nil {
			f.index.Close()
		}
		os.Remove(c.path(name + extPart))
		os.Remove(c.path(name + extMap))
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			c.stats.NoRoom++
			err = fmt.Errorf("%w: %w", ErrNoRoom, err)
		}
	}()
	if f.data, err = os.OpenFile(c.path(name+extPart), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	if err = allocate(f.data, id.Size); err != nil {
		return nil, err
	}
	if f.index, err = os.OpenFile(c.path(name+extMap), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600); err != nil {
		return nil, err
	}
	head := make([]byte, mapHead)
	if n := copy(head, manifest{Format: formatVersion, ID: id}.encode()); n == mapHead {
		return nil, fmt.Errorf("%w: the object's name is too long", ErrNoRoom)
	}
	if _, err = f.index.Write(head); err != nil {
		return nil, err
	}
	f.direct = openDirect(c.path(name + extPart))
	c.held += id.Size
	return f, nil
}

// makeRoom evicts until size more bytes fit. mu is held.
func (c *Cache) makeRoom(size int64) error {
	for {
		var fs unix.Statfs_t
		if err := unix.Statfs(c.cfg.Dir, &fs); err != nil {
			return err
		}
		free := int64(fs.Bavail) * fs.Bsize
		if c.held+size <= c.cfg.LimitBytes && free-size >= c.cfg.FloorBytes {
			return nil
		}
		name, e := c.oldest()
		if e == nil || size > c.cfg.LimitBytes {
			c.stats.NoRoom++
			return fmt.Errorf("%w: %d bytes wanted, %d held of %d, %d free on the disk of which %d must stay",
				ErrNoRoom, size, c.held, c.cfg.LimitBytes, free, c.cfg.FloorBytes)
		}
		c.forgetEntry(name, e)
		c.stats.Evictions++
	}
}

// oldest is the least recently used entry that may go. mu is held.
func (c *Cache) oldest() (name string, oldest *entry) {
	for n, e := range c.files {
		if e.file == nil && !e.pinned && (oldest == nil || e.used.Before(oldest.used)) {
			name, oldest = n, e
		}
	}
	return name, oldest
}

// forgetEntry removes a file that nobody has open. mu is held.
func (c *Cache) forgetEntry(name string, e *entry) {
	c.unlink(name)
	delete(c.files, name)
	c.held -= e.id.Size
}

// unlink removes all names of a file, the ones that make it believable first.
func (c *Cache) unlink(name string) {
	for _, ext := range []string{extManifest, extMap, extData, extPart} {
		if err := os.Remove(c.path(name + ext)); err != nil && !errors.Is(err, os.ErrNotExist) {
			c.cfg.Logger.Warn("cached file was not removed", "file", name+ext, "err", err)
		}
	}
}

// publish makes a file that has all its chunks known as whole. On an error it stays partial, and usable.
func (c *Cache) publish(f *File) error {
	name := f.id.Name()
	// Data, then manifest, then the name: after a crash in between the map and the .part beside it are still believed.
	if err := f.data.Sync(); err != nil {
		return fmt.Errorf("publish %s: %w", f.id.Key, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.published || f.evicted || f.missing > 0 {
		return nil
	}
	err := writeManifest(c.path(name+extManifest), manifest{Format: formatVersion, ID: f.id, Pinned: f.pinned, Sums: f.sums})
	if err == nil {
		if err = os.Rename(c.path(name+extPart), c.path(name+extData)); err == nil {
			err = syncDir(c.path(""))
		}
	}
	if err != nil {
		return fmt.Errorf("publish %s: %w", f.id.Key, err)
	}
	f.published = true
	if e := c.files[name]; e != nil {
		e.published = true
	}
	f.index.Close()
	f.index = nil
	os.Remove(c.path(name + extMap)) // a crash before this leaves a map that load does not believe: no .part is beside it
	close(f.done)
	return nil
}

func (c *Cache) release(f *File) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.refs--
	if f.refs > 0 {
		return
	}
	if err := f.close(); err != nil {
		c.cfg.Logger.Warn("cached file", "key", f.id.Key, "err", err)
	}
	if f.evicted {
		c.held -= f.id.Size
		return
	}
	e := c.files[f.id.Name()]
	e.file, e.used = nil, time.Now()
}

// drop takes an open file out of the directory; its bytes are counted until the last holder lets go.
func (c *Cache) drop(f *File) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.evicted {
		return nil
	}
	f.evicted = true
	c.stats.Damaged++
	name := f.id.Name()
	c.unlink(name)
	delete(c.files, name)
	return syncDir(c.path(""))
}
