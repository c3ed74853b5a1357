package cairn

import (
	"context"
	"io"
	"sync/atomic"
)

// BlobPut is a request to store bytes as blobs.
type BlobPut struct {
	Profile Profile
	Owner   Owner
	Size    int64 // bytes that Body holds, -1 if unknown; a shorter body is io.ErrUnexpectedEOF, a longer one is not read
	Body    io.Reader
	// Tee receives every byte once, in order, beside the encoding (hashes); nil for none. The slice that Tee.Write gets
	// stays unchanged until Write returns. An error from it ends the put.
	Tee io.Writer
}

// NewBlob is a blob that was written under a volume's epoch and is to be referenced by a commit for the first time.
type NewBlob struct {
	Ref     BlobRef
	Epoch   Epoch
	Skipped []uint8 // slots that hold no durable shard: each becomes a Damage row in the same commit
}

// ShardWriter takes the pieces of one shard in order. It is used by one goroutine at a time.
type ShardWriter interface {
	// Write appends p, whose length is a multiple of 64 KiB except for the last piece. It may return before p is
	// written: p must not change until done runs (exactly once, on any goroutine, not blocking).
	Write(p []byte, done func(error))
	// Commit makes the shard durable and visible, all of it or nothing, and then calls done. It may be called while
	// writes are under way; a failed write fails it.
	Commit(done func(error))
	// Abort drops what was written. It may follow a failed Write or Commit and is a no-op after a successful one.
	Abort()
}

type backgroundKey struct{}

// Background marks work that yields to clients: data nodes queue and throttle it apart from foreground work.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// IsBackground tells whether ctx was marked by Background.
func IsBackground(ctx context.Context) bool { return ctx.Value(backgroundKey{}) != nil }

type waitsKey struct{}

// NoteWaits returns a context under which reads of shards set waited when their bytes were not in memory. How long a read
// took does not tell: on a busy machine it mostly waited for a core.
func NoteWaits(ctx context.Context, waited *atomic.Bool) context.Context {
	return context.WithValue(ctx, waitsKey{}, waited)
}

// Waited is called by whoever reads a shard's bytes from a disk or another node.
func Waited(ctx context.Context) {
	if waited, ok := ctx.Value(waitsKey{}).(*atomic.Bool); ok {
		waited.Store(true)
	}
}
