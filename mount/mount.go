package mount

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"cairn/mount/cache"
)

// Config of a Mount. Dir is required.
type Config struct {
	Dir    string // an empty directory
	Name   string // shown by df and mount: "s3://bucket"
	Prefix string // only keys below it are shown, without it; "" or ends in "/"
	// MemoryBytes bounds the buffers of fetches under way. Default 256 MiB, at least 64 MiB.
	MemoryBytes int64
	// MetadataTTL is how long names and sizes are believed without asking again. Default 10 s.
	MetadataTTL time.Duration
	// Patience bounds how long a read or a listing waits for the store. Default 2 min.
	Patience   time.Duration
	AllowOther bool // let other users than this process's read
	NoPrefetch bool // fetch nothing but what is read
	Peers      PeerConfig
	Logger     *slog.Logger
}

const (
	defaultMemory   = 256 << 20
	leastMemory     = 64 << 20
	defaultTTL      = 10 * time.Second
	longestNegative = time.Second
	defaultPatience = 2 * time.Minute
	maxRequest      = 512 << 10 // larger ones do not fit the pipe that splice needs
	maxBackground   = 64
	readAheadKB     = "4096"
)

func (c *Config) fill() error {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.MemoryBytes == 0 {
		c.MemoryBytes = defaultMemory
	}
	if c.MetadataTTL == 0 {
		c.MetadataTTL = defaultTTL
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.MemoryBytes < leastMemory {
		return fmt.Errorf("memory of %d bytes: at least %d are needed", c.MemoryBytes, leastMemory)
	}
	return nil
}

// Mount is a mounted bucket.
type Mount struct {
	cfg     Config
	store   Store
	cache   *cache.Cache
	fetch   *fetcher
	sources *sources
	counts  counters
	server  *fuse.Server
	started time.Time
	// passthrough: the kernel can open cached files itself.
	passthrough bool

	mu     sync.Mutex
	nodes  map[cache.ID]map[*file]bool // of versions that are not wholly cached
	checks map[cache.ID]bool           // published files whose bytes were or are being compared in this run
	tasks  sync.WaitGroup              // announcements and checks
}

// New mounts store at cfg.Dir, over a cache that the caller opened and closes after the mount has ended. A mount that a
// dead process left there is cleared away first. Errors say what is wrong with the directory.
func New(store Store, c *cache.Cache, cfg Config) (*Mount, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	if err := prepare(cfg.Dir, cfg.Logger); err != nil {
		return nil, err
	}
	m := &Mount{cfg: cfg, store: store, cache: c, started: time.Now(),
		nodes: map[cache.ID]map[*file]bool{}, checks: map[cache.ID]bool{}}
	m.fetch = newFetcher(store, cfg.MemoryBytes, cfg.Patience, cfg.Logger, &m.counts)
	m.sources = &sources{fetch: m.fetch, cache: c, whole: m.wholeNow, ahead: !cfg.NoPrefetch, open: map[cache.ID]*source{}}
	if cfg.Peers.Listener != nil {
		if err := m.joinPeers(); err != nil {
			m.fetch.close()
			return nil, errors.Join(err, cfg.Peers.Listener.Close())
		}
	}
	ttl := cfg.MetadataTTL
	root := &dir{m: m, prefix: cfg.Prefix}
	server, err := fs.Mount(cfg.Dir, root, &fs.Options{
		EntryTimeout: &ttl, AttrTimeout: &ttl,
		RootStableAttr: &fs.StableAttr{Ino: inode("dir", cfg.Prefix)},
		MountOptions: fuse.MountOptions{
			AllowOther: cfg.AllowOther, FsName: cfg.Name, Name: "cairn", Options: []string{"ro"},
			MaxWrite: maxRequest, MaxReadAhead: maxRequest, MaxBackground: maxBackground, DirectMount: true,
			DirectMountFlags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_RDONLY, ExplicitDataCacheControl: true,
		},
	})
	if err != nil {
		m.leavePeers()
		m.fetch.close()
		return nil, fmt.Errorf("mount at %s: %w", cfg.Dir, err)
	}
	m.server = server
	m.passthrough = os.Geteuid() == 0 && server.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH != 0
	m.raiseReadAhead()
	return m, nil
}

// prepare checks that something can be mounted at dir, and clears a dead mount away.
func prepare(dir string, log *slog.Logger) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, syscall.ENOTCONN) {
		log.Warn("a mount that a dead process left is cleared away", "dir", dir)
		if err := Unmount(dir); err != nil {
			return err
		}
		names, err = os.ReadDir(dir)
	}
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	if len(names) > 0 {
		return fmt.Errorf("mount point %s is not empty: its files would be hidden; use an empty directory", dir)
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		return fmt.Errorf("no FUSE here (%w): load the module (modprobe fuse), or give the container /dev/fuse", err)
	}
	return nil
}

// raiseReadAhead lets the kernel ask for 4 MiB ahead of a sequential reader. Without the privilege it stays at less.
func (m *Mount) raiseReadAhead() {
	var st unix.Stat_t
	if unix.Stat(m.cfg.Dir, &st) != nil {
		return
	}
	path := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	if err := os.WriteFile(path, []byte(readAheadKB), 0o644); err != nil {
		m.cfg.Logger.Debug("read-ahead stays as it is", "err", err)
	}
}

// Run serves until ctx ends or somebody unmounts the directory. At ctx's end it unmounts; while files are open it does so
// lazily: they can be read on as far as the kernel has them.
func (m *Mount) Run(ctx context.Context) error {
	unmounted := make(chan struct{})
	go func() {
		m.server.Wait()
		close(unmounted)
	}()
	var err error
	select {
	case <-unmounted:
	case <-ctx.Done():
		if err = m.server.Unmount(); err != nil {
			err = unix.Unmount(m.cfg.Dir, unix.MNT_DETACH)
		} else {
			<-unmounted
		}
	}
	m.leavePeers()
	m.fetch.close()
	m.tasks.Wait()
	return err
}

// joinPeers begins to serve the other mounts.
func (m *Mount) joinPeers() error {
	peers, err := newPeering(m.cfg.Peers, m.sources, int(m.cfg.MemoryBytes/cache.ChunkBytes)-reserved)
	if err != nil {
		return err
	}
	m.fetch.peers = peers
	l := m.cfg.Peers.Listener
	if m.cfg.Peers.TLS != nil {
		l = tls.NewListener(l, m.cfg.Peers.TLS)
	}
	m.tasks.Go(func() {
		if err := peers.serve(m.fetch.ctx, l); err != nil {
			m.cfg.Logger.Warn("other mounts are not served any more", "err", err)
		}
	})
	return nil
}

// leavePeers ends that.
func (m *Mount) leavePeers() {
	if m.fetch.peers != nil {
		m.fetch.stop()
		m.fetch.peers.client.Close()
	}
}

// wholeNow lets the names of a version that has just been published lead to the inode that the kernel reads by itself.
func (m *Mount) wholeNow(src *source) {
	m.cfg.Logger.Info("cached whole", "key", src.object.Key, "bytes", src.object.Size)
	m.mu.Lock()
	m.checks[src.id] = true // its bytes were checked as they came
	var nodes []*file
	for f := range m.nodes[src.id] {
		nodes = append(nodes, f)
	}
	m.mu.Unlock()
	for _, f := range nodes {
		m.renew(f)
	}
}

// renew makes the kernel forget what a file's name leads to. It runs apart from any request: the kernel may hold locks
// that the announcement needs until the request has been answered.
func (m *Mount) renew(f *file) {
	m.tasks.Go(func() {
		if name, parent := f.Parent(); parent != nil {
			parent.NotifyEntry(name)
		}
	})
}

// check compares a published file of an earlier run with its checksums, once, in the background.
func (m *Mount) check(src *source) {
	m.mu.Lock()
	seen := m.checks[src.id]
	m.checks[src.id] = true
	m.mu.Unlock()
	if seen || src.cached.Checked() {
		return
	}
	src.hold()
	m.tasks.Go(func() {
		defer src.drop()
		if damaged, err := src.cached.Verify(); damaged > 0 || err != nil {
			m.cfg.Logger.Warn("cached file was damaged, it is fetched again when it is opened next", "key", src.object.Key,
				"chunks", damaged, "err", err)
		}
	})
}

// again asks the store until it answers, or patience ends: a gateway that restarts is no error.
func (m *Mount) again(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.Patience)
	defer cancel()
	p := newPatience(m.cfg.Patience)
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		p.tell(m.cfg.Logger, err)
		if err := p.after(ctx, err); err != nil {
			return err
		}
		m.counts.retries.Add(1)
	}
}

func (m *Mount) head(ctx context.Context, key string) (o Object, err error) {
	err = m.again(ctx, func(ctx context.Context) (err error) {
		o, err = m.store.Head(ctx, key)
		return err
	})
	return o, err
}

func (m *Mount) negativeTTL() time.Duration { return min(m.cfg.MetadataTTL, longestNegative) }

// errno turns an error into what the reader gets, and says in the log what an EIO hides.
func (m *Mount) errno(ctx context.Context, op, key string, err error) syscall.Errno {
	switch {
	case errors.Is(err, ErrAbsent) && op == "lookup":
		return syscall.ENOENT
	case errors.Is(err, ErrAbsent), errors.Is(err, ErrChanged):
		return syscall.ESTALE
	case errors.Is(err, ErrRefused):
		return syscall.EACCES
	case ctx.Err() != nil:
		return syscall.EINTR
	}
	m.cfg.Logger.Warn("answered with an I/O error", "op", op, "key", key, "err", err)
	return syscall.EIO
}

// Unmount ends the mount at dir, of whichever process, a dead one too. Open files keep it alive until they are closed.
func Unmount(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err == nil && fs.Type != unix.FUSE_SUPER_MAGIC {
		return fmt.Errorf("%s is not a mount of cairn", dir)
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	return nil
}
