package object

import (
	"context"
	"io"

	"cairn"
	"cairn/meta"
)

// Object is one version, open for reading. It is used by one goroutine at a time; WriteRange may be called any number of
// times until Close.
type Object struct {
	// Version is the row as it was at Open.
	Version cairn.Version
	store   *Store
	pinned  []cairn.BlobRef
	dataKey []byte // of a sealed version, once it was asked for
}

// Open looks a version up (linearizable) and keeps its bytes readable until Close, whatever is deleted or overwritten
// meanwhile. Errors: ErrNoSuchBucket, ErrNotFound (a current delete marker too; one that is asked for by ID opens as an
// empty version with DeleteMarker set), ErrUnavailable, ErrCanceled.
func (s *Store) Open(ctx context.Context, ref meta.VersionRef) (*Object, error) {
	phase := s.pins.enter()
	v, err := s.cfg.Meta.Version(ctx, ref)
	if err != nil {
		s.pins.leave(phase)
		return nil, explain(err)
	}
	s.pins.pin(v.Layout.Blobs)
	s.pins.leave(phase)
	s.counters.opens.Add(1)
	return &Object{Version: v, store: s, pinned: v.Layout.Blobs}, nil
}

// WriteRange writes length bytes of the object from offset off to w, in order and verified. On error the bytes written so
// far were right. Errors: ErrRange, ErrLost, ErrCorrupt, ErrUnavailable, ErrCanceled, and those of w.
func (o *Object) WriteRange(ctx context.Context, w io.Writer, off, length int64) error {
	if off < 0 || length < 0 || off > o.Version.Size || length > o.Version.Size-off {
		return fail("object.read", o.Version.Bucket+"/"+o.Version.Key, ErrRange)
	}
	if length == 0 {
		return nil
	}
	o.store.counters.readBytes.Add(length)
	if o.Version.Encryption.Sealed() {
		return o.writeSealed(ctx, w, byteRange{off, length})
	}
	return o.writeStored(ctx, w, byteRange{off, length})
}

// writeStored writes a range of the bytes as they are stored.
func (o *Object) writeStored(ctx context.Context, w io.Writer, rng byteRange) error {
	off, length := rng.off, rng.length
	if len(o.Version.Layout.Blobs) > 0 {
		return o.store.cfg.Blobs.Get(ctx, o.Version.Layout.Blobs, off, length, w)
	}
	inline := o.Version.Layout.Inline
	if int64(len(inline)) < off+length || (!o.Version.Encryption.Sealed() && int64(len(inline)) != o.Version.Size) {
		return fail("object.read", o.Version.Bucket+"/"+o.Version.Key, cairn.ErrCorrupt)
	}
	_, err := w.Write(inline[off : off+length])
	return err
}

// Close lets garbage collection have the blobs. Closing twice is harmless.
func (o *Object) Close() {
	o.store.pins.unpin(o.pinned)
	o.pinned = nil
}

// Head returns a version's row without opening it. The errors are those of Open.
func (s *Store) Head(ctx context.Context, ref meta.VersionRef) (cairn.Version, error) {
	v, err := s.cfg.Meta.Version(ctx, ref)
	return v, explain(err)
}
