package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/maphash"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// hashSeed is drawn once per process: hashes of keys never leave it.
var hashSeed = maphash.MakeSeed()

func hashKey(key []byte) uint64 { return maphash.Bytes(hashSeed, key) }

type opKind byte

// The kinds of changes. Their numbers are in the log: append only.
const (
	opPut opKind = iota + 1
	opDelete
	opDeleteRange
	opAdd
)

// Batch is a set of changes that take effect together or not at all, and the keys that must not have changed since they
// were read. Keys start with a byte of 1 or more (0 is the replica's own). It is used by one goroutine.
type Batch struct {
	// ReadIndex is the View.Index under which the checked keys were read.
	ReadIndex uint64
	// RequestID, if not 0, makes the batch take effect once however often it is committed.
	RequestID uint64
	// Result is kept with the request ID and handed to whoever repeats the request.
	Result []byte

	checks []uint64
	writes []uint64
	ranges []keyRange
	ops    []byte
	count  int

	// The keys behind checks, and behind what only Touch wrote, each with its length: for a leader on another node.
	checkKeys []byte
	touchKeys []byte
}

type keyRange struct{ from, to []byte }

// Check demands that key was not changed after ReadIndex. Keys changed by Add are not to be checked unless any addition is
// meant to conflict.
func (b *Batch) Check(key []byte) {
	b.checks = append(b.checks, hashKey(key))
	b.checkKeys = protowire.AppendBytes(b.checkKeys, key)
}

// Touch makes the batch conflict with checks of key, without changing it: key stands for something wider, such as all
// versions of an object.
func (b *Batch) Touch(key []byte) {
	b.writes = append(b.writes, hashKey(key))
	b.touchKeys = protowire.AppendBytes(b.touchKeys, key)
}

// Put sets a key.
func (b *Batch) Put(key, value []byte) {
	b.op(opPut, key, value)
	b.writes = append(b.writes, hashKey(key))
}

// Delete removes a key.
func (b *Batch) Delete(key []byte) {
	b.op(opDelete, key, nil)
	b.writes = append(b.writes, hashKey(key))
}

// DeleteRange removes the keys in [from, to).
func (b *Batch) DeleteRange(from, to []byte) {
	b.op(opDeleteRange, from, to)
	b.ranges = append(b.ranges, keyRange{from, to})
}

// Add adds each delta to the counter of the same place in key's row; see Counters.
func (b *Batch) Add(key []byte, deltas ...int64) {
	b.op(opAdd, key, encodeCounters(deltas))
	b.writes = append(b.writes, hashKey(key))
}

// Len is the number of changes.
func (b *Batch) Len() int { return b.count }

// Bytes is the size of the changes.
func (b *Batch) Bytes() int { return len(b.ops) }

// Merge appends another batch's checks and changes.
func (b *Batch) Merge(o *Batch) {
	b.checks = append(b.checks, o.checks...)
	b.writes = append(b.writes, o.writes...)
	b.ranges = append(b.ranges, o.ranges...)
	b.ops = append(b.ops, o.ops...)
	b.checkKeys = append(b.checkKeys, o.checkKeys...)
	b.touchKeys = append(b.touchKeys, o.touchKeys...)
	b.count += o.count
}

func (b *Batch) op(kind opKind, key, value []byte) {
	b.ops = append(b.ops, byte(kind))
	b.ops = protowire.AppendBytes(b.ops, key)
	if kind != opDelete {
		b.ops = protowire.AppendBytes(b.ops, value)
	}
	b.count++
}

// Format of an entry's data: version byte, CRC32C of what follows, then per batch: request ID (8 bytes), result, changes
// (both with their length). A batch's changes: kind byte, key, and for all but deletions a value.
const (
	entryVersion = 1
	entryHeader  = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendBatch(buf []byte, b *Batch) []byte {
	if len(buf) == 0 {
		buf = append(buf, entryVersion, 0, 0, 0, 0)
	}
	buf = binary.LittleEndian.AppendUint64(buf, b.RequestID)
	buf = protowire.AppendBytes(buf, b.Result)
	return protowire.AppendBytes(buf, b.ops)
}

func sealEntry(buf []byte) {
	binary.LittleEndian.PutUint32(buf[1:], crc32.Checksum(buf[entryHeader:], castagnoli))
}

func corrupt(what string) error { return fmt.Errorf("%s: %w", what, cairn.ErrCorrupt) }

// decodedBatch is one batch as the log holds it; its slices alias the entry.
type decodedBatch struct {
	requestID uint64
	result    []byte
	ops       []byte
}

// decodeEntry checks an entry's CRC and calls f with each batch in order.
func decodeEntry(data []byte, f func(decodedBatch) error) error {
	if len(data) < entryHeader || data[0] != entryVersion {
		return corrupt("log entry header")
	}
	body := data[entryHeader:]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[1:]) {
		return corrupt("log entry checksum")
	}
	for len(body) > 0 {
		if len(body) < 8 {
			return corrupt("log entry batch")
		}
		d := decodedBatch{requestID: binary.LittleEndian.Uint64(body)}
		body = body[8:]
		var n int
		if d.result, n = protowire.ConsumeBytes(body); n < 0 {
			return corrupt("log entry result")
		}
		body = body[n:]
		if d.ops, n = protowire.ConsumeBytes(body); n < 0 {
			return corrupt("log entry changes")
		}
		body = body[n:]
		if err := f(d); err != nil {
			return err
		}
	}
	return nil
}

// decodeOps calls f with each change; the slices alias ops.
func decodeOps(ops []byte, f func(kind opKind, key, value []byte) error) error {
	for len(ops) > 0 {
		kind := opKind(ops[0])
		key, n := protowire.ConsumeBytes(ops[1:])
		if n < 0 || kind < opPut || kind > opAdd {
			return corrupt("change")
		}
		ops = ops[1+n:]
		var value []byte
		if kind != opDelete {
			if value, n = protowire.ConsumeBytes(ops); n < 0 {
				return corrupt("change's value")
			}
			ops = ops[n:]
		}
		if err := f(kind, key, value); err != nil {
			return err
		}
	}
	return nil
}
