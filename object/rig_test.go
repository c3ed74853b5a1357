package object

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"cairn"
	"cairn/meta"
	"cairn/sse"
)

// The rig's borders are small, so that small bodies cross all of them.
const (
	rigInline = 100
	rigBlob   = 1000
)

// rig is a store over the real metadata service and blobs in memory, each behind faults, with the buckets "bucket" and
// "other".
type rig struct {
	t     testing.TB
	meta  *faultyMeta
	blobs *memBlobs
	store *Store
	keys  *sse.Keys
}

func newRig(t testing.TB) *rig {
	t.Helper()
	ms := openMeta(t)
	vol, err := ms.CreateVolume(t.Context(), cairn.Volume{Profile: cairn.Profile{K: 1}, Unit: 64 << 10, Slots: []cairn.DriveID{cairn.NewID()}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := ms.ReserveBlobIDs(t.Context(), 1<<32)
	if err != nil {
		t.Fatal(err)
	}
	var next atomic.Uint64
	next.Store(uint64(first))
	r := &rig{t: t, meta: &faultyMeta{Meta: ms},
		blobs: newMemBlobs(rigBlob, vol.ID, vol.Epoch, func() cairn.BlobID { return cairn.BlobID(next.Add(1) - 1) })}
	ring := sse.NewRing(time.Now())
	if err := ring.Create("default", time.Now()); err != nil {
		t.Fatal(err)
	}
	r.keys = &sse.Keys{Store: ring, Service: ring, DefaultKey: "default"}
	r.store, err = New(Config{Meta: r.meta, Blobs: r.blobs, InlineMax: rigInline, Keys: r.keys})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bucket", "other"} {
		if _, err := r.store.CreateBucket(t.Context(), cairn.Bucket{Name: name, Owner: "ann"}); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// openMeta opens one voter in memory.
func openMeta(t testing.TB) *meta.Store {
	t.Helper()
	ms, err := meta.Open(meta.Config{Cluster: cairn.NewID(), FS: vfs.NewMem(),
		Homes: []meta.Home{{Drive: cairn.NewID(), Dir: "/drive", Usable: true}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); ms.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		if err := ms.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := ms.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ms
}

func (r *rig) put(bucket, key string, p []byte) cairn.Version {
	r.t.Helper()
	v, err := r.store.Put(r.t.Context(), Put{Bucket: bucket, Key: key, Body: bytes.NewReader(p), Size: int64(len(p))})
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) remove(bucket, key string) {
	r.t.Helper()
	if _, err := r.store.Delete(r.t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: bucket, Key: key}}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) putPart(u cairn.Upload, number int, p []byte) cairn.Part {
	r.t.Helper()
	part, err := r.store.PutPart(r.t.Context(), PutPart{Bucket: u.Bucket, Key: u.Key, Upload: u.ID, Number: number,
		Body: bytes.NewReader(p), Size: int64(len(p))})
	if err != nil {
		r.t.Fatal(err)
	}
	return part
}

// collect runs the garbage collection as if all garbage were old.
func (r *rig) collect() {
	r.t.Helper()
	if err := r.store.collectOnce(r.t.Context(), time.Now().Add(time.Hour)); err != nil {
		r.t.Fatal(err)
	}
}

// referenced returns the blobs that versions and parts list.
func (r *rig) referenced() map[cairn.BlobRef]string {
	r.t.Helper()
	out := make(map[cairn.BlobRef]string)
	for _, bucket := range []string{"bucket", "other"} {
		page, err := r.store.List(r.t.Context(), meta.List{Bucket: bucket, Max: 1000})
		if err != nil || page.More {
			r.t.Fatalf("listing %s: more %t, %v", bucket, page.More, err)
		}
		for _, listed := range page.Versions {
			v, err := r.store.Head(r.t.Context(), meta.VersionRef{Bucket: bucket, Key: listed.Key})
			if err != nil {
				r.t.Fatal(err)
			}
			for _, b := range v.Layout.Blobs {
				out[b] = bucket + "/" + v.Key
			}
		}
		for _, u := range r.uploads(bucket) {
			parts, _, err := r.store.Parts(r.t.Context(), bucket, u.Key, u.ID, 0, 1000)
			if err != nil {
				r.t.Fatal(err)
			}
			for _, p := range parts {
				for _, b := range p.Layout.Blobs {
					out[b] = fmt.Sprintf("part %d of %s", p.Number, u.ID)
				}
			}
		}
	}
	return out
}

func (r *rig) uploads(bucket string) []cairn.Upload {
	r.t.Helper()
	page, err := r.store.ListUploads(r.t.Context(), meta.ListUploads{Bucket: bucket, Max: 1000})
	if err != nil || page.More {
		r.t.Fatalf("uploads of %s: more %t, %v", bucket, page.More, err)
	}
	return page.Uploads
}

// leftovers collects garbage and tells whether the blobs that are held and those that are referenced differ.
func (r *rig) leftovers() string {
	r.t.Helper()
	r.collect()
	want := r.referenced()
	for _, ref := range r.blobs.refs() {
		if _, ok := want[ref]; !ok {
			return fmt.Sprintf("blob %s is left behind: nothing refers to it", ref)
		}
		delete(want, ref)
	}
	for ref, by := range want {
		return fmt.Sprintf("blob %s is gone: %s refers to it", ref, by)
	}
	return ""
}

func (r *rig) checkNothingLeft() {
	r.t.Helper()
	if why := r.leftovers(); why != "" {
		r.t.Error(why)
	}
}

// clear empties both buckets.
func (r *rig) clear() {
	r.t.Helper()
	for _, bucket := range []string{"bucket", "other"} {
		for _, u := range r.uploads(bucket) {
			if err := r.store.Abort(r.t.Context(), bucket, u.Key, u.ID); err != nil {
				r.t.Fatal(err)
			}
		}
		page, err := r.store.List(r.t.Context(), meta.List{Bucket: bucket, Max: 1000})
		if err != nil {
			r.t.Fatal(err)
		}
		for _, v := range page.Versions {
			r.remove(bucket, v.Key)
		}
	}
	r.collect()
}
