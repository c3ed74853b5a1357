//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"
)

const big = "llm/big.safetensors"

// bigBytes are enough for many chunks of the cache.
const bigBytes = 72<<20 + 4321

func (s *store) putObject(key string, body []byte) {
	s.t.Helper()
	if _, err := s.s3.PutObject(s.t.Context(), bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func (m *cacheMount) open(key string) *os.File {
	m.s.t.Helper()
	f, err := os.Open(filepath.Join(m.dir, key))
	if err != nil {
		m.s.t.Fatalf("%v\n%s", err, m.out)
	}
	m.s.t.Cleanup(func() { f.Close() })
	return f
}

// sum reads the rest of a file.
func (m *cacheMount) sum(f io.Reader) [sha256.Size]byte {
	m.s.t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		m.s.t.Errorf("read: %v\n%s", err, m.out)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// TestMountOutlivesTheGateway: the gateway is killed in the middle of a load, and a name is looked up while it is away; when
// it is back the load goes on, and no reader has seen an error.
func TestMountOutlivesTheGateway(t *testing.T) {
	s := start(t)
	want := content(71, bigBytes)
	s.putObject(big, want)
	s.putObject("llm/other.safetensors", want[:1<<20])
	m := s.mount("--memory", "64MiB")
	f := m.open(big)
	first := make([]byte, 1<<20)
	if _, err := io.ReadFull(f, first); err != nil {
		t.Fatal(err)
	}
	s.server.Kill()
	type result struct {
		sum [sha256.Size]byte
		err error
	}
	rest, other := make(chan result, 1), make(chan result, 1)
	go func() {
		h := sha256.New()
		h.Write(first)
		_, err := io.Copy(h, f)
		rest <- result{[sha256.Size]byte(h.Sum(nil)), err}
	}()
	go func() {
		b, err := os.ReadFile(filepath.Join(m.dir, "llm/other.safetensors"))
		other <- result{sha256.Sum256(b), err}
	}()
	m.out.after(t, "the store is asked again") // a question has failed and is being repeated
	s.run()
	if r := <-rest; r.err != nil || r.sum != sha256.Sum256(want) {
		t.Errorf("the load over the gateway's death: %v, right bytes: %v\n%s", r.err, r.sum == sha256.Sum256(want), m.out)
	}
	if r := <-other; r.err != nil || r.sum != sha256.Sum256(want[:1<<20]) {
		t.Errorf("the open while it was away: %v\n%s", r.err, m.out)
	}
}

// TestMountWhileTheStoreIsAway: what is cached is read on; what is not waits as long as it was told, and is then an I/O error
// whose reason is in the log; when the store is back, all is well.
func TestMountWhileTheStoreIsAway(t *testing.T) {
	s := start(t)
	want := content(72, bigBytes)
	s.putObject("llm/data", want) // no weights: it is not fetched ahead
	s.putObject("llm/cached.safetensors", want[:9<<20])
	m := s.mount("--patience", "1s", "--metadata-ttl", "1h")
	cached, partial := m.open("llm/cached.safetensors"), m.open("llm/data")
	if got := m.sum(cached); got != sha256.Sum256(want[:9<<20]) {
		t.Fatal("wrong bytes")
	}
	m.whole(1)
	p := make([]byte, 4096)
	if _, err := partial.ReadAt(p, 0); err != nil {
		t.Fatal(err)
	}
	s.server.Kill()
	if _, err := cached.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got := m.sum(cached); got != sha256.Sum256(want[:9<<20]) {
		t.Error("a cached file while the store is away: wrong bytes")
	}
	if got := m.sum(m.open("llm/cached.safetensors")); got != sha256.Sum256(want[:9<<20]) {
		t.Error("a cached file that is opened while the store is away: wrong bytes")
	}
	if _, err := partial.ReadAt(p, 64<<20); !errors.Is(err, syscall.EIO) {
		t.Errorf("a read that needs the store: %v, want EIO", err)
	}
	if out := m.out.String(); !strings.Contains(out, "answered with an I/O error") || !strings.Contains(out, "given up after 1s") {
		t.Errorf("the log does not say why:\n%s", out)
	}
	s.run()
	if _, err := partial.ReadAt(p, 64<<20); err != nil || !bytes.Equal(p, want[64<<20:][:4096]) {
		t.Errorf("after it is back: %v\n%s", err, m.out)
	}
}

// TestMountOfAChangingObject: an object is overwritten and then deleted under open files. Each reads its own version to the
// end or is told that it is gone; no byte of another one.
func TestMountOfAChangingObject(t *testing.T) {
	s := start(t)
	versions := [][]byte{content(73, bigBytes), content(74, bigBytes)}
	s.putObject(big, versions[0])
	m := s.mount("--memory", "64MiB", "--metadata-ttl", "10ms")
	begin := func(want []byte) *os.File {
		f := m.open(big)
		p := make([]byte, 1<<20)
		if _, err := io.ReadFull(f, p); err != nil || !bytes.Equal(p, want[:1<<20]) {
			t.Fatalf("begin: %v", err)
		}
		return f
	}
	finish := func(f *os.File, want []byte) {
		t.Helper()
		rest, err := io.ReadAll(f)
		if !bytes.HasPrefix(want[1<<20:], rest) {
			t.Errorf("%d bytes that are not this version's", len(rest))
		}
		if err == nil && len(rest) != len(want)-1<<20 || err != nil && !errors.Is(err, syscall.ESTALE) {
			t.Errorf("%d bytes of %d, %v; want all of them or ESTALE\n%s", len(rest), len(want)-1<<20, err, m.out)
		}
	}
	f := begin(versions[0])
	s.putObject(big, versions[1])
	g := begin(versions[1])
	if err := s.s3.RemoveObject(t.Context(), bucket, big, minio.RemoveObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	finish(f, versions[0])
	finish(g, versions[1])
	if _, err := os.Stat(filepath.Join(m.dir, big)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the deleted object: %v", err)
	}
}

// TestMountOverTornMaps: whatever a crash leaves of the maps of files that were being fetched, no wrong byte is served.
func TestMountOverTornMaps(t *testing.T) {
	s := start(t)
	want := content(75, bigBytes)
	s.putObject("llm/data", want)
	m := s.mount()
	for i, harm := range []func(string) error{
		func(p string) error { return os.Truncate(p, 8<<10+5*16+3) },
		func(p string) error { return os.Truncate(p, 100) },
		func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte{0xff}, 8<<10+10*16), 0o600) },
		os.Remove,
	} {
		f := m.open("llm/data")
		for _, off := range []int64{0, 20 << 20, 50 << 20} {
			if _, err := f.ReadAt(make([]byte, 4096), off); err != nil {
				t.Fatal(err)
			}
		}
		f.Close()
		m.kill()
		maps, err := filepath.Glob(filepath.Join(m.cache, "files", "*.map"))
		if err != nil || len(maps) != 1 {
			t.Fatalf("harm %d: maps %v, %v", i, maps, err)
		}
		if err := harm(maps[0]); err != nil {
			t.Fatal(err)
		}
		m.start()
		if m.sum(m.open("llm/data")) != sha256.Sum256(want) {
			t.Errorf("harm %d: wrong bytes", i)
		}
		m.whole(1)
		m.kill()
		m.start()
		if out, err := m.run("cache", "evict", "--all"); err != nil {
			t.Fatalf("evict: %v: %s", err, out)
		}
	}
}

// TestMountWithAFullDisk: a cache whose disk is too small is gone without, at any size of it.
func TestMountWithAFullDisk(t *testing.T) {
	s := start(t)
	want := content(76, bigBytes)
	s.putObject(big, want)
	s.putObject("llm/small.safetensors", want[:9<<20])
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("SKIPPED LOUDLY: no small file system can be mounted here (%v): a full cache disk is not tested", err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	m := s.mount("--cache", disk, "--cache-free", "1MiB", "--cache-size", "1GiB", "--memory", "64MiB")
	for range 2 {
		if m.sum(m.open(big)) != sha256.Sum256(want) {
			t.Error("wrong bytes of a file that does not fit")
		}
		if m.sum(m.open("llm/small.safetensors")) != sha256.Sum256(want[:9<<20]) {
			t.Error("wrong bytes of a file that fits")
		}
	}
}

// TestMountOverAnotherStoresCache: another store answers at the same address, with other objects under the same names. What
// the cache holds of the first is not shown.
func TestMountOverAnotherStoresCache(t *testing.T) {
	s := start(t)
	s.putObject(big, content(77, 9<<20))
	m := s.mount()
	if m.sum(m.open(big)) != sha256.Sum256(content(77, 9<<20)) {
		t.Fatal("wrong bytes")
	}
	m.whole(1)
	m.kill()
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	s.dir = filepath.Join(t.TempDir(), "other")
	s.run()
	s.makeBucket()
	s.putObject(big, content(78, 9<<20))
	m.start()
	if m.sum(m.open(big)) != sha256.Sum256(content(78, 9<<20)) {
		t.Error("bytes that are not this store's")
	}
}
