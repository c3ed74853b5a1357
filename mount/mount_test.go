package mount_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"cairn/mount"
	"cairn/mount/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bucket is a Store in memory that counts what it is asked, and fails when it is told to.
type bucket struct {
	mu      sync.Mutex
	objects map[string][]byte
	times   map[string]time.Time
	etags   map[string]string
	fault   func(op, key string) error
	proof   string // that this mount shows its peers
	asked   int    // how often peers' proofs were judged

	lists, heads, reads atomic.Int64
	bytes               atomic.Int64
	page                int
}

func newBucket() *bucket {
	return &bucket{objects: map[string][]byte{}, times: map[string]time.Time{}, etags: map[string]string{}, page: 1000}
}

func (b *bucket) put(key string, data []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sum := md5.Sum(data)
	b.objects[key], b.times[key], b.etags[key] = data, time.Unix(1700000000, 0), hex.EncodeToString(sum[:])
}

func (b *bucket) setFault(f func(op, key string) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fault = f
}

func (b *bucket) failing(op, key string) error {
	if b.fault != nil {
		return b.fault(op, key)
	}
	return nil
}

func (b *bucket) object(key string) mount.Object {
	return mount.Object{Key: key, Size: int64(len(b.objects[key])), ETag: b.etags[key], Modified: b.times[key]}
}

func (b *bucket) Endpoint() string { return "memory" }

func (b *bucket) List(_ context.Context, prefix, next string) (mount.Page, error) {
	b.lists.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("list", prefix); err != nil {
		return mount.Page{}, err
	}
	var p mount.Page
	keys := make([]string, 0, len(b.objects))
	for k := range b.objects {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		rest, ok := strings.CutPrefix(k, prefix)
		if !ok || k <= next || strings.HasSuffix(next, "/") && strings.HasPrefix(k, next) {
			continue
		}
		if len(p.Objects)+len(p.Prefixes) == b.page {
			p.Next = last(p)
			break
		}
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			if c := prefix + rest[:i+1]; len(p.Prefixes) == 0 || p.Prefixes[len(p.Prefixes)-1] != c {
				p.Prefixes = append(p.Prefixes, c)
			}
			continue
		}
		p.Objects = append(p.Objects, b.object(k))
	}
	return p, nil
}

func last(p mount.Page) string {
	var l string
	if n := len(p.Objects); n > 0 {
		l = p.Objects[n-1].Key
	}
	if n := len(p.Prefixes); n > 0 {
		l = max(l, p.Prefixes[n-1])
	}
	return l
}

func (b *bucket) Head(_ context.Context, key string) (mount.Object, error) {
	b.heads.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("head", key); err != nil {
		return mount.Object{}, err
	}
	if _, ok := b.objects[key]; !ok {
		return mount.Object{}, mount.ErrAbsent
	}
	return b.object(key), nil
}

func (b *bucket) Read(_ context.Context, o mount.Object, off, n int64) (io.ReadCloser, error) {
	b.reads.Add(1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.failing("read", o.Key); err != nil {
		return nil, err
	}
	data, ok := b.objects[o.Key]
	if !ok {
		return nil, mount.ErrAbsent
	}
	if b.object(o.Key).ETag != o.ETag {
		return nil, mount.ErrChanged
	}
	b.bytes.Add(n)
	return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
}

// mounted is a mount of a bucket under test.
type mounted struct {
	t     *testing.T
	dir   string
	cache *cache.Cache
	m     *mount.Mount
	stop  func()
}

func mountAt(t *testing.T, store mount.Store, cacheDir string, change func(*mount.Config, *cache.Config)) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIPPED LOUDLY: /dev/fuse or root is missing: nothing of the mount is tested here")
	}
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	cc := cache.Config{Dir: cacheDir, FloorBytes: 1, Logger: log}
	mc := mount.Config{Dir: t.TempDir(), Name: "s3://test", MetadataTTL: time.Second, Patience: 5 * time.Second, Logger: log}
	if change != nil {
		change(&mc, &cc)
	}
	c, err := cache.Open(cc)
	if err != nil {
		t.Fatal(err)
	}
	m, err := mount.New(store, c, mc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	var once sync.Once
	md := &mounted{t: t, dir: mc.Dir, cache: c, m: m}
	md.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("end of the mount: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(md.stop)
	return md
}

// testWriter logs to a test; what comes after its end is dropped.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	fmt.Fprint(os.Stderr, "")
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return b
}

func (m *mounted) read(name string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func (m *mounted) same(name string, want []byte) {
	m.t.Helper()
	if got := m.read(name); !bytes.Equal(got, want) {
		m.t.Errorf("%s: %d bytes that differ from the %d stored", name, len(got), len(want))
	}
}

// published waits until a key is wholly cached.
func (m *mounted) published(key string) {
	m.t.Helper()
	for range 500 {
		for _, it := range m.cache.List() {
			if it.Key == key && it.Published {
				return
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	m.t.Fatalf("%s is not cached whole: %+v", key, m.cache.List())
}

// Every size around the chunk's edges is read right, cold and from the cache, and comes from the store once.
func TestReadsAreRightAndFetchedOnce(t *testing.T) {
	b := newBucket()
	sizes := []int{0, 1, 4095, 4096, cache.ChunkBytes - 1, cache.ChunkBytes, cache.ChunkBytes + 1, 3*cache.ChunkBytes + 12345}
	total := int64(0)
	for i, n := range sizes {
		b.put(fmt.Sprintf("m/%d.safetensors", n), random(uint64(i), n))
		total += int64(n)
	}
	dir := t.TempDir()
	md := mountAt(t, b, dir, nil)
	for i, n := range sizes {
		md.same(fmt.Sprintf("m/%d.safetensors", n), random(uint64(i), n))
	}
	for _, n := range sizes[1:] {
		md.published(fmt.Sprintf("m/%d.safetensors", n))
	}
	if got := b.bytes.Load(); got != total {
		t.Errorf("%d bytes came from the store, want each of %d once", got, total)
	}
	md.stop()
	md = mountAt(t, b, dir, nil)
	for i, n := range sizes {
		md.same(fmt.Sprintf("m/%d.safetensors", n), random(uint64(i), n))
	}
	if got := b.bytes.Load(); got != total {
		t.Errorf("after a restart %d bytes came from the store, want none more than %d", got, total)
	}
}

// A mapped file is read in random order while it fills, and is whole in the end. Another process maps it: a page fault on a
// mapping stops a thread where Go's runtime cannot, and were it a thread of the process that serves the fault, the
// collector would wait for it for ever.
func TestMappedRandomOrder(t *testing.T) {
	b := newBucket()
	want := random(mapSeed, mapSize)
	b.put("w.gguf", want)
	md := mountAt(t, b, t.TempDir(), nil)
	child := exec.Command(os.Args[0], "-test.run", "^TestMapper$", "-test.v")
	child.Env = append(os.Environ(), mapVariable+"="+filepath.Join(md.dir, "w.gguf"))
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("all pages are right")) {
		t.Fatalf("the process that maps the file: %v\n%s", err, out)
	}
	md.published("w.gguf")
	if n := b.bytes.Load(); n != int64(len(want)) {
		t.Errorf("%d bytes from the store, want %d", n, len(want))
	}
	md.same("w.gguf", want) // another inode, opened by the kernel itself
}

const (
	mapVariable = "CAIRN_TEST_MAP"
	mapSeed     = 7
	mapSize     = 5*cache.ChunkBytes + 777
)

// TestMapper is TestMappedRandomOrder's other process.
func TestMapper(t *testing.T) {
	path := os.Getenv(mapVariable)
	if path == "" {
		return // there is nothing to test by itself
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got, err := unix.Mmap(int(f.Fd()), 0, mapSize, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(got)
	want := random(mapSeed, mapSize)
	for _, p := range rand.New(rand.NewPCG(1, 2)).Perm(mapSize / 4096) {
		if !bytes.Equal(got[p*4096:(p+1)*4096], want[p*4096:(p+1)*4096]) {
			t.Fatalf("page %d differs", p)
		}
	}
	t.Log("all pages are right")
}

// An overwrite is seen by the next open; a file that was open before never mixes the two.
func TestOpenFileIsOneVersion(t *testing.T) {
	b := newBucket()
	old, next := random(1, 4*cache.ChunkBytes), random(2, 4*cache.ChunkBytes)
	b.put("k", old)
	md := mountAt(t, b, t.TempDir(), func(m *mount.Config, _ *cache.Config) { m.MetadataTTL = time.Millisecond })
	f, err := os.Open(filepath.Join(md.dir, "k"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, old[:4096]) {
		t.Fatalf("first read: %v", err)
	}
	b.put("k", next)
	if _, err := f.ReadAt(p, 3*cache.ChunkBytes); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a read of what was never fetched of the old version: %v, want ESTALE", err)
	}
	md.same("k", next)
}

// The store goes away: what is cached is read on, a read of the rest waits, and fails with EIO when patience ends.
func TestStoreAway(t *testing.T) {
	b := newBucket()
	data := random(3, 3*cache.ChunkBytes)
	b.put("k", data)
	b.put("whole.bin", data)
	md := mountAt(t, b, t.TempDir(), func(m *mount.Config, _ *cache.Config) { m.Patience = 300 * time.Millisecond })
	md.same("whole.bin", data)
	md.published("whole.bin")
	f, err := os.Open(filepath.Join(md.dir, "k"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	whole, err := os.Open(filepath.Join(md.dir, "whole.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	b.setFault(func(string, string) error { return errors.New("connection refused") })
	got, err := io.ReadAll(whole)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("a cached file while the store is away: %v", err)
	}
	if _, err := f.ReadAt(p, 2*cache.ChunkBytes); !errors.Is(err, syscall.EIO) {
		t.Errorf("a read that needs the store: %v, want EIO", err)
	}
	b.setFault(nil)
	if _, err := f.ReadAt(p, 2*cache.ChunkBytes); err != nil || !bytes.Equal(p, data[2*cache.ChunkBytes:][:4096]) {
		t.Errorf("after it is back: %v", err)
	}
}

// A broken transfer goes on where it ended.
func TestBrokenTransfers(t *testing.T) {
	b := newBucket()
	data := random(4, 2*cache.ChunkBytes)
	b.put("k.bin", data)
	var n atomic.Int64
	b.setFault(func(op, _ string) error {
		if op == "read" && n.Add(1)%3 != 0 {
			return errors.New("reset")
		}
		return nil
	})
	md := mountAt(t, b, t.TempDir(), nil)
	md.same("k.bin", data)
}

// A listing of many names costs its pages, and no question about any one name.
func TestListingAsksForNoObject(t *testing.T) {
	b := newBucket()
	const n = 5000
	for i := range n {
		b.put(fmt.Sprintf("d/%05d", i), []byte("x"))
	}
	b.put("d/sub/x", nil)
	md := mountAt(t, b, t.TempDir(), func(m *mount.Config, _ *cache.Config) { m.MetadataTTL = time.Minute })
	entries, err := os.ReadDir(filepath.Join(md.dir, "d"))
	if err != nil || len(entries) != n+1 {
		t.Fatalf("%d entries, %v; want %d", len(entries), err, n+1)
	}
	heads := b.heads.Load()
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if e.IsDir() != (e.Name() == "sub") || !e.IsDir() && info.Size() != 1 {
			t.Fatalf("%s: %v", e.Name(), info)
		}
	}
	if got := b.heads.Load() - heads; got != 0 {
		t.Errorf("%d questions about single objects", got)
	}
	if got := b.lists.Load(); got > n/1000+2 {
		t.Errorf("%d pages were asked for", got)
	}
	if _, err := os.Stat(filepath.Join(md.dir, "d/absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
}

// Keys that no path can hold are reachable by their escaped names, and the others are not disturbed.
func TestOddKeys(t *testing.T) {
	b := newBucket()
	long := strings.Repeat("l", 300)
	keys := []string{"a", "a/b", "a//c", "/lead", "dir/", "x/./y", "x/../z", ".", "..", "nul\x00x", long, "d/" + long, strings.Repeat("é/", 340),
		"with space", "plus+", "per%cent", ".cairn/own", "a-b"}
	for i, k := range keys {
		b.put(k, fmt.Appendf(nil, "object %d", i))
	}
	b.page = 2
	md := mountAt(t, b, t.TempDir(), nil)
	for i, k := range keys {
		md.same(mount.EscapedPath(k), fmt.Appendf(nil, "object %d", i))
	}
	for i, k := range keys {
		if k == "with space" || k == "plus+" || k == "per%cent" || k == "a/b" || k == "a-b" {
			md.same(k, fmt.Appendf(nil, "object %d", i))
		}
	}
	entries, err := os.ReadDir(md.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"a", "a-b", "d", "dir", "per%cent", "plus+", "with space", "x", "é"}
	if slices.Sort(names); !slices.Equal(names, want) {
		t.Errorf("the root shows %q, want %q", names, want)
	}
	if info, err := os.Stat(filepath.Join(md.dir, "a")); err != nil || !info.IsDir() {
		t.Errorf("a beside a/b: %v, %v; want the directory", info, err)
	}
}

// Writing is refused at open, not later.
func TestReadOnly(t *testing.T) {
	b := newBucket()
	b.put("k", []byte("x"))
	md := mountAt(t, b, t.TempDir(), nil)
	for _, f := range []func() error{
		func() error { _, err := os.OpenFile(filepath.Join(md.dir, "k"), os.O_RDWR, 0); return err },
		func() error { _, err := os.Create(filepath.Join(md.dir, "new")); return err },
		func() error { return os.Remove(filepath.Join(md.dir, "k")) },
		func() error { return os.Mkdir(filepath.Join(md.dir, "d"), 0o755) },
		func() error { return os.Rename(filepath.Join(md.dir, "k"), filepath.Join(md.dir, "l")) },
		func() error { return os.Chmod(filepath.Join(md.dir, "k"), 0o600) },
	} {
		if err := f(); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%v, want EROFS", err)
		}
	}
	dest := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(md.dir, "k"), "user.s3.etag", dest)
	if sum := md5.Sum([]byte("x")); err != nil || string(dest[:n]) != hex.EncodeToString(sum[:]) {
		t.Errorf("etag %q, %v", dest[:n], err)
	}
}

// Files that do not fit into the cache are read without it, in the memory that there is.
func TestNoRoom(t *testing.T) {
	b := newBucket()
	big, small := random(5, 12*cache.ChunkBytes), random(6, 2*cache.ChunkBytes)
	b.put("big.bin", big)
	b.put("s1.bin", small)
	b.put("s2.bin", small[:cache.ChunkBytes+5])
	md := mountAt(t, b, t.TempDir(), func(m *mount.Config, c *cache.Config) {
		m.MemoryBytes, c.LimitBytes = 64<<20, 3*cache.ChunkBytes
	})
	md.same("big.bin", big)
	md.same("s1.bin", small)
	md.published("s1.bin")
	md.same("s2.bin", small[:cache.ChunkBytes+5]) // evicts s1
	md.published("s2.bin")
	if s := md.cache.Stats(); s.HeldBytes > s.LimitBytes || s.Evictions != 1 {
		t.Errorf("%+v", s)
	}
	md.same("s1.bin", small)
}
