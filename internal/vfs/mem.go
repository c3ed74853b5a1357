package vfs

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Mem is a file system in memory that knows what a crash would leave behind. It keeps, beside the present content, what
// is durable, and the changes since in order. Its journal of names is ordered per directory, as on ext4 and XFS: a crash
// keeps a prefix of the changes of names. Safe for concurrent use.
type Mem struct {
	mu     sync.Mutex
	root   *memDir
	inodes uint64
	locks  map[string]bool
	total  int64 // capacity in bytes
	used   int64
}

type memDir struct {
	inode   uint64
	entries map[string]any // *memDir or *memNode
	durable map[string]any
	pending []nameChange
}

// nameChange sets name to node (nil removes it), and for a rename removes from in the same step.
type nameChange struct {
	name, from string
	node       any
}

func (c nameChange) apply(m map[string]any) {
	if c.from != "" {
		delete(m, c.from)
	}
	if c.node == nil {
		delete(m, c.name)
	} else {
		m[c.name] = c.node
	}
}

type memNode struct {
	inode   uint64
	data    []byte
	durable []byte
	pending []dataChange
}

// dataChange writes data at off, or sets the length to size when data is nil.
type dataChange struct {
	off, size int64
	data      []byte
}

func (c dataChange) apply(b []byte) []byte {
	if c.data == nil {
		if c.size <= int64(len(b)) {
			return b[:c.size:c.size]
		}
		return append(b, make([]byte, c.size-int64(len(b)))...)
	}
	if end := c.off + int64(len(c.data)); end > int64(len(b)) {
		b = append(b, make([]byte, end-int64(len(b)))...)
	}
	copy(b[c.off:], c.data)
	return b
}

// NewMem returns an empty file system of 1 GiB.
func NewMem() *Mem {
	m := &Mem{locks: map[string]bool{}, total: 1 << 30}
	m.root = m.newDir()
	return m
}

// SetCapacity changes the capacity; writes beyond it fail with ENOSPC.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.total = bytes
}

func (m *Mem) newDir() *memDir {
	m.inodes++
	return &memDir{inode: m.inodes, entries: map[string]any{}, durable: map[string]any{}}
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

func split(name string) []string {
	return strings.FieldsFunc(path.Clean(name), func(r rune) bool { return r == '/' })
}

// find returns what name stands for, nil if nothing.
func (m *Mem) find(name string) any {
	var at any = m.root
	for _, part := range split(name) {
		d, ok := at.(*memDir)
		if !ok || part == "." {
			return nil
		}
		if at = d.entries[part]; at == nil {
			return nil
		}
	}
	return at
}

func (m *Mem) parent(name string) (*memDir, string) {
	d, _ := m.find(path.Dir(path.Clean(name))).(*memDir)
	return d, path.Base(name)
}

func (d *memDir) change(c nameChange) {
	c.apply(d.entries)
	d.pending = append(d.pending, c)
}

// Open opens or makes a file.
func (m *Mem) Open(name string, flags Flag) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch n := m.find(name).(type) {
	case *memDir:
		return nil, pathError("open", name, syscall.EISDIR)
	case *memNode:
		if flags&Excl != 0 {
			return nil, pathError("open", name, syscall.EEXIST)
		}
		return &memFile{fs: m, node: n, name: name, write: flags&Write != 0}, nil
	}
	d, base := m.parent(name)
	if d == nil || flags&Create == 0 {
		return nil, pathError("open", name, syscall.ENOENT)
	}
	m.inodes++
	n := &memNode{inode: m.inodes}
	d.change(nameChange{name: base, node: n})
	return &memFile{fs: m, node: n, name: name, write: flags&Write != 0}, nil
}

// Mkdir makes a directory and its parents.
func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.root
	for _, part := range split(name) {
		switch next := at.entries[part].(type) {
		case *memDir:
			at = next
		case nil:
			d := m.newDir()
			at.change(nameChange{name: part, node: d})
			at = d
		default:
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
	}
	return nil
}

// Rename moves a file within its directory.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base := m.parent(to)
	d2, old := m.parent(from)
	if d == nil || d2 == nil || d.entries == nil || d2.entries[old] == nil {
		return pathError("rename", from, syscall.ENOENT)
	}
	if d != d2 {
		return pathError("rename", from, syscall.EXDEV)
	}
	d.change(nameChange{name: base, from: old, node: d.entries[old]})
	return nil
}

// Remove deletes a file or an empty directory. Open files stay readable.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, base := m.parent(name)
	if d == nil || d.entries[base] == nil {
		return pathError("remove", name, syscall.ENOENT)
	}
	switch n := d.entries[base].(type) {
	case *memDir:
		if len(n.entries) > 0 {
			return pathError("remove", name, syscall.ENOTEMPTY)
		}
	case *memNode:
		m.used -= int64(len(n.data))
	}
	d.change(nameChange{name: base})
	return nil
}

// ReadDir lists the names within a directory, sorted.
func (m *Mem) ReadDir(name string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.find(name).(*memDir)
	if !ok {
		return nil, pathError("readdir", name, syscall.ENOENT)
	}
	names := make([]string, 0, len(d.entries))
	for n := range d.entries {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

// Stat describes what a name stands for.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch n := m.find(name).(type) {
	case *memDir:
		return Info{Dir: true, Inode: n.inode}, nil
	case *memNode:
		return Info{Size: int64(len(n.data)), Inode: n.inode}, nil
	}
	return Info{}, pathError("stat", name, syscall.ENOENT)
}

// StatFS tells capacity and free space.
func (m *Mem) StatFS(name string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.find(name) == nil {
		return Usage{}, pathError("statfs", name, syscall.ENOENT)
	}
	return Usage{TotalBytes: m.total, FreeBytes: max(0, m.total-m.used)}, nil
}

// SyncDir makes the names in a directory durable.
func (m *Mem) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	d, ok := m.find(name).(*memDir)
	if !ok {
		return pathError("sync", name, syscall.ENOENT)
	}
	for _, c := range d.pending {
		c.apply(d.durable)
	}
	d.pending = nil
	return nil
}

// Lock takes the lock named name, and makes its file.
func (m *Mem) Lock(name string) (io.Closer, error) {
	f, err := m.Open(name, Write|Create)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locks[name] {
		return nil, &LockedError{Name: name}
	}
	m.locks[name] = true
	return &memLock{File: f, fs: m, name: name}, nil
}

type memLock struct {
	File
	fs   *Mem
	name string
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locks, l.name)
	return nil
}

type memFile struct {
	fs    *Mem
	node  *memNode
	name  string
	write bool
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.change("write", dataChange{off: off, data: append([]byte{}, p...)}); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (f *memFile) Truncate(size int64) error {
	return f.change("truncate", dataChange{size: size})
}

func (f *memFile) Allocate(size int64) error {
	if info, _ := f.Stat(); info.Size >= size {
		return nil
	}
	return f.change("fallocate", dataChange{size: size})
}

func (f *memFile) change(op string, c dataChange) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.write {
		return pathError(op, f.name, syscall.EBADF)
	}
	size := int64(len(f.node.data))
	after := max(size, c.off+int64(len(c.data)))
	if c.data == nil {
		after = c.size
	}
	if f.fs.used+after-size > f.fs.total && after > size {
		return pathError(op, f.name, syscall.ENOSPC)
	}
	f.fs.used += after - size
	f.node.data = c.apply(f.node.data)
	f.node.pending = append(f.node.pending, c)
	return nil
}

func (f *memFile) Sync() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	for _, c := range f.node.pending {
		f.node.durable = c.apply(f.node.durable)
	}
	f.node.pending = nil
	return nil
}

func (f *memFile) Stat() (Info, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return Info{Size: int64(len(f.node.data)), Inode: f.node.inode}, nil
}

func (f *memFile) Close() error { return nil }
