package blob_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"testing"

	"cairn"
	"cairn/blob"
)

func bigUnits(t testing.TB, p cairn.Profile, change ...func(*blob.Config)) *rig {
	r := newRig(t, p, change...)
	for i := range r.vols.rows {
		r.vols.rows[i].Unit = 256 << 10
	}
	return r
}

// BenchmarkGet reads from memory, so that what is left is this package's own cost and one copy with its checksum.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20} {
		for _, lost := range []int{0, 2} {
			b.Run(fmt.Sprintf("%dKiB/lost=%d", size>>10, lost), func(b *testing.B) {
				r := bigUnits(b, p42)
				blobs := r.put(noise(size))
				list := refs(blobs)
				for slot := range lost {
					drive, id := r.at(blobs[0], slot)
					r.mem.Drop(drive, id)
				}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Get(context.Background(), list, 0, int64(size), io.Discard); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			r := bigUnits(b, p42)
			data := noise(size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				req := r.request(data)
				req.Body = bytes.NewReader(data)
				blobs, err := r.Put(context.Background(), req)
				if err != nil {
					b.Fatal(err)
				}
				r.Discard(context.Background(), blobs)
			}
		})
	}
}
