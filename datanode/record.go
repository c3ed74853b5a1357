package datanode

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// A record is a header followed by data. It begins on a page and fills whole pages. The layout of the header, all
// little-endian:
//
//	 0 magic u32          4 version u8      5 kind u8        6 slot u8      7 k u8
//	 8 tag [8]            16 segment u32    20 generation u32
//	24 seq u64            32 lsn u64        40 acked u64     48 time i64 (Unix ns)
//	56 volume u64         64 blob u64       72 epoch u64     80 unit i64    88 blob length i64
//	96 data length u32    100 data offset u32 (from the record's start)
//	104 part i32          108 m u8          109 0 u8         110 bucket length u16
//	112 key length u16    114 upload length u16              116 checksum count u32
//	120 owner offset i64
//	128 bucket, key, upload, one CRC32C (u32) per block of data, CRC32C of all before it (u32)
//
// tag is derived from the drive's secret, the segment and its generation: bytes that a client stored can never pass for
// a header, nor can a header of an earlier life of the segment.
const (
	pageSize   = vfs.Align
	blockSize  = 64 << 10 // bytes of data under one checksum
	fixedBytes = 128

	recordMagic   = 0x31527243 // "CrR1"
	recordVersion = 1

	maxRecordBytes = 1 << 30 // so that 32-bit lengths are safe
	maxOwnerBytes  = math.MaxUint16
)

type recordKind uint8

const (
	kindShard  recordKind = iota + 1 // data is a shard's
	kindDelete                       // data is a list of deletions
	kindFence                        // data is a list of fences
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// tag marks the headers of one generation of a segment.
type tag [8]byte

func makeTag(secret [16]byte, segment, generation uint32) (t tag) {
	b := append(make([]byte, 0, 24), secret[:]...)
	b = binary.LittleEndian.AppendUint32(b, segment)
	b = binary.LittleEndian.AppendUint32(b, generation)
	sum := sha256.Sum256(b)
	return tag(sum[:8])
}

// header is a decoded record header.
type header struct {
	kind       recordKind
	tag        tag
	segment    uint32
	generation uint32
	// seq orders the records of one shard and the deletions that kill them; a compaction's copy keeps it.
	seq uint64
	// lsn is drawn anew for every record that is written, acked is the highest lsn that was durable at that time: a bad
	// record at or below anyone's acked has rotted, one above may be torn.
	lsn, acked uint64
	time       time.Time
	shard      cairn.ShardHeader
	dataLen    int64
	dataOff    int64
	crcs       []uint32
}

// blocks is the number of checksums over n bytes of data.
func blocks(n int64) int { return int((n + blockSize - 1) / blockSize) }

func pages(n int64) int64 { return (n + pageSize - 1) / pageSize }

// headerBytes is the encoded length of h's header.
func (h *header) headerBytes() int64 {
	o := &h.shard.Owner
	return int64(fixedBytes + len(o.Bucket) + len(o.Key) + len(o.Upload) + 4*blocks(h.dataLen) + 4)
}

// place sets dataOff: behind the header for small records, so that a tiny shard is one page; on a page of its own for
// those that are written in pieces.
func (h *header) place(own bool) {
	h.dataOff = (h.headerBytes() + 63) / 64 * 64
	if own {
		h.dataOff = pages(h.dataOff) * pageSize
	}
}

// recordBytes is the space that the record takes, a multiple of the page size.
func (h *header) recordBytes() int64 { return pages(h.dataOff+h.dataLen) * pageSize }

// encode writes the header into b, which holds zeros and at least headerBytes.
func (h *header) encode(b []byte) {
	le := binary.LittleEndian
	s := &h.shard
	le.PutUint32(b, recordMagic)
	b[4], b[5], b[6], b[7] = recordVersion, byte(h.kind), s.ID.Slot, byte(s.Profile.K)
	copy(b[8:], h.tag[:])
	le.PutUint32(b[16:], h.segment)
	le.PutUint32(b[20:], h.generation)
	le.PutUint64(b[24:], h.seq)
	le.PutUint64(b[32:], h.lsn)
	le.PutUint64(b[40:], h.acked)
	le.PutUint64(b[48:], uint64(h.time.UnixNano()))
	le.PutUint64(b[56:], uint64(s.ID.Volume))
	le.PutUint64(b[64:], uint64(s.ID.Blob))
	le.PutUint64(b[72:], uint64(s.Epoch))
	le.PutUint64(b[80:], uint64(s.Unit))
	le.PutUint64(b[88:], uint64(s.BlobLen))
	le.PutUint32(b[96:], uint32(h.dataLen))
	le.PutUint32(b[100:], uint32(h.dataOff))
	le.PutUint32(b[104:], uint32(s.Owner.Part))
	b[108], b[109] = byte(s.Profile.M), byte(s.Profile.Local)
	le.PutUint16(b[110:], uint16(len(s.Owner.Bucket)))
	le.PutUint16(b[112:], uint16(len(s.Owner.Key)))
	le.PutUint16(b[114:], uint16(len(s.Owner.Upload)))
	le.PutUint32(b[116:], uint32(len(h.crcs)))
	le.PutUint64(b[120:], uint64(s.Owner.Offset))
	n := fixedBytes
	n += copy(b[n:], s.Owner.Bucket)
	n += copy(b[n:], s.Owner.Key)
	n += copy(b[n:], s.Owner.Upload)
	for _, c := range h.crcs {
		le.PutUint32(b[n:], c)
		n += 4
	}
	le.PutUint32(b[n:], checksum(b[:n]))
}

// peekHeader tells how many bytes of a record's header must be at hand to decode it; ok is false if b, at least
// fixedBytes long, cannot begin a record.
func peekHeader(b []byte) (n int64, ok bool) {
	le := binary.LittleEndian
	if len(b) < fixedBytes || le.Uint32(b) != recordMagic || b[4] != recordVersion {
		return 0, false
	}
	dataLen, count := int64(le.Uint32(b[96:])), le.Uint32(b[116:])
	if dataLen > maxRecordBytes || int(count) != blocks(dataLen) {
		return 0, false
	}
	owner := int64(le.Uint16(b[110:])) + int64(le.Uint16(b[112:])) + int64(le.Uint16(b[114:]))
	return fixedBytes + owner + 4*int64(count) + 4, true
}

// decodeHeader reads a header from untrusted bytes. The error is cairn.ErrCorrupt.
func decodeHeader(b []byte) (*header, error) {
	n, ok := peekHeader(b)
	if !ok || int64(len(b)) < n {
		return nil, fmt.Errorf("no record header: %w", cairn.ErrCorrupt)
	}
	le := binary.LittleEndian
	if checksum(b[:n-4]) != le.Uint32(b[n-4:]) {
		return nil, fmt.Errorf("record header does not match its checksum: %w", cairn.ErrCorrupt)
	}
	h := &header{kind: recordKind(b[5]), tag: tag(b[8:16]), segment: le.Uint32(b[16:]), generation: le.Uint32(b[20:]),
		seq: le.Uint64(b[24:]), lsn: le.Uint64(b[32:]), acked: le.Uint64(b[40:]),
		time:    time.Unix(0, int64(le.Uint64(b[48:]))),
		dataLen: int64(le.Uint32(b[96:])), dataOff: int64(le.Uint32(b[100:]))}
	h.shard = cairn.ShardHeader{
		ID:      cairn.ShardID{Volume: cairn.VolumeID(le.Uint64(b[56:])), Blob: cairn.BlobID(le.Uint64(b[64:])), Slot: b[6]},
		Epoch:   cairn.Epoch(le.Uint64(b[72:])),
		Profile: cairn.Profile{K: int(b[7]), M: int(b[108]), Local: int(b[109])},
		Unit:    int64(le.Uint64(b[80:])), BlobLen: int64(le.Uint64(b[88:])),
		Owner: cairn.Owner{Part: int(int32(le.Uint32(b[104:]))), Offset: int64(le.Uint64(b[120:]))},
	}
	at := fixedBytes
	for _, f := range []struct {
		to *string
		n  uint16
	}{{&h.shard.Owner.Bucket, le.Uint16(b[110:])}, {&h.shard.Owner.Key, le.Uint16(b[112:])},
		{&h.shard.Owner.Upload, le.Uint16(b[114:])}} {
		*f.to = string(b[at : at+int(f.n)])
		at += int(f.n)
	}
	h.crcs = make([]uint32, le.Uint32(b[116:]))
	for i := range h.crcs {
		h.crcs[i] = le.Uint32(b[at+4*i:])
	}
	if h.kind < kindShard || h.kind > kindFence || h.dataOff < n || h.dataOff > n+2*pageSize {
		return nil, fmt.Errorf("record header is inconsistent: %w", cairn.ErrCorrupt)
	}
	return h, nil
}

// checksums returns one CRC32C per block of data, appended to crcs.
func checksums(crcs []uint32, data []byte) []uint32 {
	for len(data) > 0 {
		n := min(blockSize, len(data))
		crcs = append(crcs, checksum(data[:n]))
		data = data[n:]
	}
	return crcs
}

// deletion kills all records of a shard with a smaller seq.
type deletion struct {
	key key
	seq uint64
}

const deletionBytes = 8 + 8 + 8 + 8

func encodeDeletions(ds []deletion) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, deletionBytes*len(ds))
	for _, d := range ds {
		b = le.AppendUint64(b, uint64(d.key.volume))
		b = le.AppendUint64(b, uint64(d.key.blob))
		b = le.AppendUint64(b, uint64(d.key.slot))
		b = le.AppendUint64(b, d.seq)
	}
	return b
}

func decodeDeletions(b []byte) ([]deletion, error) {
	if len(b)%deletionBytes != 0 {
		return nil, fmt.Errorf("list of deletions is torn: %w", cairn.ErrCorrupt)
	}
	le := binary.LittleEndian
	ds := make([]deletion, 0, len(b)/deletionBytes)
	for ; len(b) > 0; b = b[deletionBytes:] {
		ds = append(ds, deletion{key{cairn.VolumeID(le.Uint64(b)), cairn.BlobID(le.Uint64(b[8:])), uint8(le.Uint64(b[16:]))},
			le.Uint64(b[24:])})
	}
	return ds, nil
}

// fence refuses writes of a volume with an older epoch.
type fence struct {
	volume cairn.VolumeID
	epoch  cairn.Epoch
}

func encodeFences(fs []fence) []byte {
	b := make([]byte, 0, 16*len(fs))
	for _, f := range fs {
		b = binary.LittleEndian.AppendUint64(b, uint64(f.volume))
		b = binary.LittleEndian.AppendUint64(b, uint64(f.epoch))
	}
	return b
}

func decodeFences(b []byte) ([]fence, error) {
	if len(b)%16 != 0 {
		return nil, fmt.Errorf("list of fences is torn: %w", cairn.ErrCorrupt)
	}
	fs := make([]fence, 0, len(b)/16)
	for ; len(b) > 0; b = b[16:] {
		fs = append(fs, fence{cairn.VolumeID(binary.LittleEndian.Uint64(b)), cairn.Epoch(binary.LittleEndian.Uint64(b[8:]))})
	}
	return fs, nil
}

// key names a shard on a drive.
type key struct {
	volume cairn.VolumeID
	blob   cairn.BlobID
	slot   uint8
}

func keyOf(id cairn.ShardID) key { return key{id.Volume, id.Blob, id.Slot} }

func (k key) id() cairn.ShardID { return cairn.ShardID{Volume: k.volume, Blob: k.blob, Slot: k.slot} }
