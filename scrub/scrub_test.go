package scrub_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
	"cairn/membership"
	"cairn/membership/membershiptest"
	"cairn/scrub"
)

var profile = cairn.Profile{K: 2, M: 1}

// rig is a scrubber over four drives in memory; volumes take three of them.
type rig struct {
	t       *testing.T
	node    *membershiptest.Node
	meta    *membershiptest.Meta
	disk    *blobtest.Memory
	view    *membership.View
	blobs   *blob.Store
	scrub   *scrub.Scrubber
	held    atomic.Pointer[cairn.BlobRef]
	damaged atomic.Int64
	rand    *rand.ChaCha8
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, node: membershiptest.NewNode(4), meta: &membershiptest.Meta{}, disk: &blobtest.Memory{},
		rand: rand.NewChaCha8([32]byte{})}
	r.disk.Fault = func(_ context.Context, call blobtest.Call) error {
		if !r.node.State(call.Drive).Readable() {
			return cairn.ErrUnavailable
		}
		return nil
	}
	var err error
	r.view, err = membership.New(membership.Config{Meta: r.meta, Node: r.node, Unit: 64 << 10})
	must(t, err)
	r.blobs, err = blob.New(blob.Config{Shards: r.disk, Volumes: r.view})
	must(t, err)
	r.scrub = r.newScrubber()
	return r
}

func (r *rig) newScrubber() *scrub.Scrubber {
	s, err := scrub.New(scrub.Config{Meta: r.meta, Drives: drives{r}, Orphans: r.disk, Damaged: func() { r.damaged.Add(1) },
		Held: func(ref cairn.BlobRef) bool {
			held := r.held.Load()
			return held != nil && held.Blob == ref.Blob && held.Volume == ref.Volume
		}})
	must(r.t, err)
	return s
}

// drives is what scrub sees: shards from the memory disk, states from the node.
type drives struct{ r *rig }

func (d drives) Statuses() []cairn.DriveStatus {
	all := d.r.node.Statuses()
	for i := range all {
		slots, err := d.r.disk.Slots(d.r.t.Context(), all[i].ID)
		for _, s := range slots {
			all[i].Shards += s.Shards
			all[i].LiveBytes += s.Bytes
		}
		_ = err // a drive that cannot be read has nothing to count
	}
	return all
}

func (d drives) Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error) {
	return d.r.disk.Slots(ctx, drive)
}

func (d drives) List(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8, after cairn.BlobID, max int) (
	[]cairn.ShardInfo, error) {
	return d.r.disk.List(ctx, drive, v, slot, after, max)
}

func (d drives) Digest(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8) (cairn.BlobSet, error) {
	return d.r.disk.Digest(ctx, drive, v, slot)
}

func (d drives) Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error) {
	return d.r.disk.Stat(ctx, drive, id)
}

func (d drives) Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	return d.r.disk.Verify(ctx, drive, id)
}

// run starts a scrubber and returns what stops it.
func (r *rig) run(s *scrub.Scrubber) (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	go func() { s.Run(ctx); close(ended) }()
	return func() {
		cancel()
		<-ended
		r.disk.Wait()
		must(r.t, r.blobs.Close())
	}
}

// write stores a blob without committing it.
func (r *rig) write(size int) cairn.NewBlob {
	r.t.Helper()
	data := make([]byte, size)
	r.rand.Read(data)
	news, err := r.blobs.Put(r.t.Context(), cairn.BlobPut{Profile: profile, Size: int64(size), Body: bytes.NewReader(data)})
	must(r.t, err)
	return news[0]
}

func (r *rig) put(size int) cairn.BlobRef {
	r.t.Helper()
	n := r.write(size)
	must(r.t, r.meta.Commit(r.t.Context(), "b/k", n))
	return n.Ref
}

// shard returns a blob's shard in a slot and the drive of the slot.
func (r *rig) shard(ref cairn.BlobRef, slot uint8) (cairn.DriveID, cairn.ShardID) {
	v, err := r.meta.Volume(r.t.Context(), ref.Volume)
	must(r.t, err)
	return v.Slots[slot], cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: slot}
}

func (r *rig) has(ref cairn.BlobRef) (n int) {
	for slot := range uint8(3) {
		d, id := r.shard(ref, slot)
		if _, b := r.disk.Shard(d, id); b != nil {
			n++
		}
	}
	return n
}

// check looks at everything and returns how that ended.
func (r *rig) check() cairn.Progress {
	r.t.Helper()
	p, err := r.look(scrub.Check{Name: "test"})
	must(r.t, err)
	return p
}

func (r *rig) look(c scrub.Check) (last cairn.Progress, err error) {
	err = r.scrub.Check(r.t.Context(), c, func(p cairn.Progress) { last = p })
	return last, err
}

func (r *rig) damage() []cairn.Damage {
	rows, err := r.meta.Damage(r.t.Context(), 1<<20)
	must(r.t, err)
	return rows
}

func TestCheckFindsDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(r.scrub)()
		sound, flipped, dropped := r.put(300<<10), r.put(300<<10), r.put(300<<10)
		r.check()
		if rows := r.damage(); len(rows) != 0 {
			t.Fatalf("damage where there is none: %v", rows)
		}
		d, badID := r.shard(flipped, 2)
		r.disk.Flip(d, badID, 100<<10)
		d, lostID := r.shard(dropped, 0)
		r.disk.Drop(d, lostID)
		p := r.check()
		got := map[cairn.ShardID]cairn.DamageKind{}
		for _, row := range r.damage() {
			got[row.Shard] = row.Kind
		}
		if len(got) != 2 || got[badID] != cairn.DamageCorrupt || got[lostID] != cairn.DamageMissing {
			t.Errorf("found %v; want %s corrupt and %s missing, nothing of %s", got, badID, lostID, sound)
		}
		if r.damaged.Load() == 0 {
			t.Error("repair was not told")
		}
		s := r.scrub.Status()
		if s.Findings.Corrupt != 1 || s.Findings.Missing != 1 || s.Checks != 2 || p.DoneBlobs != 8 || p.Found != 2 || p.Unchecked != 0 {
			t.Errorf("status %+v, progress %+v; want one corrupt, one missing, eight shards read", s, p)
		}
		if p = r.check(); p.Found != 2 {
			t.Errorf("what is known already was found to be clean: %+v", p)
		}
	})
}

// What a drive that cannot be reached holds is unknown, not absent.
func TestAbsentDriveProvesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(r.scrub)()
		for range 4 {
			r.put(100 << 10)
		}
		r.node.Set(1, cairn.DriveMissing)
		r.check()
		if rows := r.damage(); len(rows) != 0 {
			t.Errorf("damage was reported for a drive that is away: %v", rows)
		}
	})
}

// When a drive begins to fail while it is read, that is not damage of each of its shards.
func TestFailingDriveIsNotDamageOfShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 7 {
			r.put(1)
		}
		bad, _ := r.shard(r.put(1), 0) // a drive with a shard: volumes have three of the four
		n := 0
		for r.node.ID(n) != bad {
			n++
		}
		r.disk.Fault = func(_ context.Context, call blobtest.Call) error {
			if call.Drive == bad && call.Op == blobtest.OpVerify {
				r.node.Set(n, cairn.DriveFailing)
				return cairn.ErrCorrupt
			}
			return nil
		}
		defer r.run(r.scrub)()
		if p := r.check(); p.Unchecked != 1 || p.Found != 0 {
			t.Errorf("progress %+v, want one drive that could not be looked at, and no damage", p)
		}
		if r.node.State(bad) != cairn.DriveFailing {
			t.Fatal("the drive was not read at all")
		}
		if rows := r.damage(); len(rows) != 0 {
			t.Errorf("damage %v, want none", rows)
		}
	})
}

// I4: a shard goes only when its blob can never be committed any more, nothing refers to it, and nobody reads it.
func TestOrphansGoOnlyWithProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(r.scrub)()
		kept := r.put(1)
		orphan, late, released := r.write(100<<10).Ref, r.write(100<<10), r.put(100<<10)
		r.meta.Release(released)
		r.held.Store(&released)
		r.check()
		time.Sleep(23 * time.Hour)
		if r.has(orphan) != 3 || r.has(late.Ref) != 3 || r.has(released) != 3 {
			t.Fatal("a shard was removed that could still be committed")
		}
		must(t, r.meta.Commit(t.Context(), "b/late", late))
		time.Sleep(2 * time.Hour)
		r.check()
		if n := r.has(orphan); n != 0 {
			t.Errorf("%d shards of an orphan are left", n)
		}
		if r.has(kept) != 3 || r.has(late.Ref) != 3 {
			t.Error("shards of committed blobs were removed")
		}
		if r.has(released) != 3 {
			t.Error("shards were removed under a reader")
		}
		r.held.Store(nil)
		r.check()
		if n := r.has(released); n != 0 {
			t.Errorf("%d shards of a released blob are left", n)
		}
		if got := r.scrub.Status().Findings.Orphans; got != 6 {
			t.Errorf("%d orphans counted, want 6", got)
		}
		var noted int64
		for _, f := range r.meta.Findings() {
			if f.Kind == cairn.FindingOrphan && f.Outcome == cairn.OutcomeRemoved {
				noted += f.Count
			}
		}
		if noted != 6 {
			t.Errorf("the history tells of %d orphans: %+v", noted, r.meta.Findings())
		}
	})
}

// No answer to "does anything refer to it" is not a no.
func TestNothingIsRemovedWithoutAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.meta.Fault = func(_ context.Context, op string) error {
			if op == "BlobRefs" {
				return cairn.ErrUnavailable
			}
			return nil
		}
		defer r.run(r.scrub)()
		orphan := r.write(1).Ref
		time.Sleep(30 * time.Hour)
		if _, err := r.look(scrub.Check{}); !errors.Is(err, cairn.ErrUnavailable) {
			t.Errorf("check: %v, want ErrUnavailable", err)
		}
		if r.has(orphan) != 3 {
			t.Error("a shard was removed though Meta did not answer")
		}
	})
}

// A blob that is released while its slots are compared is not missed.
func TestReleasedMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var ref atomic.Pointer[cairn.BlobRef]
		r.meta.Fault = func(_ context.Context, op string) error {
			if op == "BlobRefs" && ref.Load() != nil {
				r.meta.Release(*ref.Load())
			}
			return nil
		}
		b := r.put(1)
		d, id := r.shard(b, 1)
		r.disk.Drop(d, id)
		ref.Store(&b)
		defer r.run(r.scrub)()
		r.check()
		if rows := r.damage(); len(rows) != 0 {
			t.Errorf("reported as missing: %v", rows)
		}
	})
}

// After a slot has moved, the drive that it left is emptied of what the new one was seen to hold, and of nothing else.
func TestStaleShardsGoWhenHeldElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		good, bad, lacking := r.put(10), r.put(10), r.put(10)
		for bad.Volume != good.Volume {
			bad = r.put(10)
		}
		for lacking.Volume != good.Volume {
			lacking = r.put(10)
		}
		v, err := r.meta.Volume(t.Context(), good.Volume)
		must(t, err)
		to, ok := r.view.Replace(v, 0)
		if !ok {
			t.Fatal("no drive is free")
		}
		for _, ref := range []cairn.BlobRef{good, bad} {
			h, b := r.disk.Shard(v.Slots[0], cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob})
			done := make(chan error)
			r.disk.Append(t.Context(), to, &h, b, func(err error) { done <- err })
			must(t, <-done)
		}
		r.disk.Flip(to, cairn.ShardID{Volume: bad.Volume, Blob: bad.Blob}, 3)
		row := cairn.Damage{Shard: cairn.ShardID{Volume: v.ID}, Kind: cairn.DamageSlot}
		must(t, r.meta.AddDamage(t.Context(), []cairn.Damage{row}))
		_, err = r.meta.SwapSlot(t.Context(), cairn.SwapSlot{Volume: v.ID, Epoch: v.Epoch, Old: v.Slots[0], New: to})
		must(t, err)
		defer r.run(r.scrub)()
		on := func(ref cairn.BlobRef) bool {
			_, b := r.disk.Shard(v.Slots[0], cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob})
			return b != nil
		}
		r.check()
		if !on(good) || !on(bad) || !on(lacking) {
			t.Error("shards were removed while the slot was being moved")
		}
		must(t, r.meta.ResolveDamage(t.Context(), cairn.OutcomeRepaired, []cairn.ShardID{row.Shard}))
		r.check()
		if on(good) || !on(bad) || !on(lacking) {
			t.Errorf("left on the old drive: held elsewhere %v, corrupt there %v, missing there %v; want only the last two",
				on(good), on(bad), on(lacking))
		}
	})
}

func TestSlotThatLostMuchIsOneFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := r.write(1)
		id := first.Ref
		for range 1100 { // committed, but on no drive
			must(t, r.meta.Commit(t.Context(), "b/k", first))
			first.Ref.Blob++
		}
		defer r.run(r.scrub)()
		r.check()
		rows := r.damage()
		i := slices.IndexFunc(rows, func(row cairn.Damage) bool { return row.Shard == cairn.ShardID{Volume: id.Volume, Slot: 1} })
		if i < 0 || rows[i].Kind != cairn.DamageSlot || len(rows) > 330 {
			t.Errorf("%d findings, the first: %v; want each slot of %s and few others", len(rows), rows[0], id.Volume)
		}
	})
}

// The slow scrub finds damage without being asked, and goes on where it stopped after a restart.
func TestDeepScrubFindsByItselfAndResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		var refs []cairn.BlobRef
		for range 16 {
			refs = append(refs, r.put(8<<20))
		}
		d, id := r.shard(refs[15], 0)
		r.disk.Flip(d, id, 1<<20)
		stop := r.run(r.scrub)
		time.Sleep(36 * time.Second) // of some 48 at the slowest rate
		first := r.scrub.Status().DeepBytes
		stop()
		if first == 0 {
			t.Fatal("nothing was read within half a minute")
		}
		next := r.newScrubber()
		defer r.run(next)()
		for len(r.damage()) == 0 && time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) < time.Hour {
			time.Sleep(time.Second + 3*time.Nanosecond)
		}
		if rows := r.damage(); len(rows) != 1 || rows[0].Shard != id {
			t.Fatalf("damage %v, want %s", rows, id)
		}
		time.Sleep(5 * time.Minute)
		all := 16 * int64(8<<20) / 2 * 3
		if second := next.Status().DeepBytes; first+second > all+all/2 {
			t.Errorf("read %d and then %d bytes of %d: it did not resume", first, second, all)
		}
	})
}

func TestReturnedDriveIsComparedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.run(r.scrub)()
		ref := r.put(1)
		time.Sleep(10 * time.Second)
		d, id := r.shard(ref, 1)
		r.disk.Drop(d, id)
		r.scrub.Reconcile(d)
		time.Sleep(time.Second)
		if rows := r.damage(); len(rows) != 1 || rows[0].Shard != id {
			t.Errorf("damage %v, want %s", rows, id)
		}
	})
}

// A check that is cut short goes on where it stood, and says what both halves have found.
func TestCheckResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.disk.Wait()
		defer func() { must(t, r.blobs.Close()) }()
		var refs []cairn.BlobRef
		for range 40 {
			refs = append(refs, r.put(100<<10))
		}
		for _, i := range []int{0, 39} {
			d, id := r.shard(refs[i], 0)
			r.disk.Flip(d, id, 5)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var read int64
		err := r.scrub.Check(ctx, scrub.Check{Name: "j1"}, func(p cairn.Progress) {
			if read = p.DoneBlobs; read > 30 {
				cancel()
			}
		})
		if !errors.Is(err, cairn.ErrCanceled) || read == 0 || read >= 120 {
			t.Fatalf("cut short: %v after %d shards", err, read)
		}
		before := r.disk.Calls(blobtest.OpVerify)
		p, err := r.look(scrub.Check{Name: "j1"})
		must(t, err)
		if p.DoneBlobs < 120 || p.Found != 2 || p.TotalBytes != p.DoneBytes {
			t.Errorf("at the end: %+v, want 120 shards and 2 findings", p)
		}
		if n := r.disk.Calls(blobtest.OpVerify) - before; n > 120-15 {
			t.Errorf("the second half read %d shards of 120: it did not resume", n)
		}
		if p, err := r.look(scrub.Check{Name: "j1"}); err != nil || p.DoneBlobs != 120 {
			t.Errorf("a new check of the same name: %+v, %v", p, err)
		}
	})
}

// objects is a Content of two pages.
type objects []cairn.BlobRef

func (o objects) Bytes(context.Context) (n int64, err error) {
	for _, ref := range o {
		n += ref.Length
	}
	return n, nil
}

func (o objects) Blobs(_ context.Context, place string) ([]cairn.BlobRef, string, error) {
	if place == "" {
		return o[:1], "rest", nil
	}
	return o[1:], "", nil
}

// A check of some objects, or of one drive, looks at these and at nothing else.
func TestCheckOfObjectsAndOfADrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.disk.Wait()
		defer func() { must(t, r.blobs.Close()) }()
		first, second, other := r.put(300<<10), r.put(10), r.put(300<<10)
		look := func(c scrub.Check) cairn.Progress {
			t.Helper()
			p, err := r.look(c)
			must(t, err)
			return p
		}
		if p := look(scrub.Check{Content: objects{first, second}}); p.Found+p.Unchecked != 0 || p.DoneBlobs != 2 || p.DoneBytes != p.TotalBytes {
			t.Errorf("whole objects: %+v", p)
		}
		d, id := r.shard(other, 1)
		r.disk.Drop(d, id)
		if p := look(scrub.Check{Content: objects{first, second}}); p.Found != 0 {
			t.Errorf("damage of another object: %+v", p)
		}
		if p := look(scrub.Check{Drive: d}); p.Found != 1 {
			t.Errorf("the drive that lacks a shard: %+v", p)
		}
		f, fid := r.shard(first, 0)
		r.disk.Flip(f, fid, 3)
		s, sid := r.shard(second, 2)
		r.disk.Drop(s, sid)
		if p := look(scrub.Check{Content: objects{first, second}}); p.Found != 2 || len(r.damage()) != 3 {
			t.Errorf("two bad shards: %+v, rows %v", p, r.damage())
		}
		n := 0
		for r.node.ID(n) != f {
			n++
		}
		r.node.Set(n, cairn.DriveMissing)
		if p := look(scrub.Check{Content: objects{first}}); p.Unchecked != 1 || p.Reason == "" {
			t.Errorf("with a drive away: %+v", p)
		}
		if p := look(scrub.Check{Drive: f}); p.Unchecked != 1 {
			t.Errorf("of a drive that is away: %+v", p)
		}
	})
}

// Slots that hold what they should cost one digest each, and no list.
func TestEqualSetsCostADigest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		for range 50 {
			r.put(1)
		}
		defer r.run(r.scrub)()
		time.Sleep(time.Second)
		lists := r.disk.Calls(blobtest.OpList)
		var ref cairn.BlobRef
		compare := func() {
			for i := range 4 {
				r.scrub.Reconcile(r.node.ID(i))
			}
			time.Sleep(time.Second)
		}
		compare()
		if n := r.disk.Calls(blobtest.OpList) - lists; n > 0 {
			t.Errorf("%d lists to compare equal sets", n)
		}
		ref = r.put(1)
		d, id := r.shard(ref, 2)
		r.disk.Drop(d, id)
		compare()
		if rows := r.damage(); len(rows) != 1 || rows[0].Shard != id {
			t.Errorf("damage %v, want %s", rows, id)
		}
		if st := r.scrub.Status(); st.Differed == 0 || st.Differed*3 > st.Compared {
			t.Errorf("%d of %d slots differed", st.Differed, st.Compared)
		}
	})
}

// A drive that lost thousands of shards of hundreds of volumes is one finding; its slots are queued whole, not its shards.
func TestDriveThatLostMuchIsMarked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first := r.write(1)
		proto, err := r.meta.Volume(t.Context(), first.Ref.Volume)
		must(t, err)
		const volumes, blobs = 30, 100
		lost := proto.Slots[0]
		for range volumes {
			v, err := r.meta.CreateVolume(t.Context(), proto)
			must(t, err)
			for b := range blobs {
				n := cairn.NewBlob{Ref: cairn.BlobRef{Volume: v.ID, Blob: first.Ref.Blob + cairn.BlobID(b), Length: 1}, Epoch: v.Epoch}
				must(t, r.meta.Commit(t.Context(), "b/k", n))
				for slot := range uint8(3) {
					if slot == 0 {
						continue // these are lost
					}
					h := cairn.ShardHeader{ID: cairn.ShardID{Volume: v.ID, Blob: n.Ref.Blob, Slot: slot}, Epoch: v.Epoch, Profile: profile, Unit: v.Unit, BlobLen: 1}
					done := make(chan error)
					r.disk.Append(t.Context(), v.Slots[slot], &h, make([]byte, 64), func(err error) { done <- err })
					must(t, <-done)
				}
			}
		}
		defer r.run(r.scrub)()
		if p := r.check(); p.Found != volumes*blobs {
			t.Errorf("%+v, want %d found", p, volumes*blobs)
		}
		slots, shards := 0, 0
		for _, row := range r.damage() {
			if row.Drive != lost {
				t.Errorf("damage on another drive: %v", row)
			}
			if row.Kind == cairn.DamageSlot {
				slots++
			} else {
				shards++
			}
		}
		if shards > 1000 || slots < 20 {
			t.Errorf("%d rows of shards and %d of slots, want at most 1000 and the rest whole", shards, slots)
		}
		marks := 0
		for _, f := range r.meta.Findings() {
			if f.Kind == cairn.FindingDrive && f.Drive == lost && f.Count >= 1000 {
				marks++
			}
		}
		if marks != 1 {
			t.Errorf("the drive was marked %d times, want once: %+v", marks, r.meta.Findings())
		}
	})
}

// The comparison of all slots goes on after a restart where it was saved.
func TestComparisonResumes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		low := r.put(1)
		d, id := r.shard(low, 0)
		r.disk.Drop(d, id)
		high, err := r.meta.Volume(t.Context(), low.Volume)
		must(t, err)
		high, err = r.meta.CreateVolume(t.Context(), high)
		must(t, err)
		for high.ID < low.Volume {
			high, err = r.meta.CreateVolume(t.Context(), high)
			must(t, err)
		}
		n := cairn.NewBlob{Ref: cairn.BlobRef{Volume: high.ID, Blob: low.Blob, Length: 1}, Epoch: high.Epoch}
		must(t, r.meta.Commit(t.Context(), "b/k", n)) // on no drive
		must(t, r.meta.PutConfig(t.Context(), "scrub.light", []byte(strconv.FormatUint(uint64(low.Volume), 10))))
		defer r.run(r.scrub)()
		time.Sleep(time.Second)
		if rows := r.damage(); len(rows) != 3 || rows[0].Shard.Volume != high.ID {
			t.Fatalf("found %v at first, want what lies behind the saved place", rows)
		}
		time.Sleep(10 * time.Minute)
		if rows := r.damage(); len(rows) != 4 {
			t.Errorf("found %v in the next round, want all", rows)
		}
	})
}
