//go:build e2e

package drill

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

const diskBytes = 4 << 30 // sparse

// disk is an ext4 file system on a block device that this process answers for: a loop device over a file in a FUSE file
// system of one file. What real disks do, it does on demand: it fills up, turns read-only under its users' feet, and stops to
// answer.
type disk struct {
	t     *testing.T
	loop  string
	point string // where it is mounted
	path  string // the drive: a directory on it, so that an unmounted disk is an absent path
	gate  *gate
}

// newDisk makes and mounts one; the error says why that is not possible here.
func newDisk(t *testing.T) (*disk, error) {
	for _, tool := range []string{"losetup", "mkfs.ext4", "e2fsck", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, err
		}
	}
	dir := t.TempDir()
	d := &disk{t: t, point: filepath.Join(dir, "disk"), gate: newGate()}
	d.path = filepath.Join(d.point, "cairn")
	served := filepath.Join(dir, "served")
	if err := errors.Join(os.Mkdir(d.point, 0o755), os.Mkdir(served, 0o755)); err != nil {
		return nil, err
	}
	back, err := os.Create(filepath.Join(dir, "image"))
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { back.Close() })
	if err := back.Truncate(diskBytes); err != nil {
		return nil, err
	}
	root := &fs.Inode{}
	server, err := fs.Mount(served, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, MaxWrite: 512 << 10, Name: "cairn-drill"},
		OnAdd: func(ctx context.Context) {
			root.AddChild("image", root.NewPersistentInode(ctx, &image{back: back, gate: d.gate}, fs.StableAttr{Mode: fuse.S_IFREG}), true)
		}})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
	})
	if err := d.attach(filepath.Join(served, "image")); err != nil {
		return nil, err
	}
	return d, os.Mkdir(d.path, 0o755)
}

func (d *disk) attach(file string) error {
	if err := run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", file); err != nil {
		return err
	}
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		return errors.New("losetup: " + strings.TrimSpace(string(out)))
	}
	d.loop = strings.TrimSpace(string(out))
	d.t.Cleanup(func() {
		d.gate.open() // before all: whoever waits for the disk cannot be killed
		exec.Command("umount", "--lazy", d.point).Run()
		// The node's process was killed a moment ago, and may still be letting go of its files.
		for began := time.Now(); ; time.Sleep(pollEvery) {
			err := run("losetup", "--detach", d.loop)
			if _, gone := os.Stat(filepath.Join("/sys/block", filepath.Base(d.loop), "loop", "backing_file")); errors.Is(gone, os.ErrNotExist) {
				return
			}
			if time.Since(began) > 20*time.Second {
				d.t.Errorf("%s is still in use: %v", d.loop, err)
				return
			}
		}
	})
	return d.mount()
}

func (d *disk) mount() error { return run("mount", "-o", "errors=remount-ro", d.loop, d.point) }

// fill takes all space that is left.
func (d *disk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	var at int64
	for step := int64(1 << 30); step >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		default:
			return err
		}
	}
	return nil
}

func (d *disk) empty() error { return os.Remove(d.ballast()) }

func (d *disk) ballast() string { return filepath.Join(d.point, "ballast") }

// turnReadOnly makes the kernel believe that the file system is damaged.
func (d *disk) turnReadOnly() error {
	return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(d.loop), "trigger_fs_error"), []byte("1"), 0o200)
}

// mend brings a read-only disk back: a new mount after a check of the file system, under the feet of whoever has it open.
func (d *disk) mend() error {
	if err := run("umount", "--lazy", d.point); err != nil {
		return err
	}
	for began := time.Now(); ; time.Sleep(pollEvery) {
		check := exec.Command("e2fsck", "-fy", d.loop)
		out, err := check.CombinedOutput()
		if code := check.ProcessState.ExitCode(); code == 0 || code == 1 { // 1: errors were corrected
			return d.mount()
		}
		if time.Since(began) > 30*time.Second {
			return errors.Join(err, errors.New(string(out)))
		}
	}
}

// gate lets everybody through, or nobody until it is opened again.
type gate struct {
	mu    sync.Mutex
	until chan struct{} // closed: open
}

func newGate() *gate {
	g := &gate{until: make(chan struct{})}
	close(g.until)
	return g
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.until = make(chan struct{})
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.until:
	default:
		close(g.until)
	}
}

func (g *gate) pass() {
	g.mu.Lock()
	c := g.until
	g.mu.Unlock()
	<-c
}

// image is the file below the loop device.
type image struct {
	fs.Inode
	back *os.File
	gate *gate
}

// Open bypasses the page cache: the loop device has one above.
func (i *image) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, fuse.FOPEN_DIRECT_IO, 0
}

func (i *image) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	st, err := i.back.Stat()
	if err != nil {
		return fs.ToErrno(err)
	}
	out.Mode, out.Size = fuse.S_IFREG|0o600, uint64(st.Size())
	return 0
}

func (i *image) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return 0
}

func (i *image) Read(_ context.Context, _ fs.FileHandle, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	i.gate.pass()
	n, err := i.back.ReadAt(p, off)
	if n == 0 && err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(p[:n]), 0
}

func (i *image) Write(_ context.Context, _ fs.FileHandle, p []byte, off int64) (uint32, syscall.Errno) {
	i.gate.pass()
	n, err := i.back.WriteAt(p, off)
	return uint32(n), fs.ToErrno(err)
}

func (i *image) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	i.gate.pass()
	return 0 // the page cache below survives all that the drill does to the disk
}

var (
	_ fs.NodeOpener    = (*image)(nil)
	_ fs.NodeGetattrer = (*image)(nil)
	_ fs.NodeSetattrer = (*image)(nil)
	_ fs.NodeReader    = (*image)(nil)
	_ fs.NodeWriter    = (*image)(nil)
	_ fs.NodeFsyncer   = (*image)(nil)
)
