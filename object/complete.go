package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"

	"cairn"
	"cairn/meta"
)

// Complete turns an upload's parts into a version; no bytes move. Repeating a completed one answers with the same version while
// it is the key's latest. Errors: ErrNoSuchUpload, ErrInvalidPartOrder, *PartError (ErrInvalidPart, ErrEntityTooSmall,
// ErrChecksumType), *DigestError for the checksum of the whole, ErrObjectSize, ErrEntityTooLarge, those of r.If.
func (s *Store) Complete(ctx context.Context, r Complete) (cairn.Version, error) {
	if err := r.validate(); err != nil {
		return cairn.Version{}, err
	}
	v, err := s.cfg.Meta.CompleteUpload(ctx, meta.CompleteUpload{
		Bucket: r.Bucket, Key: r.Key, Upload: r.Upload,
		Parts: r.Parts,
		Build: func(u cairn.Upload, parts []cairn.Part) (cairn.Version, error) {
			return r.build(u, parts, s.minPart)
		},
		If: r.If,
	})
	if err != nil {
		return cairn.Version{}, explain(err)
	}
	s.counters.completes.Add(1)
	return v, nil
}

func (r *Complete) subject() string { return r.Bucket + "/" + r.Key }

func (r *Complete) validate() error {
	const op = "object.complete"
	if len(r.Parts) == 0 || len(r.Parts) > MaxParts {
		return fail(op, r.subject(), fmt.Errorf("%d parts named: %w", len(r.Parts), cairn.ErrInvalid))
	}
	last := 0
	for _, p := range r.Parts {
		if err := checkPartNumber(op, r.subject(), p.Number); err != nil {
			return err
		}
		if p.Number <= last {
			return fail(op, r.subject(), ErrInvalidPartOrder)
		}
		last = p.Number
	}
	return nil
}

// build makes the version from the stored parts that the client named. It is pure: meta may call it more than once.
func (r *Complete) build(u cairn.Upload, parts []cairn.Part, minPart int64) (cairn.Version, error) {
	if err := r.checkParts(u, parts, minPart); err != nil {
		return cairn.Version{}, fail("object.complete", r.subject(), err)
	}
	v := cairn.Version{
		Bucket: u.Bucket, Key: u.Key, Owner: u.Owner,
		Headers: u.Headers, Tags: u.Tags, Class: u.Class, Lock: u.Lock, ACL: u.ACL,
		Encryption: u.Encryption,
		Parts:      make([]cairn.PartInfo, len(parts)),
	}
	for i, p := range parts {
		v.Size += p.Size
		v.Layout.Blobs = append(v.Layout.Blobs, p.Layout.Blobs...)
		v.Parts[i] = cairn.PartInfo{Number: p.Number, Size: p.Size, Checksums: pick(p.Checksums, uploadAlgorithm(u)), Salt: p.Salt}
	}
	var err error
	if v.ETag, err = etagOfParts(parts); err == nil {
		err = r.checkWhole(u, &v)
	}
	if err != nil {
		return cairn.Version{}, fail("object.complete", r.subject(), err)
	}
	return v, nil
}

// checkParts compares what the client named with what is stored.
func (r *Complete) checkParts(u cairn.Upload, parts []cairn.Part, minPart int64) error {
	if len(parts) != len(r.Parts) {
		return fmt.Errorf("%d of %d parts are stored: %w", len(parts), len(r.Parts), ErrInvalidPart)
	}
	for i, p := range parts {
		named := r.Parts[i]
		broken := &PartError{Number: named.Number, ETag: named.ETag, Size: p.Size}
		switch {
		case named.Number != p.Number || named.ETag != p.ETag:
			broken.Rule = ErrInvalidPart
		case p.Size < minPart && i < len(parts)-1:
			broken.Rule = ErrEntityTooSmall
		default:
			broken.Rule = checkNamed(u, named.Checksums, p.Checksums)
		}
		if broken.Rule != nil {
			return broken
		}
	}
	return nil
}

// checkNamed compares the checksums that a client named for a part with the stored ones. A composite checksum is the
// client's promise about every part, so S3 wants each named.
func checkNamed(u cairn.Upload, named, have []cairn.Checksum) error {
	if len(named) == 0 && u.ChecksumAlgo != "" && !u.ChecksumWhole {
		return ErrChecksumType
	}
	for _, want := range named {
		got := pick(have, want.Algo)
		switch {
		case len(got) == 0 && u.ChecksumAlgo != "":
			return ErrChecksumType
		case len(got) == 0 || !bytes.Equal(got[0].Value, want.Value):
			return ErrInvalidPart
		}
	}
	return nil
}

// checkWhole computes the checksum of the whole and compares the declared size and checksum with it.
func (r *Complete) checkWhole(u cairn.Upload, v *cairn.Version) error {
	switch {
	case v.Size > MaxObjectBytes:
		return ErrEntityTooLarge
	case r.Size >= 0 && r.Size != v.Size:
		return fmt.Errorf("%d bytes declared, %d stored: %w", r.Size, v.Size, ErrObjectSize)
	}
	whole, ok := wholeChecksum(u, v.Parts)
	if ok {
		v.Checksums = []cairn.Checksum{whole}
	}
	switch want := r.Want; {
	case want.Algo == "" || want.Value == nil:
		return nil
	case !ok || want.Algo != whole.Algo:
		return fmt.Errorf("%s declared for the whole object: %w", want.Algo, ErrChecksumType)
	case !bytes.Equal(want.Value, whole.Value) || (want.Parts != 0 && want.Parts != whole.Parts):
		return &DigestError{Name: string(want.Algo), Got: whole.Value, Want: want.Value}
	}
	return nil
}

// etagOfParts is S3's ETag of a multipart object: the MD5 of the parts' MD5s, and their number.
func etagOfParts(parts []cairn.Part) (string, error) {
	h := md5.New()
	for _, p := range parts {
		raw, err := hex.DecodeString(p.ETag)
		if err != nil {
			return "", fmt.Errorf("ETag of part %d: %w", p.Number, cairn.ErrCorrupt)
		}
		h.Write(raw)
	}
	return hex.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), nil
}

// wholeChecksum makes the object's checksum of its parts' ones: composite, a checksum of checksums, or of the full object
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html). There is none if a part carries none,
// which only parts copied without reading do.
func wholeChecksum(u cairn.Upload, parts []cairn.PartInfo) (cairn.Checksum, bool) {
	algo := uploadAlgorithm(u)
	composite := u.ChecksumAlgo != "" && !u.ChecksumWhole
	var concat []byte
	var crc32 uint32
	var crc64 uint64
	for _, p := range parts {
		if len(p.Checksums) == 0 {
			return cairn.Checksum{}, false
		}
		value := p.Checksums[0].Value
		switch {
		case composite:
			concat = append(concat, value...)
		case algo == cairn.CRC64NVME:
			crc64 = combineCRC(polyCRC64NVME, crc64, binary.BigEndian.Uint64(value), p.Size)
		case algo == cairn.CRC32:
			crc32 = combineCRC(polyCRC32, crc32, binary.BigEndian.Uint32(value), p.Size)
		case algo == cairn.CRC32C:
			crc32 = combineCRC(polyCRC32C, crc32, binary.BigEndian.Uint32(value), p.Size)
		}
	}
	switch {
	case composite:
		return cairn.Checksum{Algo: algo, Value: checksumOf(algo, concat), Parts: len(parts)}, true
	case algo == cairn.CRC64NVME:
		return cairn.Checksum{Algo: algo, Value: binary.BigEndian.AppendUint64(nil, crc64)}, true
	}
	return cairn.Checksum{Algo: algo, Value: binary.BigEndian.AppendUint32(nil, crc32)}, true
}

// pick returns the checksum of one algorithm, as a list of one or none.
func pick(from []cairn.Checksum, algo cairn.ChecksumAlgo) []cairn.Checksum {
	for i := range from {
		if from[i].Algo == algo {
			return from[i : i+1 : i+1]
		}
	}
	return nil
}
