package object

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"cairn"
	"cairn/meta"
)

// CopyPart makes a part from a range of a version. Blobs that lie wholly in the range are referenced; what the range takes of
// the first and last one besides is written anew. The bytes in between are read only if the upload names a checksum algorithm;
// otherwise the part carries a checksum only where it follows from the source's, and its ETag is the source's MD5 for a
// whole object and an opaque value for a range. Errors: those of Copy and PutPart, ErrRange.
func (s *Store) CopyPart(ctx context.Context, r CopyPart) (cairn.Part, error) {
	subject := r.Bucket + "/" + r.Key
	if err := checkPartNumber("object.copy part", subject, r.Number); err != nil {
		return cairn.Part{}, err
	}
	u, err := s.Upload(ctx, r.Bucket, r.Key, r.Upload)
	if err != nil {
		return cairn.Part{}, err
	}
	for try := 1; ; try++ {
		part, err := s.copyPartOnce(ctx, r, u)
		if !errors.Is(err, errSourceMoved) || try == copyTries {
			return part, err
		}
	}
}

func (s *Store) copyPartOnce(ctx context.Context, r CopyPart, u cairn.Upload) (cairn.Part, error) {
	src, err := s.openSource(ctx, r.From, r.SourceIf)
	if err != nil {
		return cairn.Part{}, err
	}
	defer src.Close()
	from := src.Version
	rng, err := partRange(r, from.Size)
	if err != nil {
		return cairn.Part{}, err
	}
	if from.Encryption.Sealed() || u.Encryption.Sealed() {
		return s.copyPartBytes(ctx, r, u, src, rng)
	}
	part, err := s.describePart(ctx, src, rng, u)
	if err != nil {
		return cairn.Part{}, err
	}
	part.Number = r.Number
	layout, fresh, err := s.copyRange(ctx, src, rng,
		cairn.Owner{Bucket: r.Bucket, Key: r.Key, Upload: r.Upload, Part: r.Number})
	if err != nil {
		return cairn.Part{}, err
	}
	part.Layout = layout
	put := meta.PutPart{Bucket: r.Bucket, Key: r.Key, Upload: r.Upload, Part: part, NewBlobs: fresh}
	if len(layout.Blobs) > len(fresh) {
		put.Source = &meta.VersionRef{Bucket: from.Bucket, Key: from.Key, ID: from.ID}
	}
	done, err := s.commitPart(ctx, put)
	if err != nil && put.Source != nil && s.sourceMoved(ctx, r.From, from, err) {
		return cairn.Part{}, fail("object.copy part", from.Bucket+"/"+from.Key, errSourceMoved)
	}
	return done, err
}

// byteRange is length bytes from offset off.
type byteRange struct{ off, length int64 }

// partRange resolves the range of a CopyPart against its source's size.
func partRange(r CopyPart, size int64) (byteRange, error) {
	rng := byteRange{r.Off, r.Len}
	if rng.length == -1 {
		rng.length = size - rng.off
	}
	if rng.off < 0 || rng.length < 0 || rng.off > size || rng.length > size-rng.off {
		return rng, fail("object.copy part", r.From.Bucket+"/"+r.From.Key,
			fmt.Errorf("bytes %d+%d of %d: %w", rng.off, rng.length, size, ErrRange))
	}
	if rng.length > MaxPutBytes {
		return rng, fail("object.copy part", r.From.Bucket+"/"+r.From.Key, ErrEntityTooLarge)
	}
	return rng, nil
}

// describePart fills in size, ETag and checksums of a part that is a range of src.
func (s *Store) describePart(ctx context.Context, src *Object, rng byteRange, u cairn.Upload) (cairn.Part, error) {
	part := cairn.Part{Size: rng.length}
	from := src.Version
	need := uploadAlgorithm(u)
	plainETag := !strings.Contains(from.ETag, "-")
	if rng.length == from.Size && plainETag {
		if have := pick(from.Checksums, need); len(have) == 0 || have[0].Parts == 0 {
			part.ETag, part.Checksums = from.ETag, have
		}
	}
	if u.ChecksumAlgo == "" {
		if part.ETag == "" {
			part.ETag = opaqueETag(from, rng)
		}
		return part, nil
	}
	if len(part.Checksums) == 1 {
		return part, nil
	}
	h, err := s.hashers.get(Digests{Checksum: cairn.Checksum{Algo: need}}, rng.length, MaxPutBytes)
	if err != nil {
		return part, err
	}
	defer s.hashers.put(h)
	if err := src.WriteRange(ctx, h, rng.off, rng.length); err != nil {
		return part, err
	}
	sums := h.sum()
	part.ETag, part.Checksums = hex.EncodeToString(sums.md5[:]), []cairn.Checksum{sums.checksum}
	return part, nil
}

// opaqueETag stands for the MD5 of bytes that were not read: another range or another source version gives another value.
func opaqueETag(from cairn.Version, rng byteRange) string {
	b := binary.BigEndian.AppendUint64([]byte(from.ETag), uint64(from.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(rng.off))
	b = binary.BigEndian.AppendUint64(b, uint64(rng.length))
	sum := md5.Sum(b)
	return hex.EncodeToString(sum[:])
}

// copyRange returns a layout that holds a range of src: whole blobs by reference, the rest in new blobs.
func (s *Store) copyRange(ctx context.Context, src *Object, rng byteRange, owner cairn.Owner) (cairn.Layout, []cairn.NewBlob, error) {
	var layout cairn.Layout
	var fresh []cairn.NewBlob
	for _, piece := range cut(src.Version.Layout, rng) {
		if piece.whole {
			layout.Blobs = append(layout.Blobs, piece.blob)
			continue
		}
		owner.Offset = piece.off - rng.off
		made, err := s.rewrite(ctx, src, piece.byteRange, owner)
		if err != nil {
			s.discard(ctx, fresh)
			return cairn.Layout{}, nil, err
		}
		fresh = append(fresh, made...)
		layout.Blobs = append(layout.Blobs, refs(made)...)
	}
	return layout, fresh, nil
}

// piece is one stretch of a range: a whole blob, or bytes that have to be written anew.
type piece struct {
	byteRange // in the source
	blob      cairn.BlobRef
	whole     bool
}

// cut divides a range at the borders of the source's blobs; inline bytes are one piece.
func cut(l cairn.Layout, rng byteRange) []piece {
	if rng.length == 0 {
		return nil
	}
	if len(l.Blobs) == 0 {
		return []piece{{byteRange: rng}}
	}
	var out []piece
	end := rng.off + rng.length
	start := int64(0) // of the blob in the source
	for _, b := range l.Blobs {
		from, to := max(start, rng.off), min(start+b.Length, end)
		if from < to {
			out = append(out, piece{byteRange{from, to - from}, b, to-from == b.Length})
		}
		if start += b.Length; start >= end {
			break
		}
	}
	return out
}

// rewrite stores a range of src in new blobs.
func (s *Store) rewrite(ctx context.Context, src *Object, rng byteRange, owner cairn.Owner) ([]cairn.NewBlob, error) {
	profile, err := s.profile(ctx, owner.Bucket)
	if err != nil {
		return nil, err
	}
	body, stop := src.pipe(ctx, rng)
	defer stop()
	return s.cfg.Blobs.Put(ctx, cairn.BlobPut{Profile: profile, Owner: owner, Size: rng.length, Body: body})
}
