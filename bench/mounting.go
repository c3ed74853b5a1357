package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cairn/internal/process"
)

// mounting is a running mount of the stage's bucket, ours or another's.
type mounting struct {
	dir, cache string
	cmd        *exec.Cmd
	ended      chan struct{}
	out        bytes.Buffer // read after ended
}

func installed(name string) bool {
	_, err := exec.LookPath(name)
	return err == nil
}

// mount starts a mount and returns when the directory shows it. name is cairn, s3fs or rclone.
func (m *mountBench) mount(ctx context.Context, name, cache, endpoint string) (*mounting, error) {
	dir, err := os.MkdirTemp(m.dir, "mount")
	if err != nil {
		return nil, err
	}
	bucket := m.bench.cfg.Bucket
	var argv []string
	switch name {
	case "cairn":
		argv = []string{m.cfg.Binary, "mount", "s3://" + bucket, dir, "--endpoint", endpoint, "--cache", cache}
	case "s3fs":
		passwd := filepath.Join(m.dir, "passwd")
		if err := os.WriteFile(passwd, []byte(process.AccessKey+":"+process.SecretKey), 0o600); err != nil {
			return nil, err
		}
		argv = []string{"s3fs", bucket, dir, "-f", "-o", "passwd_file=" + passwd, "-o", "url=" + endpoint, "-o", "use_path_request_style",
			"-o", "use_cache=" + cache, "-o", "parallel_count=8", "-o", "multipart_size=52"}
	case "rclone":
		argv = []string{"rclone", "mount", ":s3:" + bucket, dir, "--read-only", "--s3-provider", "Other", "--s3-env-auth",
			"--s3-endpoint", endpoint, "--vfs-cache-mode", "full", "--cache-dir", cache, "--buffer-size", "64M", "--vfs-read-ahead", "256M"}
	}
	mt := &mounting{dir: dir, cache: cache, cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	mt.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + m.dir, "AWS_ACCESS_KEY_ID=" + process.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + process.SecretKey}
	mt.cmd.Stdout, mt.cmd.Stderr = &mt.out, &mt.out
	mt.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := mt.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(mt.ended)
		mt.cmd.Wait() // how it ended is of no interest: what it served was checked
	}()
	err = waitFor(ctx, mt.ended, name+" mounts", func() bool {
		var st unix.Statfs_t
		return unix.Statfs(dir, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC
	})
	if err != nil {
		mt.end()
		return nil, fmt.Errorf("%w: %s", err, mt.out.String())
	}
	return mt, nil
}

func (mt *mounting) pid() int { return mt.cmd.Process.Pid }

// end unmounts and waits for the process.
func (mt *mounting) end() error {
	err := unix.Unmount(mt.dir, unix.MNT_DETACH)
	mt.cmd.Process.Signal(syscall.SIGTERM)
	if werr := waitFor(context.Background(), make(chan struct{}), "the mount ends", func() bool {
		select {
		case <-mt.ended:
			return true
		default:
			return false
		}
	}); werr != nil {
		mt.cmd.Process.Kill()
		<-mt.ended
		return werr
	}
	if err == unix.EINVAL { // it had unmounted itself
		err = nil
	}
	return err
}

// cachedFile waits until one file is published in our cache, and returns its path.
func (mt *mounting) cachedFile(ctx context.Context) (path string, err error) {
	err = waitFor(ctx, mt.ended, "the file is cached whole", func() bool {
		paths, _ := filepath.Glob(filepath.Join(mt.cache, "files", "*.data"))
		if len(paths) > 0 {
			path = paths[0]
		}
		return path != ""
	})
	return path, err
}

// dropPages makes the kernel forget what it holds of a file, so that the next read comes from the disk.
func dropPages(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

const readerBuffer = 1 << 20

// readWhole reads a file in order.
func readWhole(path string, size int64) error { return readPart(path, 0, size) }

func readPart(path string, off, n int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, readerBuffer)
	for done := int64(0); done < n; {
		k, err := f.ReadAt(buf[:min(readerBuffer, n-done)], off+done)
		done += int64(k)
		if err != nil && done < n {
			return fmt.Errorf("%s: %d of %d bytes: %w", path, done, n, err)
		}
	}
	return nil
}

// readQuarters reads a file by four threads.
func readQuarters(path string, size int64) error {
	var all errgroup.Group
	for i := range int64(4) {
		all.Go(func() error { return readPart(path, size/4*i, size/4) })
	}
	return all.Wait()
}

// readSome reads a few bytes somewhere.
func readSome(path string, off, n int64) error { return readPart(path, off, n) }

// touchAll maps a file and touches each of its pages in order.
func touchAll(path string, size int64) error {
	return mapped(path, size, func(b []byte) error {
		touch(b)
		return nil
	})
}

// touchTensors maps weights and touches their tensors in random order, as the header names them.
func touchTensors(path string, size int64) error {
	return mapped(path, size, func(b []byte) error {
		tensors, err := tensorsOf(b)
		if err != nil {
			return err
		}
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(tensors), func(i, j int) { tensors[i], tensors[j] = tensors[j], tensors[i] })
		for _, t := range tensors {
			touch(t)
		}
		return nil
	})
}

func touch(b []byte) {
	sum := byte(0)
	for i := 0; i < len(b); i += 4096 {
		sum += b[i]
	}
	runtime.KeepAlive(sum) // so that the compiler does not leave the reads out
}

func mapped(path string, size int64, do func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() < size {
		return fmt.Errorf("%s: %w", path, errShort)
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(b)
	return do(b)
}

const tensorBytes = 6 << 20

// tensorHeader is the head of a safetensors file of a size: its length (u64, little-endian), then JSON that names each
// tensor's place behind it.
func tensorHeader(size int64) []byte {
	const headBytes = 64 << 10
	type tensor struct {
		Type    string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	all := map[string]tensor{}
	for off := int64(0); off < size-headBytes; off += tensorBytes {
		end := min(off+tensorBytes, size-headBytes)
		all[fmt.Sprintf("layers.%d.weight", off/tensorBytes)] = tensor{"U8", []int64{end - off}, [2]int64{off, end}}
	}
	text, _ := json.Marshal(all) // strings and numbers: cannot fail
	head := binary.LittleEndian.AppendUint64(nil, headBytes-8)
	head = append(head, text...)
	return append(head, bytes.Repeat([]byte(" "), headBytes-len(head))...)
}

// tensorsOf reads such a head.
func tensorsOf(b []byte) (out [][]byte, err error) {
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return nil, fmt.Errorf("head of %d bytes: %w", n, errShort)
	}
	var all map[string]struct {
		Offsets [2]int64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(b[8:8+n], &all); err != nil {
		return nil, err
	}
	data := b[8+n:]
	for i := range len(all) { // in a fixed order, to be shuffled
		o := all[fmt.Sprintf("layers.%d.weight", i)].Offsets
		out = append(out, data[o[0]:o[1]])
	}
	return out, nil
}

// listLong does what `ls -l` does.
func listLong(dir string, want int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := e.Info(); err != nil {
			return err
		}
	}
	if len(entries) != want {
		return fmt.Errorf("%d names of %d: %w", len(entries), want, fs.ErrNotExist)
	}
	return nil
}

// client is a stock client of the server.
func (m *mountBench) client() (*minio.Client, error) {
	return minio.New(m.server.S3Addr, &minio.Options{Creds: credentials.NewStaticV4(process.AccessKey, process.SecretKey, "")})
}

// putLarge stores weights with a true header and random bytes behind it.
func (m *mountBench) putLarge(ctx context.Context, key string, size int64) error {
	c, err := m.client()
	if err != nil {
		return err
	}
	head := tensorHeader(size)
	body := io.LimitReader(io.MultiReader(bytes.NewReader(head), &again{b: m.bench.data.pool}), size)
	_, err = c.PutObject(ctx, m.bench.cfg.Bucket, key, body, size, minio.PutObjectOptions{PartSize: 64 << 20})
	return err
}

// again repeats bytes without end.
type again struct {
	b   []byte
	off int
}

// Read never fails.
func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.b[a.off:])
	a.off = (a.off + n) % len(a.b)
	return n, nil
}

// putSmall stores n tiny objects below a prefix.
func (m *mountBench) putSmall(ctx context.Context, prefix string, n int) error {
	all, ctx := errgroup.WithContext(ctx)
	for w := range prepareClients {
		all.Go(func() error {
			c, err := newConn(m.server.Endpoint(), m.bench.cfg.Credentials)
			if err != nil {
				return err
			}
			defer c.close()
			for i := w; i < n; i += prepareClients {
				path := fmt.Sprintf("/%s/%s%06d", m.bench.cfg.Bucket, prefix, i)
				if err := retry(ctx, func() error { return c.do(ctx, request{method: "PUT", path: path, body: []byte("x")}, nil) }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

// bareList makes the listing calls that a directory of n names needs.
func (m *mountBench) bareList(ctx context.Context, prefix string, n int) error {
	c, err := m.client()
	if err != nil {
		return err
	}
	got := 0
	for o := range c.ListObjects(ctx, m.bench.cfg.Bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return o.Err
		}
		if strings.HasPrefix(o.Key, prefix) {
			got++
		}
	}
	if got != n {
		return fmt.Errorf("%d keys of %d: %w", got, n, fs.ErrNotExist)
	}
	return nil
}
