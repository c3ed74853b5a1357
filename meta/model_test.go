package meta_test

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/meta"

	"pgregory.net/rapid"
)

// modelVersion is a version in the model.
type modelVersion struct {
	id     cairn.VersionID
	null   bool
	marker bool
	size   int64
	etag   string
	blobs  []cairn.BlobRef
}

// model is a bucket as S3 describes it: every key's versions, newest first.
type model struct {
	state cairn.Versioning
	keys  map[string][]modelVersion
}

func (m *model) current(key string) *modelVersion {
	if vs := m.keys[key]; len(vs) > 0 && !vs[0].marker {
		return &vs[0]
	}
	return nil
}

func (m *model) dropNull(key string) {
	m.keys[key] = slices.DeleteFunc(m.keys[key], func(v modelVersion) bool { return v.null })
}

func (m *model) push(key string, v modelVersion) {
	if v.null {
		m.dropNull(key)
	}
	m.keys[key] = slices.Insert(m.keys[key], 0, v)
}

func (m *model) stats() (st meta.BucketStats) {
	for key, vs := range m.keys {
		if m.current(key) != nil {
			st.Objects++
		}
		for _, v := range vs {
			st.Versions++
			st.Bytes += v.size
		}
	}
	return st
}

func (m *model) sorted() []string {
	var keys []string
	for k, vs := range m.keys {
		if len(vs) > 0 {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	return keys
}

// machine runs one stream of operations against the store and the model.
type machine struct {
	s      *meta.Store
	t      *rapid.T
	bucket string
	m      model
	vol    cairn.Volume
	next   cairn.BlobID
	// committed counts the blobs that were ever referenced.
	committed int
}

var modelKeys = []string{"a", "a/", "a/b", "a/b/c", "a/c", "a\x00", "a\x00\x01", "ab", "b//", "b/é", "\x01", "z\u00ff", "z\U0010ffff", "zz"}

func (h *machine) key() string { return rapid.SampledFrom(modelKeys).Draw(h.t, "key") }

func (h *machine) put() {
	key := h.key()
	v := cairn.Version{Bucket: h.bucket, Key: key, ETag: fmt.Sprintf("%032x", rapid.IntRange(0, 5).Draw(h.t, "etag"))}
	var news []cairn.NewBlob
	switch rapid.IntRange(0, 3).Draw(h.t, "layout") {
	case 0:
	case 1:
		v.Layout.Inline = make([]byte, rapid.SampledFrom([]int{1, 256, 257, 4000}).Draw(h.t, "size"))
		v.Size = int64(len(v.Layout.Inline))
	default:
		for range rapid.IntRange(1, 3).Draw(h.t, "blobs") {
			ref := cairn.BlobRef{Volume: h.vol.ID, Blob: h.next, Length: 1000}
			h.next++
			v.Layout.Blobs = append(v.Layout.Blobs, ref)
			news = append(news, cairn.NewBlob{Ref: ref, Epoch: h.vol.Epoch})
			v.Size += ref.Length
		}
	}
	h.commit(meta.PutVersion{Version: v, NewBlobs: news, If: h.conditions()})
}

// copy puts a version that lists another one's blobs.
func (h *machine) copy() {
	from, to := h.key(), h.key()
	src := h.m.current(from)
	if src == nil {
		return
	}
	v := cairn.Version{Bucket: h.bucket, Key: to, ETag: src.etag, Size: src.size}
	if v.Layout.Blobs = src.blobs; src.blobs == nil {
		v.Layout.Inline = make([]byte, src.size)
	}
	h.commit(meta.PutVersion{Version: v, Source: &meta.VersionRef{Bucket: h.bucket, Key: from}})
}

func (h *machine) conditions() (c meta.Conditions) {
	switch rapid.IntRange(0, 7).Draw(h.t, "condition") {
	case 0:
		c.IfNoneMatch = []string{"*"}
	case 1:
		c.IfMatch = []string{fmt.Sprintf("%032x", 1), fmt.Sprintf("%032x", 2)}
	case 2:
		c.IfMatch = []string{"*"}
	}
	return c
}

// allowed is what the conditions mean, told once more.
func (h *machine) allowed(c meta.Conditions, cur *modelVersion) error {
	if len(c.IfNoneMatch) > 0 && cur != nil {
		return cairn.ErrPrecondition
	}
	if len(c.IfMatch) > 0 {
		if cur == nil {
			return cairn.ErrNotFound
		}
		if c.IfMatch[0] != "*" && !slices.Contains(c.IfMatch, cur.etag) {
			return cairn.ErrPrecondition
		}
	}
	return nil
}

func (h *machine) commit(r meta.PutVersion) {
	key := r.Version.Key
	want := h.allowed(r.If, h.m.current(key))
	got, err := h.s.PutVersion(h.t.Context(), r)
	if !errors.Is(err, want) || want == nil && err != nil {
		h.t.Fatalf("put %q: %v, want %v", key, err, want)
	}
	if err != nil {
		return
	}
	h.committed += len(r.NewBlobs)
	v := modelVersion{id: got.ID, null: got.Null, size: got.Size, etag: got.ETag, blobs: r.Version.Layout.Blobs}
	if got.Null != (h.m.state != cairn.VersioningEnabled) {
		h.t.Fatalf("put %q: null = %v in state %v", key, got.Null, h.m.state)
	}
	if vs := h.m.keys[key]; len(vs) > 0 && got.ID <= vs[0].id {
		h.t.Fatalf("put %q: version %s after %s", key, got.ID, vs[0].id)
	}
	h.m.push(key, v)
}

func (h *machine) remove() {
	r := meta.DeleteVersion{Ref: meta.VersionRef{Bucket: h.bucket, Key: h.key()}}
	key := r.Ref.Key
	vs := h.m.keys[key]
	var target *modelVersion
	switch pick := rapid.IntRange(0, 3).Draw(h.t, "which"); {
	case pick == 0 && len(vs) > 0:
		target = &vs[rapid.IntRange(0, len(vs)-1).Draw(h.t, "version")]
		r.Ref.ID = target.id
	case pick == 1:
		r.Ref.Null = true
		if i := slices.IndexFunc(vs, func(v modelVersion) bool { return v.null }); i >= 0 {
			target = &vs[i]
		}
	}
	byID := r.Ref.ID != 0 || r.Ref.Null
	if !byID {
		target = h.m.current(key)
	}
	d, err := h.s.DeleteVersion(h.t.Context(), r)
	if err != nil {
		h.t.Fatalf("delete %+v: %v", r.Ref, err)
	}
	if byID || h.m.state == cairn.VersioningOff {
		if d.Found != (target != nil) || target != nil && (d.ID != target.id || d.DeleteMarker != target.marker) {
			h.t.Fatalf("delete %+v = %+v, want %+v", r.Ref, d, target)
		}
		if target != nil {
			id := target.id
			h.m.keys[key] = slices.DeleteFunc(vs, func(v modelVersion) bool { return v.id == id })
		}
		return
	}
	if !d.Found || !d.DeleteMarker {
		h.t.Fatalf("delete %+v = %+v, want a delete marker", r.Ref, d)
	}
	h.m.push(key, modelVersion{id: d.ID, null: d.Null, marker: true})
}

func (h *machine) switchState() {
	state := rapid.SampledFrom([]cairn.Versioning{cairn.VersioningEnabled, cairn.VersioningSuspended}).Draw(h.t, "state")
	_, err := h.s.UpdateBucket(h.t.Context(), h.bucket, func(b *cairn.Bucket) error { b.Version = state; return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	h.m.state = state
}

// list compares a walk through pages with the model.
func (h *machine) list() {
	prefix := rapid.SampledFrom([]string{"", "a", "a/", "b", "z", "nothing"}).Draw(h.t, "prefix")
	delimiter := rapid.SampledFrom([]string{"", "/", "b", "//"}).Draw(h.t, "delimiter")
	after := rapid.SampledFrom(append([]string{"", "a/x"}, modelKeys...)).Draw(h.t, "after")
	size := rapid.IntRange(1, 5).Draw(h.t, "page")
	var want []string
	for _, key := range h.m.sorted() {
		if h.m.current(key) == nil || !strings.HasPrefix(key, prefix) {
			continue
		}
		name := key
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			name = key[:len(prefix)+i+len(delimiter)] + "*"
		}
		if plain := strings.TrimSuffix(name, "*"); plain <= after || plain != name && strings.HasPrefix(after, plain) {
			continue
		}
		if len(want) == 0 || want[len(want)-1] != name {
			want = append(want, name)
		}
	}
	var got []string
	for {
		p, err := h.s.List(h.t.Context(), meta.List{Bucket: h.bucket, Prefix: prefix, Delimiter: delimiter, After: after, Max: size})
		if err != nil {
			h.t.Fatal(err)
		}
		var page []string
		for _, v := range p.Versions {
			page = append(page, v.Key)
			if m := h.m.current(v.Key); m == nil || m.size != v.Size || m.etag != v.ETag() {
				h.t.Fatalf("listed %+v, want %+v", v, m)
			}
		}
		for _, c := range p.Prefixes {
			page = append(page, c+"*")
		}
		sort.Slice(page, func(i, j int) bool { return strings.TrimSuffix(page[i], "*") < strings.TrimSuffix(page[j], "*") })
		got = append(got, page...)
		if len(page) > size || p.More && len(page) < size {
			h.t.Fatalf("page of %d, want %d", len(page), size)
		}
		if !p.More {
			break
		}
		after = p.Next
	}
	if !slices.Equal(got, want) {
		h.t.Fatalf("list prefix %q delimiter %q: got %q, want %q", prefix, delimiter, got, want)
	}
}

// listVersions compares a walk through pages of versions with the model.
func (h *machine) listVersions() {
	prefix := rapid.SampledFrom([]string{"", "a", "a/", "z"}).Draw(h.t, "prefix")
	delimiter := rapid.SampledFrom([]string{"", "/"}).Draw(h.t, "delimiter")
	size := rapid.IntRange(1, 4).Draw(h.t, "page")
	var want []string
	for _, key := range h.m.sorted() {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if i := strings.Index(key[len(prefix):], delimiter); delimiter != "" && i >= 0 {
			if name := key[:len(prefix)+i+1] + "*"; !slices.Contains(want, name) {
				want = append(want, name)
			}
			continue
		}
		for i, v := range h.m.keys[key] {
			want = append(want, fmt.Sprintf("%q %s %v %v %v", key, v.id, i == 0, v.marker, v.null))
		}
	}
	var got []string
	r := meta.ListVersions{Bucket: h.bucket, Prefix: prefix, Delimiter: delimiter, Max: size}
	for {
		p, err := h.s.ListVersions(h.t.Context(), r)
		if err != nil {
			h.t.Fatal(err)
		}
		for i, v := range p.Versions {
			got = append(got, fmt.Sprintf("%q %s %v %v %v", v.Key, v.ID, p.Latest[i], v.DeleteMarker, v.Null))
		}
		for _, c := range p.Prefixes {
			got = append(got, c+"*")
		}
		if n := len(p.Versions) + len(p.Prefixes); n > size || p.More && n < size {
			h.t.Fatalf("page of %d, want %d", n, size)
		}
		if !p.More {
			break
		}
		r.AfterKey, r.AfterID = p.NextKey, p.NextID
	}
	sort.Strings(got)
	sort.Strings(want)
	if !slices.Equal(got, want) {
		h.t.Fatalf("versions prefix %q delimiter %q:\n got %q\nwant %q", prefix, delimiter, got, want)
	}
}

// check compares what is counted, and every blob's reference row, with the model (I4).
func (h *machine) check() {
	st, err := h.s.Stats(h.t.Context(), h.bucket)
	if err != nil || st != h.m.stats() {
		h.t.Fatalf("stats = %+v, %v; want %+v", st, err, h.m.stats())
	}
	want := make(map[cairn.BlobRef]int64)
	for _, vs := range h.m.keys {
		for _, v := range vs {
			for _, b := range v.blobs {
				want[b]++
			}
		}
	}
	rows, err := h.s.Blobs(h.t.Context(), h.vol.ID, 0, 1e6)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, r := range rows {
		if want[r.Ref] != r.Count {
			h.t.Fatalf("blob %s has count %d, want %d", r.Ref, r.Count, want[r.Ref])
		}
		delete(want, r.Ref)
	}
	if len(want) > 0 {
		h.t.Fatalf("blobs without a row: %v", want)
	}
	garbage, err := h.s.Garbage(h.t.Context(), cairn.BlobRef{Volume: h.vol.ID}, time.Now().Add(time.Hour), 1e6)
	if err != nil {
		h.t.Fatal(err)
	}
	blobs, bytes, err := h.s.VolumeStats(h.t.Context(), h.vol.ID)
	if err != nil || int(blobs) != len(rows) || bytes != blobs*1000 || h.committed-len(garbage) != len(rows) {
		h.t.Fatalf("volume counts %d blobs of %d bytes, %v; there are %d rows, %d garbage, %d were written", blobs, bytes, err, len(rows), len(garbage), h.committed)
	}
}

func TestModel(t *testing.T) {
	s := newStore(t, 1)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		h := &machine{s: s, t: rt, bucket: fmt.Sprint("bucket", n), next: 1, m: model{keys: make(map[string][]modelVersion)}}
		if _, err := s.CreateBucket(rt.Context(), cairn.Bucket{Name: h.bucket}); err != nil {
			rt.Fatal(err)
		}
		var err error
		h.vol, err = s.CreateVolume(rt.Context(), cairn.Volume{Profile: cairn.Profile{K: 1}, Unit: 1 << 16, Slots: []cairn.DriveID{{1}}})
		if err != nil {
			rt.Fatal(err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"put":           func(*rapid.T) { h.put() },
			"put again":     func(*rapid.T) { h.put() },
			"copy":          func(*rapid.T) { h.copy() },
			"delete":        func(*rapid.T) { h.remove() },
			"versioning":    func(*rapid.T) { h.switchState() },
			"list":          func(*rapid.T) { h.list() },
			"list versions": func(*rapid.T) { h.listVersions() },
			"":              func(*rapid.T) { h.check() },
		})
	})
}
