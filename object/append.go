package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/meta"
)

// Append is a request to add bytes to an object's end.
type Append struct {
	Put
	Offset int64 // the size that the object must have
}

// maxAppends bounds the pieces of one object, as S3 does.
const maxAppends = MaxParts

// Append adds a body to the end of an object: a new version, which shares the blobs of the one before it and is committed
// only if that one is still current. An object that does not exist is made by an append at 0. What the object is besides
// its bytes stays. The ETag is no MD5 then, and ends with the number of pieces; the checksum is one of the whole where
// those of the pieces combine, and absent otherwise. What is appended to a sealed object is sealed under its data key, a body of its
// own as a part of an upload is. Errors: those of Put, ErrWriteOffset (of another size, or changed meanwhile), ErrNoAppend (it would
// have to be encrypted in another way than the object is), ErrTooManyParts, those of package sse.
func (s *Store) Append(ctx context.Context, r Append) (cairn.Version, error) {
	const op = "object.append"
	subject := r.Bucket + "/" + r.Key
	if err := r.validate(); err != nil {
		return cairn.Version{}, err
	}
	old, err := s.Open(ctx, meta.VersionRef{Bucket: r.Bucket, Key: r.Key})
	if errors.Is(err, cairn.ErrNotFound) && !errors.Is(err, ErrNoSuchBucket) {
		return s.appendToNothing(ctx, r)
	}
	if err != nil {
		return cairn.Version{}, err
	}
	defer old.Close()
	was := &old.Version
	if err := checkConditions(r.Put, was); err != nil {
		return cairn.Version{}, err
	}
	etag, pieces := splitETag(was.ETag)
	switch {
	case r.Offset != was.Size:
		return cairn.Version{}, fail(op, subject, ErrWriteOffset)
	case pieces >= maxAppends, len(was.Parts) > 0 && was.Parts[len(was.Parts)-1].Number >= maxAppends:
		return cairn.Version{}, fail(op, subject, ErrTooManyParts)
	case r.Size > MaxObjectBytes-was.Size:
		return cairn.Version{}, fail(op, subject, ErrEntityTooLarge)
	}
	seal, err := s.appendSeal(ctx, r, was)
	if err != nil {
		return cairn.Version{}, err
	}
	adoptChecksum(&r.Want, was)
	st, err := s.ingestAppended(ctx, r, was, seal)
	if err != nil {
		return cairn.Version{}, err
	}
	v := *was
	v.Size, v.Layout, v.Parts, v.Owner = was.Size+st.size, st.layout, nil, r.Owner
	if seal != nil {
		v.Parts = appendedParts(was, &st, seal)
	}
	v.ID, v.Lock, v.Modified = 0, cairn.Lock{}, time.Time{}
	v.Checksums = appendedChecksum(was, &st)
	v.ETag = appendedETag(etag, st.etag, pieces+1)
	v, err = s.cfg.Meta.PutVersion(ctx, meta.PutVersion{Version: v, NewBlobs: st.newBlobs,
		If: meta.Conditions{IfMatch: []string{was.ETag}, IfSize: &was.Size}, Append: true,
		Source: &meta.VersionRef{Bucket: r.Bucket, Key: r.Key, ID: was.ID}})
	if err == nil {
		s.counters.puts.Add(1)
		s.counters.putBytes.Add(st.size)
		return v, nil
	}
	s.afterCommit(ctx, st.newBlobs, err)
	switch {
	case errors.Is(err, cairn.ErrStaleEpoch):
		err = staleWrite{err}
	case errors.Is(err, cairn.ErrPrecondition), errors.Is(err, cairn.ErrNotFound) && !isBucketError(err):
		err = fmt.Errorf("the object changed meanwhile: %w", ErrWriteOffset)
	}
	return cairn.Version{}, fail(op, subject, explain(err))
}

func isBucketError(err error) bool {
	var b *meta.BucketError
	return errors.As(err, &b)
}

// appendToNothing makes the object, if nobody else does meanwhile.
func (s *Store) appendToNothing(ctx context.Context, r Append) (cairn.Version, error) {
	switch {
	case r.Offset != 0:
		return cairn.Version{}, fail("object.append", r.Bucket+"/"+r.Key, ErrWriteOffset)
	case len(r.If.IfMatch) > 0:
		return cairn.Version{}, checkConditions(r.Put, nil)
	}
	r.If.IfNoneMatch = []string{"*"}
	v, err := s.Put(ctx, r.Put)
	if errors.Is(err, cairn.ErrPrecondition) {
		err = fail("object.append", r.Bucket+"/"+r.Key, ErrWriteOffset)
	}
	return v, err
}

// appendSeal is how what is appended is sealed: as the object is. nil for a plain one.
func (s *Store) appendSeal(ctx context.Context, r Append, was *cairn.Version) (*seal, error) {
	none := fail("object.append", r.Bucket+"/"+r.Key, ErrNoAppend)
	if !was.Encryption.Sealed() {
		if want, err := s.resolve(ctx, r.Bucket, r.Encrypt); err != nil || want.Scheme == "" {
			return nil, err
		}
		return nil, none
	}
	if r.Encrypt.Scheme != "" && r.Encrypt.Scheme != was.Encryption.Scheme || r.Encrypt.KeyID != "" && r.Encrypt.KeyID != was.Encryption.KeyID {
		return nil, none
	}
	dataKey, err := s.openKey(ctx, was.Encryption, r.Encrypt.CustomerKey)
	if err != nil {
		return nil, err
	}
	return sealWith(dataKey, was.Encryption), nil
}

// appendedParts are the sealed bodies of an object that was appended to.
func appendedParts(was *cairn.Version, st *stored, seal *seal) []cairn.PartInfo {
	parts := slices.Clone(was.Parts)
	if len(parts) == 0 && was.Size > 0 {
		parts = []cairn.PartInfo{{Number: 1, Size: was.Size, Salt: was.Encryption.Salt}}
	}
	number := 1
	if len(parts) > 0 {
		number = parts[len(parts)-1].Number + 1
	}
	if st.size == 0 {
		return parts
	}
	return append(parts, cairn.PartInfo{Number: number, Size: st.size, Salt: seal.salt})
}

// adoptChecksum asks for the checksum that combines with the object's, unless the client declared one.
func adoptChecksum(want *Digests, was *cairn.Version) {
	if want.Checksum.Algo == "" && len(was.Checksums) == 1 {
		want.Checksum.Algo = was.Checksums[0].Algo
	}
}

// ingestAppended stores the new bytes. Small objects stay inline; what was inline becomes a blob when the whole grows.
func (s *Store) ingestAppended(ctx context.Context, r Append, was *cairn.Version, seal *seal) (st stored, err error) {
	b := body{r: r.Body, size: r.Size, want: r.Want, seal: seal, inlineMax: -1,
		owner: cairn.Owner{Bucket: r.Bucket, Key: r.Key, Offset: was.Size}}
	inline := was.Layout.Inline
	small := len(was.Layout.Blobs) == 0 && r.Size >= 0 && was.Size+r.Size <= s.cfg.InlineMax
	if small {
		b.inlineMax = s.cfg.InlineMax
	}
	if st, err = s.ingest(ctx, b); err != nil {
		return st, err
	}
	if small {
		st.layout.Inline = slices.Concat(inline, st.layout.Inline)
		return st, nil
	}
	front := was.Layout.Blobs
	if len(inline) > 0 {
		made, err := s.blobsOf(ctx, r, inline)
		if err != nil {
			s.discard(ctx, st.newBlobs)
			return st, err
		}
		front = refs(made)
		st.newBlobs = append(made, st.newBlobs...)
	}
	st.layout.Blobs = slices.Concat(front, st.layout.Blobs)
	return st, nil
}

func (s *Store) blobsOf(ctx context.Context, r Append, p []byte) ([]cairn.NewBlob, error) {
	profile, err := s.profile(ctx, r.Bucket)
	if err != nil {
		return nil, err
	}
	return s.cfg.Blobs.Put(ctx, cairn.BlobPut{Profile: profile, Owner: cairn.Owner{Bucket: r.Bucket, Key: r.Key}, Size: int64(len(p)),
		Body: bytes.NewReader(p)})
}

// appendedChecksum is the checksum of the whole, where it follows from those of the pieces.
func appendedChecksum(was *cairn.Version, st *stored) []cairn.Checksum {
	if len(was.Checksums) != 1 || was.Checksums[0].Parts != 0 {
		return nil
	}
	old, add := was.Checksums[0], st.checksum
	if old.Algo == cairn.CRC64NVME {
		add = cairn.Checksum{Algo: cairn.CRC64NVME, Value: binary.BigEndian.AppendUint64(nil, st.crc64)}
	}
	if add.Algo != old.Algo {
		return nil
	}
	out := cairn.Checksum{Algo: old.Algo}
	switch old.Algo {
	case cairn.CRC64NVME:
		sum := combineCRC(polyCRC64NVME, binary.BigEndian.Uint64(old.Value), binary.BigEndian.Uint64(add.Value), st.size)
		out.Value = binary.BigEndian.AppendUint64(nil, sum)
	case cairn.CRC32, cairn.CRC32C:
		poly := polyCRC32
		if old.Algo == cairn.CRC32C {
			poly = polyCRC32C
		}
		sum := combineCRC(poly, binary.BigEndian.Uint32(old.Value), binary.BigEndian.Uint32(add.Value), st.size)
		out.Value = binary.BigEndian.AppendUint32(nil, sum)
	default:
		return nil
	}
	return []cairn.Checksum{out}
}

// splitETag takes the number of pieces off an ETag; 1 if it names none.
func splitETag(etag string) (sum string, pieces int) {
	sum, n, _ := strings.Cut(etag, "-")
	pieces, err := strconv.Atoi(n)
	if err != nil || pieces < 1 {
		pieces = 1
	}
	return sum, pieces
}

func appendedETag(old, added string, pieces int) string {
	sum := md5.Sum([]byte(old + added))
	return hex.EncodeToString(sum[:]) + "-" + strconv.Itoa(pieces)
}
