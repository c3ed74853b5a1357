package object

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"testing"

	"cairn"
	"cairn/meta"
)

// upload makes an upload of parts of the given bodies and returns what Complete needs.
func (r *rig) upload(u cairn.Upload, bodies ...[]byte) (cairn.Upload, []meta.CompletePart) {
	r.t.Helper()
	u, err := r.store.CreateUpload(r.t.Context(), u)
	if err != nil {
		r.t.Fatal(err)
	}
	named := make([]meta.CompletePart, len(bodies))
	for i := len(bodies) - 1; i >= 0; i-- { // parts come in any order
		p := r.putPart(u, i+1, bodies[i])
		named[i] = meta.CompletePart{Number: p.Number, ETag: p.ETag}
		if u.ChecksumAlgo != "" {
			named[i].Checksums = p.Checksums
		}
	}
	return u, named
}

func TestMultipart(t *testing.T) {
	r := newRig(t)
	r.store.minPart = rigBlob
	bodies := [][]byte{testBytes(rigBlob, 1), testBytes(3*rigBlob+1, 2), testBytes(rigBlob+5, 3), testBytes(1, 4)}
	whole := bytes.Join(bodies, nil)
	etags := md5.New()
	for _, b := range bodies {
		sum := md5.Sum(b)
		etags.Write(sum[:])
	}
	wantETag := hex.EncodeToString(etags.Sum(nil)) + "-4"
	for _, c := range []struct {
		algo  cairn.ChecksumAlgo
		whole bool
	}{{"", false}, {cairn.CRC64NVME, false}, {cairn.CRC32, true}, {cairn.CRC32C, true},
		{cairn.CRC32, false}, {cairn.CRC32C, false}, {cairn.SHA1, false}, {cairn.SHA256, false}} {
		name := fmt.Sprintf("%s-%t", c.algo, c.whole)
		u, named := r.upload(cairn.Upload{Bucket: "bucket", Key: name, Owner: "ann", ChecksumAlgo: c.algo, ChecksumWhole: c.whole,
			Headers: map[string]string{"Content-Type": "x/y"}}, bodies...)
		complete := Complete{Bucket: "bucket", Key: name, Upload: u.ID, Parts: named, Size: int64(len(whole))}
		v, err := r.store.Complete(t.Context(), complete)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.ETag != wantETag || v.Size != int64(len(whole)) || v.Owner != "ann" || v.Headers["Content-Type"] != "x/y" || len(v.Parts) != 4 {
			t.Errorf("%s: got %+v", name, v)
		}
		want := cairn.Checksum{Algo: c.algo, Value: direct(c.algo, whole)}
		if c.algo == "" {
			want.Algo = cairn.CRC64NVME
		}
		if c.algo != "" && !c.whole && c.algo != cairn.CRC64NVME {
			var concat []byte
			for _, b := range bodies {
				concat = append(concat, direct(c.algo, b)...)
			}
			want.Value, want.Parts = direct(c.algo, concat), len(bodies)
		}
		if len(v.Checksums) != 1 || v.Checksums[0].Algo != want.Algo || !bytes.Equal(v.Checksums[0].Value, want.Value) || v.Checksums[0].Parts != want.Parts {
			t.Errorf("%s: got checksums %v, want %v", name, v.Checksums, want)
		}
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: name}); err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
		again, err := r.store.Complete(t.Context(), complete)
		if err != nil || again.ID != v.ID {
			t.Errorf("%s: completing again: got %v, %v; want version %v", name, again.ID, err, v.ID)
		}
		if _, err := r.store.Upload(t.Context(), "bucket", name, u.ID); !errors.Is(err, ErrNoSuchUpload) {
			t.Errorf("%s: the completed upload: got %v, want %v", name, err, ErrNoSuchUpload)
		}
	}
	r.checkNothingLeft()
}

// Parts that were replaced or not named are released.
func TestMultipartReleases(t *testing.T) {
	r := newRig(t)
	r.store.minPart = 1
	u, named := r.upload(cairn.Upload{Bucket: "bucket", Key: "key"}, testBytes(rigBlob, 1), testBytes(rigBlob, 2), testBytes(rigBlob, 3))
	again := r.putPart(u, 1, testBytes(2*rigBlob, 4))
	named[0].ETag = again.ETag
	if _, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: u.ID,
		Parts: []meta.CompletePart{named[0], named[2]}, Size: -1}); err != nil {
		t.Fatal(err)
	}
	want := append(testBytes(2*rigBlob, 4), testBytes(rigBlob, 3)...)
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, len(want))
	}
	r.checkNothingLeft()
	if n := len(r.blobs.refs()); n != 3 {
		t.Errorf("got %d blobs, want 3", n)
	}
	u, _ = r.upload(cairn.Upload{Bucket: "bucket", Key: "key"}, testBytes(rigBlob, 1))
	if err := r.store.Abort(t.Context(), "bucket", "key", u.ID); err != nil {
		t.Fatal(err)
	}
	r.checkNothingLeft()
	if n := len(r.blobs.refs()); n != 3 {
		t.Errorf("after an abort: got %d blobs, want 3", n)
	}
}

func TestCompleteRefusals(t *testing.T) {
	r := newRig(t)
	r.store.minPart = rigBlob
	bodies := [][]byte{testBytes(rigBlob, 1), testBytes(rigBlob-1, 2), testBytes(5, 3)}
	u, named := r.upload(cairn.Upload{Bucket: "bucket", Key: "key", ChecksumAlgo: cairn.SHA256}, bodies...)
	edit := func(change func(p []meta.CompletePart) []meta.CompletePart) []meta.CompletePart {
		return change(append([]meta.CompletePart(nil), named...))
	}
	good := edit(func(p []meta.CompletePart) []meta.CompletePart { return []meta.CompletePart{p[0], p[2]} })
	bad := cairn.Checksum{Algo: cairn.SHA256, Value: make([]byte, 32)}
	for _, c := range []struct {
		name  string
		parts []meta.CompletePart
		size  int64
		want  cairn.Checksum
		err   error
	}{
		{"no parts", nil, -1, cairn.Checksum{}, cairn.ErrInvalid},
		{"small part in the middle", named, -1, cairn.Checksum{}, ErrEntityTooSmall},
		{"falling order", edit(func(p []meta.CompletePart) []meta.CompletePart { return []meta.CompletePart{p[2], p[0]} }), -1, cairn.Checksum{}, ErrInvalidPartOrder},
		{"twice the same", edit(func(p []meta.CompletePart) []meta.CompletePart { return []meta.CompletePart{p[0], p[0]} }), -1, cairn.Checksum{}, ErrInvalidPartOrder},
		{"never uploaded", append(good[:2:2], meta.CompletePart{Number: 9, ETag: named[0].ETag}), -1, cairn.Checksum{}, ErrInvalidPart},
		{"another ETag", edit(func(p []meta.CompletePart) []meta.CompletePart { p[0].ETag = p[2].ETag; return p[:1] }), -1, cairn.Checksum{}, ErrInvalidPart},
		{"another checksum", edit(func(p []meta.CompletePart) []meta.CompletePart { p[0].Checksums = []cairn.Checksum{bad}; return p[:1] }), -1, cairn.Checksum{}, ErrInvalidPart},
		{"no checksum", edit(func(p []meta.CompletePart) []meta.CompletePart { p[0].Checksums = nil; return p[:1] }), -1, cairn.Checksum{}, ErrChecksumType},
		{"checksum of another algorithm", edit(func(p []meta.CompletePart) []meta.CompletePart {
			p[0].Checksums = []cairn.Checksum{{Algo: cairn.CRC32, Value: make([]byte, 4)}}
			return p[:1]
		}), -1, cairn.Checksum{}, ErrChecksumType},
		{"number 0", edit(func(p []meta.CompletePart) []meta.CompletePart { p[0].Number = 0; return p[:1] }), -1, cairn.Checksum{}, ErrPartNumber},
		{"number 10001", edit(func(p []meta.CompletePart) []meta.CompletePart { p[0].Number = 10001; return p[:1] }), -1, cairn.Checksum{}, ErrPartNumber},
		{"another size", good, 7, cairn.Checksum{}, ErrObjectSize},
		{"another whole checksum", good, -1, bad, cairn.ErrInvalid},
		{"whole checksum of another algorithm", good, -1, cairn.Checksum{Algo: cairn.CRC32, Value: make([]byte, 4)}, ErrChecksumType},
	} {
		_, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: u.ID, Parts: c.parts, Size: c.size, Want: c.want})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.err)
		}
	}
	var part *PartError
	_, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: u.ID, Parts: named, Size: -1})
	if !errors.As(err, &part) || part.Number != 2 || part.Size != rigBlob-1 {
		t.Errorf("the small part is not named: %v", err)
	}
	if _, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: "no-such", Parts: good, Size: -1}); !errors.Is(err, ErrNoSuchUpload) {
		t.Errorf("no such upload: got %v", err)
	}
	if _, err := r.store.Complete(t.Context(), Complete{Bucket: "absent", Key: "key", Upload: u.ID, Parts: good, Size: -1}); !errors.Is(err, ErrNoSuchBucket) {
		t.Errorf("no such bucket: got %v", err)
	}
	if _, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: u.ID, Parts: good, Size: rigBlob + 5}); err != nil {
		t.Errorf("the right one: %v", err)
	}
	r.checkNothingLeft()
}

func TestPutPartRefusals(t *testing.T) {
	r := newRig(t)
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "key", ChecksumAlgo: cairn.CRC32})
	if err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(nil)
	for _, c := range []struct {
		name string
		part PutPart
		err  error
	}{
		{"number 0", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 0, Size: -1}, ErrPartNumber},
		{"number 10001", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 10001, Size: -1}, ErrPartNumber},
		{"too large", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 1, Size: MaxPutBytes + 1}, ErrEntityTooLarge},
		{"no upload", PutPart{Bucket: "bucket", Key: "key", Upload: "no-such", Number: 1, Size: -1}, ErrNoSuchUpload},
		{"upload of another key", PutPart{Bucket: "bucket", Key: "other", Upload: u.ID, Number: 1, Size: -1}, ErrNoSuchUpload},
		{"no bucket", PutPart{Bucket: "absent", Key: "key", Upload: u.ID, Number: 1, Size: -1}, ErrNoSuchBucket},
		{"another algorithm", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 1, Size: -1,
			Want: Digests{Checksum: cairn.Checksum{Algo: cairn.SHA1}}}, ErrChecksumType},
		{"wrong MD5", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 1, Size: -1, Want: Digests{MD5: sum[:]}}, cairn.ErrInvalid},
		{"short", PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 1, Size: 2*rigBlob + 1}, cairn.ErrInvalid},
	} {
		c.part.Body = bytes.NewReader(testBytes(2*rigBlob, 1))
		if c.name == "short" {
			c.err = io.ErrUnexpectedEOF
		}
		if _, err := r.store.PutPart(t.Context(), c.part); !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.err)
		}
	}
	for _, bad := range []cairn.Upload{
		{Bucket: "bucket", Key: "", ChecksumAlgo: ""},
		{Bucket: "bucket", Key: "k", ChecksumAlgo: cairn.SHA1, ChecksumWhole: true},
		{Bucket: "bucket", Key: "k", ChecksumAlgo: "MD4"},
	} {
		if _, err := r.store.CreateUpload(t.Context(), bad); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("CreateUpload(%+v): got %v, want %v", bad, err, cairn.ErrInvalid)
		}
	}
	if _, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "absent", Key: "k"}); !errors.Is(err, ErrNoSuchBucket) {
		t.Errorf("CreateUpload without a bucket: got %v, want %v", err, ErrNoSuchBucket)
	}
	r.checkNothingLeft()
}

// An upload that asked for no algorithm takes parts with any, and still gets a checksum of the whole.
func TestMultipartMixedChecksums(t *testing.T) {
	r := newRig(t)
	r.store.minPart = 1
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	var whole []byte
	var named []meta.CompletePart
	for i, algo := range allAlgos {
		p := testBytes(rigBlob+i, uint64(i))
		whole = append(whole, p...)
		want := cairn.Checksum{Algo: algo, Value: direct(algo, p)}
		part, err := r.store.PutPart(t.Context(), PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: i + 1,
			Body: bytes.NewReader(p), Size: int64(len(p)), Want: Digests{Checksum: want}})
		if err != nil {
			t.Fatalf("%s: %v", algo, err)
		}
		named = append(named, meta.CompletePart{Number: i + 1, ETag: part.ETag, Checksums: part.Checksums[:1]})
	}
	v, err := r.store.Complete(t.Context(), Complete{Bucket: "bucket", Key: "key", Upload: u.ID, Parts: named, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if c := pick(v.Checksums, cairn.CRC64NVME); len(c) != 1 || !bytes.Equal(c[0].Value, direct("", whole)) {
		t.Errorf("got %v, want the whole's CRC64NVME", v.Checksums)
	}
}

// The outcome of a commit is lost after parts and completions took effect: repeating them is safe.
func TestMultipartUnknownOutcomes(t *testing.T) {
	r := newRig(t)
	r.store.minPart = 1
	u, err := r.store.CreateUpload(t.Context(), cairn.Upload{Bucket: "bucket", Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	p := testBytes(2*rigBlob, 1)
	part := PutPart{Bucket: "bucket", Key: "key", Upload: u.ID, Number: 1, Size: int64(len(p))}
	r.meta.set(nil, func(string) error { return cairn.ErrUnavailable })
	part.Body = bytes.NewReader(p)
	if _, err := r.store.PutPart(t.Context(), part); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	r.meta.set(nil, nil)
	part.Body = bytes.NewReader(p)
	done, err := r.store.PutPart(t.Context(), part)
	if err != nil {
		t.Fatal(err)
	}
	complete := Complete{Bucket: "bucket", Key: "key", Upload: u.ID, Size: -1, Parts: []meta.CompletePart{{Number: 1, ETag: done.ETag}}}
	r.meta.set(nil, func(string) error { return cairn.ErrUnavailable })
	if _, err := r.store.Complete(t.Context(), complete); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	r.meta.set(nil, nil)
	if _, err := r.store.Complete(t.Context(), complete); err != nil {
		t.Errorf("repeated: %v", err)
	}
	if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, p) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	r.checkNothingLeft()
}
