package object

import (
	"bytes"
	"errors"
	"testing"

	"cairn"
	"cairn/meta"
)

// In a versioned bucket old versions stay readable by ID, can be copied, and are collected only when they are deleted by ID.
func TestVersions(t *testing.T) {
	r := newRig(t)
	if _, err := r.store.UpdateBucket(t.Context(), "bucket", func(b *cairn.Bucket) error {
		b.Version = cairn.VersioningEnabled
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	first, second := testBytes(2*rigBlob, 1), testBytes(3*rigBlob, 2)
	v1, v2 := r.put("bucket", "key", first), r.put("bucket", "key", second)
	d, err := r.store.Delete(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "bucket", Key: "key"}})
	if err != nil || !d.DeleteMarker {
		t.Fatalf("got %+v, %v; want a delete marker", d, err)
	}
	r.collect()
	for _, c := range []struct {
		v    cairn.Version
		want []byte
	}{{v1, first}, {v2, second}} {
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key", ID: c.v.ID}); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("version %s: read %d bytes, %v", c.v.ID, len(got), err)
		}
	}
	if _, err := r.store.Open(t.Context(), meta.VersionRef{Bucket: "bucket", Key: "key"}); !errors.Is(err, cairn.ErrNotFound) || errors.Is(err, ErrNoSuchBucket) {
		t.Errorf("behind a marker: got %v, want %v", err, cairn.ErrNotFound)
	}
	marker := meta.VersionRef{Bucket: "bucket", Key: "key", ID: d.ID}
	if head, err := r.store.Head(t.Context(), marker); err != nil || !head.DeleteMarker {
		t.Errorf("the marker: got %+v, %v", head, err)
	}
	if _, err := r.store.Copy(t.Context(), Copy{From: marker, Bucket: "other", Key: "k"}); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a copy of the marker: got %v, want %v", err, cairn.ErrInvalid)
	}
	if _, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key", ID: v1.ID}, Bucket: "other", Key: "copy"}); err != nil {
		t.Fatal(err)
	}
	_, errs := r.store.DeleteMany(t.Context(), []meta.DeleteVersion{
		{Ref: meta.VersionRef{Bucket: "bucket", Key: "key", ID: v1.ID}},
		{Ref: meta.VersionRef{Bucket: "bucket", Key: ""}},
		{Ref: meta.VersionRef{Bucket: "bucket", Key: "key", ID: v2.ID}},
		{Ref: marker},
	})
	for i, want := range []error{nil, ErrKey, nil, nil} {
		if !errors.Is(errs[i], want) || (want == nil) != (errs[i] == nil) {
			t.Errorf("deletion %d: got %v, want %v", i, errs[i], want)
		}
	}
	r.checkNothingLeft()
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "other", Key: "copy"}); err != nil || !bytes.Equal(got, first) {
		t.Errorf("the copy: read %d bytes, %v", len(got), err)
	}
	page, err := r.store.ListVersions(t.Context(), meta.ListVersions{Bucket: "bucket", Max: 10})
	if err != nil || len(page.Versions) != 0 {
		t.Errorf("got versions %v, %v; want none", page.Versions, err)
	}
}

func TestBuckets(t *testing.T) {
	r := newRig(t)
	if _, err := r.store.CreateBucket(t.Context(), cairn.Bucket{Name: "Not_A_Name"}); !errors.Is(err, ErrBucketName) {
		t.Errorf("bad name: got %v, want %v", err, ErrBucketName)
	}
	if _, err := r.store.CreateBucket(t.Context(), cairn.Bucket{Name: "bucket"}); !errors.Is(err, cairn.ErrExists) {
		t.Errorf("twice: got %v, want %v", err, cairn.ErrExists)
	}
	r.put("bucket", "key", testBytes(rigBlob, 1))
	if st, err := r.store.Stats(t.Context(), "bucket"); err != nil || st.Objects != 1 || st.Bytes != rigBlob {
		t.Errorf("got %+v, %v; want 1 object of %d bytes", st, err, rigBlob)
	}
	if err := r.store.DeleteBucket(t.Context(), "bucket"); !errors.Is(err, cairn.ErrNotEmpty) {
		t.Errorf("deleting a full bucket: got %v, want %v", err, cairn.ErrNotEmpty)
	}
	r.remove("bucket", "key")
	if err := r.store.DeleteBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	// The bucket's profile was remembered for the put above; that must not keep it alive.
	for name, err := range map[string]error{
		"Bucket":       second(r.store.Bucket(t.Context(), "bucket")),
		"Stats":        second(r.store.Stats(t.Context(), "bucket")),
		"List":         second(r.store.List(t.Context(), meta.List{Bucket: "bucket", Max: 1})),
		"ListVersions": second(r.store.ListVersions(t.Context(), meta.ListVersions{Bucket: "bucket", Max: 1})),
		"ListUploads":  second(r.store.ListUploads(t.Context(), meta.ListUploads{Bucket: "bucket", Max: 1})),
		"Head":         second(r.store.Head(t.Context(), meta.VersionRef{Bucket: "bucket", Key: "key"})),
		"Delete":       second(r.store.Delete(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "bucket", Key: "key"}})),
		"DeleteBucket": r.store.DeleteBucket(t.Context(), "bucket"),
		"Put": second(r.store.Put(t.Context(), Put{Bucket: "bucket", Key: "key", Size: rigBlob,
			Body: bytes.NewReader(testBytes(rigBlob, 1))})),
	} {
		if !errors.Is(err, ErrNoSuchBucket) || !errors.Is(err, cairn.ErrNotFound) {
			t.Errorf("%s: got %v, want %v", name, err, ErrNoSuchBucket)
		}
	}
	r.blobs.mu.Lock()
	defer r.blobs.mu.Unlock()
	if len(r.blobs.held) != 1 { // the deleted object's, which nobody has collected
		t.Errorf("got %d blobs, want 1: the refused put's are to be discarded", len(r.blobs.held))
	}
}

func second[T any](_ T, err error) error { return err }

// A new store refuses what it cannot work with, and fills in the rest.
func TestConfig(t *testing.T) {
	r := newRig(t)
	for name, bad := range map[string]Config{
		"no meta":           {Blobs: r.blobs},
		"no blobs":          {Meta: r.meta},
		"bad profile":       {Meta: r.meta, Blobs: r.blobs, DefaultProfile: cairn.Profile{K: 0, M: 9}},
		"large inline":      {Meta: r.meta, Blobs: r.blobs, InlineMax: maxInlineMax + 1},
		"negative interval": {Meta: r.meta, Blobs: r.blobs, GCInterval: -1},
	} {
		if _, err := New(bad); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%s: got %v, want %v", name, err, cairn.ErrInvalid)
		}
	}
	s, err := New(Config{Meta: r.meta, Blobs: r.blobs})
	if err != nil || s.cfg.InlineMax != 8<<10 || s.cfg.DefaultProfile != (cairn.Profile{K: 4, M: 2}) || s.cfg.GCMinAge == 0 || s.cfg.StaleUploads == 0 {
		t.Errorf("defaults: %+v, %v", s.cfg, err)
	}
}
