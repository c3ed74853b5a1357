package datanode_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sick is a fault that tests switch.
type sick struct {
	mu    sync.Mutex
	fault vfs.Fault
}

func (s *sick) set(f vfs.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

func (s *sick) ask(op vfs.Op) error {
	s.mu.Lock()
	f := s.fault
	s.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(op)
}

func fail(err error, kinds ...vfs.OpKind) vfs.Fault {
	return func(op vfs.Op) error {
		if slices.Contains(kinds, op.Kind) {
			return err
		}
		return nil
	}
}

// watched is a node whose Run is under way, with short intervals.
type watched struct {
	*testing.T
	*datanode.Node
	ctx context.Context
}

func watch(t *testing.T, cfg datanode.Config) *watched {
	t.Helper()
	cfg.PollEvery, cfg.ProbeEvery = 2*time.Millisecond, time.Millisecond
	if cfg.HungAfter == 0 {
		cfg.HungAfter = 10 * time.Second
	}
	if cfg.SegmentBytes == 0 {
		cfg.SegmentBytes = 4 << 20
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	n, err := datanode.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		n.Close() // faults may fail it
	})
	return &watched{t, n, context.Background()}
}

// await waits for a state of the first drive.
func (w *watched) await(want cairn.DriveState) cairn.DriveStatus {
	w.Helper()
	var st cairn.DriveStatus
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if st = w.Statuses()[0]; st.State == want {
			return st
		}
	}
	w.Fatalf("state: got %v (%s), want %v", st.State, st.Reason, want)
	return st
}

func (w *watched) put(b cairn.BlobID) error {
	return blobtest.Append(w.ctx, w, w.Statuses()[0].ID, blobtest.Header(1, b, 0, 1), blobtest.Bytes(uint64(b), 5000))
}

func (w *watched) get(b cairn.BlobID) error {
	p := make([]byte, 5000)
	if err := w.ReadAt(w.ctx, w.Statuses()[0].ID, cairn.ShardID{Volume: 1, Blob: b}, p, 0); err != nil {
		return err
	}
	if !bytes.Equal(p, blobtest.Bytes(uint64(b), 5000)) {
		return errors.New("wrong bytes")
	}
	return nil
}

func (w *watched) want(what string, err, kind error) {
	w.Helper()
	if !errors.Is(err, kind) {
		w.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

func memory(t *testing.T) (*vfs.Mem, *sick, datanode.Config) {
	disk, s := vfs.NewMem(), &sick{}
	return disk, s, datanode.Config{FS: vfs.WithFault(disk, s.ask), Drives: []datanode.DriveConfig{{Path: "/d", Create: true}},
		ReserveBytes: 1 << 20}
}

func TestReadOnlyDrive(t *testing.T) {
	_, s, cfg := memory(t)
	w := watch(t, cfg)
	w.await(cairn.DriveOK)
	w.want("put", w.put(1), nil)
	s.set(fail(syscall.EROFS, vfs.OpWrite, vfs.OpSync, vfs.OpAllocate, vfs.OpTruncate))
	w.await(cairn.DriveReadOnly)
	w.want("put", w.put(2), cairn.ErrReadOnly)
	w.want("delete", w.Delete(w.ctx, w.Statuses()[0].ID, []cairn.ShardID{{Volume: 1, Blob: 1}}), cairn.ErrReadOnly)
	w.want("get", w.get(1), nil)
	s.set(nil)
	w.await(cairn.DriveOK)
	w.want("put", w.put(2), nil)
	w.want("get", errors.Join(w.get(1), w.get(2)), nil)
}

func TestFailingDrive(t *testing.T) {
	_, s, cfg := memory(t)
	w := watch(t, cfg)
	w.want("put", w.put(1), nil)
	s.set(fail(syscall.EIO, vfs.OpWrite, vfs.OpSync, vfs.OpRead))
	w.want("put", w.put(2), cairn.ErrUnavailable)
	w.await(cairn.DriveFailing)
	w.want("put", w.put(2), cairn.ErrUnavailable)
	w.want("get", w.get(1), cairn.ErrUnavailable)
	if st := w.Statuses()[0]; st.WriteErrors == 0 {
		t.Errorf("no write errors counted")
	}
	s.set(nil)
	w.await(cairn.DriveOK)
	w.want("get", w.get(1), nil)
}

func TestUnreadableSectors(t *testing.T) {
	_, s, cfg := memory(t)
	w := watch(t, cfg)
	w.want("put", w.put(1), nil)
	s.set(func(op vfs.Op) error {
		if op.Kind == vfs.OpRead && strings.HasSuffix(op.Name, ".seg") {
			return syscall.EIO
		}
		return nil
	})
	w.want("get", w.get(1), cairn.ErrCorrupt) // damage, for repair to see to
	for range 100 {                           // one after another; the monitor counts them
		w.get(1)
	}
	w.await(cairn.DriveFailing)
	s.set(nil)
	w.await(cairn.DriveOK)
	w.want("get", w.get(1), nil)
}

func TestHungDrive(t *testing.T) {
	_, s, cfg := memory(t)
	cfg.HungAfter = 500 * time.Millisecond
	w := watch(t, cfg)
	w.want("put", w.put(1), nil)
	stuck := make(chan struct{})
	s.set(func(op vfs.Op) error {
		if strings.Contains(op.Name, "segments/") && op.Kind != vfs.OpStat && op.Kind != vfs.OpFileStat {
			<-stuck
		}
		return nil
	})
	start := time.Now()
	w.want("put", w.put(2), cairn.ErrUnavailable) // in hand when it hangs
	w.await(cairn.DriveHung)
	w.want("put", w.put(3), cairn.ErrUnavailable)
	w.want("get", w.get(1), cairn.ErrUnavailable)
	if took := time.Since(start); took > 8*time.Second {
		t.Errorf("callers waited %v for a hung drive", took)
	}
	s.set(nil)
	close(stuck)
	w.await(cairn.DriveOK)
	w.want("put", w.put(4), nil)
	w.want("get", errors.Join(w.get(1), w.get(4)), nil)
}

func TestFullDrive(t *testing.T) {
	disk, _, cfg := memory(t)
	disk.SetCapacity(24 << 20)
	w := watch(t, cfg)
	id := w.Statuses()[0].ID
	var ids []cairn.ShardID
	var err error
	for b := cairn.BlobID(1); err == nil && b < 2000; b++ {
		h := blobtest.Header(1, b, 0, 1)
		if err = blobtest.Append(w.ctx, w, id, h, blobtest.Bytes(1, 100_000)); err == nil {
			ids = append(ids, h.ID)
		}
	}
	w.want("put", err, cairn.ErrFull)
	w.await(cairn.DriveFull)
	w.want("get", w.Verify(w.ctx, id, ids[0]), nil)
	w.want("delete on a full drive", w.Delete(w.ctx, id, ids[:len(ids)-3]), nil)
	w.await(cairn.DriveOK)
	w.want("put", w.put(5000), nil)
	for _, left := range ids[len(ids)-3:] {
		w.want("verify", w.Verify(w.ctx, id, left), nil)
	}
}

func TestRemovedDirectoryIsMadeAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drive1")
	w := watch(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: dir, Create: true}}})
	old := w.Statuses()[0].ID
	w.want("put", w.put(1), nil)
	for os.RemoveAll(dir) != nil { // it may meet the drive's next life
	}
	for w.Statuses()[0].ID == old {
		time.Sleep(time.Millisecond)
	}
	st := w.await(cairn.DriveOK)
	if !slices.Contains(st.Replaced, old) {
		t.Errorf("replaced: got %v, want %v", st.Replaced, old)
	}
	w.want("get", w.get(1), cairn.ErrNotFound)
	w.want("put", w.put(2), nil)
	err := w.ReadAt(w.ctx, old, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0)
	w.want("get from the old drive", err, cairn.ErrUnavailable)
}

func TestAbsentPathIsMissingAndEmptyOneAdopted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "mnt")
	w := watch(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: dir}}})
	w.await(cairn.DriveMissing)
	time.Sleep(20 * time.Millisecond)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("absent path was created")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	first := w.await(cairn.DriveOK).ID
	w.want("put", w.put(1), nil)
	away := dir + "-away"
	if err := os.Rename(dir, away); err != nil {
		t.Fatal(err)
	}
	w.await(cairn.DriveMissing)
	w.want("get", w.ReadAt(w.ctx, first, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0), cairn.ErrUnavailable)
	if err := os.Rename(away, dir); err != nil {
		t.Fatal(err)
	}
	if st := w.await(cairn.DriveOK); st.ID != first || len(st.Replaced) > 0 {
		t.Errorf("back: got %v replacing %v, want %v", st.ID, st.Replaced, first)
	}
	w.want("get", w.get(1), nil)
}

func TestDriveOfAnotherCluster(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	drives := []datanode.DriveConfig{{Path: dir}}
	n, err := datanode.Open(datanode.Config{Cluster: cairn.ClusterID{1}, Drives: drives, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	w := watch(t, datanode.Config{Cluster: cairn.ClusterID{2}, Drives: drives})
	if st := w.await(cairn.DriveMissing); !strings.Contains(st.Reason, cairn.ClusterID{1}.String()) {
		t.Errorf("reason: got %q, want the cluster's name", st.Reason)
	}
}

func TestSecondProcessIsToldWhoHoldsTheDrive(t *testing.T) {
	drives := []datanode.DriveConfig{{Path: t.TempDir()}}
	first := watch(t, datanode.Config{Drives: drives})
	first.await(cairn.DriveOK)
	second := watch(t, datanode.Config{Drives: drives})
	if st := second.await(cairn.DriveMissing); !strings.Contains(st.Reason, strconv.Itoa(os.Getpid())) {
		t.Errorf("reason: got %q, want the process ID", st.Reason)
	}
}

func TestRemovedSegmentsAreNoticed(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: dir}}})
	w.want("put", w.put(1), nil)
	files, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil || len(files) == 0 {
		t.Fatal("no segments", err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); !errors.Is(w.get(1), cairn.ErrNotFound); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("get: got %v, want not found", w.get(1))
		}
	}
	w.await(cairn.DriveOK)
	w.want("put", w.put(2), nil)
}

// Every kind of damage to a shard's bytes on disk is an error, on read and on verify, before and after a restart; what
// can be read is right.
func TestDamageOnDisk(t *testing.T) {
	const n = 300_000
	data := blobtest.Bytes(1, n)
	damages := map[string]func(f *os.File, at int64) error{
		"first byte":     flip(0),
		"middle byte":    flip(n / 2),
		"last byte":      flip(n - 1),
		"truncated by 1": func(f *os.File, at int64) error { return f.Truncate(at + n - 1) },
		"half truncated": func(f *os.File, at int64) error { return f.Truncate(at + n/2) },
		"all truncated":  func(f *os.File, at int64) error { return f.Truncate(0) },
		"zeroed": func(f *os.File, at int64) error {
			_, err := f.WriteAt(make([]byte, n), at)
			return err
		},
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cfg := datanode.Config{Drives: []datanode.DriveConfig{{Path: dir}}, SegmentBytes: 4 << 20, Log: slog.New(slog.DiscardHandler)}
			w, err := datanode.Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			id, h := w.Statuses()[0].ID, blobtest.Header(1, 1, 0, 1)
			if err := blobtest.Append(context.Background(), w, id, h, data); err != nil {
				t.Fatal(err)
			}
			info, err := w.Stat(context.Background(), id, h.ID)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(info.Path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(damage(f, info.Offset), f.Close()); err != nil {
				t.Fatal(err)
			}
			for _, when := range []string{"open", "reopened"} {
				got := make([]byte, n)
				if err := w.ReadAt(context.Background(), id, h.ID, got, 0); !errors.Is(err, cairn.ErrCorrupt) {
					t.Errorf("%s: read: got %v, want corrupt", when, err)
				}
				if err := w.Verify(context.Background(), id, h.ID); !errors.Is(err, cairn.ErrCorrupt) {
					t.Errorf("%s: verify: got %v, want corrupt", when, err)
				}
				for off := 0; off+1000 < n; off += 50_000 { // undamaged blocks are readable still
					if w.ReadAt(context.Background(), id, h.ID, got[:1000], int64(off)) == nil && !bytes.Equal(got[:1000], data[off:off+1000]) {
						t.Errorf("%s: wrong bytes at %d", when, off)
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				if w, err = datanode.Open(cfg); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func flip(i int64) func(*os.File, int64) error {
	return func(f *os.File, at int64) error {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at+i); err != nil && err != io.EOF {
			return err
		}
		b[0] ^= 0x10
		_, err := f.WriteAt(b, at+i)
		return err
	}
}
