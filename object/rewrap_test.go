package object

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
	"cairn/sse"
)

// After a rotation every record is wrapped under the new version, and nothing else of any row has changed.
func TestRewrap(t *testing.T) {
	r := newRig(t)
	ms := r.meta.Meta.(*meta.Store)
	if _, err := ms.UpdateBucket(t.Context(), "bucket", func(b *cairn.Bucket) error { b.Version = cairn.VersioningEnabled; return nil }); err != nil {
		t.Fatal(err)
	}
	bodies := map[meta.VersionRef][]byte{}
	before := map[meta.VersionRef]cairn.Version{}
	wish := func(scheme cairn.EncryptionScheme) cairn.EncryptionWish {
		return cairn.EncryptionWish{EncryptionRule: cairn.EncryptionRule{Scheme: scheme}}
	}
	for i := range 10 {
		for _, scheme := range []cairn.EncryptionScheme{"", cairn.SSES3, cairn.SSEKMS} {
			p := testBytes(rigBlob*(i%2)+i, uint64(i)+1)
			v, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: fmt.Sprint("k", i%4, scheme), Owner: "ann", Body: bytes.NewReader(p), Size: int64(len(p)),
				Encrypt: wish(scheme), What: Attributes{Tags: map[string]string{"n": fmt.Sprint(i)}}})
			if err != nil {
				t.Fatal(err)
			}
			ref := meta.VersionRef{Bucket: "bucket", Key: v.Key, ID: v.ID}
			bodies[ref], before[ref] = p, v
		}
	}
	up, err := r.store.CreateSealedUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "up"}, wish(cairn.SSES3))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{sse.StoreKey, "default"} {
		next, err := r.keys.Store.Rotated(name, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r.keys.Store.Adopt(next)
	}
	pass := func() (sum meta.Rewrapped) {
		for at := (meta.RewrapPlace{}); !at.Done(); {
			next, page, err := ms.Rewrap(t.Context(), at, 7, func(rec cairn.Encryption) (cairn.Encryption, bool, error) { return r.keys.Rewrap(t.Context(), rec) })
			if err != nil {
				t.Fatal(err)
			}
			at = next
			sum.Looked, sum.Changed, sum.Missed = sum.Looked+page.Looked, sum.Changed+page.Changed, sum.Missed+page.Missed
		}
		return sum
	}
	if got := pass(); got != (meta.Rewrapped{Looked: 31, Changed: 21}) {
		t.Errorf("the first pass: %+v, want 21 of 31 changed", got)
	}
	if got := pass(); got != (meta.Rewrapped{Looked: 31}) {
		t.Errorf("the second pass: %+v, want nothing changed", got)
	}
	for ref, want := range bodies {
		v, err := ms.Version(t.Context(), ref)
		if err != nil {
			t.Fatal(err)
		}
		was := before[ref]
		if v.ETag != was.ETag || v.Size != was.Size || v.Tags["n"] != was.Tags["n"] || !v.Modified.Equal(was.Modified) ||
			!bytes.Equal(v.Encryption.Salt, was.Encryption.Salt) || v.Encryption.Scheme != was.Encryption.Scheme {
			t.Errorf("%s: %+v became %+v", ref.Key, was, v)
		}
		if v.Encryption.Sealed() && bytes.Equal(v.Encryption.Wrapped, was.Encryption.Wrapped) {
			t.Errorf("%s: its data key is wrapped as before", ref.Key)
		}
		if got, err := readObject(t, r.store, ref); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %d bytes, want %d: %v", ref.Key, len(got), len(want), err)
		}
	}
	if now, err := ms.Upload(t.Context(), "bucket", "up", up.ID); err != nil || bytes.Equal(now.Encryption.Wrapped, up.Encryption.Wrapped) {
		t.Errorf("the upload's data key is wrapped as before: %v", err)
	}
}
