package datanode

import (
	"cmp"
	"slices"
	"sort"

	"cairn"
)

// entry locates one live shard: 56 bytes. Chunks are at least half full but for the last, so a shard costs 60 to 110
// bytes of memory, 75 on average.
type entry struct {
	blob    cairn.BlobID
	seq     uint64
	epoch   cairn.Epoch
	time    uint32 // Unix seconds
	segment uint32
	page    uint32 // where the record begins
	length  uint32 // bytes of shard data
	dataOff uint32 // bytes from the record's start
	crc     uint32 // of the only block, if length <= blockSize
}

// recordBytes is the space that the entry's record takes.
func (e *entry) recordBytes() int64 { return pages(int64(e.dataOff)+int64(e.length)) * pageSize }

// dataAt is where the data begins in the segment's file.
func (e *entry) dataAt() int64 { return int64(e.page)*pageSize + int64(e.dataOff) }

// group is one slot of one volume.
type group struct {
	volume cairn.VolumeID
	slot   uint8
}

// index maps keys to entries, in order of blobs within each group. It is guarded by the store's mutex.
type index struct {
	groups map[group]*slotList
	shards int64
	bytes  int64 // of shard data
}

func newIndex() index { return index{groups: map[group]*slotList{}} }

// slotList is a sorted sequence of entries in chunks, so that an insertion in the middle moves little.
type slotList struct {
	chunks [][]entry // none is empty
	count  int64
	bytes  int64
}

const chunkEntries = 512

// find returns the chunk and the place where blob is or belongs.
func (l *slotList) find(b cairn.BlobID) (chunk, at int, ok bool) {
	chunk = sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i][0].blob > b }) - 1
	if chunk < 0 {
		return 0, 0, false
	}
	at, ok = slices.BinarySearchFunc(l.chunks[chunk], b, func(e entry, b cairn.BlobID) int { return cmp.Compare(e.blob, b) })
	return chunk, at, ok
}

func (l *slotList) insert(chunk, at int, e entry) {
	if len(l.chunks) == 0 {
		l.chunks = [][]entry{append(make([]entry, 0, 4), e)}
		return
	}
	c := l.chunks[chunk]
	if len(c) < chunkEntries {
		l.chunks[chunk] = slices.Insert(c, at, e)
		return
	}
	if at == len(c) { // blobs rise: start a new chunk rather than leave half-full ones behind
		l.chunks = slices.Insert(l.chunks, chunk+1, append(make([]entry, 0, 16), e))
		return
	}
	half := len(c) / 2
	upper := append(make([]entry, 0, chunkEntries), c[half:]...)
	l.chunks[chunk] = c[:half:chunkEntries]
	l.chunks = slices.Insert(l.chunks, chunk+1, upper)
	if at > half {
		chunk, at = chunk+1, at-half
	}
	l.chunks[chunk] = slices.Insert(l.chunks[chunk], at, e)
}

// get returns the entry of k; the pointer is valid until the next change.
func (x *index) get(k key) *entry {
	l := x.groups[group{k.volume, k.slot}]
	if l == nil {
		return nil
	}
	c, at, ok := l.find(k.blob)
	if !ok {
		return nil
	}
	return &l.chunks[c][at]
}

// put stores e under k and returns what it replaced.
func (x *index) put(k key, e entry) (old entry, replaced bool) {
	g := group{k.volume, k.slot}
	l := x.groups[g]
	if l == nil {
		l = &slotList{}
		x.groups[g] = l
	}
	e.blob = k.blob
	c, at, ok := l.find(k.blob)
	if ok {
		old = l.chunks[c][at]
		l.chunks[c][at] = e
	} else {
		l.insert(c, at, e)
		l.count++
		x.shards++
	}
	l.bytes += int64(e.length) - int64(old.length)
	x.bytes += int64(e.length) - int64(old.length)
	return old, ok
}

// remove drops k and returns what it was.
func (x *index) remove(k key) (old entry, ok bool) {
	g := group{k.volume, k.slot}
	l := x.groups[g]
	if l == nil {
		return entry{}, false
	}
	c, at, ok := l.find(k.blob)
	if !ok {
		return entry{}, false
	}
	old = l.chunks[c][at]
	l.chunks[c] = slices.Delete(l.chunks[c], at, at+1)
	if len(l.chunks[c]) == 0 {
		l.chunks = slices.Delete(l.chunks, c, c+1)
	}
	l.count--
	l.bytes -= int64(old.length)
	x.shards--
	x.bytes -= int64(old.length)
	if l.count == 0 {
		delete(x.groups, g)
	}
	return old, true
}

// from calls yield with the entries of g whose blob is greater than after, in order, until it returns false.
func (x *index) from(g group, after cairn.BlobID, yield func(*entry) bool) {
	l := x.groups[g]
	if l == nil {
		return
	}
	c, at, ok := l.find(after)
	if ok {
		at++
	}
	for ; c < len(l.chunks); c, at = c+1, 0 {
		for i := at; i < len(l.chunks[c]); i++ {
			if !yield(&l.chunks[c][i]) {
				return
			}
		}
	}
}

// all calls yield with every entry.
func (x *index) all(yield func(key, *entry)) {
	for g, l := range x.groups {
		for _, c := range l.chunks {
			for i := range c {
				yield(key{g.volume, c[i].blob, g.slot}, &c[i])
			}
		}
	}
}
