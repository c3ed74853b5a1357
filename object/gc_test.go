package object

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// A blob that a reader holds open outlives its version (I4, I2), and goes when the reader has closed.
func TestGCSparesReaders(t *testing.T) {
	r := newRig(t)
	p := testBytes(3*rigBlob, 1)
	r.put("bucket", "key", p)
	o, err := r.store.Open(t.Context(), meta.VersionRef{Bucket: "bucket", Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	r.remove("bucket", "key")
	r.collect()
	var w sliceWriter
	if err := o.WriteRange(t.Context(), &w, 0, o.Version.Size); err != nil || !bytes.Equal(w, p) {
		t.Errorf("an open object: read %d bytes, %v", len(w), err)
	}
	if r.store.Status().GCDeferred == 0 {
		t.Error("nothing was deferred: did the garbage reach the collector?")
	}
	o.Close()
	o.Close() // harmless
	r.collect()
	if left := r.blobs.refs(); len(left) > 0 {
		t.Errorf("left after the reader closed: %v", left)
	}
	if st := r.store.Status(); st.PinnedBlobs != 0 || st.GCBlobs != 3 || st.GCBytes != int64(len(p)) {
		t.Errorf("got status %+v", st)
	}
}

// A look-up that saw the version, but has not pinned it yet, is waited for.
func TestGCWaitsForLookups(t *testing.T) {
	r := newRig(t)
	p := testBytes(2*rigBlob, 1)
	r.put("bucket", "key", p)
	seen, goOn := make(chan struct{}), make(chan struct{})
	r.meta.set(nil, func(op string) error {
		if op == "Version" {
			close(seen)
			<-goOn
		}
		return nil
	})
	got := make(chan []byte)
	go func() {
		b, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"})
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	<-seen
	r.meta.set(nil, nil)
	r.remove("bucket", "key")
	collected := make(chan struct{})
	go func() { r.collect(); close(collected) }()
	select {
	case <-collected:
		t.Error("the collector did not wait for a look-up under way")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	if b := <-got; !bytes.Equal(b, p) {
		t.Errorf("read %d bytes, want %d", len(b), len(p))
	}
	<-collected
}

// What a copy still refers to survives the deletion of the original.
func TestGCSparesCopies(t *testing.T) {
	r := newRig(t)
	p := testBytes(3*rigBlob, 1)
	r.put("bucket", "key", p)
	if _, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "copy"}); err != nil {
		t.Fatal(err)
	}
	r.remove("bucket", "key")
	r.collect()
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "copy"}); err != nil || !bytes.Equal(got, p) {
		t.Errorf("the copy: read %d bytes, %v", len(got), err)
	}
	r.remove("bucket", "copy")
	r.collect()
	r.checkNothingLeft()
}

// Young garbage stays.
func TestGCMinAge(t *testing.T) {
	r := newRig(t)
	r.put("bucket", "key", testBytes(rigBlob, 1))
	r.remove("bucket", "key")
	if err := r.store.collectOnce(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if n := len(r.blobs.refs()); n != 1 {
		t.Errorf("got %d blobs, want the young one", n)
	}
}

// A deletion that fails, before or after the shards went, is repeated until the rows are cleared.
func TestGCFailures(t *testing.T) {
	r := newRig(t)
	r.put("bucket", "key", testBytes(2*rigBlob, 1))
	r.remove("bucket", "key")
	later := time.Now().Add(time.Hour)
	r.blobs.setFail(only("delete", errInjected))
	if err := r.store.collectOnce(t.Context(), later); !errors.Is(err, errInjected) {
		t.Errorf("failing Delete: got %v", err)
	}
	if n := len(r.blobs.refs()); n != 2 {
		t.Errorf("got %d blobs, want 2", n)
	}
	r.blobs.setFail(nil)
	for _, when := range []string{"before", "after"} {
		before, after := only("ClearGarbage", errInjected), only("", nil)
		if when == "after" {
			before, after = after, before
		}
		r.meta.set(before, after)
		if err := r.store.collectOnce(t.Context(), later); !errors.Is(err, errInjected) {
			t.Errorf("failing %s ClearGarbage: got %v", when, err)
		}
	}
	r.meta.set(nil, nil)
	if err := r.store.collectOnce(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	rows, err := r.meta.Garbage(t.Context(), cairn.BlobRef{}, later, 10)
	if err != nil || len(rows) != 0 {
		t.Errorf("outbox: got %v, %v; want none", rows, err)
	}
}

// More garbage than a page or a batch holds, in one pass.
func TestGCManyBatches(t *testing.T) {
	r := newRig(t)
	r.blobs.max = 1
	for range 3 {
		r.put("bucket", "key", testBytes(gcPage/2, 1))
	}
	r.remove("bucket", "key")
	r.collect()
	r.checkNothingLeft()
	if got, want := r.store.Status().GCBlobs, int64(3*(gcPage/2)); got != want {
		t.Errorf("got %d blobs collected, want %d", got, want)
	}
}

// A whole page of blobs that are being read does not hide the garbage behind it.
func TestGCBehindReaders(t *testing.T) {
	r := newRig(t)
	r.blobs.max = 1
	r.put("bucket", "read", testBytes(gcPage, 1))
	o, err := r.store.Open(t.Context(), meta.VersionRef{Bucket: "bucket", Key: "read"})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r.put("bucket", "key", testBytes(rigInline+1, 1))
	r.remove("bucket", "read")
	r.remove("bucket", "key")
	r.collect()
	if got, want := r.store.Status().GCBlobs, int64(rigInline+1); got != want {
		t.Errorf("got %d blobs collected, want %d", got, want)
	}
}

// More stale uploads than one look takes.
func TestExpireMany(t *testing.T) {
	r := newRig(t)
	for range staleBatch + 3 {
		if _, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "key"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.store.expireOnce(t.Context(), time.Now()); err != nil || r.store.Status().ExpiredUploads != 0 {
		t.Errorf("young uploads: %d expired, %v", r.store.Status().ExpiredUploads, err)
	}
	if err := r.store.expireOnce(t.Context(), time.Now().Add(r.store.cfg.StaleUploads+time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, want := r.store.Status().ExpiredUploads, int64(staleBatch+3); got != want || len(r.uploads("bucket")) != 0 {
		t.Errorf("got %d expired, %d left; want %d, 0", got, len(r.uploads("bucket")), want)
	}
}

// Run deletes garbage and expires uploads by itself, and ends with its context.
func TestRun(t *testing.T) {
	r := newRig(t)
	r.store.cfg.GCInterval, r.store.cfg.GCMinAge = time.Millisecond, time.Millisecond
	r.store.cfg.StaleUploads = time.Millisecond
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	r.putPart(u, 1, testBytes(2*rigBlob, 1))
	r.put("bucket", "key", testBytes(2*rigBlob, 1))
	r.remove("bucket", "key")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.store.Run(ctx) }()
	for deadline := time.Now().Add(20 * time.Second); len(r.blobs.refs()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("left: %v, status %+v", r.blobs.refs(), r.store.Status())
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: got %v, want %v", err, context.Canceled)
	}
	if _, err := r.store.Upload(t.Context(), "bucket", "key", u.ID); !errors.Is(err, ErrNoSuchUpload) {
		t.Errorf("the stale upload: got %v, want %v", err, ErrNoSuchUpload)
	}
}

// What another store of the cluster reads stays, and so does what one may read that does not answer, until it is old.
func TestGCAsksOtherStores(t *testing.T) {
	r := newRig(t)
	p := testBytes(3*rigBlob, 1)
	r.put("bucket", "key", p)
	all, held := true, cairn.BlobRef{}
	r.store.cfg.Elsewhere = func(_ context.Context, blobs []cairn.BlobRef) ([]bool, bool) {
		answer := make([]bool, len(blobs))
		for i, b := range blobs {
			if held.Blob == 0 {
				held = b
			}
			answer[i] = b == held
		}
		return answer, all
	}
	r.remove("bucket", "key")
	all = false
	soon, late := time.Now().Add(time.Minute), time.Now().Add(2*time.Hour)
	collect := func(at time.Time, want int) {
		t.Helper()
		if err := r.store.collectOnce(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		if n := len(r.blobs.refs()); n != want {
			t.Errorf("%d blobs are left, want %d", n, want)
		}
	}
	collect(soon, 3) // somebody does not answer
	all = true
	collect(soon, 1) // one is read elsewhere
	all = false
	collect(late, 1) // and is for as long as its reader says so
	held = cairn.BlobRef{Blob: 1 << 60}
	collect(late, 0)
}
