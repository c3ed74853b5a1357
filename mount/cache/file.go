package cache

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrDamaged tells that bytes on the cache's disk do not match their checksum; they have been forgotten: fetch them again.
var ErrDamaged = errors.New("cached bytes are damaged")

// File is one file in the cache, whole or partial. Safe for concurrent use. Release it when done.
type File struct {
	cache *Cache
	id    ID

	// Guarded by cache.mu.
	refs    int
	pinned  bool
	evicted bool // its names are gone; its bytes are counted until the last Release

	mu        sync.Mutex
	data      *os.File
	direct    *os.File // the same file, written past the page cache; nil where the file system has no such thing
	index     *os.File // the map, while partial
	there     []bool
	sums      []uint32
	checked   []bool // compared with its checksum in this run
	missing   int
	published bool
	done      chan struct{} // closed when published
}

// ID returns the file's identity.
func (f *File) ID() ID { return f.id }

// Published tells whether the file is whole and may be read past this package.
func (f *File) Published() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.published
}

// Done is closed when the file is published.
func (f *File) Done() <-chan struct{} { return f.done }

// Data is the open data file, for reads of chunks that Ready has answered for, and of published files. It stays open until
// Release.
func (f *File) Data() *os.File { return f.data }

// Has tells whether chunk i is there, without comparing it with its checksum.
func (f *File) Has(i int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.there[i]
}

// Missing is the number of chunks that are to be fetched.
func (f *File) Missing() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.missing
}

// Ready tells whether chunk i can be read from Data: it is there, and was compared with its checksum in this run. A chunk
// that does not match is forgotten.
func (f *File) Ready(i int) bool {
	f.mu.Lock()
	there, checked := f.there[i], f.checked[i]
	f.mu.Unlock()
	if !there || checked {
		return there
	}
	return f.recheck(i)
}

// Checked tells whether every chunk was compared with its checksum in this run.
func (f *File) Checked() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !slices.Contains(f.checked, false)
}

// recheck reads chunk i and compares it with its checksum; if they differ, the chunk is forgotten.
func (f *File) recheck(i int) bool {
	f.mu.Lock()
	sum := f.sums[i]
	f.mu.Unlock()
	err := f.compare(i, sum)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.checked[i] = true
		return true
	}
	f.cache.cfg.Logger.Warn("damaged bytes in the cache, they are fetched again", "key", f.id.Key, "chunk", i, "err", err)
	f.forget(i)
	return false
}

func (f *File) compare(i int, sum uint32) error {
	buf := f.cache.buffers.Get().(*[]byte)
	defer f.cache.buffers.Put(buf)
	b := (*buf)[:f.id.ChunkLen(i)]
	if _, err := f.data.ReadAt(b, int64(i)*ChunkBytes); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if checksum(b) != sum {
		return ErrDamaged
	}
	return nil
}

// forget drops a chunk; mu is held. Of a published file it makes a partial one again, in memory: the caller replaces it.
func (f *File) forget(i int) {
	if f.there[i] {
		f.there[i], f.checked[i] = false, false
		f.missing++
	}
}

// Put stores chunk i; whole tells that no chunk is missing now, and Publish may be called. An error means that the chunk is
// not cached; the file stays usable. The bytes are written, not synced.
func (f *File) Put(i int, chunk []byte) (whole bool, err error) {
	if len(chunk) != f.id.ChunkLen(i) {
		return false, fmt.Errorf("chunk %d of %s: %d bytes, want %d", i, f.id.Key, len(chunk), f.id.ChunkLen(i))
	}
	if f.Has(i) {
		return f.Missing() == 0, nil
	}
	if err := f.write(chunk, int64(i)*ChunkBytes); err != nil {
		return false, err
	}
	sum := checksum(chunk)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.index != nil {
		// After the data: a record stands for bytes that have been written, if not synced.
		if _, err := f.index.WriteAt(encodeRecord(i, sum), mapHead+int64(i)*mapRecord); err != nil {
			return false, err
		}
	}
	if !f.there[i] {
		f.there[i], f.checked[i], f.sums[i] = true, true, sum
		f.missing--
	}
	return f.missing == 0, nil
}

const pageBytes = 4 << 10 // what direct writes must be multiples of, in memory and in the file

// write puts bytes into the data file: past the page cache where that can be, which costs a fifth of the processor time, and
// leaves nothing for Publish to wait for but the tail.
func (f *File) write(b []byte, off int64) error {
	if n := len(b) &^ (pageBytes - 1); f.direct != nil && n > 0 && uintptr(unsafe.Pointer(&b[0]))%pageBytes == 0 {
		_, err := f.direct.WriteAt(b[:n], off)
		if err == nil {
			b, off = b[n:], off+int64(n)
		} else if !errors.Is(err, unix.EINVAL) { // this file system wants larger units: it gets the bytes the other way
			return err
		}
	}
	if len(b) == 0 {
		return nil
	}
	if _, err := f.data.WriteAt(b, off); err != nil {
		return err
	}
	// Let the disk begin now: Publish syncs all of it. It is a hint, so its error means nothing.
	_ = unix.SyncFileRange(int(f.data.Fd()), off, int64(len(b)), unix.SYNC_FILE_RANGE_WRITE)
	return nil
}

// Publish makes a file that has all its chunks known as whole, durably; it waits for the disk. Of a file that is not whole,
// or published already, it does nothing. On an error the file stays partial, and usable.
func (f *File) Publish() error { return f.cache.publish(f) }

// Verify compares every chunk that is there with its checksum and forgets those that do not match. It returns how many did
// not. A published file with damage is evicted: it is fetched anew when it is opened next.
func (f *File) Verify() (damaged int, err error) {
	for i := range f.id.Chunks() {
		if f.Has(i) && !f.recheck(i) {
			damaged++
		}
	}
	if damaged > 0 && f.Published() {
		err = f.cache.drop(f)
	}
	return damaged, err
}

// Release lets go of the file.
func (f *File) Release() { f.cache.release(f) }

// close closes what is open on disk; nobody holds the file any more.
func (f *File) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.data.Close()
	if f.index != nil {
		err = errors.Join(err, f.index.Close())
		f.index = nil
	}
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
		f.direct = nil
	}
	return err
}
