package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// OS is the operating system's file system.
type OS struct{}

// Open opens a file; Direct falls back to the page cache where the file system has no direct I/O (tmpfs).
func (OS) Open(name string, flags Flag) (File, error) {
	how := os.O_RDONLY
	if flags&Write != 0 {
		how = os.O_RDWR
	}
	if flags&Create != 0 {
		how |= os.O_CREATE
	}
	if flags&Excl != 0 {
		how |= os.O_EXCL
	}
	if flags&Direct != 0 {
		f, err := os.OpenFile(name, how|unix.O_DIRECT, 0o640)
		if err == nil {
			return &osFile{f}, nil
		}
		if !errors.Is(err, syscall.EINVAL) {
			return nil, err
		}
		how &^= os.O_EXCL // the failed attempt may have made the file
	}
	f, err := os.OpenFile(name, how, 0o640)
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

// Mkdir makes a directory and its parents.
func (OS) Mkdir(name string) error { return os.MkdirAll(name, 0o750) }

// Rename moves a name, replacing what is at the destination.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove deletes a file or an empty directory.
func (OS) Remove(name string) error { return os.Remove(name) }

// ReadDir lists the names within a directory, sorted.
func (OS) ReadDir(name string) ([]string, error) {
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Stat describes what a name stands for.
func (OS) Stat(name string) (Info, error) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	return infoOf(&st), nil
}

func infoOf(st *unix.Stat_t) Info {
	return Info{Size: st.Size, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR, Inode: st.Ino, Dev: st.Dev}
}

// StatFS tells the space of the file system that holds name.
func (OS) StatFS(name string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(name, &st); err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return Usage{TotalBytes: int64(st.Blocks) * st.Bsize, FreeBytes: int64(st.Bavail) * st.Bsize,
		ReadOnly: st.Flags&unix.ST_RDONLY != 0}, nil
}

// SyncDir makes the names in a directory durable.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock takes flock on name and writes this process's ID into it. On a read-only file system it locks the file as it is.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(filepath.Clean(name)) // only for the message
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Name: name, PID: strings.TrimSpace(string(holder))}
		}
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	// The text only helps people, so a disk that takes no writes does not keep the lock from being held.
	if f.Truncate(0) == nil {
		f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

type osFile struct{ *os.File }

func (f *osFile) fd() int { return int(f.File.Fd()) }

func (f *osFile) Sync() error {
	for {
		err := unix.Fdatasync(f.fd())
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return &fs.PathError{Op: "fdatasync", Path: f.Name(), Err: err}
		}
	}
}

func (f *osFile) Allocate(size int64) error {
	for {
		err := unix.Fallocate(f.fd(), 0, 0, size)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EOPNOTSUPP):
			return f.Truncate(size) // no promise of space; ENOSPC then comes from the write
		case !errors.Is(err, unix.EINTR):
			return &fs.PathError{Op: "fallocate", Path: f.Name(), Err: err}
		}
	}
}

func (f *osFile) Stat() (Info, error) {
	var st unix.Stat_t
	if err := unix.Fstat(f.fd(), &st); err != nil {
		return Info{}, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return infoOf(&st), nil
}

// ReadAtNoWait reads from the page cache only (preadv2 with RWF_NOWAIT).
func (f *osFile) ReadAtNoWait(p []byte, off int64) (int, error) {
	read := 0
	for read < len(p) {
		n, err := unix.Preadv2(f.fd(), [][]byte{p[read:]}, off+int64(read), unix.RWF_NOWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EOPNOTSUPP):
			return read, ErrWouldBlock
		case err != nil:
			return read, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		case n == 0:
			return read, io.EOF
		default:
			read += n
		}
	}
	return read, nil
}
