package blob_test

import (
	"context"
	"sync/atomic"
	"testing"

	"cairn"
	"cairn/blob/blobtest"
)

// One lost shard of a locally repairable volume is rebuilt from half as many bytes as of a plain one with as much parity.
func TestLocalCodeReadsHalf(t *testing.T) {
	read := map[int]int64{}
	for _, p := range []cairn.Profile{{K: 12, M: 4}, {K: 12, M: 4, Local: 2}} {
		r := newRig(t, p)
		data := noise(5*12*unit + 100_001)
		b := r.put(data)[0]
		for slot := range 14 { // data and local parities
			var bytes atomic.Int64
			r.setFault(func(ctx context.Context, c blobtest.Call) error {
				if c.Op == blobtest.OpRead {
					bytes.Add(1) // every read of a row has the same length
				}
				return nil
			})
			drive, id := r.at(b, slot)
			_, want := r.mem.Shard(drive, id)
			var got []byte
			err := r.Reconstruct(cairn.Background(t.Context()), b.Ref, r.vols.row(b.Ref.Volume), []uint8{uint8(slot)}, func(_ uint8, p []byte) error {
				got = append(got, p...)
				return nil
			})
			if err != nil || string(got) != string(want) {
				t.Fatalf("%s slot %d: %d bytes, %v; want %d", p, slot, len(got), err, len(want))
			}
			read[p.Local] += bytes.Load()
		}
	}
	if read[0] != 2*read[2] {
		t.Errorf("%d reads of 12+2+2, %d of 12+4; want half", read[2], read[0])
	}
}

// Whatever three shards of a 12+2+2 blob are gone, it is read; a pattern of four that cannot decode is an error that says so.
func TestLocalCodeDegradedReads(t *testing.T) {
	for _, lost := range [][]int{{0}, {12}, {14}, {0, 1}, {0, 6}, {0, 1, 2}, {0, 1, 14}, {3, 12, 15}, {13, 14, 15}, {0, 6, 12}, {0, 1, 6, 7}, {0, 1, 2, 13}} {
		r := newRig(t, cairn.Profile{K: 12, M: 4, Local: 2}, quick)
		data := noise(3*12*unit + 777)
		blobs := r.put(data)
		for _, slot := range lost {
			drive, id := r.at(blobs[0], slot)
			if err := r.mem.Delete(t.Context(), drive, []cairn.ShardID{id}); err != nil {
				t.Fatal(err)
			}
		}
		r.wantBytes(blobs, data)
	}
	r := newRig(t, cairn.Profile{K: 12, M: 4, Local: 2}, quick)
	blobs := r.put(noise(3 * 12 * unit))
	for _, slot := range []int{0, 1, 2, 3} {
		drive, id := r.at(blobs[0], slot)
		if err := r.mem.Delete(t.Context(), drive, []cairn.ShardID{id}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.get(blobs, 0, unit); cairn.Kind(err) != cairn.ErrLost {
		t.Errorf("reading a lost unit: %v, want ErrLost", err)
	}
	if got, err := r.get(blobs, 4*unit, unit); err != nil || len(got) != unit {
		t.Errorf("reading a unit that is there: %d bytes, %v", len(got), err)
	}
}

// A write to 12+2+2 counts with two slots out, not with three: one more loss must always be survived.
func TestLocalCodeWriteQuorum(t *testing.T) {
	for out, ok := range map[int]bool{2: true, 3: false} {
		r := newRig(t, cairn.Profile{K: 12, M: 4, Local: 2}, quick)
		v := r.vols.row(1)
		for _, d := range v.Slots[:out] {
			r.vols.setState(d, cairn.DriveMissing)
		}
		_, err := r.Put(t.Context(), r.request(noise(1000)))
		if (err == nil) != ok {
			t.Errorf("put with %d slots out: %v", out, err)
		}
	}
}
