package meta

import (
	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// bucketLock is the field of a bucket's row that holds its object lock.
const bucketLock = 20

func encodeLock(l cairn.Lock) []byte {
	b := putBytes(nil, 1, string(l.Mode))
	return putBytes(putTime(b, 2, l.Until), 3, string(l.Hold))
}

func decodeLock(row []byte) (l cairn.Lock, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			l.Mode = cairn.LockMode(f.bytes)
		case 2:
			l.Until = f.time()
		case 3:
			l.Hold = cairn.Hold(f.bytes)
		}
		return nil
	})
	return l, err
}

func encodeBucketLock(l cairn.BucketLock) []byte {
	b := putBool(nil, 1, l.Enabled)
	b = putBytes(b, 2, string(l.Mode))
	return putUint(putUint(b, 3, uint64(l.Days)), 4, uint64(l.Years))
}

func decodeBucketLock(row []byte) (l cairn.BucketLock, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		switch n {
		case 1:
			l.Enabled = f.num != 0
		case 2:
			l.Mode = cairn.LockMode(f.bytes)
		case 3:
			l.Days = int(f.num)
		case 4:
			l.Years = int(f.num)
		}
		return nil
	})
	return l, err
}

func encodeTags(tags map[string]string) []byte { return putMap(nil, 1, tags) }

func decodeTags(row []byte) (tags map[string]string, err error) {
	err = eachField(row, func(n protowire.Number, f field) error {
		if n != 1 {
			return nil
		}
		return getPair(&tags, f.bytes)
	})
	return tags, err
}
