package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"cairn"
	"cairn/meta"
)

// Sizes around every border of the rig: inline, one blob, several.
var sizes = []int{0, 1, rigInline - 1, rigInline, rigInline + 1, rigBlob - 1, rigBlob, rigBlob + 1, 3 * rigBlob, 3*rigBlob + 7}

func TestPutAndRead(t *testing.T) {
	r := newRig(t)
	for _, size := range sizes {
		for _, known := range []bool{true, false} {
			key := fmt.Sprintf("size-%d-%t", size, known)
			p := testBytes(size, 1)
			put := Put{Bucket: "bucket", Key: key, Owner: "ann", Body: bytes.NewReader(p), Size: -1,
				What: Attributes{Headers: map[string]string{"Content-Type": "text/x"}, Tags: map[string]string{"a": "b"}, Class: "STANDARD_IA"}}
			if known {
				put.Size = int64(size)
			}
			v, err := r.store.Put(t.Context(), put)
			if err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			sum := md5.Sum(p)
			if want := hex.EncodeToString(sum[:]); v.ETag != want || v.Size != int64(size) {
				t.Errorf("%s: got ETag %s, size %d; want %s, %d", key, v.ETag, v.Size, want, size)
			}
			head, err := r.store.Head(t.Context(), meta.VersionRef{Bucket: "bucket", Key: key})
			if err != nil {
				t.Fatal(err)
			}
			if head.Owner != "ann" || head.Headers["Content-Type"] != "text/x" || head.Tags["a"] != "b" || head.Class != "STANDARD_IA" {
				t.Errorf("%s: attributes did not come back: %+v", key, head)
			}
			if c := pick(head.Checksums, cairn.CRC64NVME); len(c) != 1 || !bytes.Equal(c[0].Value, direct(cairn.CRC64NVME, p)) {
				t.Errorf("%s: got checksums %v, want the CRC64NVME that nobody asked for", key, head.Checksums)
			}
			if inline := len(head.Layout.Blobs) == 0; inline != (size <= rigInline) {
				t.Errorf("%s: inline is %t", key, inline)
			}
			if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: key}); err != nil || !bytes.Equal(got, p) {
				t.Errorf("%s: read %d bytes, %v; want %d", key, len(got), err, size)
			}
			checkRanges(t, r, key, p)
		}
	}
	r.checkNothingLeft()
}

func checkRanges(t *testing.T, r *rig, key string, p []byte) {
	t.Helper()
	o, err := r.store.Open(t.Context(), meta.VersionRef{Bucket: "bucket", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	n := int64(len(p))
	for _, rng := range []byteRange{{0, 0}, {0, 1}, {n / 2, n - n/2}, {n, 0}, {rigBlob - 1, 2}, {n - 1, 1}} {
		if rng.off < 0 || rng.off+rng.length > n {
			var w sliceWriter
			if err := o.WriteRange(t.Context(), &w, rng.off, rng.length); !errors.Is(err, ErrRange) || len(w) > 0 {
				t.Errorf("%s %v: got %v and %d bytes, want %v", key, rng, err, len(w), ErrRange)
			}
			continue
		}
		var w sliceWriter
		if err := o.WriteRange(t.Context(), &w, rng.off, rng.length); err != nil || !bytes.Equal(w, p[rng.off:rng.off+rng.length]) {
			t.Errorf("%s %v: got %d bytes, %v", key, rng, len(w), err)
		}
	}
	for _, rng := range []byteRange{{-1, 1}, {0, -1}, {n + 1, 0}, {0, n + 1}, {1, 1<<63 - 1}} {
		if err := o.WriteRange(t.Context(), io.Discard, rng.off, rng.length); !errors.Is(err, ErrRange) {
			t.Errorf("%s %v: got %v, want %v", key, rng, err, ErrRange)
		}
	}
}

// A body that does not arrive as it was declared leaves the old version as it was, and no bytes (I5).
func TestBadBodies(t *testing.T) {
	r := newRig(t)
	old := testBytes(rigBlob*2, 99)
	r.put("bucket", "key", old)
	cutOff := errors.New("chunk signature does not match")
	for _, size := range sizes[1:] {
		p := testBytes(size, 2)
		sum := md5.Sum([]byte("something else"))
		for _, c := range []struct {
			name string
			put  Put
			want error
		}{
			{"short", Put{Body: bytes.NewReader(p[:size-1]), Size: int64(size)}, io.ErrUnexpectedEOF},
			{"empty", Put{Body: bytes.NewReader(nil), Size: int64(size)}, io.ErrUnexpectedEOF},
			{"long", Put{Body: bytes.NewReader(p), Size: int64(size - 1)}, ErrBodyTooLong},
			{"reader fails", Put{Body: &brokenReader{bytes.NewReader(p), cutOff}, Size: int64(size) + 1}, cutOff},
			{"reader fails at the end", Put{Body: &brokenReader{bytes.NewReader(p), cutOff}, Size: int64(size)}, cutOff},
			{"unknown size, reader fails", Put{Body: &brokenReader{bytes.NewReader(p), cutOff}, Size: -1}, cutOff},
			{"unknown size, cut off", Put{Body: &brokenReader{bytes.NewReader(p), io.ErrUnexpectedEOF}, Size: -1}, io.ErrUnexpectedEOF},
			{"wrong MD5", Put{Body: bytes.NewReader(p), Size: int64(size), Want: Digests{MD5: sum[:]}}, cairn.ErrInvalid},
			{"wrong MD5, unknown size", Put{Body: bytes.NewReader(p), Size: -1, Want: Digests{MD5: sum[:]}}, cairn.ErrInvalid},
			{"unknown algorithm", Put{Body: bytes.NewReader(p), Size: -1, Want: Digests{Checksum: cairn.Checksum{Algo: "X"}}}, ErrChecksumType},
		} {
			c.put.Bucket, c.put.Key = "bucket", "key"
			if _, err := r.store.Put(t.Context(), c.put); !errors.Is(err, c.want) {
				t.Errorf("%s, %d bytes: got %v, want %v", c.name, size, err, c.want)
			}
		}
	}
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, old) {
		t.Errorf("the old version: %d bytes, %v", len(got), err)
	}
	r.checkNothingLeft()
}

func TestPutRefusals(t *testing.T) {
	r := newRig(t)
	body := func() io.Reader { return strings.NewReader("hello") }
	for _, c := range []struct {
		name string
		put  Put
		want error
	}{
		{"no key", Put{Bucket: "bucket", Body: body(), Size: 5}, ErrKey},
		{"long key", Put{Bucket: "bucket", Key: strings.Repeat("k", 1025), Body: body(), Size: 5}, ErrKeyTooLong},
		{"no body", Put{Bucket: "bucket", Key: "k", Size: 5}, cairn.ErrInvalid},
		{"too large", Put{Bucket: "bucket", Key: "k", Body: body(), Size: MaxPutBytes + 1}, ErrEntityTooLarge},
		{"negative size", Put{Bucket: "bucket", Key: "k", Body: body(), Size: -2}, cairn.ErrInvalid},
		{"no bucket, inline", Put{Bucket: "absent", Key: "k", Body: body(), Size: 5}, ErrNoSuchBucket},
		{"no bucket, blobs", Put{Bucket: "absent", Key: "k", Body: bytes.NewReader(testBytes(rigBlob, 1)), Size: rigBlob}, ErrNoSuchBucket},
		{"If-Match on nothing", Put{Bucket: "bucket", Key: "k", Body: body(), Size: 5, If: meta.Conditions{IfMatch: []string{"*"}}}, cairn.ErrNotFound},
	} {
		if _, err := r.store.Put(t.Context(), c.put); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	r.checkNothingLeft()
}

// A large upload that is doomed fails before its body is read; a small one fails at the commit.
func TestConditions(t *testing.T) {
	r := newRig(t)
	v := r.put("bucket", "key", testBytes(10, 1))
	for _, c := range []struct {
		name string
		key  string
		cond meta.Conditions
		want error
	}{
		{"must not exist, does", "key", meta.Conditions{IfNoneMatch: []string{"*"}}, cairn.ErrPrecondition},
		{"must not exist, does not", "new", meta.Conditions{IfNoneMatch: []string{"*"}}, nil},
		{"must not be this", "key", meta.Conditions{IfNoneMatch: []string{v.ETag}}, cairn.ErrPrecondition},
		{"must not be another", "key", meta.Conditions{IfNoneMatch: []string{"other"}}, nil},
		{"must exist, does", "key", meta.Conditions{IfMatch: []string{"*"}}, nil},
		{"must exist, does not", "absent", meta.Conditions{IfMatch: []string{"*"}}, cairn.ErrNotFound},
		{"must be another", "key", meta.Conditions{IfMatch: []string{"other"}}, cairn.ErrPrecondition},
		{"must be this, is not there", "absent", meta.Conditions{IfMatch: []string{v.ETag}}, cairn.ErrNotFound},
	} {
		for _, size := range []int64{5, earlyCheckBytes} {
			r.put("bucket", "key", testBytes(10, 1))
			r.store.Delete(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "bucket", Key: "new"}})
			body := &countingReader{r: bytes.NewReader(testBytes(int(size), 3))}
			_, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: c.key, Body: body, Size: size, If: c.cond})
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s, %d bytes: got %v, want %v", c.name, size, err, c.want)
			}
			if read := body.n; size == earlyCheckBytes && c.want != nil && read > 0 {
				t.Errorf("%s: %d bytes of a doomed body were read", c.name, read)
			}
		}
	}
}

// After a commit that failed for certain the bytes are gone; after one whose outcome is unknown they stay, because the version
// may be there: and if it is, it is whole (I5).
func TestCommitFailures(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		name          string
		before, after error
		left          bool // blobs stay
		visible       bool
	}{
		{"refused", cairn.ErrPrecondition, nil, false, false},
		{"stale epoch", cairn.ErrStaleEpoch, nil, false, false},
		{"unavailable before the commit", cairn.ErrUnavailable, nil, true, false},
		{"canceled before the commit", context.Canceled, nil, true, false},
		{"unavailable after the commit", nil, cairn.ErrUnavailable, true, true},
		{"quorum lost after the commit", nil, cairn.ErrQuorum, true, true},
		{"unknown error after the commit", nil, errInjected, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.clear()
			old, now := testBytes(2*rigBlob, 1), testBytes(3*rigBlob, 2)
			r.put("bucket", "key", old)
			before := len(r.blobs.refs())
			r.meta.set(only("PutVersion", c.before), only("PutVersion", c.after))
			_, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: "key", Body: bytes.NewReader(now), Size: int64(len(now))})
			r.meta.set(nil, nil)
			if err == nil {
				t.Fatal("the failure was swallowed")
			}
			if c.before == cairn.ErrStaleEpoch && (!errors.Is(err, cairn.ErrUnavailable) || errors.Is(err, cairn.ErrStaleEpoch)) {
				t.Errorf("got %v, want %v alone: the client is to send it again", err, cairn.ErrUnavailable)
			}
			if left := len(r.blobs.refs()) > before; left != c.left {
				t.Errorf("blobs left: %t, want %t", left, c.left)
			}
			want := old
			if c.visible {
				want = now
			}
			r.collect()
			if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
			}
		})
	}
}

// Every operation of the blob store fails once; the put fails with it, or the object is whole.
func TestBlobFailures(t *testing.T) {
	r := newRig(t)
	for n := 0; ; n++ {
		r.clear()
		old, now := testBytes(2*rigBlob, 1), testBytes(3*rigBlob, 2)
		r.put("bucket", "key", old)
		calls := 0
		r.blobs.setFail(func(string) error {
			if calls++; calls == n+1 {
				return errInjected
			}
			return nil
		})
		_, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: "key", Body: bytes.NewReader(now), Size: int64(len(now))})
		r.blobs.setFail(nil)
		want := now
		if calls > n {
			want = old
			if !errors.Is(err, errInjected) {
				t.Errorf("fault %d: got %v", n, err)
			}
		} else if err != nil {
			t.Fatal(err)
		}
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("fault %d: read %d bytes, %v; want %d", n, len(got), err, len(want))
		}
		r.checkNothingLeft()
		if calls <= n {
			return
		}
	}
}

// A client that gives up while its put is refused leaves no bytes either.
func TestDiscardAfterCancel(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	r.meta.set(func(op string) error {
		if op == "PutVersion" {
			cancel()
			return cairn.ErrPrecondition
		}
		return nil
	}, nil)
	if _, err := r.store.Put(ctx, Put{Bucket: "bucket", Key: "key", Body: bytes.NewReader(testBytes(rigBlob, 1)), Size: rigBlob}); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("got %v", err)
	}
	r.meta.set(nil, nil)
	r.checkNothingLeft()
}
