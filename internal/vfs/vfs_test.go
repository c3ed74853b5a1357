package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"cairn/internal/vfs"
)

// both runs a test on the real file system and on the one in memory.
func both(t *testing.T, test func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("os", func(t *testing.T) { test(t, vfs.OS{}, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := vfs.NewMem()
		if err := m.Mkdir("/dir"); err != nil {
			t.Fatal(err)
		}
		test(t, m, "/dir")
	})
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, fsys vfs.FS, name, text string, off int64) vfs.File {
	t.Helper()
	f, err := fsys.Open(name, vfs.Write|vfs.Create)
	must(t, err)
	_, err = f.WriteAt([]byte(text), off)
	must(t, err)
	return f
}

func read(fsys vfs.FS, name string) (string, error) {
	f, err := fsys.Open(name, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	return string(b), err
}

func TestFiles(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		_, err := fsys.Open(a, vfs.Write)
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open of an absent file: got %v", err)
		}
		f := write(t, fsys, a, "weights", 2)
		must(t, f.Sync())
		if _, err := fsys.Open(a, vfs.Write|vfs.Create|vfs.Excl); !errors.Is(err, fs.ErrExist) {
			t.Errorf("exclusive open of a file that exists: got %v", err)
		}
		if got, err := read(fsys, a); got != "\x00\x00weights" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		p := make([]byte, 8)
		if n, err := f.ReadAt(p, 5); n != 4 || err != io.EOF {
			t.Errorf("read over the end: got %d, %v, want 4, EOF", n, err)
		}
		must(t, f.Truncate(4), f.Allocate(6))
		if got, _ := read(fsys, a); got != "\x00\x00we\x00\x00" {
			t.Errorf("truncated and allocated: got %q", got)
		}
		must(t, f.Allocate(3))
		if info, err := f.Stat(); info.Size != 6 || err != nil {
			t.Errorf("allocate never shrinks: got %d, %v", info.Size, err)
		}
		must(t, write(t, fsys, b, "old", 0).Close(), fsys.Rename(a, b), fsys.SyncDir(dir))
		if names, err := fsys.ReadDir(dir); !slices.Equal(names, []string{"b"}) || err != nil {
			t.Errorf("after the rename: got %v, %v", names, err)
		}
		opened, err1 := f.Stat()
		named, err2 := fsys.Stat(b)
		must(t, err1, err2)
		if opened.Inode != named.Inode || opened.Dev != named.Dev || named.Dir {
			t.Errorf("one file, two descriptions: %+v, %+v", opened, named)
		}
		must(t, fsys.Remove(b))
		if _, err := fsys.Stat(b); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat of a removed file: got %v", err)
		}
		if n, _ := f.ReadAt(p[:2], 2); string(p[:n]) != "we" {
			t.Errorf("an open file stays readable: got %q", p[:n])
		}
		must(t, f.Close())
	})
}

func TestDirectories(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		deep := filepath.Join(dir, "x", "y")
		must(t, fsys.Mkdir(deep), fsys.Mkdir(deep))
		if info, err := fsys.Stat(deep); !info.Dir || err != nil {
			t.Errorf("got %+v, %v", info, err)
		}
		if err := fsys.Remove(filepath.Join(dir, "x")); !errors.Is(err, syscall.ENOTEMPTY) {
			t.Errorf("remove of a full directory: got %v", err)
		}
		must(t, fsys.Remove(deep))
		if _, err := fsys.ReadDir(deep); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("list of an absent directory: got %v", err)
		}
		usage, err := fsys.StatFS(dir)
		if err != nil || usage.TotalBytes <= 0 || usage.FreeBytes > usage.TotalBytes {
			t.Errorf("got %+v, %v", usage, err)
		}
	})
}

func TestLock(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		name := filepath.Join(dir, "lock")
		held, err := fsys.Lock(name)
		must(t, err)
		var locked *vfs.LockedError
		if _, err := fsys.Lock(name); !errors.As(err, &locked) {
			t.Fatalf("second lock: got %v", err)
		}
		if _, real := fsys.(vfs.OS); real && locked.PID != strconv.Itoa(os.Getpid()) {
			t.Errorf("holder: got %q, want %d", locked.PID, os.Getpid())
		}
		must(t, held.Close())
		again, err := fsys.Lock(name)
		must(t, err)
		must(t, again.Close())
	})
}

func TestDirectFile(t *testing.T) {
	both(t, func(t *testing.T, fsys vfs.FS, dir string) {
		f, err := fsys.Open(filepath.Join(dir, "d"), vfs.Write|vfs.Create|vfs.Direct)
		must(t, err)
		defer f.Close()
		p := vfs.AlignedBuffer(3 * vfs.Align)
		if !vfs.Aligned(p, 2*vfs.Align) || vfs.Aligned(p[1:], 0) || vfs.Aligned(p, 5) {
			t.Errorf("alignment is not seen")
		}
		copy(p[vfs.Align:], "tensor")
		_, err = f.WriteAt(p, vfs.Align)
		must(t, err, f.Sync())
		got := vfs.AlignedBuffer(3 * vfs.Align)
		_, err = f.ReadAt(got, vfs.Align)
		must(t, err)
		if !bytes.Equal(got, p) {
			t.Errorf("read back other bytes")
		}
	})
}

// A read that does not wait returns the bytes or says that it would have to wait: never others.
func TestReadAtNoWait(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f := write(t, vfs.OS{}, name, "cached", 0)
	defer f.Close()
	p := make([]byte, 6)
	n, err := f.(vfs.NoWaitReader).ReadAtNoWait(p, 0)
	if err != nil && !errors.Is(err, vfs.ErrWouldBlock) || err == nil && string(p) != "cached" || n > 6 {
		t.Errorf("got %d, %v, %q", n, err, p)
	}
	if n, err := f.(vfs.NoWaitReader).ReadAtNoWait(p, 3); err == nil || n > 3 {
		t.Errorf("over the end: got %d, %v", n, err)
	}
}

func TestCrash(t *testing.T) {
	m := vfs.NewMem()
	must(t, m.Mkdir("/d"), m.SyncDir("/"))
	f := write(t, m, "/d/synced", "durable", 0)
	must(t, f.Sync(), m.SyncDir("/d"))
	_, err := f.WriteAt([]byte("LOST"), 0)
	must(t, err)
	must(t, write(t, m, "/d/nameless", "x", 0).Sync()) // its name is not durable
	must(t, m.Rename("/d/synced", "/d/renamed"))

	lost := m.Crash(vfs.LoseAll, 0)
	if got, err := read(lost, "/d/synced"); got != "durable" || err != nil {
		t.Errorf("lose all: got %q, %v", got, err)
	}
	if names, _ := lost.ReadDir("/d"); !slices.Equal(names, []string{"synced"}) {
		t.Errorf("lose all: got names %v", names)
	}
	kept := m.Crash(vfs.KeepAll, 0)
	if got, err := read(kept, "/d/renamed"); got != "LOSTble" || err != nil {
		t.Errorf("keep all: got %q, %v", got, err)
	}
	seen := map[string]bool{}
	for seed := range uint64(64) {
		some := m.Crash(vfs.KeepSome, seed)
		names, err := some.ReadDir("/d")
		must(t, err)
		text, err := read(some, "/d/"+names[len(names)-1])
		must(t, err)
		seen[text] = true
		if len(names) == 0 || slices.Contains(names, "synced") == slices.Contains(names, "renamed") {
			t.Errorf("seed %d: a rename is atomic, got %v", seed, names)
		}
	}
	if !seen["durable"] || !seen["LOSTble"] {
		t.Errorf("keep some: saw only %v", seen)
	}
	must(t, write(t, kept, "/d/renamed", "other", 0).Close())
	if got, _ := read(m, "/d/renamed"); got != "LOSTble" {
		t.Errorf("a crashed disk shares bytes with the old one: %q", got)
	}
}

func TestTornWrites(t *testing.T) {
	m := vfs.NewMem()
	must(t, m.SyncDir("/"))
	f := write(t, m, "/f", string(bytes.Repeat([]byte("o"), 4096)), 0)
	must(t, f.Sync(), m.SyncDir("/"))
	_, err := f.WriteAt(bytes.Repeat([]byte("n"), 4096), 0)
	must(t, err)
	torn := false
	for seed := range uint64(64) {
		got, err := read(m.Crash(vfs.KeepSome, seed), "/f")
		must(t, err)
		n := bytes.Count([]byte(got), []byte("n"))
		if len(got) != 4096 || n%512 != 0 {
			t.Fatalf("seed %d: %d of %d bytes are new", seed, n, len(got))
		}
		torn = torn || n > 0 && n < 4096
	}
	if !torn {
		t.Error("no write was torn")
	}
}

func TestCapacity(t *testing.T) {
	m := vfs.NewMem()
	m.SetCapacity(10)
	f := write(t, m, "/f", "12345678", 0)
	if _, err := f.WriteAt([]byte("abcd"), 8); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: got %v", err)
	}
	if err := f.Allocate(11); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("allocate: got %v", err)
	}
	must(t, f.Truncate(2))
	_, err := f.WriteAt([]byte("abcdefgh"), 2)
	must(t, err)
}

func TestFaults(t *testing.T) {
	replace := func(fsys vfs.FS) error {
		f, err := fsys.Open("/f", vfs.Write|vfs.Create)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("x"), 0)
		return errors.Join(err, f.Sync(), f.Close(), fsys.Rename("/f", "/g"), fsys.SyncDir("/"))
	}
	failed := 0
	for n := 0; ; n++ {
		fault, hit := vfs.FailNth(n, syscall.EIO)
		err := replace(vfs.WithFault(vfs.NewMem(), fault))
		if !hit() {
			break
		}
		if failed++; !errors.Is(err, syscall.EIO) {
			t.Errorf("fault %d: got %v", n, err)
		}
	}
	if failed != 4 {
		t.Errorf("%d operations change something, want 4", failed)
	}
	m := vfs.NewMem()
	drop := func(op vfs.Op) error {
		if op.Kind == vfs.OpSync || op.Kind == vfs.OpSyncDir {
			return vfs.ErrDropped
		}
		return nil
	}
	must(t, replace(vfs.WithFault(m, drop)))
	if names, _ := m.Crash(vfs.LoseAll, 0).ReadDir("/"); len(names) != 0 {
		t.Errorf("dropped syncs made %v durable", names)
	}
}
