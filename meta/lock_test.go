package meta_test

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

func lockedBucket(t *testing.T, s *meta.Store) {
	t.Helper()
	_, err := s.CreateBucket(t.Context(), cairn.Bucket{Name: "b", Version: cairn.VersioningEnabled, Lock: cairn.BucketLock{Enabled: true}})
	if err != nil {
		t.Fatal(err)
	}
}

// A batch of deletions of which some are refused by a lock changes nothing of the locked ones, and all of the others.
func TestLockedVersionsInABatch(t *testing.T) {
	s := newStore(t, 1)
	lockedBucket(t, s)
	until := time.Now().Add(time.Hour)
	var refs []meta.DeleteVersion
	for _, lock := range []cairn.Lock{{}, {Mode: cairn.LockGovernance, Until: until}, {Hold: cairn.HoldOn}, {Mode: cairn.LockGovernance, Until: time.Now().Add(-time.Hour)}} {
		p := inlinePut("b", "k"+string(lock.Mode)+string(lock.Hold), strings.Repeat("x", 400*len(refs)))
		p.Version.Lock = lock
		v, err := s.PutVersion(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: v.Key, ID: v.ID}})
	}
	before, _ := s.Stats(t.Context(), "b")
	_, errs := s.DeleteVersions(t.Context(), refs)
	for i, refused := range []bool{false, true, true, false} {
		var locked *meta.LockError
		if errors.As(errs[i], &locked) != refused || refused && !errors.Is(errs[i], cairn.ErrForbidden) {
			t.Errorf("version %d: %v, want refused %v", i, errs[i], refused)
		}
		v, err := s.Version(t.Context(), refs[i].Ref)
		if errors.Is(err, cairn.ErrNotFound) == refused || refused && int64(len(v.Layout.Inline)) != v.Size {
			t.Errorf("version %d afterwards: %+v, %v", i, v, err)
		}
	}
	after, _ := s.Stats(t.Context(), "b")
	if after.Versions != before.Versions-2 || after.Bytes != 400+800 {
		t.Errorf("statistics %+v, then %+v", before, after)
	}
	refs[1].Bypass, refs[2].Bypass = true, true
	_, errs = s.DeleteVersions(t.Context(), refs[1:3])
	if errs[0] != nil || !errors.Is(errs[1], cairn.ErrForbidden) {
		t.Errorf("with bypass: %v", errs)
	}
}

// What may change of a version changes in place: the rest, and the rows beside it, stay.
func TestUpdateVersion(t *testing.T) {
	s := newStore(t, 1)
	lockedBucket(t, s)
	big := inlinePut("b", "k", strings.Repeat("y", 5000))
	big.Version.Headers = map[string]string{"X-Amz-Meta-Long": strings.Repeat("h", 3*2048)}
	big.Version.Tags = map[string]string{"old": "1"}
	first, err := s.PutVersion(t.Context(), big)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "b", "k", "small")
	marker, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	tags := map[string]string{"new": "2", "": "3"}
	ref := meta.VersionRef{Bucket: "b", Key: "k", ID: first.ID}
	update := func(ref meta.VersionRef) error {
		_, err := s.UpdateVersion(t.Context(), meta.UpdateVersion{Ref: ref, Change: func(_ cairn.Bucket, v *cairn.Version) error {
			v.Tags, v.Lock.Hold, v.ETag = tags, cairn.HoldOn, "not kept"
			return nil
		}})
		return err
	}
	if err := update(ref); err != nil {
		t.Fatal(err)
	}
	got, err := s.Version(t.Context(), ref)
	if err != nil || !maps.Equal(got.Tags, tags) || got.Lock.Hold != cairn.HoldOn || got.ETag != first.ETag || len(got.Layout.Inline) != 5000 ||
		got.Headers["X-Amz-Meta-Long"] != big.Version.Headers["X-Amz-Meta-Long"] || !got.Modified.Equal(first.Modified) {
		t.Errorf("got %+v, %v", got, err)
	}
	var hidden *meta.MarkerError
	if err := update(meta.VersionRef{Bucket: "b", Key: "k"}); !errors.As(err, &hidden) || hidden.Marker.ID != marker.ID {
		t.Errorf("behind a marker: %v", err)
	}
	if err := update(meta.VersionRef{Bucket: "b", Key: "none"}); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("nothing: %v", err)
	}
	mustBucket(t, s, "plain", cairn.VersioningOff)
	mustPut(t, s, "plain", "k", "x")
	if err := update(meta.VersionRef{Bucket: "plain", Key: "k"}); !errors.Is(err, meta.ErrNoLock) {
		t.Errorf("a lock in a bucket without: %v", err)
	}
	_, err = s.UpdateBucket(t.Context(), "b", func(b *cairn.Bucket) error { b.Version = cairn.VersioningSuspended; return nil })
	if !errors.Is(err, meta.ErrLockState) {
		t.Errorf("suspending versioning: %v", err)
	}
	if _, err = s.UpdateBucket(t.Context(), "b", func(b *cairn.Bucket) error { b.Lock.Enabled = false; return nil }); !errors.Is(err, meta.ErrLockState) {
		t.Errorf("disabling the lock: %v", err)
	}
}
