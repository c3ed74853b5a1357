package object

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"

	"cairn"
)

// body is a stream of bytes to store, for an object or a part.
type body struct {
	r         io.Reader
	size      int64 // -1 if unknown
	want      Digests
	owner     cairn.Owner
	seal      *seal // nil: the bytes are stored as they are
	inlineMax int64 // bodies of at most this size are kept in memory for the metadata row; -1: not even an empty one
}

// stored is a body that was stored and verified, and waits for its commit.
type stored struct {
	layout   cairn.Layout
	newBlobs []cairn.NewBlob
	size     int64
	etag     string
	checksum cairn.Checksum
	crc64    uint64 // CRC64NVME, whatever checksum was asked for
}

// ingest reads a body to its end, stores it inline or as blobs, and verifies every declared digest. On error nothing that
// it wrote is left, as far as the drives can be reached.
func (s *Store) ingest(ctx context.Context, b body) (stored, error) {
	h, err := s.hashers.get(b.want, b.size, MaxPutBytes)
	if err != nil {
		return stored{}, err
	}
	defer s.hashers.put(h)
	var st stored
	if b.size >= 0 && b.size <= b.inlineMax {
		var plain []byte
		if plain, err = readExactly(b.r, b.size); err == nil {
			st.layout.Inline, err = b.seal.small(plain, h)
		}
	} else if b.size == 0 {
		err = drainEOF(b.r) // a part of no bytes has neither blobs nor inline bytes
	} else {
		err = s.ingestBlobs(ctx, b, h, &st)
	}
	if err == nil {
		err = s.finish(b, h, &st)
	}
	if err != nil {
		s.discard(ctx, st.newBlobs)
		return stored{}, err
	}
	return st, nil
}

// ingestBlobs stores a body that is too long for a metadata row, or may be: if it ends early after all, it stays inline.
func (s *Store) ingestBlobs(ctx context.Context, b body, h *hasher, st *stored) error {
	if b.size < 0 {
		head := s.head()
		defer s.heads.Put(head)
		n, ended, err := readHead(b.r, *head)
		switch {
		case err != nil:
			return err
		case ended:
			return s.ingestShort(ctx, b, (*head)[:n], h, st)
		}
		b.r = io.MultiReader(bytes.NewReader(*head), cutOff{b.r})
	}
	return s.putBlobs(ctx, b, h, st)
}

// ingestShort takes a body of unknown size that turned out to be short.
func (s *Store) ingestShort(ctx context.Context, b body, p []byte, h *hasher, st *stored) error {
	if int64(len(p)) <= b.inlineMax {
		inline, err := b.seal.small(bytes.Clone(p), h)
		st.layout.Inline = inline
		return err
	}
	if len(p) == 0 {
		return nil
	}
	b.r, b.size = bytes.NewReader(p), int64(len(p))
	return s.putBlobs(ctx, b, h, st)
}

// cutOff keeps a reader's own io.ErrUnexpectedEOF apart from the one that io.ReadFull makes of a short read: of a body of
// unknown size the one means that it was cut off, the other that it has ended.
type cutOff struct{ r io.Reader }

func (c cutOff) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("the body was cut off: %w", err)
	}
	return n, err
}

func (s *Store) putBlobs(ctx context.Context, b body, h *hasher, st *stored) (err error) {
	profile, err := s.profile(ctx, b.owner.Bucket)
	if err != nil {
		return err
	}
	put, err := b.seal.blobs(cairn.BlobPut{Profile: profile, Owner: b.owner, Size: b.size, Body: b.r, Tee: h})
	if err != nil {
		return err
	}
	st.newBlobs, err = s.cfg.Blobs.Put(ctx, put)
	if err != nil {
		st.newBlobs = nil // Put has discarded them
		return err
	}
	st.layout.Blobs = refs(st.newBlobs)
	return drainEOF(put.Body)
}

// finish verifies the digests and fills in what the row tells of the body.
func (s *Store) finish(b body, h *hasher, st *stored) error {
	sums := h.sum()
	if err := sums.verify(b.want); err != nil {
		s.counters.digestErrors.Add(1)
		return err
	}
	st.size = h.n
	st.etag = hex.EncodeToString(b.seal.etag(sums.md5[:]))
	st.checksum, st.crc64 = sums.checksum, sums.crc64
	if got := layoutLen(st.layout); got != b.seal.storedSize(st.size) {
		return fail("object.put", b.owner.Bucket+"/"+b.owner.Key,
			fmt.Errorf("stored %d bytes of %d: %w", got, st.size, cairn.ErrCorrupt))
	}
	return nil
}

// head returns a buffer that holds one byte more than travels inline.
func (s *Store) head() *[]byte {
	if p, ok := s.heads.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, s.cfg.InlineMax+1)
	return &p
}

// readHead fills p, or reads to the body's end if that comes first. Only io.EOF is an end: io.ErrUnexpectedEOF, which
// io.ReadFull would make of it, is what readers say of a body that was cut off.
func readHead(r io.Reader, p []byte) (n int, ended bool, err error) {
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		switch {
		case err == io.EOF:
			return n, true, nil
		case err != nil:
			return n, false, err
		}
	}
	return n, false, nil
}

// readExactly reads a body of known size and its end. A body that ends early is io.ErrUnexpectedEOF.
func readExactly(r io.Reader, size int64) ([]byte, error) {
	p := make([]byte, size)
	if _, err := io.ReadFull(r, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return p, drainEOF(r)
}

func refs(blobs []cairn.NewBlob) []cairn.BlobRef {
	out := make([]cairn.BlobRef, len(blobs))
	for i := range blobs {
		out[i] = blobs[i].Ref
	}
	return out
}

// layoutLen is the number of bytes that a layout holds.
func layoutLen(l cairn.Layout) int64 {
	n := int64(len(l.Inline))
	for _, b := range l.Blobs {
		n += b.Length
	}
	return n
}
