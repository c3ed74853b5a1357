package mount

import (
	"golang.org/x/sys/unix"

	"cairn/mount/cache"
)

// buffers are the memory for chunks: a fixed number, made when they are first needed. They lie outside of Go's heap, so that
// the collector does not let as much garbage again pile up beside them, and at pages, so that they can be written to the
// disk directly. Not safe for concurrent use: the fetcher's mutex guards them.
type buffers struct {
	left int // that may still be made
	free [][]byte
}

// take returns a buffer, nil if there is none.
func (b *buffers) take() []byte {
	if n := len(b.free); n > 0 {
		buf := b.free[n-1]
		b.free = b.free[:n-1]
		return buf
	}
	if b.left == 0 {
		return nil
	}
	buf, err := unix.Mmap(-1, 0, cache.ChunkBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil // there is none now: who wants one waits for another's
	}
	_ = unix.Madvise(buf, unix.MADV_HUGEPAGE) // fewer page faults where the kernel has such pages
	b.left--
	return buf
}

func (b *buffers) give(buf []byte) { b.free = append(b.free, buf[:cache.ChunkBytes]) }

// unused counts what take would find.
func (b *buffers) unused() int { return len(b.free) + b.left }

// close gives the free ones back to the system. Those that a reader still has stay until the process ends.
func (b *buffers) close() {
	for _, buf := range b.free {
		_ = unix.Munmap(buf) // it was mapped by take: cannot fail
	}
	b.free, b.left = nil, 0
}
