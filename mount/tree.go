package mount

import (
	"context"
	"errors"
	"hash/fnv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// dir is a common prefix.
type dir struct {
	fs.Inode
	m      *Mount
	prefix string // "" or ends in "/"

	mu     sync.Mutex
	recent recent
}

var (
	_ fs.NodeLookuper  = (*dir)(nil)
	_ fs.NodeReaddirer = (*dir)(nil)
	_ fs.NodeGetattrer = (*dir)(nil)
	_ fs.NodeStatfser  = (*dir)(nil)
)

// maxRecent bounds what one directory remembers of its last listing.
const maxRecent = 1 << 14

// recent is what a listing has just shown, so that `ls -l` asks for no object by itself.
type recent struct {
	at        time.Time         // when its oldest page was listed
	names     map[string]Object // of a directory the zero Object
	fromFirst bool              // it holds every name that the listing has shown so far
	complete  bool              // it holds every name of the directory
}

// remember takes in a page that was listed at a time. A page that does not fit replaces those before it.
func (d *dir) remember(names map[string]Object, at time.Time, first, last bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := &d.recent
	if first || len(r.names)+len(names) > maxRecent {
		*r = recent{at: at, names: make(map[string]Object, len(names)), fromFirst: first}
	}
	for n, o := range names {
		r.names[n] = o
	}
	r.complete = r.fromFirst && last
}

// known looks a name up in the recent listing. sure: the answer holds.
func (d *dir) known(name string) (o Object, found, sure bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.recent.at) > d.m.cfg.MetadataTTL {
		d.recent = recent{}
		return o, false, false
	}
	o, found = d.recent.names[name]
	return o, found, found || d.recent.complete
}

// Lookup finds a name. A directory hides an object of the same name.
func (d *dir) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if d.prefix == d.m.cfg.Prefix && name == specialName {
		return d.NewInode(ctx, &special{}, fs.StableAttr{Mode: syscall.S_IFDIR}), 0
	}
	o, found, sure := d.known(name)
	var page *Page
	at := time.Now()
	if !sure {
		var err error
		if o, page, err = d.ask(ctx, name); err != nil && !errors.Is(err, ErrAbsent) {
			return nil, d.m.errno(ctx, "lookup", d.prefix+name, err)
		}
		found = err == nil
	}
	if !found {
		out.SetEntryTimeout(d.m.negativeTTL())
		return nil, syscall.ENOENT
	}
	out.SetEntryTimeout(d.m.cfg.MetadataTTL)
	out.SetAttrTimeout(d.m.cfg.MetadataTTL)
	if o.Key == "" {
		fillDir(&out.Attr)
		child := d.NewInode(ctx, &dir{m: d.m, prefix: d.prefix + name + "/"},
			fs.StableAttr{Mode: syscall.S_IFDIR, Ino: inode("dir", d.prefix+name+"/")})
		if below, ok := child.Operations().(*dir); ok && page != nil {
			below.adopt(*page, at)
		}
		return child, 0
	}
	return d.m.fileInode(ctx, &d.Inode, o, out), 0
}

// ask asks the store what a name is: both questions at once, so that it costs one round trip. Of a directory it returns the
// first page of its listing, so that the names in it need no question of their own.
func (d *dir) ask(ctx context.Context, name string) (o Object, below *Page, err error) {
	if !plain(name) || len(d.prefix)+len(name) > maxKey {
		return o, nil, ErrAbsent
	}
	var page Page
	var dirErr error
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		dirErr = d.m.again(ctx, func(ctx context.Context) (err error) {
			page, err = d.m.store.List(ctx, d.prefix+name+"/", "")
			return err
		})
	}()
	o, err = d.m.head(ctx, d.prefix+name)
	<-asked
	switch {
	case dirErr != nil && !errors.Is(dirErr, ErrAbsent):
		return o, nil, dirErr
	case len(page.Objects)+len(page.Prefixes) > 0:
		return Object{}, &page, nil
	}
	return o, nil, err
}

// adopt takes a first page of the directory's listing for what it recently showed.
func (d *dir) adopt(p Page, at time.Time) {
	s := &listing{d: d, next: p.Next, last: p.Next == ""}
	names := make(map[string]Object, len(p.Objects)+len(p.Prefixes))
	s.merge(p, names)
	d.remember(names, at, true, s.last)
}

// Getattr describes the directory.
func (d *dir) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	fillDir(&out.Attr)
	return 0
}

func fillDir(a *fuse.Attr) {
	a.Mode = syscall.S_IFDIR | 0o555
	a.Nlink = 2
}

// Statfs says that nothing can be written: how large a bucket is, nobody knows.
func (d *dir) Statfs(_ context.Context, out *fuse.StatfsOut) syscall.Errno {
	out.Bsize, out.Frsize, out.NameLen = 1<<20, 1<<20, maxName
	return 0
}

// Readdir streams the listing, page by page.
func (d *dir) Readdir(ctx context.Context) (fs.DirStream, syscall.Errno) {
	s := &listing{d: d, first: true}
	if errno := s.page(ctx); errno != 0 {
		return nil, errno
	}
	return s, 0
}

// listing is a directory stream. It holds one page.
type listing struct {
	d       *dir
	first   bool
	next    string
	last    bool
	entries []fuse.DirEntry
	held    []Object // whose directory may still come: the key of each begins that of the one after it
	errno   syscall.Errno
}

// page fetches the next page that shows any name, and turns it into entries.
func (s *listing) page(ctx context.Context) syscall.Errno {
	for len(s.entries) == 0 && !s.last {
		at := time.Now()
		var p Page
		err := s.d.m.again(ctx, func(ctx context.Context) (err error) {
			p, err = s.d.m.store.List(ctx, s.d.prefix, s.next)
			return err
		})
		if err != nil {
			return s.d.m.errno(ctx, "list", s.d.prefix, err)
		}
		s.next, s.last = p.Next, p.Next == ""
		names := make(map[string]Object, len(p.Objects)+len(p.Prefixes))
		s.merge(p, names)
		s.d.remember(names, at, s.first, s.last)
		s.first = false
	}
	return 0
}

// merge turns a page into entries. An object is held back until the listing has passed the place where its directory
// would stand, at most a few names: where both are, the name is the directory's.
func (s *listing) merge(p Page, names map[string]Object) {
	objects, prefixes := p.Objects, p.Prefixes
	for len(objects) > 0 || len(prefixes) > 0 {
		if len(prefixes) == 0 || len(objects) > 0 && objects[0].Key < prefixes[0] {
			o := objects[0]
			objects = objects[1:]
			s.release(o.Key, names)
			s.held = append(s.held, o)
			continue
		}
		c := prefixes[0]
		prefixes = prefixes[1:]
		s.release(c, names)
		if n := len(s.held); n > 0 && s.held[n-1].Key+"/" == c {
			s.held = s.held[:n-1]
		}
		s.show(strings.TrimSuffix(c, "/"), Object{}, names)
	}
	if s.last {
		s.release("", names)
	}
}

// release shows the objects whose directories can no longer come, now that the listing stands at key; "" is its end.
func (s *listing) release(key string, names map[string]Object) {
	for n := len(s.held); n > 0 && (key == "" || s.held[n-1].Key+"/" < key); n-- {
		s.show(s.held[n-1].Key, s.held[n-1], names)
		s.held = s.held[:n-1]
	}
}

// show adds an entry for the object, or the directory of the zero Object, with a key.
func (s *listing) show(key string, o Object, names map[string]Object) {
	name := strings.TrimPrefix(key, s.d.prefix)
	if !plain(name) || s.d.prefix == s.d.m.cfg.Prefix && name == specialName {
		return
	}
	mode := uint32(syscall.S_IFREG)
	if o.Key == "" {
		mode = syscall.S_IFDIR
	}
	names[name] = o
	s.entries = append(s.entries, fuse.DirEntry{Name: name, Mode: mode})
}

// HasNext tells whether another entry follows; it may fetch a page.
func (s *listing) HasNext() bool {
	if len(s.entries) == 0 {
		s.errno = s.page(context.Background()) // go-fuse hands no context in here; page bounds the time
	}
	return len(s.entries) > 0 || s.errno != 0
}

// Next returns it.
func (s *listing) Next() (fuse.DirEntry, syscall.Errno) {
	if s.errno != 0 {
		return fuse.DirEntry{}, s.errno
	}
	e := s.entries[0]
	s.entries = s.entries[1:]
	return e, 0
}

// Close ends the stream.
func (s *listing) Close() {}

// special is .cairn: it holds key.
type special struct{ fs.Inode }

var (
	_ fs.NodeLookuper = (*special)(nil)
	_ fs.NodeLookuper = (*keys)(nil)
)

// Lookup finds key.
func (s *special) Lookup(ctx context.Context, name string, _ *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	root, ok := s.Root().Operations().(*dir)
	if name != keysName || !ok {
		return nil, syscall.ENOENT
	}
	return s.NewInode(ctx, &keys{m: root.m}, fs.StableAttr{Mode: syscall.S_IFDIR}), 0
}

// keys is .cairn/key, or a directory of 200 bytes of an escaped key.
type keys struct {
	fs.Inode
	m     *Mount
	begin string // what the directories above have spelled
}

// Lookup finds the object with an escaped key, or the directory that spells a part of one.
func (k *keys) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if len(name) == escapedPart {
		return k.NewInode(ctx, &keys{m: k.m, begin: k.begin + name}, fs.StableAttr{Mode: syscall.S_IFDIR}), 0
	}
	key, ok := unescape(k.begin + name)
	if !ok {
		return nil, syscall.ENOENT
	}
	o, err := k.m.head(ctx, key)
	if err != nil {
		return nil, k.m.errno(ctx, "lookup", key, err)
	}
	out.SetEntryTimeout(k.m.cfg.MetadataTTL)
	out.SetAttrTimeout(k.m.cfg.MetadataTTL)
	return k.m.fileInode(ctx, &k.Inode, o, out), 0
}

// inode derives a number from names, so that the same version has the same number in every run. 0 and 1 are the kernel's.
func inode(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{0})
	}
	return max(h.Sum64(), 2)
}
