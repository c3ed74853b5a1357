package meta_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// world is a bucket and a volume to put blobs into.
type world struct {
	*meta.Store
	t    *testing.T
	vol  cairn.Volume
	next cairn.BlobID
}

func newWorld(t *testing.T) *world {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	vol, err := s.CreateVolume(t.Context(), cairn.Volume{Profile: cairn.Profile{K: 2, M: 1}, Unit: 1 << 16, Slots: []cairn.DriveID{{1}, {2}, {3}}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.ReserveBlobIDs(t.Context(), 1000)
	if err != nil {
		t.Fatal(err)
	}
	return &world{s, t, vol, first}
}

func (w *world) blob() cairn.NewBlob {
	w.next++
	return cairn.NewBlob{Ref: cairn.BlobRef{Volume: w.vol.ID, Blob: w.next - 1, Length: 100}, Epoch: w.vol.Epoch}
}

func (w *world) part(id string, number int, blobs ...cairn.NewBlob) error {
	p := cairn.Part{Number: number, ETag: fmt.Sprintf("%032x", number)}
	for _, b := range blobs {
		p.Layout.Blobs = append(p.Layout.Blobs, b.Ref)
		p.Size += b.Ref.Length
	}
	_, err := w.PutPart(w.t.Context(), meta.PutPart{Bucket: "b", Key: "k", Upload: id, Part: p, NewBlobs: blobs})
	return err
}

func (w *world) wantRefs(want ...cairn.NewBlob) {
	w.t.Helper()
	rows, err := w.Blobs(w.t.Context(), w.vol.ID, 0, 100)
	if err != nil || len(rows) != len(want) {
		w.t.Fatalf("blobs = %+v, %v; want %d", rows, err, len(want))
	}
	for i := range rows {
		if rows[i].Ref != want[i].Ref || rows[i].Count != 1 {
			w.t.Errorf("blob row %+v, want %v", rows[i], want[i].Ref)
		}
	}
}

func TestUpload(t *testing.T) {
	w := newWorld(t)
	u, err := w.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "k", Headers: map[string]string{"A": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	a, b, b2, c := w.blob(), w.blob(), w.blob(), w.blob()
	for i, err := range []error{w.part(u.ID, 2, b), w.part(u.ID, 1, a), w.part(u.ID, 2, b2), w.part(u.ID, 9, c)} {
		if err != nil {
			t.Fatal(i, err)
		}
	}
	w.wantRefs(a, b2, c) // part 2 was replaced
	parts, more, err := w.Parts(t.Context(), "b", "k", u.ID, 1, 1)
	if err != nil || len(parts) != 1 || parts[0].Number != 2 || !more {
		t.Errorf("parts after 1 = %+v, %v, %v", parts, more, err)
	}
	build := func(u cairn.Upload, parts []cairn.Part) (cairn.Version, error) {
		return cairn.Version{ETag: fmt.Sprintf("%032x-%d", 7, len(parts)), Headers: u.Headers}, nil
	}
	r := meta.CompleteUpload{Bucket: "b", Key: "k", Upload: u.ID, Build: build,
		Parts: []meta.CompletePart{{Number: 1, ETag: fmt.Sprintf("%032x", 1)}, {Number: 2, ETag: "wrong"}}}
	var pe *meta.PartError
	if _, err := w.CompleteUpload(t.Context(), r); !errors.As(err, &pe) || pe.Number != 2 || !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("wrong ETag: %v", err)
	}
	r.Parts[1].ETag = fmt.Sprintf("%032x", 2)
	v, err := w.CompleteUpload(t.Context(), r)
	if err != nil || v.Size != 200 || v.Headers["A"] != "b" || len(v.Layout.Blobs) != 2 {
		t.Fatalf("complete = %+v, %v", v, err)
	}
	again, err := w.CompleteUpload(t.Context(), r)
	if err != nil || again.ID != v.ID || again.ETag != v.ETag {
		t.Errorf("repeated complete = %+v, %v; want version %s", again, err, v.ID)
	}
	w.wantRefs(a, b2) // part 9 was not named
	if g, err := w.Garbage(t.Context(), cairn.BlobRef{}, time.Now().Add(time.Hour), 10); err != nil || len(g) != 2 {
		t.Errorf("garbage = %+v, %v; want the replaced part and the one left out", g, err)
	}
	if st, _ := w.Stats(t.Context(), "b"); st != (meta.BucketStats{Objects: 1, Versions: 1, Bytes: 200}) {
		t.Errorf("stats = %+v", st)
	}
	mustPut(t, w.Store, "b", "k", "newer")
	var ue *meta.UploadError
	if _, err := w.CompleteUpload(t.Context(), r); !errors.As(err, &ue) {
		t.Errorf("complete after an overwrite: %v, want no such upload", err)
	}
	if err := w.part(u.ID, 3, w.blob()); !errors.As(err, &ue) {
		t.Errorf("part of a completed upload: %v", err)
	}
}

func TestAbortAndListUploads(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for _, key := range []string{"a", "k", "k", "d/x", "d/y"} {
		u, err := w.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: key})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, u.ID)
	}
	var got []string
	r := meta.ListUploads{Bucket: "b", Delimiter: "/", Max: 1}
	for {
		p, err := w.ListUploads(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range p.Uploads {
			got = append(got, u.Key+" "+u.ID)
		}
		got = append(got, p.Prefixes...)
		if !p.More {
			break
		}
		r.AfterKey, r.AfterUpload = p.NextKey, p.NextUpload
	}
	want := []string{"a " + ids[0], "d/", "k " + ids[1], "k " + ids[2]}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("uploads = %q, want %q", got, want)
	}
	blob := w.blob()
	if err := w.part(ids[1], 1, blob); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteBucket(t.Context(), "b"); !errors.Is(err, cairn.ErrNotEmpty) {
		t.Errorf("delete bucket with uploads: %v", err)
	}
	stale, err := w.StaleUploads(t.Context(), time.Now().Add(time.Second), 10)
	if err != nil || len(stale) != 5 {
		t.Fatalf("stale = %+v, %v", stale, err)
	}
	for _, u := range stale {
		if err := w.AbortUpload(t.Context(), u.Bucket, u.Key, u.ID); err != nil {
			t.Error(err)
		}
	}
	w.wantRefs()
	if err := w.DeleteBucket(t.Context(), "b"); err != nil {
		t.Error(err)
	}
}

// A long layout overflows into pages, and goes with its version.
func TestLongLayout(t *testing.T) {
	w := newWorld(t)
	first, err := w.ReserveBlobIDs(t.Context(), 20000)
	if err != nil {
		t.Fatal(err)
	}
	r := meta.PutVersion{Version: cairn.Version{Bucket: "b", Key: "k"}}
	for i := range 20000 {
		nb := cairn.NewBlob{Ref: cairn.BlobRef{Volume: w.vol.ID, Blob: first + cairn.BlobID(i), Length: 1 << 20}, Epoch: 1}
		r.NewBlobs = append(r.NewBlobs, nb)
		r.Version.Layout.Blobs = append(r.Version.Layout.Blobs, nb.Ref)
		r.Version.Size += 1 << 20
	}
	if _, err := w.PutVersion(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	v, err := w.Version(t.Context(), meta.VersionRef{Bucket: "b", Key: "k"})
	if err != nil || len(v.Layout.Blobs) != 20000 || v.Layout.Blobs[19999] != r.Version.Layout.Blobs[19999] {
		t.Fatalf("%d blobs, %v", len(v.Layout.Blobs), err)
	}
	mustPut(t, w.Store, "b", "k", "short")
	w.wantRefs()
}

// What guards a commit of new blobs: epoch, orphan watermark, and that copies come from what is referenced.
func TestNewBlobGuards(t *testing.T) {
	w := newWorld(t)
	put := func(key string, b cairn.NewBlob, fresh bool) error {
		r := meta.PutVersion{Version: cairn.Version{Bucket: "b", Key: key, Size: b.Ref.Length, Layout: cairn.Layout{Blobs: []cairn.BlobRef{b.Ref}}}}
		if fresh {
			r.NewBlobs = []cairn.NewBlob{b}
		}
		_, err := w.PutVersion(t.Context(), r)
		return err
	}
	old, kept, skipped := w.blob(), w.blob(), w.blob()
	skipped.Skipped = []uint8{2}
	if err := put("kept", kept, true); err != nil {
		t.Fatal(err)
	}
	if err := put("twice", kept, true); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("a new blob that is referenced already: %v", err)
	}
	if err := put("copy", old, false); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("a copy of what nobody references: %v", err)
	}
	if err := put("skipped", skipped, true); err != nil {
		t.Fatal(err)
	}
	ds, err := w.Damage(t.Context(), 10)
	if err != nil || len(ds) != 1 || ds[0].Kind != cairn.DamageSkipped || ds[0].Drive != (cairn.DriveID{3}) || ds[0].Shard.Blob != skipped.Ref.Blob {
		t.Errorf("damage = %+v, %v", ds, err)
	}
	mark, err := w.AdvanceOrphanWatermark(t.Context(), time.Now().Add(-time.Hour))
	if err != nil || mark > old.Ref.Blob {
		t.Fatalf("watermark = %v, %v with young leases only", mark, err)
	}
	if mark, err = w.AdvanceOrphanWatermark(t.Context(), time.Now().Add(time.Hour)); err != nil || mark <= w.next {
		t.Fatalf("watermark = %v, %v with old leases only", mark, err)
	}
	if err := put("late", old, true); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("below the watermark: %v", err)
	}
	refs, err := w.BlobRefs(t.Context(), []cairn.BlobRef{old.Ref, kept.Ref})
	if err != nil || refs[0] || !refs[1] {
		t.Errorf("refs = %v, %v", refs, err)
	}
	if w.next, err = w.ReserveBlobIDs(t.Context(), 10); err != nil || w.next < mark {
		t.Fatalf("lease = %v, %v", w.next, err)
	}
	late := w.blob()
	swap := meta.SwapSlot{Volume: w.vol.ID, Slot: 1, Epoch: 1, Old: cairn.DriveID{2}, New: cairn.DriveID{4}}
	v, err := w.SwapSlot(t.Context(), swap)
	if err != nil || v.Epoch != 2 || v.Slots[1] != (cairn.DriveID{4}) {
		t.Fatalf("swap = %+v, %v", v, err)
	}
	if _, err := w.SwapSlot(t.Context(), swap); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("the same swap again: %v", err)
	}
	twice := meta.SwapSlot{Volume: w.vol.ID, Slot: 0, Epoch: v.Epoch, Old: v.Slots[0], New: v.Slots[2]}
	if _, err := w.SwapSlot(t.Context(), twice); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("two slots on one drive: %v", err)
	}
	if now, err := w.Volume(t.Context(), w.vol.ID); err != nil || now.Epoch != v.Epoch || now.Slots[0] != v.Slots[0] {
		t.Errorf("after the refusal: %+v, %v", now, err)
	}
	if err := put("stale", late, true); !errors.Is(err, cairn.ErrStaleEpoch) {
		t.Errorf("written at an old epoch: %v", err)
	}
}

func TestDamageRows(t *testing.T) {
	s := newStore(t, 1)
	d := cairn.Damage{Shard: cairn.ShardID{Volume: 1, Blob: 2, Slot: 3}, Kind: cairn.DamageCorrupt, Drive: cairn.DriveID{9}, By: "scrub", Note: "n"}
	slot := cairn.Damage{Shard: cairn.ShardID{Volume: 1, Slot: 3}, Kind: cairn.DamageSlot}
	for range 2 {
		if err := s.AddDamage(t.Context(), []cairn.Damage{d, slot, d}); err != nil {
			t.Fatal(err)
		}
	}
	d.Tries, d.Note = 4, "again"
	if err := s.RetryDamage(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	list, err := s.Damage(t.Context(), 10)
	if err != nil || len(list) != 2 || list[0].Kind != cairn.DamageSlot || list[1].Tries != 4 || list[1].Note != "again" || list[1].Drive != d.Drive {
		t.Errorf("damage = %+v, %v", list, err)
	}
	counts, err := s.DamageCount(t.Context())
	if err != nil || counts[cairn.DamageCorrupt] != 1 || counts[cairn.DamageSlot] != 1 {
		t.Errorf("counts = %v, %v", counts, err)
	}
	if err := s.ResolveDamage(t.Context(), cairn.OutcomeRepaired, []cairn.ShardID{d.Shard}); err != nil {
		t.Fatal(err)
	}
	if err := s.RetryDamage(t.Context(), d); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("retry of what is resolved: %v", err)
	}
}

// A request that is repeated with its ID takes effect once, whatever changed since.
func TestRepeatedRequests(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	r := inlinePut("b", "k", "body")
	r.RequestID, r.If.IfNoneMatch = 11, []string{"*"}
	first, err := s.PutVersion(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.PutVersion(t.Context(), r)
	if err != nil || again.ID != first.ID || !again.Modified.Equal(first.Modified) {
		t.Errorf("again = %+v, %v; want %+v", again, err, first)
	}
	d := meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "k"}, RequestID: 12}
	one, err1 := s.DeleteVersion(t.Context(), d)
	two, err2 := s.DeleteVersion(t.Context(), d)
	if err1 != nil || err2 != nil || one != two {
		t.Errorf("deletions = %+v, %v and %+v, %v", one, err1, two, err2)
	}
	if st, _ := s.Stats(t.Context(), "b"); st.Versions != 2 {
		t.Errorf("stats = %+v, want one version and one marker", st)
	}
}

func TestDeleteVersions(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	var rs []meta.DeleteVersion
	for i := range 1200 {
		mustPutMany(t, s, i)
		rs = append(rs, meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: fmt.Sprintf("key%05d", i)}})
	}
	rs = append(rs, rs[0], meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "nowhere", Key: "k"}})
	rs[7].If.IfMatch = []string{"other"}
	out, errs := s.DeleteVersions(t.Context(), rs)
	for i := range rs {
		switch {
		case i == 7:
			if !errors.Is(errs[i], cairn.ErrPrecondition) {
				t.Errorf("condition: %v", errs[i])
			}
		case i == 1200:
			if errs[i] != nil || out[i].Found {
				t.Errorf("second deletion of a key: %+v, %v", out[i], errs[i])
			}
		case i == 1201:
			if !errors.Is(errs[i], cairn.ErrNotFound) {
				t.Errorf("no bucket: %v", errs[i])
			}
		case errs[i] != nil || !out[i].Found:
			t.Fatalf("%d: %+v, %v", i, out[i], errs[i])
		}
	}
	if p, err := s.List(t.Context(), meta.List{Bucket: "b", Max: 10}); err != nil || len(p.Versions) != 1 || p.Versions[0].Key != "key00007" {
		t.Errorf("left: %+v, %v", p, err)
	}
}

func mustPutMany(t *testing.T, s *meta.Store, i int) {
	t.Helper()
	mustPut(t, s, "b", fmt.Sprintf("key%05d", i), "x")
}
