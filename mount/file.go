package mount

import (
	"context"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"cairn/mount/cache"
)

// file is one version of an object under a name. Its opens are all of one kind (direct or not), as the kernel demands.
type file struct {
	fs.Inode
	m      *Mount
	object Object
	direct bool // the cached copy is handed to the kernel
}

var (
	_ fs.NodeOpener      = (*file)(nil)
	_ fs.NodeGetattrer   = (*file)(nil)
	_ fs.NodeSetattrer   = (*file)(nil)
	_ fs.NodeGetxattrer  = (*file)(nil)
	_ fs.NodeListxattrer = (*file)(nil)
	_ fs.NodeOnAdder     = (*file)(nil)
	_ fs.NodeOnForgetter = (*file)(nil)
)

// fileInode makes the node of a version below parent; a version that is wholly cached is another node than the same
// version while it is not.
func (m *Mount) fileInode(ctx context.Context, parent *fs.Inode, o Object, out *fuse.EntryOut) *fs.Inode {
	f := &file{m: m, object: o, direct: m.cache.Whole(m.id(o))}
	f.fill(&out.Attr)
	ino := inode("file", o.Key, o.ETag, strconv.FormatInt(o.Size, 10), strconv.FormatBool(f.direct))
	return parent.NewInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG, Ino: ino})
}

func (m *Mount) id(o Object) cache.ID {
	return cache.ID{Endpoint: m.store.Endpoint(), Key: o.Key, ETag: o.ETag, Size: o.Size}
}

func (f *file) fill(a *fuse.Attr) {
	a.Mode = syscall.S_IFREG | 0o444
	a.Nlink = 1
	a.Size = uint64(f.object.Size)
	a.Blksize = 1 << 20
	a.Blocks = (a.Size + 511) / 512
	t := f.object.Modified
	a.SetTimes(&t, &t, &t)
}

// Getattr describes the version that the node stands for.
func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.fill(&out.Attr)
	return 0
}

// Setattr refuses: the mount is read-only.
func (f *file) Setattr(context.Context, fs.FileHandle, *fuse.SetAttrIn, *fuse.AttrOut) syscall.Errno {
	return syscall.EROFS
}

// OnAdd notes a node whose name is to be announced anew once its version is wholly cached.
func (f *file) OnAdd(context.Context) {
	if f.direct {
		return
	}
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	id := f.m.id(f.object)
	if f.m.nodes[id] == nil {
		f.m.nodes[id] = map[*file]bool{}
	}
	f.m.nodes[id][f] = true
}

// OnForget drops the note.
func (f *file) OnForget() {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	id := f.m.id(f.object)
	delete(f.m.nodes[id], f)
	if len(f.m.nodes[id]) == 0 {
		delete(f.m.nodes, id)
	}
}

const (
	xattrETag = "user.s3.etag"
	xattrKey  = "user.s3.key"
)

// Getxattr returns the version's ETag or key.
func (f *file) Getxattr(_ context.Context, name string, dest []byte) (uint32, syscall.Errno) {
	var value string
	switch name {
	case xattrETag:
		value = f.object.ETag
	case xattrKey:
		value = f.object.Key
	default:
		return 0, syscall.ENODATA
	}
	return copyOut(dest, value)
}

// Listxattr names both.
func (f *file) Listxattr(_ context.Context, dest []byte) (uint32, syscall.Errno) {
	return copyOut(dest, xattrETag+"\x00"+xattrKey+"\x00")
}

func copyOut(dest []byte, value string) (uint32, syscall.Errno) {
	if len(dest) < len(value) {
		return uint32(len(value)), syscall.ERANGE
	}
	return uint32(copy(dest, value)), 0
}

// Open opens the version. What is wholly cached is opened by the kernel itself.
func (f *file) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_WRONLY|syscall.O_RDWR|syscall.O_TRUNC|syscall.O_APPEND) != 0 {
		return nil, 0, syscall.EROFS
	}
	if f.object.Size == 0 {
		return &handle{m: f.m}, fuse.FOPEN_KEEP_CACHE, 0
	}
	src, err := f.m.sources.acquire(f.object)
	if err != nil {
		return nil, 0, syscall.EIO
	}
	f.m.followIndex(src)
	if !f.direct {
		return &handle{m: f.m, src: src}, fuse.FOPEN_KEEP_CACHE, 0
	}
	if src.cached == nil || !src.cached.Published() {
		// It was evicted, or found damaged: the name leads to another inode now. The kernel looks it up again.
		src.drop()
		f.m.renew(f)
		return nil, 0, syscall.ESTALE
	}
	f.m.check(src)
	return &direct{handle{m: f.m, src: src}}, 0, 0
}

// handle is an open file that this process serves.
type handle struct {
	m   *Mount
	src *source // nil for an empty object
}

var (
	_ fs.FileReader          = (*handle)(nil)
	_ fs.FileReleaser        = (*handle)(nil)
	_ fs.FilePassthroughFder = (*direct)(nil)
)

// Read serves up to len(dest) bytes: from memory where they have just come, from the cache where they are there, and fetches
// them where they are not.
func (h *handle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if h.src == nil || off >= h.src.object.Size {
		return fuse.ReadResultData(nil), 0
	}
	n := int(min(int64(len(dest)), h.src.object.Size-off))
	p, moved := h.src.advise(off, n)
	if p != nil {
		h.m.fetch.add(p)
	} else if moved {
		h.m.fetch.moved(h.src)
	}
	if first := int(cache.ChunkBytes - off%cache.ChunkBytes); n > first {
		return h.readOver(ctx, dest[:n], off, first)
	}
	fl, err := h.src.have(ctx, off, n, fromAnywhere)
	if err != nil {
		return nil, h.m.errno(ctx, "read", h.src.object.Key, err)
	}
	if fl == nil {
		h.m.counts.fromCache.Add(int64(n))
		return fuse.ReadResultFd(h.src.cached.Data().Fd(), off, n), 0
	}
	h.m.counts.fromMemory.Add(int64(n))
	return &inMemory{fetch: h.m.fetch, flight: fl, data: fl.bytes(off, n)}, 0
}

// readOver fills dest from two chunks, the first of which has first bytes of it.
func (h *handle) readOver(ctx context.Context, dest []byte, off int64, first int) (fuse.ReadResult, syscall.Errno) {
	for _, part := range [][]byte{dest[:first], dest[first:]} {
		if err := h.m.readPart(ctx, h.src, part, off); err != nil {
			return nil, h.m.errno(ctx, "read", h.src.object.Key, err)
		}
		off += int64(len(part))
	}
	return fuse.ReadResultData(dest), 0
}

// readPart fills dest from within one chunk.
func (m *Mount) readPart(ctx context.Context, src *source, dest []byte, off int64) error {
	fl, err := src.have(ctx, off, len(dest), fromAnywhere)
	if err != nil {
		return err
	}
	if fl == nil {
		m.counts.fromCache.Add(int64(len(dest)))
		_, err := src.cached.Data().ReadAt(dest, off)
		return err
	}
	m.counts.fromMemory.Add(int64(len(dest)))
	copy(dest, fl.bytes(off, len(dest)))
	m.fetch.leave(fl, len(dest))
	return nil
}

// inMemory answers a read from a flight's buffer without copying it.
type inMemory struct {
	fetch  *fetcher
	flight *flight
	data   []byte
}

// Bytes returns the bytes in the flight's buffer.
func (r *inMemory) Bytes([]byte) ([]byte, fuse.Status) { return r.data, fuse.OK }

// Slices returns them too; go-fuse tries no splice for who has this method.
func (r *inMemory) Slices() ([][]byte, fuse.Status) { return [][]byte{r.data}, fuse.OK }

// Size is their number.
func (r *inMemory) Size() int { return len(r.data) }

// Done lets the buffer go: the kernel has the bytes.
func (r *inMemory) Done() { r.fetch.leave(r.flight, len(r.data)) }

// Release closes the file.
func (h *handle) Release(context.Context) syscall.Errno {
	if h.src != nil {
		h.src.drop()
	}
	return 0
}

// direct is an open file whose cached copy the kernel reads itself. Where it cannot (no privilege, an old kernel), the
// requests come to handle's Read.
type direct struct{ handle }

// PassthroughFd hands out the cached file.
func (d *direct) PassthroughFd() (int, bool) { return int(d.src.cached.Data().Fd()), true }
