package datanode_test

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/vfs"
)

const benchDrives = 6

func openDrives(b *testing.B) (*datanode.Node, []cairn.DriveID) {
	dir := b.TempDir()
	cfg := datanode.Config{Log: slog.New(slog.DiscardHandler)}
	for i := range benchDrives {
		cfg.Drives = append(cfg.Drives, datanode.DriveConfig{Path: filepath.Join(dir, fmt.Sprint("drive", i)), Create: true})
	}
	n, err := datanode.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	var ids []cairn.DriveID
	for _, st := range n.Statuses() {
		ids = append(ids, st.ID)
	}
	return n, ids
}

// BenchmarkAppend measures durable appends of 4 KiB, each to one of six drives, by 16 writers.
func BenchmarkAppend(b *testing.B) {
	n, drives := openDrives(b)
	data := blobtest.Bytes(1, 4096)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				h := blobtest.Header(1, cairn.BlobID(i), 0, 1)
				if err := blobtest.Append(context.Background(), n, drives[i%benchDrives], h, data); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkStripe measures what a small put does: a shard to each of six drives, durable on all, by 16 writers.
func BenchmarkStripe(b *testing.B) {
	n, drives := openDrives(b)
	data := blobtest.Bytes(1, 4096)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				var all sync.WaitGroup
				all.Add(benchDrives)
				for slot, d := range drives {
					n.Append(context.Background(), d, blobtest.Header(1, cairn.BlobID(i), uint8(slot), 1), data, func(err error) {
						if err != nil {
							b.Error(err)
						}
						all.Done()
					})
				}
				all.Wait()
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stripes/s")
}

// BenchmarkStream measures shards of 16 MiB in pieces of 1 MiB, by 6 writers; the first rounds fill fresh segments, later
// ones recycled ones.
func BenchmarkStream(b *testing.B) {
	n, drives := openDrives(b)
	const size = 16 << 20
	data := vfs.AlignedBuffer(size)
	copy(data, blobtest.Bytes(1, size))
	b.SetBytes(size)
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range benchDrives {
		wg.Go(func() {
			ctx := context.Background()
			var last []cairn.ShardID
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				h := blobtest.Header(1, cairn.BlobID(i), uint8(w), 1)
				if err := blobtest.Stream(ctx, n, drives[w], h, data, 1<<20); err != nil {
					b.Error(err)
				}
				if last = append(last, h.ID); len(last) == 8 {
					if err := n.Delete(ctx, drives[w], last); err != nil {
						b.Error(err)
					}
					last = nil
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkReadHot measures reads of 256 KiB from the page cache.
func BenchmarkReadHot(b *testing.B) { benchmarkRead(b, 1<<20, 256<<10) }

// BenchmarkReadSmall measures reads of whole shards of 4 KiB from the page cache.
func BenchmarkReadSmall(b *testing.B) { benchmarkRead(b, 4096, 4096) }

func benchmarkRead(b *testing.B, size, length int) {
	n, drives := openDrives(b)
	ctx := context.Background()
	const shards = 16
	for i := range shards {
		if err := blobtest.Append(ctx, n, drives[0], blobtest.Header(1, cairn.BlobID(i+1), 0, 1), blobtest.Bytes(1, size)); err != nil {
			b.Fatal(err)
		}
	}
	p := make([]byte, length)
	b.SetBytes(int64(length))
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i++ {
		id := cairn.ShardID{Volume: 1, Blob: cairn.BlobID(i%shards + 1)}
		if err := n.ReadAt(ctx, drives[0], id, p, int64(i*length%size)); err != nil {
			b.Fatal(err)
		}
	}
}
