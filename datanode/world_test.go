package datanode

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
	"golang.org/x/time/rate"
)

// world is one store on a disk in memory, and what the store has promised about it.
type world struct {
	t     testing.TB
	disk  *vfs.Mem
	cfg   Config
	store *store
	// may holds, for every shard ever written, the contents that it may have now: "" stands for absent. An operation
	// that was acknowledged leaves one; one that failed leaves those before and after it.
	may    map[key][]string
	fenced map[cairn.VolumeID]cairn.Epoch
}

var testFormat = format{Drive: cairn.DriveID{7}, Secret: [16]byte{1, 2, 3}}

func testConfig() Config {
	cfg, err := Config{SegmentBytes: 512 << 10, ReserveBytes: 1 << 20, Log: slog.New(slog.DiscardHandler),
		FreeSegments: 2, StreamWriters: 1, janitorEvery: time.Hour, CompactBytesPerSec: 1 << 40}.withDefaults()
	if err != nil {
		panic(err)
	}
	return cfg
}

func newWorld(t testing.TB) *world {
	disk := vfs.NewMem()
	if err := errors.Join(disk.Mkdir("/d"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, disk: disk, cfg: testConfig(), may: map[key][]string{}, fenced: map[cairn.VolumeID]cairn.Epoch{}}
}

// open opens the store on the world's disk, with faults if fault is not nil.
func (w *world) open(fault vfs.Fault) error {
	cfg := w.cfg
	cfg.FS = w.disk
	if fault != nil {
		cfg.FS = vfs.WithFault(w.disk, fault)
	}
	s, err := openStore(cfg, "/d", testFormat, false, &counters{}, newLimits(cfg))
	w.store = s
	return err
}

func (w *world) close(save bool) {
	if w.store != nil {
		w.store.close(time.Minute, save) // faults may fail it
		w.store = nil
	}
}

// crash closes the store and goes on with what a crash would have left when it was called.
func (w *world) crash(mode vfs.CrashMode, seed uint64) *world {
	after := *w
	after.disk = w.disk.Crash(mode, seed)
	after.store = nil
	after.may = map[key][]string{}
	for k, v := range w.may {
		after.may[k] = slices.Clone(v)
	}
	after.fenced = map[cairn.VolumeID]cairn.Epoch{}
	for k, v := range w.fenced {
		after.fenced[k] = v
	}
	return &after
}

// settle notes the outcome of an operation that makes k be content.
func (w *world) settle(k key, content string, err error) {
	if err == nil {
		w.may[k] = []string{content}
		return
	}
	if w.may[k] == nil {
		w.may[k] = []string{""}
	}
	w.may[k] = append(w.may[k], content)
}

func testKey(blob int) key { return key{volume: 1, blob: cairn.BlobID(blob), slot: uint8(blob % 3)} }

func testHeader(k key) *cairn.ShardHeader {
	return &cairn.ShardHeader{ID: k.id(), Epoch: 1, Profile: cairn.Profile{K: 4, M: 2}, Unit: 64 << 10, BlobLen: 9,
		Owner: cairn.Owner{Bucket: "b", Key: "some/key"}}
}

// content returns n bytes that belong to a shard and a version of it.
func content(k key, version uint64, n int) string {
	rng := rand.NewPCG(uint64(k.blob), version)
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint64(b, rng.Uint64())
	}
	return string(b[:n])
}

func (w *world) append(blob int, version uint64, n int) error {
	k := testKey(blob)
	c := content(k, version, n)
	result := make(chan error, 1)
	w.store.append(context.Background(), testHeader(k), []byte(c), func(err error) { result <- err })
	err := <-result
	w.settle(k, c, err)
	return err
}

func (w *world) stream(blob int, version uint64, n int) error {
	k := testKey(blob)
	c := content(k, version, n)
	st, err := w.store.create(context.Background(), testHeader(k), int64(n))
	if err == nil {
		for off := 0; off < n; off += blockSize {
			st.Write([]byte(c[off:min(n, off+blockSize)]), nil)
		}
		result := make(chan error, 1)
		st.Commit(func(err error) { result <- err })
		err = <-result
	}
	w.settle(k, c, err)
	return err
}

// slowStream writes a checkpoint between the reservation of the extent and the commit.
func (w *world) slowStream(blob int, version uint64, n int) error {
	k := testKey(blob)
	c := content(k, version, n)
	st, err := w.store.create(context.Background(), testHeader(k), int64(n))
	if err == nil {
		err = w.append(blob+1, version, 10) // goes behind the extent
	}
	if err == nil {
		err = w.store.saveIndex()
	}
	if err == nil {
		st.Write([]byte(c[:blockSize]), nil)
		st.Write([]byte(c[blockSize:]), nil)
		result := make(chan error, 1)
		st.Commit(func(err error) { result <- err })
		err = <-result
	}
	w.settle(k, c, err)
	return err
}

// abandon starts a stream and leaves it, as a crash of its writer would.
func (w *world) abandon(blob int, n int) error {
	k := testKey(blob)
	st, err := w.store.create(context.Background(), testHeader(k), int64(n))
	if err != nil {
		return err
	}
	result := make(chan error, 1)
	st.Write([]byte(content(k, 99, blockSize)), func(err error) { result <- err })
	return <-result
}

func (w *world) delete(blobs ...int) error {
	var ks []key
	for _, b := range blobs {
		ks = append(ks, testKey(b))
	}
	err := w.store.delete(context.Background(), ks)
	for _, k := range ks {
		w.settle(k, "", err)
	}
	return err
}

func (w *world) fence(v cairn.VolumeID, e cairn.Epoch) error {
	err := w.store.fence(context.Background(), fence{v, e})
	if err == nil {
		w.fenced[v] = max(w.fenced[v], e)
	}
	return err
}

func (w *world) tidy() error {
	return w.store.tidy(context.Background(), rate.NewLimiter(rate.Inf, compactBurst), false)
}

// wrong returns the first promise that does not hold. Just after a recovery it also learns which of the allowed contents
// it was: another recovery must find the same.
func (w *world) wrong(learn bool) error {
	for k, may := range w.may {
		got, err := w.read(k)
		if err != nil {
			return fmt.Errorf("%v: %w", k.id(), err)
		}
		if !slices.Contains(may, got) {
			return fmt.Errorf("%v has %d bytes that it may not have; %d contents are allowed, the first of %d bytes",
				k.id(), len(got), len(may), len(may[0]))
		}
		if learn {
			w.may[k] = []string{got}
		}
	}
	for v, e := range w.fenced {
		w.store.mu.RLock()
		seen := w.store.epochs[v]
		w.store.mu.RUnlock()
		if seen < e {
			return fmt.Errorf("fence of %v fell from %d to %d", v, e, seen)
		}
	}
	var extra error
	w.store.mu.RLock()
	defer w.store.mu.RUnlock()
	w.store.index.all(func(k key, _ *entry) {
		if w.may[k] == nil {
			extra = fmt.Errorf("%v was never written", k.id())
		}
	})
	return extra
}

func (w *world) read(k key) (string, error) {
	info, err := w.store.stat(k)
	if errors.Is(err, cairn.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	p := make([]byte, info.Length)
	if err := w.store.readAt(context.Background(), k, p, 0); err != nil {
		return "", err
	}
	return string(p), nil
}
