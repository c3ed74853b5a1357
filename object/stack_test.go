package object_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
	"cairn/object"
	"cairn/object/objecttest"
)

func body(n int, seed uint64) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(p)
	return p
}

// The store over the real metadata, the real blob store and real drives: bodies around every border of blobs and batches come
// back, also by copy and by parts, and a body that is cut off does not.
func TestStack(t *testing.T) {
	s := objecttest.Open(t, objecttest.Config{Dir: t.TempDir(), Profile: cairn.Profile{K: 4, M: 2}, Volumes: 2, Run: true})
	bucket := s.Buckets(t, "bucket")
	for i, size := range []int{0, 1, 8 << 10, 8<<10 + 1, 64 << 10, 256<<10 - 1, 256 << 10, 1<<20 + 1, 4 << 20, 9<<20 + 5} {
		p := body(size, uint64(i))
		for _, known := range []bool{true, false} {
			key := fmt.Sprintf("%d-%t", size, known)
			put := object.Put{Bucket: bucket, Key: key, Body: bytes.NewReader(p), Size: -1}
			if known {
				put.Size = int64(size)
			}
			if _, err := s.Objects.Put(t.Context(), put); err != nil {
				t.Fatalf("%s: %v", key, err)
			}
			same(t, s, bucket, key, p)
			put.Key, put.Body = "cut", &cutReader{bytes.NewReader(p), size}
			if _, err := s.Objects.Put(t.Context(), put); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, cut off: got %v, want %v", key, err, io.ErrUnexpectedEOF)
			}
		}
	}
	if _, err := s.Objects.Head(t.Context(), meta.VersionRef{Bucket: bucket, Key: "cut"}); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a body that was cut off is there: %v", err)
	}
	copyAndCompose(t, s, bucket)
}

// copyAndCompose makes an object of a part that is copied and one that is sent.
func copyAndCompose(t *testing.T, s *objecttest.Stack, bucket string) {
	t.Helper()
	big, tail := body(cairn.MaxBlobBytes+1<<20, 77), body(100, 78)
	put := object.Put{Bucket: bucket, Key: "big", Body: bytes.NewReader(big), Size: int64(len(big))}
	if _, err := s.Objects.Put(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	same(t, s, bucket, "big", big)
	u, err := s.Objects.CreateUpload(t.Context(), cairn.Upload{Bucket: bucket, Key: "composed"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Objects.CopyPart(t.Context(), object.CopyPart{From: meta.VersionRef{Bucket: bucket, Key: "big"}, Off: 0, Len: int64(len(big)) - 1,
		Bucket: bucket, Key: "composed", Upload: u.ID, Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Objects.PutPart(t.Context(), object.PutPart{Bucket: bucket, Key: "composed", Upload: u.ID, Number: 2,
		Body: bytes.NewReader(tail), Size: int64(len(tail))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Objects.Complete(t.Context(), object.Complete{Bucket: bucket, Key: "composed", Upload: u.ID, Size: -1,
		Parts: []meta.CompletePart{{Number: 1, ETag: first.ETag}, {Number: 2, ETag: second.ETag}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Objects.Delete(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: bucket, Key: "big"}}); err != nil {
		t.Fatal(err)
	}
	same(t, s, bucket, "composed", append(big[:len(big)-1:len(big)-1], tail...))
}

func same(t *testing.T, s *objecttest.Stack, bucket, key string, want []byte) {
	t.Helper()
	o, err := s.Objects.Open(t.Context(), meta.VersionRef{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	var got bytes.Buffer
	if err := o.WriteRange(t.Context(), &got, 0, o.Version.Size); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s: read %d bytes, %v; want %d", key, got.Len(), err, len(want))
	}
	if n := int64(len(want)); n > 2 {
		got.Reset()
		if err := o.WriteRange(t.Context(), &got, n/3, n/2); err != nil || !bytes.Equal(got.Bytes(), want[n/3:n/3+n/2]) {
			t.Errorf("%s: range: read %d bytes, %v", key, got.Len(), err)
		}
	}
}

// cutReader says once that the body was cut off, and then plainly that it is over, as a careless reader would.
type cutReader struct {
	r    io.Reader
	left int
}

func (c *cutReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err == io.EOF && c.left >= 0 {
		c.left = -1
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// benchStack is what the benchmarks run on: six drives, 4+2, five voters, everything durable.
func benchStack(b *testing.B, change func(*object.Config)) (*objecttest.Stack, string) {
	s := objecttest.Open(b, objecttest.Config{Dir: b.TempDir(), Profile: cairn.Profile{K: 4, M: 2}, Volumes: 8, Voters: 5, Run: true, Object: change})
	return s, s.Buckets(b, "bucket")
}

var benchSizes = []int{4 << 10, 64 << 10, 1 << 20, 16 << 20}

// clients runs op from n goroutines, and reports the processor time that each took of the whole process: on a machine that
// others use too, that is the figure to compare.
func clients(b *testing.B, n int, op func(ctx context.Context, i int64) error) {
	var next atomic.Int64
	b.SetParallelism(max(1, n/runtime.GOMAXPROCS(0)))
	before := cpuTime(b)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := op(b.Context(), next.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
}

// cpuTime is what the process has used of all cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkPut(b *testing.B) {
	s, bucket := benchStack(b, nil)
	for _, size := range benchSizes {
		for _, n := range []int{2, 16} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, n), func(b *testing.B) {
				p := body(size, 1)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				clients(b, n, func(ctx context.Context, i int64) error {
					_, err := s.Objects.Put(ctx, object.Put{Bucket: bucket, Key: fmt.Sprintf("%d/%d", size, i%4096),
						Body: bytes.NewReader(p), Size: int64(size)})
					return err
				})
			})
		}
	}
}

// BenchmarkInline compares a body in its row with one in blobs, to choose Config.InlineMax.
func BenchmarkInline(b *testing.B) {
	for _, inline := range []bool{true, false} {
		s, bucket := benchStack(b, func(c *object.Config) {
			c.InlineMax = 256 << 10
			if !inline {
				c.InlineMax = -1
			}
		})
		for _, size := range []int{4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10} {
			b.Run(fmt.Sprintf("inline=%t/%dKiB", inline, size>>10), func(b *testing.B) {
				p := body(size, 1)
				b.SetBytes(int64(size))
				clients(b, 16, func(ctx context.Context, i int64) error {
					_, err := s.Objects.Put(ctx, object.Put{Bucket: bucket, Key: fmt.Sprintf("%d/%d", size, i%4096),
						Body: bytes.NewReader(p), Size: int64(size)})
					return err
				})
			})
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s, bucket := benchStack(b, nil)
	for _, size := range benchSizes {
		const keys = 16
		p := body(size, 1)
		for i := range keys {
			if _, err := s.Objects.Put(b.Context(), object.Put{Bucket: bucket, Key: fmt.Sprintf("%d/%d", size, i), Body: bytes.NewReader(p), Size: int64(size)}); err != nil {
				b.Fatal(err)
			}
		}
		for _, n := range []int{2, 16} {
			b.Run(fmt.Sprintf("%dKiB/%d", size>>10, n), func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				clients(b, n, func(ctx context.Context, i int64) error {
					o, err := s.Objects.Open(ctx, meta.VersionRef{Bucket: bucket, Key: fmt.Sprintf("%d/%d", size, i%keys)})
					if err != nil {
						return err
					}
					defer o.Close()
					return o.WriteRange(ctx, io.Discard, 0, o.Version.Size)
				})
			})
		}
	}
}
