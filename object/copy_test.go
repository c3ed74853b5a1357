package object

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"cairn"
	"cairn/meta"
)

func TestCopy(t *testing.T) {
	r := newRig(t)
	for _, size := range sizes {
		p := testBytes(size, 1)
		src, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: "source", Owner: "ann", Body: bytes.NewReader(p), Size: int64(size),
			What: Attributes{Headers: map[string]string{"Content-Type": "a/b"}, Tags: map[string]string{"t": "1"}}})
		if err != nil {
			t.Fatal(err)
		}
		before := len(r.blobs.refs())
		v, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "source"}, Bucket: "other", Key: "copy", Owner: "bob"})
		if err != nil {
			t.Fatal(err)
		}
		if v.ETag != src.ETag || v.Size != src.Size || v.Headers["Content-Type"] != "a/b" || v.Tags["t"] != "1" || v.Owner != "bob" {
			t.Errorf("%d: got %+v", size, v)
		}
		if after := len(r.blobs.refs()); after != before {
			t.Errorf("%d: %d blobs became %d: bytes moved", size, before, after)
		}
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "other", Key: "copy"}); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d: read %d bytes, %v", size, len(got), err)
		}
	}
	r.checkNothingLeft()
}

// A copy onto itself with other attributes keeps the bytes, though the commit releases what it replaces.
func TestCopySelf(t *testing.T) {
	r := newRig(t)
	for _, size := range []int{rigInline, 3 * rigBlob} {
		p := testBytes(size, 1)
		r.put("bucket", "key", p)
		for i := range 3 {
			ref := meta.VersionRef{Bucket: "bucket", Key: "key"}
			v, err := r.store.Copy(t.Context(), Copy{From: ref, Bucket: "bucket", Key: "key",
				Replace: func(source cairn.Version) Attributes {
					return Attributes{Headers: map[string]string{"X-Amz-Meta-Round": fmt.Sprint(i)}}
				}})
			if err != nil || v.Headers["X-Amz-Meta-Round"] != fmt.Sprint(i) {
				t.Fatalf("got %+v, %v", v.Headers, err)
			}
			r.collect()
			if got, err := readObject(t, r.store, ref); err != nil || !bytes.Equal(got, p) {
				t.Fatalf("round %d: read %d bytes, %v", i, len(got), err)
			}
		}
	}
	r.checkNothingLeft()
}

func TestCopyChecksum(t *testing.T) {
	r := newRig(t)
	p := testBytes(3*rigBlob, 1)
	r.put("bucket", "key", p)
	for _, algo := range allAlgos {
		v, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "copy", Checksum: algo})
		if err != nil || len(v.Checksums) != 1 || !bytes.Equal(v.Checksums[0].Value, direct(algo, p)) {
			t.Errorf("%q: got %v, %v", algo, v.Checksums, err)
		}
	}
	if _, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "copy", Checksum: "MD4"}); !errors.Is(err, ErrChecksumType) {
		t.Errorf("MD4: got %v, want %v", err, ErrChecksumType)
	}
}

func TestCopyRefusals(t *testing.T) {
	r := newRig(t)
	v := r.put("bucket", "key", testBytes(rigBlob, 1))
	refused := errors.New("the source condition does not hold")
	for _, c := range []struct {
		name string
		copy Copy
		want error
	}{
		{"no source", Copy{From: meta.VersionRef{Bucket: "bucket", Key: "absent"}, Bucket: "bucket", Key: "k"}, cairn.ErrNotFound},
		{"no source bucket", Copy{From: meta.VersionRef{Bucket: "absent", Key: "key"}, Bucket: "bucket", Key: "k"}, ErrNoSuchBucket},
		{"no target bucket", Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "absent", Key: "k"}, ErrNoSuchBucket},
		{"no target key", Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket"}, ErrKey},
		{"source condition", Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "k",
			SourceIf: SourceConditions{Check: func(got cairn.Version) error {
				if got.ID != v.ID {
					t.Errorf("the condition was asked about version %v, want %v", got.ID, v.ID)
				}
				return refused
			}}}, refused},
		{"target condition", Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "key",
			If: meta.Conditions{IfNoneMatch: []string{"*"}}}, cairn.ErrPrecondition},
	} {
		if _, err := r.store.Copy(t.Context(), c.copy); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if n := r.store.pins.count(); n != 0 {
		t.Errorf("%d blobs are still pinned", n)
	}
	r.checkNothingLeft()
}

// The source is overwritten between look-up and commit: the copy takes what is there then, whole.
func TestCopyMovedSource(t *testing.T) {
	r := newRig(t)
	r.put("bucket", "key", testBytes(2*rigBlob, 1))
	now := testBytes(2*rigBlob, 2)
	overwritten := false
	r.meta.set(func(op string) error {
		if op == "PutVersion" && !overwritten {
			overwritten = true
			r.put("bucket", "key", now)
		}
		return nil
	}, nil)
	if _, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "copy"}); err != nil {
		t.Fatal(err)
	}
	r.collect()
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "copy"}); err != nil || !bytes.Equal(got, now) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	// A source that keeps changing ends the attempt, with an error that says to try again.
	r.meta.set(func(op string) error {
		if op == "PutVersion" && !overwritten {
			overwritten = true
			defer func() { overwritten = false }()
			r.put("bucket", "key", testBytes(rigBlob, 3))
		}
		return nil
	}, nil)
	overwritten = false
	if _, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Bucket: "bucket", Key: "copy"}); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, cairn.ErrUnavailable)
	}
}

// The same for a part: what it takes is whole, and of one version.
func TestCopyPartMovedSource(t *testing.T) {
	r := newRig(t)
	r.put("bucket", "key", testBytes(2*rigBlob, 1))
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "target"})
	if err != nil {
		t.Fatal(err)
	}
	now := testBytes(3*rigBlob, 2)
	overwritten := false
	r.meta.set(func(op string) error {
		if op == "PutPart" && !overwritten {
			overwritten = true
			r.put("bucket", "key", now)
		}
		return nil
	}, nil)
	part, err := r.store.CopyPart(t.Context(), CopyPart{From: meta.VersionRef{Bucket: "bucket", Key: "key"}, Off: 1, Len: -1,
		Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1})
	if err != nil || part.Size != 3*rigBlob-1 {
		t.Fatalf("got size %d, %v; want %d", part.Size, err, 3*rigBlob-1)
	}
	if _, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "target", Upload: u.ID, Size: -1,
		Parts: []meta.CompletePart{{Number: 1, ETag: part.ETag}}}); err != nil {
		t.Fatal(err)
	}
	r.checkNothingLeft() // the first attempt's border piece too
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "target"}); err != nil || !bytes.Equal(got, now[1:]) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

func TestCopyPart(t *testing.T) {
	r := newRig(t)
	r.store.minPart = 0
	big, small := testBytes(4*rigBlob+9, 1), testBytes(rigInline, 2)
	r.put("bucket", "big", big)
	r.put("bucket", "small", small)
	r.put("bucket", "empty", nil)
	for _, algo := range allAlgos {
		u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "other", Key: "key", ChecksumAlgo: algo})
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		var named []meta.CompletePart
		for i, c := range []struct {
			key      string
			off, len int64
			moved    int // blobs written anew
		}{
			{"big", 0, -1, 0},
			{"big", 0, rigBlob, 0},
			{"big", rigBlob, 2 * rigBlob, 0},
			{"big", 1, rigBlob, 2},
			{"big", rigBlob - 1, 2*rigBlob + 2, 2},
			{"big", 5, 10, 1},
			{"big", int64(len(big)) - 1, -1, 1},
			{"big", int64(len(big)), -1, 0},
			{"small", 0, -1, 1},
			{"small", 3, 4, 1},
			{"empty", 0, -1, 0},
		} {
			before := len(r.blobs.refs())
			part, err := r.store.CopyPart(t.Context(), CopyPart{From: meta.VersionRef{Bucket: "bucket", Key: c.key}, Off: c.off, Len: c.len,
				Bucket: "other", Key: "key", Upload: u.ID, Number: i + 1})
			if err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
			src := map[string][]byte{"big": big, "small": small, "empty": nil}[c.key]
			end := c.off + c.len
			if c.len < 0 {
				end = int64(len(src))
			}
			want = append(want, src[c.off:end]...)
			if part.Size != end-c.off || len(part.ETag) != 32 {
				t.Errorf("%+v: got size %d, ETag %q", c, part.Size, part.ETag)
			}
			if moved := len(r.blobs.refs()) - before; moved != c.moved {
				t.Errorf("%+v: %d blobs were written, want %d", c, moved, c.moved)
			}
			if algo != "" && (len(part.Checksums) != 1 || !bytes.Equal(part.Checksums[0].Value, direct(algo, src[c.off:end]))) {
				t.Errorf("%s %+v: got checksums %v", algo, c, part.Checksums)
			}
			named = append(named, meta.CompletePart{Number: i + 1, ETag: part.ETag})
			if algo != "" {
				named[i].Checksums = part.Checksums
			}
		}
		v, err := r.store.Complete(t.Context(), Complete{Bucket: "other", Key: "key", Upload: u.ID, Parts: named, Size: int64(len(want))})
		if err != nil {
			t.Fatalf("%q: %v", algo, err)
		}
		if algo == "" && len(v.Checksums) != 0 {
			t.Errorf("a checksum from nowhere: %v", v.Checksums)
		}
		if !strings.HasSuffix(v.ETag, "-11") {
			t.Errorf("got ETag %s", v.ETag)
		}
		r.collect()
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "other", Key: "key"}); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: read %d bytes, %v; want %d", algo, len(got), err, len(want))
		}
	}
	for _, key := range []string{"big", "small", "empty"} {
		r.remove("bucket", key)
	}
	r.checkNothingLeft()
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "other", Key: "key"}); err != nil || len(got) == 0 {
		t.Errorf("after the sources went: read %d bytes, %v", len(got), err)
	}
}

func TestCopyPartRefusals(t *testing.T) {
	r := newRig(t)
	r.put("bucket", "key", testBytes(2*rigBlob, 1))
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "target"})
	if err != nil {
		t.Fatal(err)
	}
	from := meta.VersionRef{Bucket: "bucket", Key: "key"}
	for _, c := range []struct {
		name string
		copy CopyPart
		want error
	}{
		{"beyond the end", CopyPart{From: from, Off: 1, Len: 2 * rigBlob, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}, ErrRange},
		{"starts beyond the end", CopyPart{From: from, Off: 2*rigBlob + 1, Len: -1, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}, ErrRange},
		{"negative", CopyPart{From: from, Off: -1, Len: 2, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}, ErrRange},
		{"number", CopyPart{From: from, Len: -1, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 0}, ErrPartNumber},
		{"no upload", CopyPart{From: from, Len: -1, Bucket: "bucket", Key: "target", Upload: "no-such", Number: 1}, ErrNoSuchUpload},
		{"no source", CopyPart{From: meta.VersionRef{Bucket: "bucket", Key: "absent"}, Len: -1, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}, cairn.ErrNotFound},
	} {
		if _, err := r.store.CopyPart(t.Context(), c.copy); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	// A border piece that cannot be read or written leaves nothing behind.
	for _, op := range []string{"get", "put"} {
		r.blobs.setFail(only(op, errInjected))
		if _, err := r.store.CopyPart(t.Context(), CopyPart{From: from, Off: 1, Len: -1, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}); !errors.Is(err, errInjected) {
			t.Errorf("failing %s: got %v", op, err)
		}
		r.blobs.setFail(nil)
	}
	// The second of two border pieces fails: the first one goes too.
	for _, op := range []string{"get", "put"} {
		calls := 0
		r.blobs.setFail(func(got string) error {
			if got == op {
				calls++
			}
			if calls == 2 {
				return errInjected
			}
			return nil
		})
		if _, err := r.store.CopyPart(t.Context(), CopyPart{From: from, Off: 1, Len: 2*rigBlob - 2, Bucket: "bucket", Key: "target", Upload: u.ID, Number: 1}); !errors.Is(err, errInjected) {
			t.Errorf("failing second %s: got %v", op, err)
		}
		r.blobs.setFail(nil)
	}
	if n := r.store.pins.count(); n != 0 {
		t.Errorf("%d blobs are still pinned", n)
	}
	r.checkNothingLeft()
}
