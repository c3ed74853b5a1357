package repair_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"cairn"
	"cairn/blob"
	"cairn/datanode"
	"cairn/internal/vfs"
	"cairn/membership"
	"cairn/meta"
	"cairn/object"
	"cairn/repair"
	"cairn/scrub"
)

// store is the real thing but for the frontends: data node on directories, metadata (in memory: its own tests lose it),
// membership, objects, scrub and repair.
type store struct {
	t       testing.TB
	dir     string
	stop    func()
	dead    bool // its disks have lost their power
	node    *datanode.Node
	meta    *meta.Store
	view    *membership.View
	blobs   *blob.Store
	objects *object.Store
	rep     *repair.Repairer
	scrub   *scrub.Scrubber
	sums    map[string][32]byte
	rand    *rand.ChaCha8
}

func (s *store) path(i int) string { return filepath.Join(s.dir, fmt.Sprintf("drive%d", i+1)) }

func openStore(t testing.TB, create bool) *store { return openStoreOn(t, create, vfs.OS{}) }

// openStoreOn opens a store whose drives lie on a file system of the test's choice, until the test's end.
func openStoreOn(t testing.TB, create bool, disk vfs.FS) *store {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	s := newStore(t, box{dir: t.TempDir(), missing: !create, cluster: cairn.NewID(), id: cairn.NewID(), home: cairn.NewID(),
		meta: pebblevfs.NewMem()}, disk)
	t.Cleanup(s.stop)
	return s
}

// box is what a store is on, and what stays the same from one process to the next.
type box struct {
	dir     string
	missing bool // drives that are absent are not made
	cluster cairn.ClusterID
	id      cairn.NodeID
	home    cairn.DriveID
	meta    *pebblevfs.MemFS
}

// newStore opens a store that runs until its stop is called.
func newStore(t testing.TB, b box, disk vfs.FS) *store {
	s := &store{t: t, dir: b.dir, sums: map[string][32]byte{}, rand: rand.NewChaCha8([32]byte{7})}
	nc := datanode.Config{Cluster: b.cluster, Node: b.id, FS: disk, SegmentBytes: 16 << 20, HungAfter: time.Minute, Log: slog.New(slog.DiscardHandler)}
	for i := range 6 {
		nc.Drives = append(nc.Drives, datanode.DriveConfig{Path: s.path(i), Create: !b.missing})
		must(t, disk.Mkdir(s.path(i)))
	}
	must(t, errors.Join(disk.SyncDir(b.dir), disk.SyncDir(filepath.Dir(b.dir))))
	var err error
	s.node, err = datanode.Open(nc)
	must(t, err)
	s.meta, err = meta.Open(meta.Config{Cluster: nc.Cluster, FS: b.meta, Homes: []meta.Home{{Drive: b.home, Dir: "/meta", Usable: true}}})
	must(t, err)
	s.view, err = membership.New(membership.Config{Meta: s.meta, Node: s.node})
	must(t, err)
	s.blobs, err = blob.New(blob.Config{Shards: s.node, Volumes: s.view, Damage: report(func(d cairn.Damage) { s.rep.Report(d) })})
	must(t, err)
	s.objects, err = object.New(object.Config{Meta: s.meta, Blobs: s.blobs, DefaultProfile: profile})
	must(t, err)
	s.rep, err = repair.New(repair.Config{Meta: s.meta, Shards: s.node, Blobs: s.blobs, Drives: s.view})
	must(t, err)
	s.scrub, err = scrub.New(scrub.Config{Meta: s.meta, Drives: s.node, Orphans: s.node, Held: s.objects.Pinned, Damaged: s.rep.Wake})
	must(t, err)
	steward, err := membership.NewSteward(membership.StewardConfig{View: s.view, Meta: s.meta, Profile: profile, Damaged: s.rep.Wake})
	must(t, err)
	keeper, err := membership.NewKeeper(membership.KeeperConfig{Meta: s.meta, Node: s.node, NodeID: nc.Node, Changed: steward.Wake,
		Returned: func(d cairn.DriveID) { s.scrub.Reconcile(d); s.rep.Wake() }})
	must(t, err)
	s.run(s.node.Run, s.meta.Run, s.view.Run, keeper.Run, steward.Run, s.objects.Run, s.rep.Run, s.scrub.Run)
	must(t, s.meta.Ready(t.Context()))
	_, err = s.objects.CreateBucket(t.Context(), cairn.Bucket{Name: "bucket", Owner: "root"})
	if !errors.Is(err, cairn.ErrExists) {
		must(t, err)
	}
	return s
}

type report func(cairn.Damage)

func (r report) Report(d cairn.Damage) { r(d) }

// run keeps loops going until stop, which waits for them and closes the store.
func (s *store) run(loops ...func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, f := range loops {
		running.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				s.t.Error(err)
			}
		})
	}
	s.stop = func() {
		cancel()
		running.Wait()
		must(s.t, s.blobs.Close())
		must(s.t, s.meta.Close())
		if err := s.node.Close(); err != nil && !s.dead {
			s.t.Error(err)
		}
	}
}

// putSmall stores the least that is not kept in the metadata itself.
func (s *store) putSmall(key string) {
	s.t.Helper()
	const size = 8<<10 + 1
	data := make([]byte, size)
	_, err := s.objects.Put(s.t.Context(), object.Put{Bucket: "bucket", Key: key, Owner: "root", Body: bytes.NewReader(data), Size: size})
	must(s.t, err)
}

func (s *store) put(key string, size int) {
	s.t.Helper()
	data := make([]byte, size)
	s.rand.Read(data)
	_, err := s.objects.Put(s.t.Context(), object.Put{Bucket: "bucket", Key: key, Owner: "root", Body: bytes.NewReader(data), Size: int64(size)})
	must(s.t, err)
	s.sums[key] = sha256.Sum256(data)
}

func (s *store) putSome(prefix string) {
	for i, size := range []int{100 << 10, 1 << 20, 5<<20 + 1, 30 << 20} {
		for j := range 3 - i/2 {
			s.put(fmt.Sprintf("%s/%d/%d", prefix, i, j), size)
		}
	}
}

func (s *store) checkAll() {
	s.t.Helper()
	for key, want := range s.sums {
		o, err := s.objects.Open(s.t.Context(), meta.VersionRef{Bucket: "bucket", Key: key})
		must(s.t, err)
		h := sha256.New()
		err = o.WriteRange(s.t.Context(), h, 0, o.Version.Size)
		o.Close()
		if err != nil || [32]byte(h.Sum(nil)) != want {
			s.t.Fatalf("%s: %v, or other bytes", key, err)
		}
	}
}

// blobsOf lists the blobs of an object.
func (s *store) blobsOf(key string) []cairn.BlobRef {
	v, err := s.objects.Head(s.t.Context(), meta.VersionRef{Bucket: "bucket", Key: key})
	must(s.t, err)
	return v.Layout.Blobs
}

// bad counts the shards, of all blobs of all objects, that are not whole where they should be.
func (s *store) bad() (n int) {
	for key := range s.sums {
		for _, ref := range s.blobsOf(key) {
			v, err := s.meta.Volume(s.t.Context(), ref.Volume)
			must(s.t, err)
			for slot, d := range v.Slots {
				if s.node.Verify(s.t.Context(), d, cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(slot)}) != nil {
					n++
				}
			}
		}
	}
	return n
}

func (s *store) until(what string, limit time.Duration, cond func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	for !cond() {
		if time.Since(start) > limit {
			by, err := s.rep.BlobsBySpare(s.t.Context())
			s.t.Fatalf("after %v still not: %s; by spare %v %v, repair %+v, drives %+v", limit, what, by, err, s.rep.Status(), s.view.Drives())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

func (s *store) whole() bool {
	by, err := s.rep.BlobsBySpare(s.t.Context())
	must(s.t, err)
	for spare, n := range by {
		if spare < profile.M && n > 0 {
			return false
		}
	}
	rows, err := s.meta.Damage(s.t.Context(), 1)
	must(s.t, err)
	return len(rows) == 0
}

func TestRealDrivesRemovedAndMadeAnew(t *testing.T) {
	s := openStore(t, true)
	s.putSome("a")
	s.until("whole", 10*time.Second, s.whole)
	must(t, os.RemoveAll(s.path(1)))
	must(t, os.RemoveAll(s.path(4)))
	first := s.until("first repaired byte", 5*time.Second, func() bool { return s.rep.Status().DoneBytes > 0 })
	s.putSome("b")
	s.checkAll()
	all := s.until("whole again", 60*time.Second, func() bool { return s.whole() && s.rep.Status().State == "idle" })
	t.Logf("first repaired byte after %v, whole %v later, %d bytes", first, all, s.rep.Status().DoneBytes)
	if n := s.bad(); n > 0 {
		t.Errorf("%d shards are not whole", n)
	}
	must(t, os.RemoveAll(s.path(0)))
	must(t, os.RemoveAll(s.path(5)))
	s.until("repair has begun", 5*time.Second, func() bool { return !s.whole() })
	s.until("whole again", 60*time.Second, s.whole)
	s.checkAll()
	if n := s.bad(); n > 0 {
		t.Errorf("%d shards are not whole", n)
	}
}

func TestRealDriveUnpluggedAndBack(t *testing.T) {
	s := openStore(t, false)
	s.putSome("a")
	away := s.path(2) + ".away"
	must(t, os.Rename(s.path(2), away))
	s.put("meanwhile/at once", 8<<20)
	s.until("missing", 5*time.Second, func() bool { return !s.whole() })
	s.putSome("b")
	s.checkAll()
	must(t, os.Rename(away, s.path(2)))
	s.until("whole again", 30*time.Second, s.whole)
	if n := s.bad(); n > 0 {
		t.Errorf("%d shards are not whole", n)
	}
	s.checkAll()
}

// A disk is taken out and an empty one put in its place; then the first one is put back. Each time the store becomes whole,
// and what the first one holds is used again.
func TestRealDriveReplacedAndBack(t *testing.T) {
	s := openStore(t, false)
	s.putSome("a")
	s.until("whole", 10*time.Second, s.whole)
	first, second := s.path(3)+".first", s.path(3)+".second"
	must(t, os.Rename(s.path(3), first))
	s.until("missing", 5*time.Second, func() bool { return !s.whole() })
	must(t, os.Mkdir(s.path(3), 0o755))
	s.until("whole with the empty disk", 60*time.Second, s.whole)
	if n := s.bad(); n > 0 {
		t.Errorf("%d shards are not whole", n)
	}
	wrote := s.rep.Status().DoneBytes
	s.putSome("b")
	must(t, os.Rename(s.path(3), second))
	s.until("missing", 5*time.Second, func() bool { return !s.whole() })
	must(t, os.Rename(first, s.path(3)))
	s.until("whole with the first disk", 60*time.Second, s.whole)
	if n := s.bad(); n > 0 {
		t.Errorf("%d shards are not whole", n)
	}
	if again := s.rep.Status().DoneBytes; again > wrote*3/2 {
		t.Errorf("%d bytes were rebuilt, %d the first time: what the first disk held was not used", again, wrote)
	}
	s.checkAll()
}

func TestRealFlippedBitsAreFoundAndMended(t *testing.T) {
	s := openStore(t, true)
	s.putSome("a")
	s.until("whole", 10*time.Second, s.whole)
	for i := range 4 {
		ref := s.blobsOf(fmt.Sprintf("a/%d/0", i))[0]
		v, err := s.meta.Volume(t.Context(), ref.Volume)
		must(t, err)
		info, err := s.node.Stat(t.Context(), v.Slots[i], cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(i)})
		must(t, err)
		f, err := os.OpenFile(info.Path, os.O_RDWR, 0)
		must(t, err)
		var b [1]byte
		at := info.Offset + info.Length/2
		_, err = f.ReadAt(b[:], at)
		must(t, err)
		b[0] ^= 1
		_, err = f.WriteAt(b[:], at)
		must(t, err)
		must(t, f.Close())
	}
	if n := s.bad(); n != 4 {
		t.Fatalf("%d shards are bad after four bits were flipped", n)
	}
	must(t, s.scrub.Check(t.Context(), scrub.Check{}, func(cairn.Progress) {}))
	if f := s.scrub.Status().Findings; f.Corrupt != 4 {
		t.Errorf("scrub found %+v, want four corrupt shards", f)
	}
	s.until("whole again", 30*time.Second, s.whole)
	if n := s.bad(); n != 0 {
		t.Errorf("%d shards are bad after the repair", n)
	}
	s.checkAll()
}

// BenchmarkRebuild wipes one of six drives of a store that holds 512 MiB and reports how fast it is filled again.
func BenchmarkRebuild(b *testing.B) {
	for _, size := range []int{64 << 20, 256 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			s := openStore(b, true)
			for i := range (512 << 20) / size {
				s.put(fmt.Sprint(i), size)
			}
			for b.Loop() {
				must(b, os.RemoveAll(s.path(3)))
				s.until("repair has begun", 5*time.Second, func() bool { return s.rep.Status().State == "running" })
				s.until("whole again", time.Minute, func() bool { return s.whole() && s.rep.Status().State == "idle" })
				st := s.rep.Status()
				b.ReportMetric(float64(st.DoneBytes)/st.Finished.Sub(st.Started).Seconds()/(1<<20), "MiB/s")
				b.ReportMetric(float64(st.DoneBlobs)/st.Finished.Sub(st.Started).Seconds(), "blobs/s")
			}
		})
	}
}
