//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"golang.org/x/sys/unix"

	"cairn/internal/process"
	"cairn/mount"
)

// cacheMount is `cairn mount` as a process of its own.
type cacheMount struct {
	s          *store
	dir, cache string
	args       []string
	cmd        *exec.Cmd
	out        *lines
}

func (s *store) mount(args ...string) *cacheMount {
	s.t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		s.t.Skip("SKIPPED LOUDLY: /dev/fuse or root is missing: cairn mount is not tested here")
	}
	m := &cacheMount{s: s, dir: s.t.TempDir(), cache: s.t.TempDir(), args: args}
	s.t.Cleanup(func() {
		m.kill()
		unix.Unmount(m.dir, unix.MNT_DETACH)
	})
	m.start()
	return m
}

func (m *cacheMount) env() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + process.AccessKey, "AWS_SECRET_ACCESS_KEY=" + process.SecretKey,
		"AWS_ENDPOINT_URL=" + m.s.server.Endpoint(), "CAIRN_CACHE=" + m.cache, "PATH=" + os.Getenv("PATH")}
}

func (m *cacheMount) start() {
	m.s.t.Helper()
	m.cmd = exec.Command(program(m.s.t), append([]string{"mount", "s3://" + bucket, m.dir}, m.args...)...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	m.cmd.Env, m.out = m.env(), &lines{}
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	if err := m.cmd.Start(); err != nil {
		m.s.t.Fatal(err)
	}
	m.out.after(m.s.t, "is mounted at ")
}

func (m *cacheMount) kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// run runs another subcommand beside the mount.
func (m *cacheMount) run(args ...string) (string, error) {
	cmd := exec.Command(program(m.s.t), args...)
	cmd.Env = m.env()
	out, err := cmd.Output()
	return string(out), err
}

func (m *cacheMount) status() (s mount.Status) {
	m.s.t.Helper()
	out, err := m.run("mount", "status", "-o", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		m.s.t.Fatalf("mount status: %v: %s", err, out)
	}
	return s
}

// whole waits until n files are cached whole.
func (m *cacheMount) whole(n int) {
	m.s.t.Helper()
	for range 600 {
		if m.status().Cache.Published >= n {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.s.t.Fatalf("%d files are not cached whole: %+v\n%s", n, m.status(), m.out)
}

// weights stores models of several sizes and returns their hashes by name.
func (s *store) weights() map[string][sha256.Size]byte {
	s.t.Helper()
	sums := map[string][sha256.Size]byte{}
	for i, size := range []int{0, 1, 5000, 8 << 20, 8<<20 + 1, 40<<20 + 12345} {
		name := fmt.Sprintf("llm/%d.safetensors", size)
		body := content(uint64(1000+i), size)
		sums[name] = sha256.Sum256(body)
		if _, err := s.s3.PutObject(s.t.Context(), bucket, name, bytes.NewReader(body), int64(size), minio.PutObjectOptions{}); err != nil {
			s.t.Fatal(err)
		}
	}
	return sums
}

func (m *cacheMount) compare(sums map[string][sha256.Size]byte) {
	m.s.t.Helper()
	for name, want := range sums {
		b, err := os.ReadFile(filepath.Join(m.dir, name))
		if err != nil || sha256.Sum256(b) != want {
			m.s.t.Errorf("%s: %d bytes, %v; not what was stored\n%s", name, len(b), err, m.out)
		}
	}
}

// TestMountServesFilesOnce: programs read a mounted bucket as files; what was read once does not come from the store again,
// and once it is whole not through the process either: it can be killed under an open file.
func TestMountServesFilesOnce(t *testing.T) {
	s := start(t)
	sums := s.weights()
	m := s.mount()
	out, err := exec.Command("ls", "-lR", m.dir).CombinedOutput()
	if err != nil || strings.Count(string(out), ".safetensors") != len(sums) {
		t.Errorf("ls: %v\n%s", err, out)
	}
	m.compare(sums)
	m.whole(len(sums) - 1) // the empty one needs no place
	before := m.status()
	m.compare(sums)
	after := m.status()
	if after.FromStore != before.FromStore {
		t.Errorf("%d bytes came from the store again", after.FromStore-before.FromStore)
	}
	if read := after.FromCache + after.FromMemory - before.FromCache - before.FromMemory; before.Passthrough && read > 0 {
		t.Errorf("%d bytes of whole files passed the process", read)
	}
	f, err := os.Open(filepath.Join(m.dir, "llm", fmt.Sprint(40<<20+12345, ".safetensors")))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m.kill()
	if before.Passthrough {
		h := sha256.New()
		if _, err := io.Copy(h, f); err != nil || [32]byte(h.Sum(nil)) != sums["llm/"+fmt.Sprint(40<<20+12345, ".safetensors")] {
			t.Errorf("an open file after the process died: %v", err)
		}
	}
	f.Close()
	m.start() // over what the dead process left
	m.compare(sums)
	if got := m.status().FromStore; got != 0 {
		t.Errorf("%d bytes came from the store after a restart", got)
	}
	if _, err := m.run("unmount", m.dir); err != nil {
		t.Error(err)
	}
	if err := m.cmd.Wait(); err != nil {
		t.Errorf("the process after its unmount: %v\n%s", err, m.out)
	}
	m.cmd = nil
	if out, err := m.run("cache", "verify"); err != nil || strings.Count(out, "good") != len(sums)-1 {
		t.Errorf("cache verify without a mount: %v\n%s", err, out)
	}
}

// TestMountIsKilled: whenever the process is killed, the cache that it leaves serves no wrong byte to the next one.
func TestMountIsKilled(t *testing.T) {
	s := start(t)
	sums := s.weights()
	m := s.mount()
	rounds := 100
	if os.Getenv("CAIRN_SOAK") != "" {
		rounds = 1000
	}
	r := rand.New(rand.NewPCG(11, 12))
	for i := range rounds {
		reading := exec.Command("sh", "-c", "cat "+m.dir+"/llm/* > /dev/null 2>&1")
		if err := reading.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(r.IntN(150)) * time.Millisecond)
		m.kill()
		reading.Wait() // its reads fail: nobody serves them
		m.start()
		if i%10 == 9 {
			m.compare(sums)
			if out, err := m.run("cache", "evict", "--all"); err != nil {
				t.Fatalf("evict: %v: %s", err, out)
			}
		}
	}
	m.compare(sums)
}

// TestMountOverDamage: bytes that went bad in the cache are found by verify and by the check after a start, and fetched again.
func TestMountOverDamage(t *testing.T) {
	s := start(t)
	sums := s.weights()
	m := s.mount()
	if out, err := m.run("cache", "warm", "-q", "s3://"+bucket+"/llm/"); err != nil || !strings.Contains(out, "5 objects") {
		t.Fatalf("warm: %v: %s", err, out)
	}
	harm := func() {
		paths, err := filepath.Glob(filepath.Join(m.cache, "files", "*.data"))
		if err != nil || len(paths) != 5 {
			t.Fatalf("%d data files, %v", len(paths), err)
		}
		for _, p := range paths {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			b[0] ^= 1
			if _, err := f.WriteAt(b, 0); err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
	}
	harm()
	if out, err := m.run("cache", "verify", "s3://"+bucket); err == nil || strings.Count(out, "damaged") != 5 {
		t.Errorf("verify of damaged files: %v\n%s", err, out)
	}
	m.compare(sums)
	m.whole(5)
	harm()
	m.kill()
	m.start()
	for name := range sums { // the first open after a start begins the check
		if f, err := os.Open(filepath.Join(m.dir, name)); err == nil {
			f.Close()
		}
	}
	for range 600 {
		if m.status().Cache.Damaged == 5 {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	m.compare(sums)
	if got := m.status(); got.Cache.Damaged != 5 {
		t.Errorf("the check after a start found %d of 5 damaged files", got.Cache.Damaged)
	}
}

// TestMountRefuses: what cannot work is refused at once, with what to do.
func TestMountRefuses(t *testing.T) {
	s := start(t)
	m := s.mount()
	busy := t.TempDir()
	if err := os.WriteFile(filepath.Join(busy, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		env        []string
		args       []string
	}{
		{"absent bucket", "no bucket", nil, []string{"mount", "s3://no-such-bucket", t.TempDir(), "--cache", t.TempDir()}},
		{"wrong secret", "check the credentials", []string{"AWS_SECRET_ACCESS_KEY=wrong-wrong-wrong"}, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", t.TempDir()}},
		{"nobody there", "check --endpoint", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", t.TempDir(), "--endpoint", "http://127.0.0.1:1"}},
		{"not a URL", "want s3://", nil, []string{"mount", bucket, t.TempDir()}},
		{"directory in use", "not empty", nil, []string{"mount", "s3://" + bucket, busy, "--cache", t.TempDir()}},
		{"no directory", "mount point", nil, []string{"mount", "s3://" + bucket, busy + "/absent", "--cache", t.TempDir()}},
		{"cache in use", "in use by another process", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", m.cache}},
		{"cache is a file", "cache directory", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", filepath.Join(busy, "x")}},
		{"too little memory", "memory", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", t.TempDir(), "--memory", "1MiB"}},
		{"evict of everything unasked", "--all", nil, []string{"cache", "evict"}},
		{"peers without an own address", "go together", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", t.TempDir(), "--peers", "127.0.0.1:1"}},
		{"half of the peers' TLS", "go together", nil, []string{"mount", "s3://" + bucket, t.TempDir(), "--cache", t.TempDir(), "--peers", "127.0.0.1:1", "--peer-addr", "127.0.0.1:0", "--peer-ca", "x"}},
		{"unmount of no mount", "not a mount of cairn", nil, []string{"unmount", busy}},
	} {
		cmd := exec.Command(program(t), c.args...)
		cmd.Env = append(m.env(), c.env...)
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v, %q; want an error with %q", c.name, err, out, c.want)
		}
	}
}
