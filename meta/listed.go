package meta

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// Listed is what a listing tells of a current version: less than a cairn.Version, and closer to its row, so that a page of a
// thousand costs less than twice the scan of its rows (BenchmarkListPage).
type Listed struct {
	Key           string
	Owner         string
	Class         string
	Size          int64
	modifiedNanos int64    // since 1970
	etag          string   // an ETag of another form than
	sum           [16]byte // an MD5 and,
	sumParts      uint32   // if it is not 0, "-" and the number that it is above
	hasSum        bool
	algo          uint8  // index into checksumAlgos
	parts         uint16 // as in cairn.Checksum
}

// NewListed makes of a version what a listing would tell of it.
func NewListed(v *cairn.Version) Listed {
	l := Listed{Key: v.Key, Owner: v.Owner, Class: v.Class, Size: v.Size, modifiedNanos: v.Modified.UnixNano(), etag: v.ETag}
	if len(v.Checksums) > 0 {
		l.setChecksum(v.Checksums[0])
	}
	return l
}

func (l *Listed) setChecksum(c cairn.Checksum) {
	l.algo, l.parts = uint8(max(slices.Index(checksumAlgos[:], c.Algo), 0)), uint16(c.Parts)
}

// Modified is the version's time.
func (l *Listed) Modified() time.Time { return time.Unix(0, l.modifiedNanos).UTC() }

// Checksum is the version's checksum without its value; its Algo is "" if there is none.
func (l *Listed) Checksum() cairn.Checksum {
	return cairn.Checksum{Algo: checksumAlgos[l.algo], Parts: int(l.parts)}
}

// ETag is the version's entity tag without quotes.
func (l *Listed) ETag() string { return string(l.AppendETag(nil)) }

// AppendETag appends what ETag returns.
func (l *Listed) AppendETag(b []byte) []byte {
	if !l.hasSum {
		return append(b, l.etag...)
	}
	b = hex.AppendEncode(b, l.sum[:])
	if l.sumParts > 0 {
		b = strconv.AppendUint(append(b, '-'), uint64(l.sumParts)-1, 10)
	}
	return b
}

// lister decodes rows into a page. The keys of many rows share one piece of memory, and rows of one owner his name.
type lister struct {
	page  *Page
	text  strings.Builder // its capacity never grows: what was cut off it stays valid
	owner string
	class string
}

// textPiece is how many bytes of keys share a piece of memory.
const textPiece = 16 << 10

// share returns b as a string.
func (l *lister) share(b []byte) string {
	if l.text.Cap()-l.text.Len() < len(b) {
		l.text = strings.Builder{}
		l.text.Grow(max(textPiece, len(b)))
	}
	from := l.text.Len()
	l.text.Write(b)
	return l.text.String()[from:]
}

// Tags of a row's fields as they are on the wire, one byte each.
const (
	tagID       = byte(verID<<3) | byte(protowire.VarintType)
	tagSize     = byte(verSize<<3) | byte(protowire.VarintType)
	tagModified = byte(verModified<<3) | byte(protowire.VarintType)
	tagOwner    = byte(verOwner<<3) | byte(protowire.BytesType)
	tagMD5      = byte(verMD5<<3) | byte(protowire.BytesType)
	tagETagPart = byte(verETagPart<<3) | byte(protowire.VarintType)
	tagETag     = byte(verETag<<3) | byte(protowire.BytesType)
	tagChecksum = byte(verChecksum<<3) | byte(protowire.BytesType)
	tagClass    = byte(verClass<<3) | byte(protowire.BytesType)
	tagLast     = byte(verClass<<3) | 7
)

// add decodes one row. The fields that a listing tells come first in a row, in rising order: the rest is not looked at.
func (l *lister) add(key, row []byte) error {
	n := len(l.page.Versions)
	if len(row) > 0 && row[0] == tagID {
		row = skipVarint(row[1:])
	}
	l.page.Versions = l.page.Versions[:n+1] // list made room for a whole page, all zero
	v := &l.page.Versions[n]
	v.Key = l.share(key)
	for len(row) > 0 && row[0] <= tagLast {
		tag := row[0]
		var num uint64
		if len(row) > 1 && row[1] < 0x80 {
			num, row = uint64(row[1]), row[2:]
		} else {
			var n int
			if num, n = binary.Uvarint(row[1:]); n <= 0 {
				return corruptRow("field")
			}
			row = row[1+n:]
		}
		var body []byte
		switch protowire.Type(tag & 7) {
		case protowire.VarintType:
		case protowire.BytesType:
			if num > uint64(len(row)) {
				return corruptRow("field")
			}
			body, row = row[:num], row[num:]
		default:
			return corruptRow("field's type")
		}
		switch tag {
		case tagSize:
			v.Size = protowire.DecodeZigZag(num)
		case tagModified:
			v.modifiedNanos = protowire.DecodeZigZag(num)
		case tagOwner:
			v.Owner = same(&l.owner, body)
		case tagMD5:
			v.hasSum = copy(v.sum[:], body) == len(v.sum)
		case tagETagPart:
			v.sumParts = uint32(min(num, 1<<32-1))
		case tagETag:
			v.etag = l.share(body)
		case tagClass:
			v.Class = same(&l.class, body)
		case tagChecksum:
			if v.algo != 0 {
				continue
			}
			if err := v.checksum(body); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipVarint returns what follows a number at the beginning of row; nothing if that is cut off.
func skipVarint(row []byte) []byte {
	if len(row) >= 8 {
		if ends := ^binary.LittleEndian.Uint64(row) & 0x8080808080808080; ends != 0 {
			return row[bits.TrailingZeros64(ends)/8+1:]
		}
	}
	for i, b := range row {
		if b < 0x80 {
			return row[i+1:]
		}
	}
	return nil
}

// same returns b as a string, the last one again if it is equal.
func same(last *string, b []byte) string {
	if *last != string(b) {
		*last = string(b)
	}
	return *last
}

// checksum reads a checksum without its value.
func (l *Listed) checksum(row []byte) error {
	if len(row) >= 2 && row[0] == 1<<3 && row[1] < byte(len(checksumAlgos)) && onlyValue(row[2:]) {
		l.algo = row[1] // all but composite ones
		return nil
	}
	c, err := getChecksum(row)
	l.setChecksum(c)
	return err
}

// onlyValue tells whether row is one checksum's value and nothing more.
func onlyValue(row []byte) bool {
	return len(row) >= 2 && row[0] == 2<<3|byte(protowire.BytesType) && row[1] < 0x80 && len(row) == 2+int(row[1])
}
