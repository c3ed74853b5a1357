package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const unit = 64 << 10

// rig is a blob store over drives in memory, with volumes of which each has drives of its own.
type rig struct {
	*blob.Store
	t      testing.TB
	mem    *blobtest.Memory
	vols   *volumes
	damage *reports
	fault  atomic.Pointer[faultFunc]
}

type faultFunc = func(context.Context, blobtest.Call) error

// setFault changes the drives' faults; reads that were held up may be under way.
func (r *rig) setFault(f faultFunc) { r.fault.Store(&f) }

func newRig(t testing.TB, p cairn.Profile, change ...func(*blob.Config)) *rig {
	t.Helper()
	r := &rig{t: t, mem: new(blobtest.Memory), vols: newVolumes(p, 1), damage: new(reports)}
	r.mem.Fault = func(ctx context.Context, c blobtest.Call) error {
		if f := r.fault.Load(); f != nil && *f != nil {
			return (*f)(ctx, c)
		}
		return nil
	}
	cfg := blob.Config{Shards: r.mem, Volumes: r.vols, Damage: r.damage}
	for _, f := range change {
		f(&cfg)
	}
	s, err := blob.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Store = s
	t.Cleanup(func() {
		s.Close()
		r.mem.Wait()
		if b := r.mem.Breaches(); len(b) > 0 {
			t.Errorf("promises to Shards broken: %q", b)
		}
		if got := s.Stats(); got.WriteMemory != 0 || got.ReadMemory != 0 {
			t.Errorf("buffers still in use after the end: %+v", got)
		}
		if n := r.mem.OpenWriters(); n > 0 {
			t.Errorf("%d shards were created and neither committed nor aborted", n)
		}
	})
	return r
}

func (r *rig) put(data []byte) []cairn.NewBlob {
	r.t.Helper()
	blobs, err := r.Put(context.Background(), r.request(data))
	if err != nil {
		r.t.Fatalf("put of %d bytes: %v", len(data), err)
	}
	return blobs
}

func (r *rig) request(data []byte) cairn.BlobPut {
	return cairn.BlobPut{Profile: r.vols.want, Owner: cairn.Owner{Bucket: "b", Key: "k"}, Size: int64(len(data)),
		Body: bytes.NewReader(data)}
}

func (r *rig) get(blobs []cairn.NewBlob, off, n int64) ([]byte, error) {
	out := bytes.NewBuffer(make([]byte, 0, max(n, 0)%(1<<30)))
	err := r.Get(context.Background(), refs(blobs), off, n, out)
	return out.Bytes(), err
}

// wantBytes reads all of the blobs back.
func (r *rig) wantBytes(blobs []cairn.NewBlob, data []byte) {
	r.t.Helper()
	got, err := r.get(blobs, 0, int64(len(data)))
	if err != nil {
		r.t.Errorf("get: %v", err)
	} else if !bytes.Equal(got, data) {
		r.t.Errorf("get: %d bytes, first difference at %d", len(got), diff(got, data))
	}
}

func diff(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func refs(blobs []cairn.NewBlob) []cairn.BlobRef {
	out := make([]cairn.BlobRef, len(blobs))
	for i, b := range blobs {
		out[i] = b.Ref
	}
	return out
}

// at names the drive and shard of a slot of a blob.
func (r *rig) at(b cairn.NewBlob, slot int) (cairn.DriveID, cairn.ShardID) {
	v := r.vols.row(b.Ref.Volume)
	return v.Slots[slot], cairn.ShardID{Volume: v.ID, Blob: b.Ref.Blob, Slot: uint8(slot)}
}

// noise returns n bytes that differ everywhere; the same for the same n.
func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)})
	r.Read(p)
	return p
}

// volumes is a blob.Volumes of rows that tests change at will.
type volumes struct {
	want cairn.Profile

	mu     sync.Mutex
	rows   []cairn.Volume
	cached map[cairn.VolumeID]cairn.Volume // what Volume answers unless fresh is asked for
	states map[cairn.DriveID]cairn.DriveState
	next   cairn.BlobID
	turn   int
	fresh  int // calls that asked for a fresh row
}

func newVolumes(p cairn.Profile, n int) *volumes {
	v := &volumes{want: p, cached: make(map[cairn.VolumeID]cairn.Volume), states: make(map[cairn.DriveID]cairn.DriveState)}
	for range n {
		v.add(p)
	}
	return v
}

// add makes one more open volume on new drives.
func (v *volumes) add(p cairn.Profile) cairn.Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	vol := cairn.Volume{ID: cairn.VolumeID(len(v.rows) + 1), Profile: p, Unit: unit, Epoch: 1}
	for range p.Width() {
		vol.Slots = append(vol.Slots, cairn.NewID())
	}
	v.rows = append(v.rows, vol)
	return vol
}

func (v *volumes) row(id cairn.VolumeID) cairn.Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rows[id-1]
}

// move points a slot at another drive; the cache keeps the old row.
func (v *volumes) move(id cairn.VolumeID, slot int) (from, to cairn.DriveID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	row := &v.rows[id-1]
	if _, ok := v.cached[id]; !ok {
		v.cached[id] = *row
	}
	row.Slots = slices.Clone(row.Slots)
	from, to = row.Slots[slot], cairn.NewID()
	row.Slots[slot] = to
	row.Epoch++
	return from, to
}

func (v *volumes) setState(d cairn.DriveID, s cairn.DriveState) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.states[d] = s
}

func (v *volumes) Volume(_ context.Context, id cairn.VolumeID, fresh bool) (cairn.Volume, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if id == 0 || int(id) > len(v.rows) {
		return cairn.Volume{}, &cairn.Error{Op: "test.volume", Subject: id.String(), Err: cairn.ErrNotFound}
	}
	if fresh {
		v.fresh++
		delete(v.cached, id)
	} else if row, ok := v.cached[id]; ok {
		return row, nil
	}
	return v.rows[id-1], nil
}

func (v *volumes) Pick(_ context.Context, _ cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, cairn.BlobID, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for range v.rows {
		row := v.rows[v.turn%len(v.rows)]
		v.turn++
		if old, ok := v.cached[row.ID]; ok {
			row = old
		}
		if !slices.Contains(avoid, row.ID) {
			v.next++
			return row, v.next, nil
		}
	}
	return cairn.Volume{}, 0, &cairn.Error{Op: "test.pick", Err: cairn.ErrUnavailable}
}

func (v *volumes) DriveState(d cairn.DriveID) cairn.DriveState {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.states[d]
}

// reports keeps damage findings.
type reports struct {
	mu    sync.Mutex
	found []cairn.Damage
}

func (r *reports) Report(d cairn.Damage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found = append(r.found, d)
}

func (r *reports) all() []cairn.Damage {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.found)
}

// take returns the findings as "kind slot" and forgets them.
func (r *reports) take() (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.found {
		out = append(out, fmt.Sprintf("%s %d", d.Kind, d.Shard.Slot))
	}
	slices.Sort(out)
	r.found = nil
	return slices.Compact(out)
}

// quick makes deadlines short enough for tests in real time.
func quick(c *blob.Config) {
	c.WriteDeadline = 50 * time.Millisecond
	c.StallLimit = 500 * time.Millisecond
	c.HedgeFloor = 5 * time.Millisecond
	c.HangLimit = 20 * time.Millisecond
}
