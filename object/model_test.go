package object

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cairn"
	"cairn/meta"
)

// model is what a store should hold, as plain maps.
type model struct {
	objects map[string][]byte // bucket/key → bytes
	uploads map[string]*modelUpload
}

type modelUpload struct {
	upload cairn.Upload
	parts  map[int]modelPart
}

type modelPart struct {
	etag string
	body []byte
}

// machine applies one random stream of operations to a store and to a model.
type machine struct {
	*rig
	model
}

// TestModel checks that whatever is put, copied, completed, deleted and collected in any order, the store holds what a map
// would, and not one blob more or less.
func TestModel(t *testing.T) {
	r := newRig(t)
	r.store.minPart = 1
	rapid.Check(t, func(rt *rapid.T) {
		r.clear()
		m := &machine{rig: r, model: model{objects: map[string][]byte{}, uploads: map[string]*modelUpload{}}}
		rt.Repeat(map[string]func(*rapid.T){
			"put":      m.put,
			"read":     m.read,
			"delete":   m.delete,
			"copy":     m.copy,
			"create":   m.create,
			"part":     m.part,
			"copyPart": m.copyPart,
			"complete": m.complete,
			"abort":    m.abort,
			"collect":  func(*rapid.T) { r.collect() },
		})
		m.checkAll(rt)
	})
}

var modelKeys = []string{"a", "a/1", "b", "ü"}

func drawRef(t *rapid.T, label string) meta.VersionRef {
	return meta.VersionRef{Bucket: rapid.SampledFrom([]string{"bucket", "other"}).Draw(t, label+" bucket"),
		Key: rapid.SampledFrom(modelKeys).Draw(t, label)}
}

func drawBody(t *rapid.T) []byte {
	n := rapid.OneOf(rapid.SampledFrom(sizes), rapid.IntRange(0, 5*rigBlob)).Draw(t, "size")
	return testBytes(n, rapid.Uint64().Draw(t, "seed"))
}

func name(ref meta.VersionRef) string { return ref.Bucket + "/" + ref.Key }

func (m *machine) put(t *rapid.T) {
	ref, p := drawRef(t, "key"), drawBody(t)
	size := int64(len(p))
	if rapid.Bool().Draw(t, "unknown") {
		size = -1
	}
	if _, err := m.store.Put(m.t.Context(), Put{Bucket: ref.Bucket, Key: ref.Key, Body: bytes.NewReader(p), Size: size}); err != nil {
		t.Fatal(err)
	}
	m.objects[name(ref)] = p
}

func (m *machine) read(t *rapid.T) {
	ref := drawRef(t, "key")
	want, ok := m.objects[name(ref)]
	o, err := m.store.Open(m.t.Context(), ref)
	if !ok {
		if !errors.Is(err, cairn.ErrNotFound) {
			t.Fatalf("%s: got %v, want %v", name(ref), err, cairn.ErrNotFound)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	from := rapid.IntRange(0, len(want)).Draw(t, "from")
	to := rapid.IntRange(from, len(want)).Draw(t, "to")
	var w sliceWriter
	if err := o.WriteRange(m.t.Context(), &w, int64(from), int64(to-from)); err != nil || !bytes.Equal(w, want[from:to]) {
		t.Fatalf("%s %d-%d: got %d bytes, %v", name(ref), from, to, len(w), err)
	}
}

func (m *machine) delete(t *rapid.T) {
	ref := drawRef(t, "key")
	_, had := m.objects[name(ref)]
	d, err := m.store.Delete(m.t.Context(), meta.DeleteVersion{Ref: ref})
	if err != nil || d.Found != had {
		t.Fatalf("%s: got %+v, %v; want found %t", name(ref), d, err, had)
	}
	delete(m.objects, name(ref))
}

func (m *machine) copy(t *rapid.T) {
	from, to := drawRef(t, "from"), drawRef(t, "to")
	p, ok := m.objects[name(from)]
	_, err := m.store.Copy(m.t.Context(), Copy{From: from, Bucket: to.Bucket, Key: to.Key})
	if ok != (err == nil) || (!ok && !errors.Is(err, cairn.ErrNotFound)) {
		t.Fatalf("%s to %s: got %v, source exists: %t", name(from), name(to), err, ok)
	}
	if ok {
		m.objects[name(to)] = p
	}
}

func (m *machine) create(t *rapid.T) {
	ref := drawRef(t, "key")
	algo := rapid.SampledFrom(allAlgos).Draw(t, "algorithm")
	u, err := m.store.CreateUpload(m.t.Context(), cairn.Upload{Bucket: ref.Bucket, Key: ref.Key, ChecksumAlgo: algo})
	if err != nil {
		t.Fatal(err)
	}
	m.model.uploads[u.ID] = &modelUpload{upload: u, parts: map[int]modelPart{}}
}

func (m *machine) drawUpload(t *rapid.T) *modelUpload {
	if len(m.model.uploads) == 0 {
		t.Skip("no upload")
	}
	// Identifiers are random: the draw is an index into creation order, so that it replays.
	ids := slices.SortedFunc(maps.Keys(m.model.uploads), func(a, b string) int {
		return m.model.uploads[a].upload.Created.Compare(m.model.uploads[b].upload.Created)
	})
	return m.model.uploads[ids[rapid.IntRange(0, len(ids)-1).Draw(t, "upload")]]
}

func (m *machine) part(t *rapid.T) {
	u, n, p := m.drawUpload(t), rapid.IntRange(1, 5).Draw(t, "number"), drawBody(t)
	part, err := m.store.PutPart(m.t.Context(), PutPart{Bucket: u.upload.Bucket, Key: u.upload.Key, Upload: u.upload.ID, Number: n,
		Body: bytes.NewReader(p), Size: int64(len(p))})
	if err != nil {
		t.Fatal(err)
	}
	u.parts[n] = modelPart{part.ETag, p}
}

func (m *machine) copyPart(t *rapid.T) {
	u, n, from := m.drawUpload(t), rapid.IntRange(1, 5).Draw(t, "number"), drawRef(t, "from")
	p, ok := m.objects[name(from)]
	if !ok {
		t.Skip("no source")
	}
	lo := rapid.IntRange(0, len(p)).Draw(t, "lo")
	hi := rapid.IntRange(lo, len(p)).Draw(t, "hi")
	part, err := m.store.CopyPart(m.t.Context(), CopyPart{From: from, Off: int64(lo), Len: int64(hi - lo),
		Bucket: u.upload.Bucket, Key: u.upload.Key, Upload: u.upload.ID, Number: n})
	if err != nil {
		t.Fatal(err)
	}
	u.parts[n] = modelPart{part.ETag, p[lo:hi]}
}

func (m *machine) complete(t *rapid.T) {
	u := m.drawUpload(t)
	var want []byte
	r := Complete{Bucket: u.upload.Bucket, Key: u.upload.Key, Upload: u.upload.ID, Size: -1}
	for _, n := range slices.Sorted(maps.Keys(u.parts)) {
		part := u.parts[n]
		last := n == slices.Max(slices.Collect(maps.Keys(u.parts)))
		if !rapid.Bool().Draw(t, fmt.Sprintf("part %d", n)) || (len(part.body) == 0 && !last) {
			continue // not named, or smaller than any part but the last may be
		}
		named := meta.CompletePart{Number: n, ETag: part.etag}
		if algo := u.upload.ChecksumAlgo; algo != "" {
			named.Checksums = []cairn.Checksum{{Algo: algo, Value: direct(algo, part.body)}}
		}
		r.Parts = append(r.Parts, named)
		want = append(want, part.body...)
	}
	if len(r.Parts) == 0 {
		t.Skip("no parts")
	}
	v, err := m.store.Complete(m.t.Context(), r)
	if err != nil || v.Size != int64(len(want)) {
		t.Fatalf("got size %d, %v; want %d", v.Size, err, len(want))
	}
	m.objects[u.upload.Bucket+"/"+u.upload.Key] = want
	delete(m.model.uploads, u.upload.ID)
}

func (m *machine) abort(t *rapid.T) {
	u := m.drawUpload(t)
	if err := m.store.Abort(m.t.Context(), u.upload.Bucket, u.upload.Key, u.upload.ID); err != nil {
		t.Fatal(err)
	}
	delete(m.model.uploads, u.upload.ID)
}

// checkAll compares the whole store with the model.
func (m *machine) checkAll(t *rapid.T) {
	for _, bucket := range []string{"bucket", "other"} {
		page, err := m.store.List(m.t.Context(), meta.List{Bucket: bucket, Max: 1000})
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, v := range page.Versions {
			got = append(got, bucket+"/"+v.Key)
		}
		for _, key := range modelKeys {
			if _, ok := m.objects[bucket+"/"+key]; ok {
				want = append(want, bucket+"/"+key)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("listing: got %q, want %q", got, want)
		}
		for _, key := range modelKeys {
			want, ok := m.objects[bucket+"/"+key]
			got, err := readObject(m.t, m.store, meta.VersionRef{Bucket: bucket, Key: key})
			if ok != (err == nil) || !bytes.Equal(got, want) {
				t.Fatalf("%s/%s: got %d bytes, %v; want %d, there: %t", bucket, key, len(got), err, len(want), ok)
			}
		}
	}
	if why := m.leftovers(); why != "" {
		t.Fatal(why)
	}
}
