package object

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"hash/crc32"
	"sync"

	"github.com/minio/crc64nvme"

	"cairn"
)

// hashPiece is how much of a body goes through one hash before the next one takes it: it stays in the core's cache.
const hashPiece = 32 << 10

// hasher computes all that is wanted of a body in one pass: MD5 always (it is the ETag), SHA-256 if the client declared
// one, and one checksum of the x-amz-checksum family. It is used by one goroutine at a time and is reused through a pool.
type hasher struct {
	castagnoli *crc32.Table
	algo       cairn.ChecksumAlgo // the checksum to compute
	withSHA256 bool               // the payload hash was declared

	plain  hash.Hash // crypto/md5, when no lane serves the stream
	lane   *lane
	size   int64 // of the body, as it was declared
	sha1   hash.Hash
	sha256 hash.Hash
	crc32  uint32 // CRC32 or CRC32C
	crc64  uint64 // always: it is close to free, and an upload's whole may need it
	n      int64  // bytes so far
	limit  int64  // more than this is ErrEntityTooLarge
}

// sums is what a hasher found.
type sums struct {
	md5      [md5.Size]byte
	sha256   []byte // nil unless it was declared
	checksum cairn.Checksum
	crc64    uint64
}

// hasherPool hands out hashers that are set for a body.
type hasherPool struct {
	pool  sync.Pool
	lanes *lanes
}

// get returns a hasher for a body of size bytes (-1 if unknown). An algorithm that S3 does not know is ErrChecksumType.
func (p *hasherPool) get(want Digests, size, limit int64) (*hasher, error) {
	algo := want.Checksum.Algo
	switch algo {
	case "":
		algo = cairn.CRC64NVME // what S3 computes when it is not told, and close to free
	case cairn.CRC32, cairn.CRC32C, cairn.CRC64NVME, cairn.SHA1, cairn.SHA256:
	default:
		return nil, fail("object.checksum", string(algo), ErrChecksumType)
	}
	h, _ := p.pool.Get().(*hasher)
	if h == nil {
		h = &hasher{castagnoli: crc32.MakeTable(crc32.Castagnoli), plain: md5.New()}
	}
	h.algo, h.limit, h.withSHA256 = algo, limit, want.SHA256 != nil
	h.crc32, h.crc64, h.n = 0, 0, 0
	h.plain.Reset()
	h.lane, h.size = p.lanes.take(size), size
	if h.sha256 = resetHash(h.sha256, sha256.New, h.withSHA256 || algo == cairn.SHA256); algo == cairn.SHA1 {
		h.sha1 = resetHash(h.sha1, sha1.New, true)
	}
	return h, nil
}

// put takes a hasher back. It must not be used afterwards.
func (p *hasherPool) put(h *hasher) {
	p.lanes.give(h.lane, h.size)
	h.lane = nil
	p.pool.Put(h)
}

// resetHash makes a hash ready for a body that needs it; otherwise it is left as it is, for a later body.
func resetHash(h hash.Hash, make func() hash.Hash, needed bool) hash.Hash {
	switch {
	case !needed:
		return h
	case h == nil:
		return make()
	}
	h.Reset()
	return h
}

// Write adds p to every hash.
func (h *hasher) Write(p []byte) (int, error) {
	if h.n += int64(len(p)); h.n > h.limit {
		return 0, fail("object.read body", "", ErrEntityTooLarge)
	}
	for rest := p; len(rest) > 0; {
		piece := rest[:min(len(rest), hashPiece)]
		rest = rest[len(piece):]
		if err := h.writeMD5(piece); err != nil {
			return 0, err
		}
		h.writeChecksum(piece)
		if h.withSHA256 && h.algo != cairn.SHA256 {
			h.sha256.Write(piece)
		}
	}
	return len(p), nil
}

func (h *hasher) writeMD5(p []byte) error {
	if h.lane == nil {
		h.plain.Write(p) // a hash.Hash never fails
		return nil
	}
	_, err := h.lane.Write(p)
	return err
}

func (h *hasher) writeChecksum(p []byte) {
	h.crc64 = crc64nvme.Update(h.crc64, p)
	switch h.algo {
	case cairn.CRC32:
		h.crc32 = crc32.Update(h.crc32, crc32.IEEETable, p)
	case cairn.CRC32C:
		h.crc32 = crc32.Update(h.crc32, h.castagnoli, p)
	case cairn.SHA1:
		h.sha1.Write(p)
	case cairn.SHA256:
		h.sha256.Write(p)
	}
}

// sum returns what was computed. The hasher takes no more bytes afterwards.
func (h *hasher) sum() sums {
	var s sums
	if h.lane != nil {
		h.lane.Sum(s.md5[:0])
	} else {
		h.plain.Sum(s.md5[:0])
	}
	if h.withSHA256 {
		s.sha256 = h.sha256.Sum(nil)
	}
	s.checksum, s.crc64 = cairn.Checksum{Algo: h.algo, Value: h.checksum()}, h.crc64
	return s
}

func (h *hasher) checksum() []byte {
	switch h.algo {
	case cairn.CRC64NVME:
		return binary.BigEndian.AppendUint64(nil, h.crc64)
	case cairn.SHA1:
		return h.sha1.Sum(nil)
	case cairn.SHA256:
		return h.sha256.Sum(nil)
	}
	return binary.BigEndian.AppendUint32(nil, h.crc32)
}

// verify compares the sums with everything that the client declared, the trailer included, which exists only now that the
// body has ended.
func (s *sums) verify(want Digests) error {
	if want.MD5 != nil && !bytes.Equal(want.MD5, s.md5[:]) {
		return &DigestError{Name: "Content-MD5", Got: s.md5[:], Want: want.MD5}
	}
	if want.SHA256 != nil && !bytes.Equal(want.SHA256, s.sha256) {
		return &DigestError{Name: "x-amz-content-sha256", Got: s.sha256, Want: want.SHA256}
	}
	if err := s.verifyChecksum(want.Checksum); err != nil || want.Trailer == nil {
		return err
	}
	trailer, err := want.Trailer()
	if err != nil {
		return err
	}
	return s.verifyChecksum(trailer)
}

// verifyChecksum compares one declared checksum; one without a value declares nothing.
func (s *sums) verifyChecksum(want cairn.Checksum) error {
	switch {
	case want.Algo == "" || want.Value == nil:
		return nil
	case want.Algo != s.checksum.Algo:
		// A trailer of an algorithm that was not announced cannot be checked any more, so it is not believed.
		return fail("object.checksum", string(want.Algo), ErrChecksumType)
	case !bytes.Equal(want.Value, s.checksum.Value):
		return &DigestError{Name: string(want.Algo), Got: s.checksum.Value, Want: want.Value}
	}
	return nil
}

// checksumOf hashes bytes in memory with one algorithm of the family.
func checksumOf(algo cairn.ChecksumAlgo, p []byte) []byte {
	switch algo {
	case cairn.CRC32:
		return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(p))
	case cairn.CRC32C:
		return binary.BigEndian.AppendUint32(nil, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	case cairn.CRC64NVME:
		return binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(p))
	case cairn.SHA1:
		sum := sha1.Sum(p)
		return sum[:]
	case cairn.SHA256:
		sum := sha256.Sum256(p)
		return sum[:]
	}
	return nil
}
