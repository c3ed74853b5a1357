package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
)

// harm is one way in which a shard goes bad.
type harm struct {
	name string
	do   func(r *rig, d cairn.DriveID, id cairn.ShardID, size int64)
	kind cairn.DamageKind
	sure bool // every read of the shard's data meets it
}

var harms = []harm{
	{"missing", func(r *rig, d cairn.DriveID, id cairn.ShardID, _ int64) { r.mem.Drop(d, id) }, cairn.DamageMissing, true},
	{"first byte", func(r *rig, d cairn.DriveID, id cairn.ShardID, _ int64) { r.mem.Flip(d, id, 0) }, cairn.DamageCorrupt, true},
	{"middle byte", func(r *rig, d cairn.DriveID, id cairn.ShardID, n int64) { r.mem.Flip(d, id, n/2) }, cairn.DamageCorrupt, false},
	{"last byte", func(r *rig, d cairn.DriveID, id cairn.ShardID, n int64) { r.mem.Flip(d, id, n-1) }, cairn.DamageCorrupt, false},
	{"cut by one", func(r *rig, d cairn.DriveID, id cairn.ShardID, n int64) { r.mem.Truncate(d, id, n-1) }, cairn.DamageCorrupt, false},
	{"cut by half", func(r *rig, d cairn.DriveID, id cairn.ShardID, n int64) { r.mem.Truncate(d, id, n/2) }, cairn.DamageCorrupt, false},
	{"emptied", func(r *rig, d cairn.DriveID, id cairn.ShardID, n int64) { r.mem.Truncate(d, id, 0) }, cairn.DamageCorrupt, true},
}

// Every harm to one and to m shards, data and parity: the bytes read are right, what was met is reported, nothing is
// deleted, and the shards rebuilt are those that were there.
func TestCorruptionMatrix(t *testing.T) {
	const stripe = 4 * unit
	for _, size := range []int{1, unit - 1, unit, unit + 1, stripe - 1, stripe, stripe + 1, 17*stripe + 333} {
		for _, h := range harms {
			for _, slots := range [][]int{{0}, {3}, {5}, {0, 1}, {1, 4}, {4, 5}} {
				t.Run(fmt.Sprintf("%d/%s/%v", size, h.name, slots), func(t *testing.T) { checkHarm(t, size, h, slots) })
			}
		}
	}
}

// The same at the borders of blobs, where there is more than one of them.
func TestCorruptionOfLongObjects(t *testing.T) {
	checkHarm(t, cairn.MaxBlobBytes-1, harms[1], []int{1, 5})
	checkHarm(t, cairn.MaxBlobBytes+1, harms[0], []int{0, 4})
	checkHarm(t, 200<<20, harms[2], []int{0, 3}) // three whole blobs and a rest
}

func checkHarm(t *testing.T, size int, h harm, slots []int) {
	r := newRig(t, p42)
	data := noise(size)
	blobs := r.put(data)
	originals := make(map[cairn.ShardID][]byte)
	for _, b := range blobs {
		for _, slot := range slots {
			drive, id := r.at(b, slot)
			_, shard := r.mem.Shard(drive, id)
			originals[id] = shard
			h.do(r, drive, id, int64(len(shard)))
		}
	}
	left := r.mem.Count()

	r.wantBytes(blobs, data)
	for _, d := range r.damage.all() {
		if drive, _ := r.at(cairn.NewBlob{Ref: cairn.BlobRef{Volume: d.Shard.Volume}}, int(d.Shard.Slot)); d.Kind != h.kind ||
			d.By != "read" || d.Drive != drive || originals[d.Shard] == nil {
			t.Errorf("reported %+v", d)
		}
	}
	for _, b := range blobs {
		// A read of everything meets what lies in data; it may not meet what lies in parity or in padding.
		for _, slot := range slots {
			_, id := r.at(b, slot)
			holds := int64(slot)*min(unit, (b.Ref.Length+255)/256*64) < b.Ref.Length
			met := slices.ContainsFunc(r.damage.all(), func(d cairn.Damage) bool { return d.Shard == id })
			if slot < 4 && holds && h.sure && !met {
				t.Errorf("damage of %s was not reported", id)
			}
		}
		r.wantRebuilt(b, slots, originals)
	}
	if got := r.mem.Count(); got != left {
		t.Errorf("%d shards after reading, %d before", got, left)
	}
}

// wantRebuilt reconstructs slots of a blob and compares them with what they were.
func (r *rig) wantRebuilt(b cairn.NewBlob, slots []int, originals map[cairn.ShardID][]byte) {
	r.t.Helper()
	var missing []uint8
	got := make(map[uint8]*bytes.Buffer)
	for _, slot := range slots {
		missing = append(missing, uint8(slot))
		got[uint8(slot)] = new(bytes.Buffer)
	}
	err := r.Reconstruct(context.Background(), b.Ref, r.vols.row(b.Ref.Volume), missing, func(slot uint8, p []byte) error {
		got[slot].Write(p)
		return nil
	})
	if err != nil {
		r.t.Errorf("reconstruct %v: %v", slots, err)
		return
	}
	for slot, buf := range got {
		_, id := r.at(b, int(slot))
		if !bytes.Equal(buf.Bytes(), originals[id]) {
			r.t.Errorf("rebuilt %s differs at %d of %d", id, diff(buf.Bytes(), originals[id]), len(originals[id]))
		}
	}
}

// Ranges of damaged blobs, any profile, any damage up to m shards: model-based.
func TestDegradedRanges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.SampledFrom([]cairn.Profile{{K: 1, M: 2}, {K: 2, M: 1}, p22, {K: 3, M: 2}, p42}).Draw(rt, "profile")
		r := newRig(t, p)
		data := noise(rapid.IntRange(1, 3*p.K*unit).Draw(rt, "size"))
		blobs := r.put(data)
		lost := rapid.SliceOfNDistinct(rapid.IntRange(0, p.Width()-1), 0, p.M, rapid.ID).Draw(rt, "lost")
		for _, slot := range lost {
			drive, id := r.at(blobs[0], slot)
			_, shard := r.mem.Shard(drive, id)
			rapid.SampledFrom(harms).Draw(rt, "harm").do(r, drive, id, int64(len(shard)))
		}
		for range 5 {
			off := rapid.IntRange(0, len(data)).Draw(rt, "off")
			n := rapid.IntRange(0, len(data)-off).Draw(rt, "n")
			got, err := r.get(blobs, int64(off), int64(n))
			if err != nil || !bytes.Equal(got, data[off:off+n]) {
				rt.Fatalf("%s, %d bytes, lost %v, range %d+%d: %v, first difference at %d", p, len(data), lost, off, n, err,
					diff(got, data[off:off+n]))
			}
		}
	})
}

// With m+1 shards gone the answer is a clear error and no wrong byte; nothing is deleted.
func TestBeyondRepair(t *testing.T) {
	for _, size := range []int{1000, 20 * unit, 3 * cairn.MaxBlobBytes / 64} {
		for _, c := range []struct {
			name string
			harm func(r *rig, d cairn.DriveID, id cairn.ShardID)
			want error
		}{
			{"missing", func(r *rig, d cairn.DriveID, id cairn.ShardID) { r.mem.Drop(d, id) }, cairn.ErrLost},
			{"corrupt", func(r *rig, d cairn.DriveID, id cairn.ShardID) { r.mem.Flip(d, id, 0) }, cairn.ErrLost},
			{"away", func(r *rig, d cairn.DriveID, id cairn.ShardID) { r.vols.setState(d, cairn.DriveMissing) }, cairn.ErrUnavailable},
		} {
			r := newRig(t, p42, quick)
			r.setFault(func(_ context.Context, call blobtest.Call) error {
				if r.vols.DriveState(call.Drive) == cairn.DriveMissing {
					return cairn.ErrUnavailable
				}
				return nil
			})
			data := noise(size)
			blobs := r.put(data)
			for _, slot := range []int{0, 2, 5} {
				drive, id := r.at(blobs[0], slot)
				c.harm(r, drive, id)
			}
			left := r.mem.Count()
			got, err := r.get(blobs, 0, int64(size))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), blobs[0].Ref.String()) {
				t.Errorf("%s, %d bytes: %v, want %v naming %s", c.name, size, err, c.want, blobs[0].Ref)
			}
			if !bytes.Equal(got, data[:len(got)]) {
				t.Errorf("%s, %d bytes: wrong bytes at %d", c.name, size, diff(got, data))
			}
			err = r.Reconstruct(context.Background(), blobs[0].Ref, r.vols.row(1), []uint8{1}, func(uint8, []byte) error { return nil })
			if !errors.Is(err, c.want) {
				t.Errorf("%s: reconstruct: %v, want %v", c.name, err, c.want)
			}
			if now := r.mem.Count(); now != left {
				t.Errorf("%s: %d shards, %d before the read", c.name, now, left)
			}
		}
	}
}

// A drive that is away is no damage: it may come back with all that it had.
func TestUnreachableIsNotDamage(t *testing.T) {
	r := newRig(t, p42)
	data := noise(9 << 20)
	blobs := r.put(data)
	away, _ := r.at(blobs[0], 1)
	for _, kind := range []error{cairn.ErrUnavailable, cairn.ErrOverloaded} {
		r.setFault(func(_ context.Context, c blobtest.Call) error {
			if c.Drive == away {
				return &cairn.Error{Op: "test", Err: kind}
			}
			return nil
		})
		r.wantBytes(blobs, data)
	}
	if got := r.damage.take(); got != nil {
		t.Errorf("reported %q", got)
	}
}

// A shard that is not where the cached row says was moved: the row is read afresh, and nothing is reported.
func TestMovedSlot(t *testing.T) {
	for _, size := range []int{1000, 9 << 20} {
		r := newRig(t, p42)
		data := noise(size)
		blobs := r.put(data)
		for _, slot := range []int{0, 3} {
			_, id := r.at(blobs[0], slot)
			old, to := r.vols.move(1, slot)
			h, shard := r.mem.Shard(old, id)
			done := make(chan error, 1)
			r.mem.Append(context.Background(), to, &h, shard, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			r.mem.Drop(old, id)
		}
		r.wantBytes(blobs, data)
		if got := r.damage.take(); got != nil {
			t.Errorf("%d bytes: reported %q", size, got)
		}
		if r.vols.fresh != 1 {
			t.Errorf("%d bytes: %d fresh reads of the row, want 1", size, r.vols.fresh)
		}
	}
}

// What was learned about a slot is not tried again for each stripe.
func TestBadSlotIsTriedOnce(t *testing.T) {
	r := newRig(t, p42)
	data := noise(40 * unit)
	blobs := r.put(data)
	drive, id := r.at(blobs[0], 2)
	r.mem.Drop(drive, id)
	tries := 0
	r.setFault(func(_ context.Context, c blobtest.Call) error {
		if c.Drive == drive {
			tries++
		}
		return nil
	})
	r.wantBytes(blobs, data)
	if tries != 1 || len(r.damage.all()) != 1 {
		t.Errorf("%d reads of a missing shard and %d reports, want 1 and 1", tries, len(r.damage.all()))
	}
}

// The test of the tests: without verification below, a flipped bit comes through, and the matrix would see it.
func TestPlantedBugNoVerification(t *testing.T) {
	r := newRig(t, p42)
	r.mem.Unchecked = true
	data := noise(1000)
	blobs := r.put(data)
	drive, id := r.at(blobs[0], 0)
	r.mem.Flip(drive, id, 5)
	if got, err := r.get(blobs, 0, 1000); err == nil && bytes.Equal(got, data) {
		t.Error("a store that verifies nothing passes the corruption test")
	}
}

// A blob whose volume is unknown may be anywhere: it is not "not found".
func TestUnknownVolume(t *testing.T) {
	r := newRig(t, p42)
	ref := cairn.BlobRef{Volume: 99, Blob: 1, Length: 10}
	err := r.Get(context.Background(), []cairn.BlobRef{ref}, 0, 10, new(bytes.Buffer))
	if !errors.Is(err, cairn.ErrUnavailable) || errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("%v, want unavailable", err)
	}
}

func TestStats(t *testing.T) {
	r := newRig(t, p42)
	r.vols.add(p42)
	r.failOn(blobtest.OpAppend, cairn.ErrUnavailable, 1, 2)
	r.put(noise(1000)) // not in volume 1
	r.failOn(blobtest.OpAppend, cairn.ErrUnavailable, 0)
	data := noise(4 * unit)
	blobs := r.put(data)
	for blobs[0].Ref.Volume != 1 {
		blobs = r.put(data)
	}
	r.wantBytes(blobs, data)
	if got, want := r.Stats(), (blob.Stats{DecodedBytes: unit, SkippedShards: 1, RetriedBlobs: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestReconstructRefusesSlotsThatAreNot(t *testing.T) {
	r := newRig(t, p42)
	blobs := r.put(noise(10))
	sink := func(uint8, []byte) error { return nil }
	if err := r.Reconstruct(context.Background(), blobs[0].Ref, r.vols.row(1), []uint8{6}, sink); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("slot 6 of 4+2: %v, want invalid", err)
	}
	errSink := errors.New("sink")
	sink = func(uint8, []byte) error { return errSink }
	if err := r.Reconstruct(context.Background(), blobs[0].Ref, r.vols.row(1), []uint8{0}, sink); !errors.Is(err, errSink) {
		t.Errorf("failing sink: %v", err)
	}
}

func TestLocate(t *testing.T) {
	r := newRig(t, p42)
	blobs := r.put(noise(1000))
	drive, id := r.at(blobs[0], 1)
	r.mem.Drop(drive, id)
	gone, _ := r.at(blobs[0], 2)
	r.vols.setState(gone, cairn.DriveMissing)
	vol, places, err := r.Locate(context.Background(), blobs[0].Ref)
	if err != nil || vol.ID != 1 || len(places) != 6 {
		t.Fatalf("%v, %v, %v", vol, places, err)
	}
	for i, p := range places {
		want := map[int]error{1: cairn.ErrNotFound, 2: cairn.ErrUnavailable}[i]
		if !errors.Is(p.Err, want) || p.Drive != vol.Slots[i] || want == nil && p.Info.Length != 256 {
			t.Errorf("slot %d: %+v, want error %v", i, p, want)
		}
	}
	if _, _, err := r.Locate(context.Background(), cairn.BlobRef{Volume: 99, Blob: 1, Length: 1}); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("no such volume: %v", err)
	}
}
