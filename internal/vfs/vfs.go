// Package vfs is the file system as the data node sees it: an interface small enough to be implemented three times, on
// the operating system (OS), in memory with crashes (Mem), and wrapped with faults (WithFault). So a crash, a full disk
// and an I/O error are ordinary tests.
//
// Rules that every implementation keeps: bytes are durable after File.Sync; a created, renamed or removed name is
// durable after SyncDir of its directory; anything else may be kept, kept in part, or lost by a crash. Errors wrap the
// system's errno, so that errors.Is with fs.ErrNotExist, syscall.ENOSPC, syscall.EROFS and syscall.EIO works on all.
//
// It does not cache, retry, or interpret what it stores.
package vfs

import (
	"errors"
	"io"
	"unsafe"
)

// Align is the alignment in bytes that Direct files ask of memory, offset and length.
const Align = 4096

// ErrWouldBlock is returned by a NoWaitReader when the bytes are not in memory.
var ErrWouldBlock = errors.New("read would block")

// Flag tells how to open a file. Flags are combined with |.
type Flag uint8

// The flags of Open. Reading is always allowed.
const (
	Write  Flag = 1 << iota // allow writing
	Create                  // make the file if it is absent
	Excl                    // with Create: fail if it exists
	Direct                  // bypass the page cache where the file system can; all access must be aligned to Align
)

// FS is a file system. Names are slash-separated paths. Safe for concurrent use.
type FS interface {
	Open(name string, flags Flag) (File, error)
	Mkdir(name string) error // with its parents; no error if it exists
	Rename(from, to string) error
	Remove(name string) error
	ReadDir(name string) ([]string, error) // names within, sorted
	Stat(name string) (Info, error)
	StatFS(name string) (Usage, error)
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Lock takes an exclusive lock on a file, which it creates if it can, until the Closer is closed or the process ends.
	// A lock that is held is a *LockedError.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Safe for concurrent use, but for Close.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error // fdatasync: bytes and what is needed to read them back
	Truncate(size int64) error
	// Allocate reserves space for the first size bytes and extends the file to it; ENOSPC if there is none.
	Allocate(size int64) error
	Stat() (Info, error)
}

// NoWaitReader is a File that can tell whether bytes are in memory.
type NoWaitReader interface {
	// ReadAtNoWait is ReadAt that returns ErrWouldBlock, having read nothing or some, rather than wait for the disk.
	ReadAtNoWait(p []byte, off int64) (int, error)
}

// Info describes a file or directory.
type Info struct {
	Size  int64 // bytes
	Dir   bool
	Inode uint64 // with Dev it tells whether two names are one file
	Dev   uint64
}

// Usage is the space of the file system that holds a name.
type Usage struct {
	TotalBytes int64
	FreeBytes  int64 // available to this process
	ReadOnly   bool
}

// LockedError tells who holds a lock.
type LockedError struct {
	Name string
	PID  string // as the holder wrote it, "" if unknown
}

// Error names the file and the holder.
func (e *LockedError) Error() string {
	if e.PID == "" {
		return e.Name + " is locked by another process"
	}
	return e.Name + " is locked by process " + e.PID
}

// AlignedBuffer returns n bytes of memory whose start is aligned for Direct files.
func AlignedBuffer(n int) []byte {
	b := make([]byte, n+Align)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Align - 1))
	return b[skip : skip+n : skip+n]
}

// Aligned tells whether p may be written to a Direct file at off as it is.
func Aligned(p []byte, off int64) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))&(Align-1) == 0 && len(p)%Align == 0 && off%Align == 0
}
