package object

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"cairn"
	"cairn/meta"
)

// CreateUpload opens a multipart upload. Without a checksum algorithm the object gets a CRC64NVME of the whole; otherwise
// the type is COMPOSITE unless ChecksumWhole is set (always so for CRC64NVME, never for SHA-1 and SHA-256, which do not
// combine: ErrChecksumType). ErrNoSuchBucket.
func (s *Store) CreateUpload(ctx context.Context, u cairn.Upload) (cairn.Upload, error) {
	return s.CreateSealedUpload(ctx, u, cairn.EncryptionWish{})
}

// CreateSealedUpload is CreateUpload with a wish for encryption. The data key under which every part is sealed is made here.
func (s *Store) CreateSealedUpload(ctx context.Context, u cairn.Upload, want cairn.EncryptionWish) (cairn.Upload, error) {
	const op = "object.create upload"
	if err := checkKey(op, u.Bucket, u.Key); err != nil {
		return cairn.Upload{}, err
	}
	switch u.ChecksumAlgo {
	case "", cairn.CRC32, cairn.CRC32C:
	case cairn.CRC64NVME:
		u.ChecksumWhole = true
	case cairn.SHA1, cairn.SHA256:
		if u.ChecksumWhole {
			return cairn.Upload{}, fail(op, u.Bucket+"/"+u.Key, ErrChecksumType)
		}
	default:
		return cairn.Upload{}, fail(op, u.Bucket+"/"+u.Key, ErrChecksumType)
	}
	seal, err := s.newSeal(ctx, u.Bucket, want)
	if err != nil {
		return cairn.Upload{}, err
	}
	u.Encryption = seal.record()
	u.Encryption.Salt = nil // each part has its own
	made, err := s.cfg.Meta.CreateUpload(ctx, u)
	return made, explain(err)
}

// Abort drops an upload and its parts. ErrNoSuchUpload, ErrNoSuchBucket.
func (s *Store) Abort(ctx context.Context, bucket, key, upload string) error {
	return explain(s.cfg.Meta.AbortUpload(ctx, bucket, key, upload))
}

// PutPart stores one part of an upload, replacing one of the same number. The errors are those of Put, and ErrNoSuchUpload,
// ErrPartNumber, ErrChecksumType (another algorithm than the upload's).
func (s *Store) PutPart(ctx context.Context, r PutPart) (cairn.Part, error) {
	const op = "object.put part"
	subject := r.Bucket + "/" + r.Key
	if err := checkPartNumber(op, subject, r.Number); err != nil {
		return cairn.Part{}, err
	}
	if err := checkSize(op, subject, r.Size); err != nil {
		return cairn.Part{}, err
	}
	if r.Body == nil {
		return cairn.Part{}, fail(op, subject, cairn.ErrInvalid)
	}
	u, err := s.Upload(ctx, r.Bucket, r.Key, r.Upload)
	if err != nil {
		return cairn.Part{}, err
	}
	if err := adoptAlgorithm(&r.Want, u); err != nil {
		return cairn.Part{}, fail(op, subject, err)
	}
	seal, err := s.partSeal(ctx, u, r.CustomerKey)
	if err != nil {
		return cairn.Part{}, err
	}
	st, err := s.ingest(ctx, body{
		r: r.Body, size: r.Size, want: r.Want, inlineMax: -1, seal: seal,
		owner: cairn.Owner{Bucket: r.Bucket, Key: r.Key, Upload: r.Upload, Part: r.Number},
	})
	if err != nil {
		return cairn.Part{}, err
	}
	part, err := s.commitPart(ctx, meta.PutPart{
		Bucket: r.Bucket, Key: r.Key, Upload: r.Upload,
		Part: cairn.Part{Number: r.Number, Size: st.size, ETag: st.etag,
			Checksums: partChecksums(u, st), Salt: seal.saltOf(), Encryption: seal.record(), Layout: st.layout},
		NewBlobs: st.newBlobs,
	})
	if err == nil {
		s.counters.putBytes.Add(st.size)
		part.Encryption = seal.record()
	}
	return part, err
}

// partChecksums is what a part's row keeps: the checksum that was asked for, and what its upload needs for the whole.
func partChecksums(u cairn.Upload, st stored) []cairn.Checksum {
	out := []cairn.Checksum{st.checksum}
	if uploadAlgorithm(u) == cairn.CRC64NVME && st.checksum.Algo != cairn.CRC64NVME {
		out = append(out, cairn.Checksum{Algo: cairn.CRC64NVME, Value: binary.BigEndian.AppendUint64(nil, st.crc64)})
	}
	return out
}

// adoptAlgorithm makes a part compute what its upload needs. A client that declares another algorithm is refused; one that
// declares none gets the right one computed.
func adoptAlgorithm(want *Digests, u cairn.Upload) error {
	need := uploadAlgorithm(u)
	switch want.Checksum.Algo {
	case need:
	case "":
		want.Checksum.Algo = need
	default:
		if u.ChecksumAlgo == "" {
			return nil // the upload asks for nothing: the part's own checksum is verified and kept beside
		}
		return fmt.Errorf("the upload uses %s, the part %s: %w", need, want.Checksum.Algo, ErrChecksumType)
	}
	return nil
}

// uploadAlgorithm is the checksum that the parts of an upload carry.
func uploadAlgorithm(u cairn.Upload) cairn.ChecksumAlgo {
	if u.ChecksumAlgo == "" {
		return cairn.CRC64NVME
	}
	return u.ChecksumAlgo
}

// commitPart commits a part; on failure it takes care of the blobs that were written for it.
func (s *Store) commitPart(ctx context.Context, r meta.PutPart) (cairn.Part, error) {
	part, err := s.cfg.Meta.PutPart(ctx, r)
	if err == nil {
		s.counters.parts.Add(1)
		return part, nil
	}
	s.afterCommit(ctx, r.NewBlobs, err)
	if errors.Is(err, cairn.ErrStaleEpoch) {
		return cairn.Part{}, fail("object.put part", r.Bucket+"/"+r.Key, staleWrite{err})
	}
	return cairn.Part{}, explain(err)
}
