// Package objecttest opens a whole object store for the tests of what stands on it: the real metadata service, the real blob
// store, and shards in memory or on real directories. It does not watch drives, scrub or repair: internal/testcluster does.
package objecttest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/meta"
	"cairn/object"
	"cairn/sse"
)

// Config says what a Stack is made of. The zero value is one voter and a 2+1 profile, all in memory.
type Config struct {
	Profile cairn.Profile // default 2+1
	Volumes int           // open volumes, default 1
	Voters  int           // default 1
	// Dir, if set, holds a directory for each drive: shards and voters are on real files.
	Dir string
	// Run starts the store's background work (garbage collection, expiry, MD5 lanes).
	Run bool
	// Object changes the store's configuration before it opens.
	Object func(*object.Config)
}

// Stack is an open store with what is below it.
type Stack struct {
	Meta    *meta.Store
	Blobs   *blob.Store
	Objects *object.Store
	Memory  *blobtest.Memory // nil on real directories
	Node    *datanode.Node   // nil in memory
	Drives  []cairn.DriveID
}

// Open opens a stack, which the test's end closes.
func Open(t testing.TB, cfg Config) *Stack {
	t.Helper()
	if cfg.Profile == (cairn.Profile{}) {
		cfg.Profile = cairn.Profile{K: 2, M: 1}
	}
	cfg.Volumes, cfg.Voters = max(cfg.Volumes, 1), max(cfg.Voters, 1)
	s := &Stack{}
	shards := s.openShards(t, cfg)
	s.openMeta(t, cfg)
	vols := &volumes{meta: s.Meta}
	for range cfg.Volumes {
		v, err := s.Meta.CreateVolume(t.Context(), cairn.Volume{Profile: cfg.Profile, Unit: 256 << 10, Slots: s.Drives})
		check(t, err)
		vols.rows = append(vols.rows, v)
	}
	var err error
	s.Blobs, err = blob.New(blob.Config{Shards: shards, Volumes: vols})
	check(t, err)
	t.Cleanup(func() { check(t, s.Blobs.Close()) })
	oc := object.Config{Meta: s.Meta, Blobs: s.Blobs, DefaultProfile: cfg.Profile, Keys: testKeys(t)}
	if cfg.Object != nil {
		cfg.Object(&oc)
	}
	s.Objects, err = object.New(oc)
	check(t, err)
	if cfg.Run {
		run(t, s.Objects.Run)
	}
	return s
}

// testKeys serves every scheme; its key service knows the keys "default" and "other".
func testKeys(t testing.TB) *sse.Keys {
	t.Helper()
	ring := sse.NewRing(time.Now())
	for _, name := range []string{"default", "other"} {
		check(t, ring.Create(name, time.Now()))
	}
	return &sse.Keys{Store: ring, Service: ring, DefaultKey: "default"}
}

// openShards opens what holds the shards, in memory or on directories.
func (s *Stack) openShards(t testing.TB, cfg Config) blob.Shards {
	t.Helper()
	if cfg.Dir == "" {
		for range cfg.Profile.Width() {
			s.Drives = append(s.Drives, cairn.NewID())
		}
		s.Memory = &blobtest.Memory{}
		return s.Memory
	}
	nc := datanode.Config{Cluster: cairn.NewID(), Node: cairn.NewID(), Log: slog.New(slog.DiscardHandler)}
	for i := range cfg.Profile.Width() {
		nc.Drives = append(nc.Drives, datanode.DriveConfig{Path: filepath.Join(cfg.Dir, fmt.Sprintf("drive%d", i+1)), Create: true})
	}
	var err error
	s.Node, err = datanode.Open(nc)
	check(t, err)
	t.Cleanup(func() { check(t, s.Node.Close()) })
	run(t, s.Node.Run)
	for _, st := range s.Node.Statuses() {
		s.Drives = append(s.Drives, st.ID)
	}
	return s.Node
}

// openMeta opens the voters, on the drives' directories or in memory.
func (s *Stack) openMeta(t testing.TB, cfg Config) {
	t.Helper()
	mc := meta.Config{Cluster: cairn.NewID(), Voters: cfg.Voters}
	for i, id := range s.Drives {
		home := meta.Home{Drive: id, Dir: fmt.Sprintf("/drive%d", i+1), Usable: true}
		if s.Node != nil {
			home.Dir = s.Node.Statuses()[i].Path
		}
		mc.Homes = append(mc.Homes, home)
	}
	if s.Node == nil {
		mc.FS = vfs.NewMem()
	}
	var err error
	s.Meta, err = meta.Open(mc)
	check(t, err)
	t.Cleanup(func() { check(t, s.Meta.Close()) })
	run(t, s.Meta.Run)
	check(t, s.Meta.Ready(t.Context()))
}

// Buckets makes buckets and returns the first one's name.
func (s *Stack) Buckets(t testing.TB, names ...string) string {
	t.Helper()
	for _, name := range names {
		_, err := s.Objects.CreateBucket(t.Context(), cairn.Bucket{Name: name, Owner: "root"})
		check(t, err)
	}
	return names[0]
}

// run keeps a Run going until the test's end, and waits for it.
func run(t testing.TB, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// leaseIDs is how many blob IDs are leased at once.
const leaseIDs = 4096

// volumes is a fixed set of volumes on drives that are all well.
type volumes struct {
	meta *meta.Store
	rows []cairn.Volume
	turn atomic.Uint64

	mu        sync.Mutex
	next, end cairn.BlobID
}

func (v *volumes) Volume(ctx context.Context, id cairn.VolumeID, fresh bool) (cairn.Volume, error) {
	if !fresh {
		for _, row := range v.rows {
			if row.ID == id {
				return row, nil
			}
		}
	}
	return v.meta.Volume(ctx, id)
}

// Pick takes the volumes in turn; it has nothing narrower to offer.
func (v *volumes) Pick(ctx context.Context, _ cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, cairn.BlobID, error) {
	id, err := v.blobID(ctx)
	if err != nil {
		return cairn.Volume{}, 0, err
	}
	for range v.rows {
		row := v.rows[v.turn.Add(1)%uint64(len(v.rows))]
		if !slices.Contains(avoid, row.ID) {
			return row, id, nil
		}
	}
	return cairn.Volume{}, 0, &cairn.Error{Op: "objecttest.pick", Err: cairn.ErrUnavailable}
}

func (v *volumes) blobID(ctx context.Context) (cairn.BlobID, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.next == v.end {
		first, err := v.meta.ReserveBlobIDs(ctx, leaseIDs)
		if err != nil {
			return 0, err
		}
		v.next, v.end = first, first+leaseIDs
	}
	v.next++
	return v.next - 1, nil
}

func (v *volumes) DriveState(cairn.DriveID) cairn.DriveState { return cairn.DriveOK }
