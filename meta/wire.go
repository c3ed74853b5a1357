package meta

import (
	"fmt"
	"slices"
	"time"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// Rows are lists of numbered fields in protocol buffers' wire format (protobuf.dev/programming-guides/encoding), written
// by hand: a field that is zero is left out, and one that a reader does not know is skipped.

func putUint(b []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func putInt(b []byte, field protowire.Number, v int64) []byte {
	return putUint(b, field, protowire.EncodeZigZag(v))
}

func putBool(b []byte, field protowire.Number, v bool) []byte {
	if v {
		return putUint(b, field, 1)
	}
	return b
}

func putBytes[T string | []byte](b []byte, field protowire.Number, v T) []byte {
	if len(v) == 0 {
		return b
	}
	b = protowire.AppendVarint(protowire.AppendTag(b, field, protowire.BytesType), uint64(len(v)))
	return append(b, v...)
}

// putTime keeps nanoseconds since 1970; the zero time is left out.
func putTime(b []byte, field protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	return putInt(b, field, t.UnixNano())
}

// putMap writes each pair as two fields in a nested message, sorted so that equal maps are equal rows.
func putMap(b []byte, field protowire.Number, m map[string]string) []byte {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		pair := putBytes(putBytes(nil, 1, k), 2, m[k])
		b = putMessage(b, field, pair)
	}
	return b
}

// putMessage writes a nested message, an empty one too.
func putMessage(b []byte, field protowire.Number, msg []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), msg)
}

// field is one decoded field: num for numbers, bytes (an alias of the row) for the rest.
type field struct {
	num   uint64
	bytes []byte
}

func (f field) int() int64 { return protowire.DecodeZigZag(f.num) }

func (f field) time() time.Time { return time.Unix(0, f.int()).UTC() }

// eachField calls f with every field of a row.
func eachField(row []byte, f func(n protowire.Number, v field) error) error {
	for len(row) > 0 {
		n, typ, size := protowire.ConsumeTag(row)
		if size < 0 {
			return corruptRow("tag")
		}
		row = row[size:]
		var v field
		switch typ {
		case protowire.VarintType:
			v.num, size = protowire.ConsumeVarint(row)
		case protowire.BytesType:
			v.bytes, size = protowire.ConsumeBytes(row)
		default:
			size = protowire.ConsumeFieldValue(n, typ, row)
		}
		if size < 0 {
			return corruptRow("field")
		}
		row = row[size:]
		if err := f(n, v); err != nil {
			return err
		}
	}
	return nil
}

func corruptRow(what string) error { return fmt.Errorf("row: %s: %w", what, cairn.ErrCorrupt) }

func getPair(m *map[string]string, row []byte) error {
	var k, v string
	err := eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			k = string(f.bytes)
		case 2:
			v = string(f.bytes)
		}
		return nil
	})
	if *m == nil {
		*m = make(map[string]string)
	}
	(*m)[k] = v
	return err
}

// putBlobs writes a list of blobs as one packed field: volume, blob and length as varints.
func putBlobs(b []byte, field protowire.Number, list []cairn.BlobRef) []byte {
	if len(list) == 0 {
		return b
	}
	packed := make([]byte, 0, 12*len(list))
	for _, r := range list {
		packed = protowire.AppendVarint(packed, uint64(r.Volume))
		packed = protowire.AppendVarint(packed, uint64(r.Blob))
		packed = protowire.AppendVarint(packed, uint64(r.Length))
	}
	return putBytes(b, field, packed)
}

func getBlobs(packed []byte) (list []cairn.BlobRef, err error) {
	list = make([]cairn.BlobRef, 0, len(packed)/6)
	for len(packed) > 0 {
		var v [3]uint64
		for i := range v {
			n := 0
			if v[i], n = protowire.ConsumeVarint(packed); n < 0 {
				return nil, corruptRow("blobs")
			}
			packed = packed[n:]
		}
		list = append(list, cairn.BlobRef{Volume: cairn.VolumeID(v[0]), Blob: cairn.BlobID(v[1]), Length: int64(v[2])})
	}
	return list, nil
}

// checksumAlgos gives each algorithm its number in rows: append only.
var checksumAlgos = [...]cairn.ChecksumAlgo{"", cairn.CRC32, cairn.CRC32C, cairn.CRC64NVME, cairn.SHA1, cairn.SHA256}

func putChecksums(b []byte, field protowire.Number, list []cairn.Checksum) []byte {
	for _, c := range list {
		var msg []byte
		if i := slices.Index(checksumAlgos[:], c.Algo); i >= 0 {
			msg = putUint(msg, 1, uint64(i))
		} else {
			msg = putBytes(msg, 4, string(c.Algo))
		}
		msg = putBytes(msg, 2, c.Value)
		b = putMessage(b, field, putUint(msg, 3, uint64(c.Parts)))
	}
	return b
}

func getChecksum(row []byte) (c cairn.Checksum, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			if f.num >= uint64(len(checksumAlgos)) {
				return corruptRow("checksum algorithm")
			}
			c.Algo = checksumAlgos[f.num]
		case 2:
			c.Value = slices.Clone(f.bytes)
		case 3:
			c.Parts = int(f.num)
		case 4:
			c.Algo = cairn.ChecksumAlgo(f.bytes)
		}
		return nil
	})
	return c, err
}
