package meta

import (
	"bytes"
	"encoding/binary"

	"cairn"
)

// Keys begin with their family's letter. Numbers are big-endian, so that they sort; an object key that is followed by
// something is escaped (appendEscaped), so that keys sort as their bytes do.
const (
	famBucket      = 'b' // name → bucket
	famCurrent     = 'o' // bucket ID, key → the current version
	famOlder       = 'v' // bucket ID, escaped key, inverted version ID → an older version or a delete marker
	famNull        = 'n' // bucket ID, key → version ID of the null version, while it is among the older ones
	famInline      = 'i' // bucket ID, key, version ID → body
	famPage        = 'p' // bucket ID, key, version ID, page → piece of a long detail
	famUpload      = 'u' // bucket ID, escaped key, upload ID → upload
	famPart        = 't' // bucket ID, upload ID, number → part
	famAge         = 'a' // time, bucket ID, escaped key, upload ID → nothing: uploads by age
	famStats       = 's' // bucket ID → counters
	famBlob        = 'd' // volume, blob → reference row
	famGarbage     = 'g' // volume, blob → outbox row
	famVolume      = 'V' // volume → volume
	famChange      = 'w' // epoch of the cluster map → volume that changed with it, and not since
	famChanged     = 'W' // volume → epoch of the cluster map at its last change
	famVolStats    = 'S' // volume → counters
	famDrive       = 'D' // drive → drive
	famNode        = 'N' // node → node
	famNodeName    = 'A' // name → node
	famToken       = 'T' // SHA-256 of a secret → join token
	famJob         = 'J' // number → job
	famDamage      = 'm' // volume, slot, blob → damage
	famFinding     = 'f' // time, volume, blob, slot, drive → finding that is resolved
	famConfig      = 'c' // name → bytes
	famCounter     = 'C' // name → number
	famLease       = 'L' // first blob ID → lease
	famDue         = 'e' // time, bucket ID, escaped key, kind → bucket's name: see lifecycle.go
	famReindex     = 'x' // bucket ID → job that makes due rows of what is there
	famIdentity    = 'I' // kind/name → row of iam's
	famAudit       = 'Q' // number → audit record
	famEvent       = 'q' // escaped target, sequencer, hash → event that waits for its delivery
	famEventTarget = 'E' // name → target of events
	famEventStats  = 'y' // target → counters of its queue
	famSession     = 'K' // SHA-256 of a secret → session of the admin interface
)

func appendID(b []byte, id uint64) []byte { return binary.BigEndian.AppendUint64(b, id) }

func key1(fam byte, id uint64) []byte { return appendID(append(make([]byte, 0, 9), fam), id) }

func key2(fam byte, a, b uint64) []byte {
	return appendID(appendID(append(make([]byte, 0, 17), fam), a), b)
}

func keyName(fam byte, name string) []byte { return append([]byte{fam}, name...) }

// objectKey is family, bucket and key: nothing follows.
func objectKey(fam byte, bucket uint64, key string) []byte {
	b := append(make([]byte, 0, 9+len(key)+12), fam)
	return append(appendID(b, bucket), key...)
}

// versionKey is family, bucket, key and version. What follows the key has a fixed length, so no two are alike; they are
// looked up, not listed.
func versionKey(fam byte, bucket uint64, key string, id cairn.VersionID) []byte {
	return appendID(objectKey(fam, bucket, key), uint64(id))
}

func pageKey(bucket uint64, key string, id cairn.VersionID, page int) []byte {
	return binary.BigEndian.AppendUint32(versionKey(famPage, bucket, key, id), uint32(page))
}

// escapedKey is family, bucket and the escaped key: the prefix of all rows of that key.
func escapedKey(fam byte, bucket uint64, key string) []byte {
	b := append(make([]byte, 0, 9+len(key)+20), fam)
	return appendEscaped(appendID(b, bucket), key)
}

func olderKey(bucket uint64, key string, id cairn.VersionID) []byte {
	return appendID(escapedKey(famOlder, bucket, key), ^uint64(id))
}

func uploadKey(bucket uint64, key, id string) []byte {
	return append(escapedKey(famUpload, bucket, key), id...)
}

func partPrefix(bucket uint64, upload string) []byte {
	b := append(make([]byte, 0, 9+len(upload)+8), famPart)
	return appendEscaped(appendID(b, bucket), upload)
}

func partKey(bucket uint64, upload string, number int) []byte {
	return binary.BigEndian.AppendUint16(partPrefix(bucket, upload), uint16(number))
}

func ageKey(nanos int64, bucket uint64, key, id string) []byte {
	b := appendID(key1(famAge, uint64(nanos)), bucket)
	return append(appendEscaped(b, key), id...)
}

func damageKey(s cairn.ShardID) []byte {
	b := append(key1(famDamage, uint64(s.Volume)), s.Slot)
	return appendID(b, uint64(s.Blob))
}

func blobKey(fam byte, r cairn.BlobRef) []byte { return key2(fam, uint64(r.Volume), uint64(r.Blob)) }

// appendEscaped writes key so that it ends before anything longer: 0 becomes 0 255, the end is 0 1.
func appendEscaped(b []byte, key string) []byte {
	for {
		i := bytes.IndexByte([]byte(key), 0)
		if i < 0 {
			break
		}
		b = append(append(b, key[:i]...), 0, 0xff)
		key = key[i+1:]
	}
	return append(append(b, key...), 0, 1)
}

// cutEscaped reads what appendEscaped wrote and returns what follows; false if b is no such thing.
func cutEscaped(b []byte) (key string, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i >= 0 && i+1 < len(b) && b[i+1] == 1 {
		return string(b[:i]), b[i+2:], true
	}
	var out []byte
	for {
		i := bytes.IndexByte(b, 0)
		if i < 0 || i+1 >= len(b) {
			return "", nil, false
		}
		out = append(out, b[:i]...)
		switch b[i+1] {
		case 1:
			return string(out), b[i+2:], true
		case 0xff:
			out = append(out, 0)
			b = b[i+2:]
		default:
			return "", nil, false
		}
	}
}

// after returns the first key behind all that begin with prefix; nil if there is none.
func after(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
