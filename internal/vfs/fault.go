package vfs

import (
	"io"
	"maps"
	"slices"
	"sync/atomic"
)

func sortedNames(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// OpKind names an operation for a Fault.
type OpKind uint8

// The operations that a Fault sees.
const (
	OpOpen OpKind = iota
	OpMkdir
	OpRename
	OpRemove
	OpReadDir
	OpStat
	OpStatFS
	OpSyncDir
	OpLock
	OpRead
	OpWrite
	OpSync
	OpTruncate
	OpAllocate
	OpFileStat
	OpClose
)

// Op is one operation that is about to happen.
type Op struct {
	Kind OpKind
	Name string // of the file, or the first name
	Off  int64  // of a read or write
	Len  int    // of a read or write
}

// Changes tells whether the operation alters what is stored or how durable it is.
func (o Op) Changes() bool {
	switch o.Kind {
	case OpMkdir, OpRename, OpRemove, OpSyncDir, OpWrite, OpSync, OpTruncate, OpAllocate:
		return true
	}
	return false
}

// Fault decides the fate of an operation: nil lets it happen, ErrDropped pretends that it happened, another error fails
// it. A fault may sleep or block, which is how slow and hung disks are made. It is called concurrently.
type Fault func(Op) error

// ErrDropped, returned by a Fault, makes the operation a silent no-op that reports success (writes, syncs, removals).
var ErrDropped = dropped{}

type dropped struct{}

func (dropped) Error() string { return "dropped" }

// FailNth fails the n-th changing operation (from 0) with err; hit tells whether it came to that.
func FailNth(n int, err error) (fault Fault, hit func() bool) {
	var seen atomic.Int64
	return func(op Op) error {
			if op.Changes() && seen.Add(1) == int64(n)+1 {
				return err
			}
			return nil
		}, func() bool {
			return seen.Load() > int64(n)
		}
}

// FailFrom fails the n-th changing operation (from 0) and everything after it, reads too: the power is gone.
func FailFrom(n int, err error) (fault Fault, hit func() bool) {
	var seen atomic.Int64
	return func(op Op) error {
			if op.Changes() && seen.Add(1) > int64(n) || seen.Load() > int64(n) {
				return err
			}
			return nil
		}, func() bool {
			return seen.Load() > int64(n)
		}
}

// WithFault wraps a file system so that fault sees every operation first.
func WithFault(under FS, fault Fault) FS { return &faultFS{under, fault} }

type faultFS struct {
	FS
	fault Fault
}

// ask returns drop if the operation is to be skipped silently.
func (f *faultFS) ask(kind OpKind, name string) (drop bool, err error) {
	err = f.fault(Op{Kind: kind, Name: name})
	if err == error(ErrDropped) {
		return true, nil
	}
	return false, err
}

func (f *faultFS) do(kind OpKind, name string, act func() error) error {
	drop, err := f.ask(kind, name)
	if drop {
		return nil
	}
	if err != nil {
		return pathError("fault", name, err)
	}
	return act()
}

func (f *faultFS) Open(name string, flags Flag) (file File, err error) {
	err = f.do(OpOpen, name, func() error {
		file, err = f.FS.Open(name, flags)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Mkdir(name string) error {
	return f.do(OpMkdir, name, func() error { return f.FS.Mkdir(name) })
}

func (f *faultFS) Rename(from, to string) error {
	return f.do(OpRename, from, func() error { return f.FS.Rename(from, to) })
}

func (f *faultFS) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.FS.Remove(name) })
}

func (f *faultFS) ReadDir(name string) (names []string, err error) {
	err = f.do(OpReadDir, name, func() error {
		names, err = f.FS.ReadDir(name)
		return err
	})
	return names, err
}

func (f *faultFS) Stat(name string) (info Info, err error) {
	err = f.do(OpStat, name, func() error {
		info, err = f.FS.Stat(name)
		return err
	})
	return info, err
}

func (f *faultFS) StatFS(name string) (u Usage, err error) {
	err = f.do(OpStatFS, name, func() error {
		u, err = f.FS.StatFS(name)
		return err
	})
	return u, err
}

func (f *faultFS) SyncDir(name string) error {
	return f.do(OpSyncDir, name, func() error { return f.FS.SyncDir(name) })
}

func (f *faultFS) Lock(name string) (c io.Closer, err error) {
	err = f.do(OpLock, name, func() error {
		c, err = f.FS.Lock(name)
		return err
	})
	return c, err
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.fault(Op{OpRead, f.name, off, len(p)}); err != nil && err != error(ErrDropped) {
		return 0, pathError("fault", f.name, err)
	}
	return f.File.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.fault(Op{OpWrite, f.name, off, len(p)})
	if err == error(ErrDropped) {
		return len(p), nil
	}
	if err != nil {
		return 0, pathError("fault", f.name, err)
	}
	return f.File.WriteAt(p, off)
}

func (f *faultFile) Sync() error { return f.fs.do(OpSync, f.name, f.File.Sync) }

func (f *faultFile) Truncate(size int64) error {
	return f.fs.do(OpTruncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *faultFile) Allocate(size int64) error {
	return f.fs.do(OpAllocate, f.name, func() error { return f.File.Allocate(size) })
}

func (f *faultFile) Stat() (info Info, err error) {
	err = f.fs.do(OpFileStat, f.name, func() error {
		info, err = f.File.Stat()
		return err
	})
	return info, err
}

func (f *faultFile) Close() error { return f.fs.do(OpClose, f.name, f.File.Close) }
