package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"cairn"
	"cairn/meta"
)

// memBlobs is a Blobs in memory that knows everything it holds: tests ask it what was left behind and what was deleted.
type memBlobs struct {
	mu      sync.Mutex
	max     int64 // bytes of one blob
	next    func() cairn.BlobID
	volume  cairn.VolumeID
	epoch   cairn.Epoch
	held    map[cairn.BlobRef][]byte
	deleted map[cairn.BlobRef]int
	fail    func(op string) error // asked before every operation, one at a time; nil: none fails
}

func newMemBlobs(max int64, volume cairn.VolumeID, epoch cairn.Epoch, next func() cairn.BlobID) *memBlobs {
	return &memBlobs{max: max, next: next, volume: volume, epoch: epoch,
		held: make(map[cairn.BlobRef][]byte), deleted: make(map[cairn.BlobRef]int)}
}

func (b *memBlobs) failing(op string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail == nil {
		return nil
	}
	return b.fail(op)
}

// setFail changes what fails; nil mends all.
func (b *memBlobs) setFail(fail func(op string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

func (b *memBlobs) Put(ctx context.Context, r cairn.BlobPut) (out []cairn.NewBlob, err error) {
	defer func() {
		if err != nil {
			b.Discard(context.WithoutCancel(ctx), out)
			out = nil
		}
	}()
	if err := b.failing("put"); err != nil {
		return nil, err
	}
	var n int64
	for r.Size < 0 || n < r.Size {
		want := b.max
		if r.Size >= 0 {
			want = min(want, r.Size-n)
		}
		p, ended, err := readBlob(r.Body, want)
		if err != nil {
			return out, err
		}
		if ended && r.Size >= 0 && int64(len(p)) < want {
			return out, io.ErrUnexpectedEOF
		}
		if len(p) > 0 {
			if r.Tee != nil {
				if _, err := r.Tee.Write(p); err != nil {
					return out, err
				}
			}
			out = append(out, b.store(p))
			n += int64(len(p))
		}
		if ended {
			return out, nil
		}
		if err := b.failing("put more"); err != nil {
			return out, err
		}
	}
	return out, ctx.Err()
}

func readBlob(r io.Reader, n int64) (p []byte, ended bool, err error) {
	p = make([]byte, n)
	m, ended, err := readHead(r, p)
	return p[:m], ended, err
}

func (b *memBlobs) store(p []byte) cairn.NewBlob {
	id := b.next()
	b.mu.Lock()
	defer b.mu.Unlock()
	ref := cairn.BlobRef{Volume: b.volume, Blob: id, Length: int64(len(p))}
	b.held[ref] = p
	return cairn.NewBlob{Ref: ref, Epoch: b.epoch}
}

func (b *memBlobs) Get(_ context.Context, blobs []cairn.BlobRef, off, length int64, w io.Writer) error {
	if err := b.failing("get"); err != nil {
		return err
	}
	for _, ref := range blobs {
		b.mu.Lock()
		p, ok := b.held[ref]
		b.mu.Unlock()
		if off >= ref.Length {
			off -= ref.Length
			continue
		}
		if length == 0 {
			return nil
		}
		if !ok {
			return fmt.Errorf("blob %s is gone: %w", ref, cairn.ErrLost)
		}
		n := min(length, ref.Length-off)
		if _, err := w.Write(p[off : off+n]); err != nil {
			return err
		}
		off, length = 0, length-n
	}
	if length > 0 {
		return fmt.Errorf("range leaves the blobs: %w", cairn.ErrInvalid)
	}
	return nil
}

func (b *memBlobs) Discard(ctx context.Context, blobs []cairn.NewBlob) {
	if ctx.Err() != nil {
		return // as a drive's client would
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range blobs {
		delete(b.held, n.Ref)
	}
}

func (b *memBlobs) Delete(_ context.Context, refs []cairn.BlobRef) error {
	if err := b.failing("delete"); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range refs {
		delete(b.held, ref)
		b.deleted[ref]++
	}
	return nil
}

func (b *memBlobs) refs() (out []cairn.BlobRef) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for ref := range b.held {
		out = append(out, ref)
	}
	return out
}

// faultyMeta fails commits before they are made, or makes them and does not say so.
type faultyMeta struct {
	Meta
	mu     sync.Mutex
	before func(op string) error
	after  func(op string) error
}

func (m *faultyMeta) set(before, after func(op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before, m.after = before, after
}

// around runs an operation between the two faults; an operation that fails by itself keeps its own error.
func around[T any](m *faultyMeta, op string, run func() (T, error)) (T, error) {
	m.mu.Lock()
	before, after := m.before, m.after
	m.mu.Unlock()
	var zero T
	if before != nil {
		if err := before(op); err != nil {
			return zero, err
		}
	}
	out, err := run()
	if err == nil && after != nil {
		if err := after(op); err != nil {
			return zero, err
		}
	}
	return out, err
}

func (m *faultyMeta) PutVersion(ctx context.Context, r meta.PutVersion) (cairn.Version, error) {
	return around(m, "PutVersion", func() (cairn.Version, error) { return m.Meta.PutVersion(ctx, r) })
}

func (m *faultyMeta) PutPart(ctx context.Context, r meta.PutPart) (cairn.Part, error) {
	return around(m, "PutPart", func() (cairn.Part, error) { return m.Meta.PutPart(ctx, r) })
}

func (m *faultyMeta) CompleteUpload(ctx context.Context, r meta.CompleteUpload) (cairn.Version, error) {
	return around(m, "CompleteUpload", func() (cairn.Version, error) { return m.Meta.CompleteUpload(ctx, r) })
}

func (m *faultyMeta) Version(ctx context.Context, ref meta.VersionRef) (cairn.Version, error) {
	return around(m, "Version", func() (cairn.Version, error) { return m.Meta.Version(ctx, ref) })
}

func (m *faultyMeta) ClearGarbage(ctx context.Context, refs []cairn.BlobRef) error {
	_, err := around(m, "ClearGarbage", func() (struct{}, error) { return struct{}{}, m.Meta.ClearGarbage(ctx, refs) })
	return err
}

// only fails one operation with one error.
func only(op string, err error) func(string) error {
	return func(got string) error {
		if got == op {
			return err
		}
		return nil
	}
}

var errInjected = errors.New("injected")

// brokenReader gives its bytes and then an error.
type brokenReader struct {
	r   io.Reader
	err error
}

func (b *brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == io.EOF {
		err = b.err
	}
	return n, err
}

// countingReader tells how much was read.
type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// readObject returns an object's bytes, or the error of Open or WriteRange.
func readObject(t testing.TB, s *Store, ref meta.VersionRef) ([]byte, error) {
	t.Helper()
	o, err := s.Open(context.Background(), ref)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	var w sliceWriter
	err = o.WriteRange(context.Background(), &w, 0, o.Version.Size)
	return w, err
}

// sliceWriter collects what is written.
type sliceWriter []byte

func (w *sliceWriter) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
