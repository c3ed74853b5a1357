package blob_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"cairn"
	"cairn/blob"
)

var (
	p42 = cairn.Profile{K: 4, M: 2}
	p22 = cairn.Profile{K: 2, M: 2}
)

// sizes are those at which the layout changes: units, stripes, batches, blobs.
func sizes(p cairn.Profile) []int {
	stripe := p.K * unit
	batch := p.K << 20
	return []int{1, 63, 64, 65, unit - 1, unit, unit + 1, stripe - 1, stripe, stripe + 1, 3*stripe + 1000,
		batch - 1, batch, batch + 1, 3*batch + stripe + 5}
}

func TestPutGet(t *testing.T) {
	for _, p := range []cairn.Profile{{K: 1, M: 0}, {K: 1, M: 2}, {K: 2, M: 1}, p22, {K: 3, M: 2}, p42, {K: 8, M: 4}, {K: 12, M: 4}} {
		t.Run(p.String(), func(t *testing.T) {
			r := newRig(t, p)
			for _, n := range sizes(p) {
				data := noise(n)
				req := r.request(data)
				var tee bytes.Buffer
				req.Tee = &tee
				req.Body = io.MultiReader(req.Body, iotest.ErrReader(errors.New("read past the size")))
				blobs, err := r.Put(context.Background(), req)
				if err != nil {
					t.Fatalf("put of %d: %v", n, err)
				}
				if len(blobs) != 1 || blobs[0].Ref.Length != int64(n) || blobs[0].Epoch != 1 || blobs[0].Skipped != nil {
					t.Errorf("put of %d = %+v", n, blobs)
				}
				if !bytes.Equal(tee.Bytes(), data) {
					t.Errorf("put of %d: tee got %d bytes, first difference at %d", n, tee.Len(), diff(tee.Bytes(), data))
				}
				r.wantBytes(blobs, data)
			}
			if got := r.damage.take(); got != nil {
				t.Errorf("damage reported: %q", got)
			}
		})
	}
}

// A body of unknown size becomes blobs of whole batches and a rest of any length.
func TestPutUnknownSize(t *testing.T) {
	for _, p := range []cairn.Profile{p42, {K: 3, M: 2}, {K: 12, M: 4}} {
		r := newRig(t, p)
		for _, n := range append([]int{0}, sizes(p)...) {
			data := noise(n)
			req := r.request(data)
			var tee bytes.Buffer
			req.Size, req.Tee = -1, &tee
			req.Body = iotest.HalfReader(req.Body)
			blobs, err := r.Put(context.Background(), req)
			if err != nil {
				t.Fatalf("%s, %d bytes: %v", p, n, err)
			}
			var total int64
			for _, b := range blobs {
				if h, _ := r.mem.Shard(r.at(b, 0)); h.Owner.Offset != total {
					t.Errorf("%s, %d bytes: blob at %d says it begins at %d", p, n, total, h.Owner.Offset)
				}
				total += b.Ref.Length
			}
			if total != int64(n) || !bytes.Equal(tee.Bytes(), data) {
				t.Errorf("%s, %d bytes: blobs of %d bytes, tee right: %v", p, n, total, bytes.Equal(tee.Bytes(), data))
			}
			r.wantBytes(blobs, data)
		}
	}
}

// Buffers are used again, but nothing of what was in them reaches a drive: padding is zeros.
func TestPaddingIsZero(t *testing.T) {
	r := newRig(t, p42)
	for _, known := range []bool{true, false} {
		for _, n := range []int{8 * unit, 4 << 20} { // buffers of the sizes that the next put takes
			r.put(bytes.Repeat([]byte{0xff}, n))
		}
		req := r.request(bytes.Repeat([]byte{0xee}, 4*unit+300))
		if !known {
			req.Size = -1
		}
		blobs, err := r.Put(context.Background(), req)
		if err != nil {
			t.Fatal(err)
		}
		want := [][]byte{2: append(bytes.Repeat([]byte{0xee}, 44), make([]byte, 84)...), 3: make([]byte, 128)}
		for slot := 2; slot < 4; slot++ {
			if _, shard := r.mem.Shard(r.at(blobs[0], slot)); !bytes.Equal(shard[unit:], want[slot]) {
				t.Errorf("size known: %v; slot %d ends in %x", known, slot, shard[unit:])
			}
		}
	}
}

func TestLongBodyIsSeveralBlobs(t *testing.T) {
	r := newRig(t, p42)
	r.vols.add(p42)
	data := noise(66 << 20)
	blobs := r.put(data)
	var lengths []int64
	for _, b := range blobs {
		lengths = append(lengths, b.Ref.Length)
	}
	if want := []int64{64 << 20, 2 << 20}; !slices.Equal(lengths, want) {
		t.Errorf("blobs of %v bytes, want %v", lengths, want)
	}
	r.wantBytes(blobs, data)
	// Across the border of two blobs.
	off := int64(64<<20 - 100)
	if got, err := r.get(blobs, off, 200); err != nil || !bytes.Equal(got, data[off:off+200]) {
		t.Errorf("range over the border of two blobs: %v, right: %v", err, bytes.Equal(got, data[off:off+200]))
	}
}

func TestRanges(t *testing.T) {
	r := newRig(t, p42)
	data := noise(2*p42.K*unit + 3*unit + 777)
	blobs := append(r.put(data), r.put(data[:1000])...)
	all := append(bytes.Clone(data), data[:1000]...)
	rapid.Check(t, func(t *rapid.T) {
		off := rapid.IntRange(0, len(all)).Draw(t, "off")
		n := rapid.IntRange(0, len(all)-off).Draw(t, "n")
		got, err := r.get(blobs, int64(off), int64(n))
		if err != nil || !bytes.Equal(got, all[off:off+n]) {
			t.Fatalf("%d+%d: %v, first difference at %d", off, n, err, diff(got, all[off:off+n]))
		}
	})
	for _, c := range [][2]int64{{-1, 1}, {0, -1}, {0, int64(len(all)) + 1}, {int64(len(all)) + 1, 0}, {1, 1<<63 - 1}} {
		if _, err := r.get(blobs, c[0], c[1]); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("range %d+%d: %v, want invalid", c[0], c[1], err)
		}
	}
}

// A 64 KiB read of a healthy blob touches one shard once.
func TestSmallRangeReadsOneShard(t *testing.T) {
	r := newRig(t, p42)
	data := noise(16 * unit)
	blobs := r.put(data)
	before := r.mem.Calls("read")
	if _, err := r.get(blobs, 5*unit, unit); err != nil {
		t.Fatal(err)
	}
	if got := r.mem.Calls("read") - before; got != 1 {
		t.Errorf("%d reads, want 1", got)
	}
}

func TestBadBodies(t *testing.T) {
	errBody := errors.New("body broke")
	for _, n := range []int{1000, 9 << 20} {
		for _, c := range []struct {
			name   string
			change func(*cairn.BlobPut)
			want   error
		}{
			{"short", func(q *cairn.BlobPut) { q.Size++ }, io.ErrUnexpectedEOF},
			{"empty", func(q *cairn.BlobPut) { q.Body = bytes.NewReader(nil) }, io.ErrUnexpectedEOF},
			{"broken", func(q *cairn.BlobPut) { q.Body = io.MultiReader(q.Body, iotest.ErrReader(errBody)); q.Size++ }, errBody},
			{"broken, size unknown", func(q *cairn.BlobPut) {
				q.Body = io.MultiReader(q.Body, iotest.ErrReader(errBody))
				q.Size = -1
			}, errBody},
			{"tee fails", func(q *cairn.BlobPut) { q.Tee = &failWriter{after: n / 2, err: errBody} }, errBody},
			{"bad profile", func(q *cairn.BlobPut) { q.Profile = cairn.Profile{} }, cairn.ErrInvalid},
		} {
			r := newRig(t, p42)
			req := r.request(noise(n))
			c.change(&req)
			blobs, err := r.Put(context.Background(), req)
			if !errors.Is(err, c.want) || blobs != nil {
				t.Errorf("%s, %d bytes: %v, %v; want %v", c.name, n, blobs, err, c.want)
			}
			r.mem.Wait()
			if got := r.mem.Count(); got != 0 {
				t.Errorf("%s, %d bytes: %d shards left", c.name, n, got)
			}
		}
	}
}

type failWriter struct {
	after int
	err   error
}

func (w *failWriter) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, w.err
	}
	return len(p), nil
}

func TestDeleteAndDiscard(t *testing.T) {
	r := newRig(t, p42)
	ctx := context.Background()
	a, b := r.put(noise(1000)), r.put(noise(9<<20))
	if got := r.mem.Count(); got != 12 {
		t.Fatalf("%d shards, want 12", got)
	}
	r.Discard(ctx, a)
	if err := r.Delete(ctx, refs(b)); err != nil {
		t.Error(err)
	}
	if err := r.Delete(ctx, refs(b)); err != nil {
		t.Errorf("second delete: %v", err)
	}
	if got := r.mem.Count(); got != 0 {
		t.Errorf("%d shards left", got)
	}
}

func TestConfig(t *testing.T) {
	good := blob.Config{Shards: newRig(t, p42).mem, Volumes: newVolumes(p42, 1)}
	if _, err := blob.New(good); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*blob.Config){
		"no shards":  func(c *blob.Config) { c.Shards = nil },
		"no volumes": func(c *blob.Config) { c.Volumes = nil },
		"no deleter": func(c *blob.Config) { c.Shards = struct{ blob.Shards }{c.Shards} },
		"no memory":  func(c *blob.Config) { c.MaxMemory = 1 },
		"deadline":   func(c *blob.Config) { c.WriteDeadline = -1 },
		"budget":     func(c *blob.Config) { c.HedgeBudget = 2 },
	} {
		c := good
		change(&c)
		if _, err := blob.New(c); !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
}
