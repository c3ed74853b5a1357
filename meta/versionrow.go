package meta

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// versionRow is a version as a row holds it: what listings need in front, the rest as undecoded bytes. Bodies above
// maxRowInline and details above maxRowDetail live in rows of their own, so that listings stay compact.
type versionRow struct {
	v      cairn.Version // without Headers, Tags, Parts and Layout
	detail []byte        // Headers, Parts and Layout, encoded; empty if pages > 0
	tags   []byte        // Tags, encoded
	pages  int           // rows that hold the detail instead
	inline bool          // the body has a row of its own
	upload string        // upload that the version came from
}

const (
	maxRowInline = 256
	maxRowDetail = 2048
	pageBytes    = 32 << 10
)

// Fields of a version row.
const (
	verID protowire.Number = iota + 1
	verFlags
	verSize
	verModified
	verOwner
	verMD5      // 16 bytes of an ETag that is an MD5
	verETagPart // number of parts behind it, plus 1
	verETag     // an ETag of another form
	verChecksum
	verClass
	verDetail
	verPages
	verInline
	verUpload
	verTags
	verLock
	verACL
)

const (
	flagNull = 1 << iota
	flagMarker
)

// Fields of a detail.
const (
	detHeader protowire.Number = iota + 1
	_                          // was the tags, which have a field of the row now
	detPart
	detBlobs
	detInline
)

func (r *versionRow) encode() []byte {
	b := make([]byte, 0, 128+len(r.detail))
	flags := uint64(0)
	if r.v.Null {
		flags |= flagNull
	}
	if r.v.DeleteMarker {
		flags |= flagMarker
	}
	b = putUint(b, verID, uint64(r.v.ID))
	b = putUint(b, verFlags, flags)
	b = putInt(b, verSize, r.v.Size)
	b = putTime(b, verModified, r.v.Modified)
	b = putBytes(b, verOwner, r.v.Owner)
	b = putETag(b, r.v.ETag)
	b = putChecksums(b, verChecksum, r.v.Checksums)
	b = putBytes(b, verClass, r.v.Class)
	b = putBytes(b, verDetail, r.detail)
	b = putUint(b, verPages, uint64(r.pages))
	b = putBool(b, verInline, r.inline)
	b = putBytes(b, verUpload, r.upload)
	b = putBytes(b, verTags, r.tags)
	b = putBytes(b, verLock, encodeLock(r.v.Lock))
	b = putBytes(b, verACL, r.v.ACL)
	return putEncryption(b, verEncryption, &r.v.Encryption)
}

// putETag keeps the usual forms, 32 digits with or without "-N", as 16 bytes and a number.
func putETag(b []byte, etag string) []byte {
	sum, parts, multi := strings.Cut(etag, "-")
	n, err := strconv.ParseUint(parts, 10, 32)
	raw, err2 := hex.DecodeString(sum)
	usual := err2 == nil && len(raw) == 16 && hex.EncodeToString(raw) == sum &&
		(!multi || err == nil && strconv.FormatUint(n, 10) == parts)
	switch {
	case !usual:
		return putBytes(b, verETag, etag)
	case multi:
		b = putUint(b, verETagPart, n+1)
	}
	return putBytes(b, verMD5, raw)
}

// decodeVersion reads a row without its detail. What it returns aliases row in detail and tags only.
func decodeVersion(row []byte) (r versionRow, err error) {
	var sum []byte
	var parts uint64
	err = eachField(row, func(n protowire.Number, f field) (err error) {
		switch n {
		case verID:
			r.v.ID = cairn.VersionID(f.num)
		case verFlags:
			r.v.Null, r.v.DeleteMarker = f.num&flagNull != 0, f.num&flagMarker != 0
		case verSize:
			r.v.Size = f.int()
		case verModified:
			r.v.Modified = f.time()
		case verOwner:
			r.v.Owner = string(f.bytes)
		case verMD5:
			sum = f.bytes
		case verETagPart:
			parts = f.num
		case verETag:
			r.v.ETag = string(f.bytes)
		case verChecksum:
			var c cairn.Checksum
			c, err = getChecksum(f.bytes)
			r.v.Checksums = append(r.v.Checksums, c)
		case verClass:
			r.v.Class = string(f.bytes)
		case verDetail:
			r.detail = f.bytes
		case verPages:
			r.pages = int(min(f.num, 1<<20))
		case verInline:
			r.inline = f.num != 0
		case verUpload:
			r.upload = string(f.bytes)
		case verTags:
			r.tags = f.bytes
		case verACL:
			r.v.ACL = string(f.bytes)
		case verLock:
			r.v.Lock, err = decodeLock(f.bytes)
		case verEncryption:
			r.v.Encryption, err = getEncryption(f.bytes)
		}
		return err
	})
	if sum != nil {
		r.v.ETag = formatETag(sum, parts)
	}
	return r, err
}

func formatETag(sum []byte, parts uint64) string {
	var buf [64]byte
	b := hex.AppendEncode(buf[:0], sum)
	if parts > 0 {
		b = strconv.AppendUint(append(b, '-'), parts-1, 10)
	}
	return string(b)
}

// encodeDetail encodes what only GET and HEAD need. The body goes in when it is short.
func encodeDetail(v *cairn.Version) (detail []byte, inlineRow bool) {
	detail = putMap(detail, detHeader, v.Headers)
	for _, p := range v.Parts {
		msg := putInt(putUint(nil, 1, uint64(p.Number)), 2, p.Size)
		detail = putMessage(detail, detPart, putBytes(putChecksums(msg, 3, p.Checksums), partSalt, p.Salt))
	}
	detail = putBlobs(detail, detBlobs, v.Layout.Blobs)
	if len(v.Layout.Inline) > maxRowInline {
		return detail, true
	}
	return putBytes(detail, detInline, v.Layout.Inline), false
}

// decodeDetail fills in what encodeDetail wrote.
func decodeDetail(detail []byte, v *cairn.Version) error {
	return eachField(detail, func(n protowire.Number, f field) (err error) {
		switch n {
		case detHeader:
			err = getPair(&v.Headers, f.bytes)
		case detPart:
			var p cairn.PartInfo
			p, err = decodePartInfo(f.bytes)
			v.Parts = append(v.Parts, p)
		case detBlobs:
			v.Layout.Blobs, err = getBlobs(f.bytes)
		case detInline:
			v.Layout.Inline = slices.Clone(f.bytes)
		}
		return err
	})
}

func decodePartInfo(row []byte) (p cairn.PartInfo, err error) {
	err = eachField(row, func(n protowire.Number, f field) (err error) {
		switch n {
		case 1:
			p.Number = int(f.num)
		case 2:
			p.Size = f.int()
		case 3:
			var c cairn.Checksum
			c, err = getChecksum(f.bytes)
			p.Checksums = append(p.Checksums, c)
		case partSalt:
			p.Salt = slices.Clone(f.bytes)
		}
		return err
	})
	return p, err
}
