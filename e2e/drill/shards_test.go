//go:build e2e

package drill

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// This is a reader of segment files of its own, written from ARCHITECTURE.md's description and the layout at the head of
// datanode/record.go: what it counts does not depend on the code that it judges, nor on what any process thinks.

const (
	page         = 4096
	block        = 64 << 10
	shardFixed   = 128
	recordMagic  = 0x31527243
	segmentMagic = 0x31537243

	kindShard, kindDelete = 1, 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// shardKey names a shard.
type shardKey struct {
	volume, blob uint64
	slot         byte
}

// shardRow is a shard that is on a drive.
type shardRow struct {
	shardKey
	seq   uint64
	when  uint64 // Unix ns
	width int    // of its profile
	key   string // of the object that it belongs to
	first mark   // of slot 0
}

// readDrive returns the shards in a drive's segments that no later record there deletes. With verify set it reads and checks
// every byte of their data, too. The drive may be in use: what is being written is not there yet.
func readDrive(dir string, verify bool) ([]shardRow, error) {
	secret, err := driveSecret(dir)
	if err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil {
		return nil, err
	}
	var rows []shardRow
	deleted := map[shardKey]uint64{}
	for _, path := range paths {
		if err := readSegment(path, secret, verify, &rows, deleted); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return slices.DeleteFunc(rows, func(r shardRow) bool { return deleted[r.shardKey] > r.seq }), nil
}

func driveSecret(dir string) (secret []byte, err error) {
	b, err := os.ReadFile(filepath.Join(dir, "cairn-drive.json"))
	if err != nil {
		return nil, err
	}
	var f struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, err
	}
	return hex.DecodeString(f.Secret)
}

// readSegment visits the records of one segment. A page that begins none is stepped over: a large shard's header is written
// after its data, and a crash leaves neither.
func readSegment(path string, secret []byte, verify bool, rows *[]shardRow, deleted map[shardKey]uint64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	le := binary.LittleEndian
	head := make([]byte, page)
	if _, err := f.ReadAt(head, 0); err != nil || le.Uint32(head) != segmentMagic {
		return nil // being made
	}
	tag := sha256.Sum256(slices.Concat(secret, head[8:16])) // of segment and generation
	st, err := f.Stat()
	if err != nil {
		return err
	}
	for at := int64(page); at+page <= st.Size(); {
		h, err := readHeader(f, at, head, tag[:8])
		if err != nil {
			return err
		}
		if h == nil {
			at = nextData(f, at+page)
			continue
		}
		if err := h.enter(f, at, verify, rows, deleted); err != nil {
			return err
		}
		at += (h.offset + h.length + page - 1) / page * page
	}
	return nil
}

// nextData steps over space that was reserved and never written.
func nextData(f *os.File, at int64) int64 {
	next, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return math.MaxInt64 - page // nothing was written behind it
	case err != nil:
		return at
	}
	return (next + page - 1) / page * page
}

// record is a header, with its checksums.
type record struct {
	row            shardRow
	kind           byte
	offset, length int64
	sums           []byte
}

// readHeader returns nil if no record begins there.
func readHeader(f *os.File, at int64, buf, tag []byte) (*record, error) {
	if _, err := f.ReadAt(buf, at); err != nil {
		return nil, ignoreEOF(err)
	}
	le := binary.LittleEndian
	if le.Uint32(buf) != recordMagic || string(buf[8:16]) != string(tag) {
		return nil, nil
	}
	bucketLen, keyLen, uploadLen := int(le.Uint16(buf[110:])), int(le.Uint16(buf[112:])), int(le.Uint16(buf[114:]))
	sums := shardFixed + bucketLen + keyLen + uploadLen
	end := sums + 4*int(le.Uint32(buf[116:]))
	b := buf
	if end+4 > len(buf) {
		b = make([]byte, end+4)
		if _, err := f.ReadAt(b, at); err != nil {
			return nil, ignoreEOF(err)
		}
	}
	if crc32.Checksum(b[:end], castagnoli) != le.Uint32(b[end:]) {
		return nil, nil
	}
	return &record{kind: b[5], length: int64(le.Uint32(b[96:])), offset: int64(le.Uint32(b[100:])), sums: slices.Clone(b[sums:end]),
		row: shardRow{shardKey: shardKey{le.Uint64(b[56:]), le.Uint64(b[64:]), b[6]}, seq: le.Uint64(b[24:]), when: le.Uint64(b[48:]), width: int(b[7]) + int(b[108]),
			key: string(b[shardFixed+bucketLen : shardFixed+bucketLen+keyLen])}}, nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// enter counts a record.
func (h *record) enter(f *os.File, at int64, verify bool, rows *[]shardRow, deleted map[shardKey]uint64) error {
	if h.kind != kindShard && h.kind != kindDelete {
		return nil
	}
	if h.kind == kindShard && h.row.slot == 0 {
		if _, err := f.ReadAt(h.row.first[:min(h.length, int64(len(h.row.first)))], at+h.offset); err != nil {
			return ignoreEOF(err)
		}
	}
	if h.kind == kindShard && !verify {
		*rows = append(*rows, h.row)
		return nil
	}
	data := make([]byte, h.length)
	if _, err := f.ReadAt(data, at+h.offset); err != nil {
		return ignoreEOF(err)
	}
	le := binary.LittleEndian
	for i := 0; i*block < len(data); i++ {
		if crc32.Checksum(data[i*block:min(len(data), (i+1)*block)], castagnoli) != le.Uint32(h.sums[4*i:]) {
			return nil // bad: it does not count
		}
	}
	if h.kind == kindShard {
		*rows = append(*rows, h.row)
		return nil
	}
	for ; len(data) >= 32; data = data[32:] {
		k := shardKey{le.Uint64(data), le.Uint64(data[8:]), byte(le.Uint64(data[16:]))}
		deleted[k] = max(deleted[k], le.Uint64(data[24:]))
	}
	return nil
}

// mark tells one body from another: its first bytes, with which slot 0 begins.
type mark [16]byte

// blobID names a blob.
type blobID struct{ volume, blob uint64 }

// blobCount is what the drives have of a blob.
type blobCount struct {
	slots uint64 // a bit for each
	width int
	when  uint64 // slot 0 was written
}

// census is what is on a set of drives, by the bodies that clients wrote. It knows a blob by its slot 0: without that the blob is
// short in any case.
type census struct {
	blobs  map[blobID]*blobCount
	bodies map[string]map[mark][]blobID // by the object's key
}

// count reads the drives, side by side. Those of nodes that are gone are left out by the caller.
func count(dirs []string, verify bool) (census, error) {
	lists, errs := make([][]shardRow, len(dirs)), make([]error, len(dirs))
	var wg sync.WaitGroup
	for i, dir := range dirs {
		wg.Go(func() { lists[i], errs[i] = readDrive(dir, verify) })
	}
	wg.Wait()
	c := census{blobs: map[blobID]*blobCount{}, bodies: map[string]map[mark][]blobID{}}
	for _, r := range slices.Concat(lists...) {
		id := blobID{r.volume, r.blob}
		n := c.blobs[id]
		if n == nil {
			n = &blobCount{width: r.width}
			c.blobs[id] = n
		}
		n.slots |= 1 << r.slot
		if r.slot != 0 {
			continue
		}
		n.when = max(n.when, r.when)
		if c.bodies[r.key] == nil {
			c.bodies[r.key] = map[mark][]blobID{}
		}
		c.bodies[r.key][r.first] = append(c.bodies[r.key][r.first], id)
	}
	return c, errors.Join(errs...)
}

// of returns the blob that holds a key's body. A put that was tried again left several, of which the last was acknowledged.
func (c census) of(key string, m mark) (found blobID, n *blobCount) {
	for _, id := range c.bodies[key][m] {
		if b := c.blobs[id]; n == nil || b.when > n.when {
			found, n = id, b
		}
	}
	return found, n
}

// short describes the keys whose body has fewer shards than its profile says, or than most if that is less.
func (c census) short(want map[string]value, most int) (list []string) {
	for key, v := range want {
		id, n := c.of(key, v.mark)
		switch {
		case n == nil:
			list = append(list, key+" has no slot 0")
		case bits.OnesCount64(n.slots) < min(n.width, most):
			list = append(list, fmt.Sprintf("%s has slots %b of %d of v%d/%d", key, n.slots, n.width, id.volume, id.blob))
		}
	}
	slices.Sort(list)
	return list
}

// The reader finds the shards that the real thing wrote, and one with a changed byte does not count.
func TestReaderSeesDamage(t *testing.T) {
	c := newCluster(t, shape{meta: 1, data: 3, gateways: 1, profile: "2+1"}, nil)
	s3 := c.gateways[0].client(t)
	c.makeBucket()
	if err := putObject(t.Context(), s3, "w/0/1", content(1, fullBytes)); err != nil {
		t.Fatal(err)
	}
	var rows []shardRow
	var held string
	for _, n := range c.data {
		list, err := readDrive(n.drive, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list {
			if r.key == "w/0/1" {
				rows, held = append(rows, r), n.drive
			}
		}
	}
	if len(rows) != 3 || rows[0].width != 3 {
		t.Fatalf("got %+v, want three shards of the object", rows)
	}
	harmDrive(t, held)
	list, err := readDrive(held, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		if r.key == "w/0/1" {
			t.Errorf("a shard with a changed byte counts: %+v", r)
		}
	}
}

// harmDrive changes one byte of the data of every shard of the drive.
func harmDrive(t *testing.T, dir string) {
	t.Helper()
	secret, err := driveSecret(dir)
	if err != nil {
		t.Fatal(err)
	}
	paths, _ := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, page)
		f.ReadAt(head, 0)
		tag := sha256.Sum256(slices.Concat(secret, head[8:16]))
		st, _ := f.Stat()
		for at := int64(page); at+page <= st.Size(); at += page {
			h, err := readHeader(f, at, head, tag[:8])
			if err == nil && h != nil && h.kind == kindShard && h.length > 0 {
				one := make([]byte, 1)
				f.ReadAt(one, at+h.offset)
				one[0] ^= 1
				if _, err := f.WriteAt(one, at+h.offset); err != nil {
					t.Fatal(err)
				}
			}
		}
		f.Close()
	}
}
