package meta_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// fill puts n small objects under several directories, by many clients at once.
func fill(b *testing.B, s *meta.Store, n int) {
	var wg sync.WaitGroup
	next := make(chan int, 1024)
	for range 128 {
		wg.Go(func() {
			for i := range next {
				mustPut(b, s, "b", fmt.Sprintf("dir%02d/key%07d", i%20, i), "0123456789")
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// BenchmarkReads measures what GET and listings cost with five voters, before and after many keys were deleted.
func BenchmarkReads(b *testing.B) {
	const keys = 40000
	s := newStore(b, 5)
	mustBucket(b, s, "b", cairn.VersioningOff)
	start := time.Now()
	fill(b, s, keys)
	b.Logf("fill: %.0f puts/s", keys/time.Since(start).Seconds())
	b.Run("get", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Version(b.Context(), meta.VersionRef{Bucket: "b", Key: fmt.Sprintf("dir%02d/key%07d", i%20, i%keys)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		after := ""
		for b.Loop() {
			p, err := s.List(b.Context(), meta.List{Bucket: "b", Max: 1000, After: after})
			if err != nil {
				b.Fatal(err)
			}
			after = p.Next
		}
		b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
	})
	b.Run("prefixes", func(b *testing.B) {
		for b.Loop() {
			if p, err := s.List(b.Context(), meta.List{Bucket: "b", Delimiter: "/", Max: 1000}); err != nil || len(p.Prefixes) != 20 {
				b.Fatal(p, err)
			}
		}
	})
	start = time.Now()
	var rs []meta.DeleteVersion
	for i := range keys - 10 {
		rs = append(rs, meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: fmt.Sprintf("dir%02d/key%07d", i%20, i)}})
	}
	for len(rs) > 0 {
		n := min(1000, len(rs))
		if _, errs := s.DeleteVersions(b.Context(), rs[:n]); errs[0] != nil {
			b.Fatal(errs[0])
		}
		rs = rs[n:]
	}
	b.Logf("delete: %.0f keys/s", keys/time.Since(start).Seconds())
	b.Run("list after deletion", func(b *testing.B) {
		for b.Loop() {
			if p, err := s.List(b.Context(), meta.List{Bucket: "b", Max: 1000}); err != nil || len(p.Versions) != 10 {
				b.Fatal(len(p.Versions), err)
			}
		}
	})
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			b.Log(strings.TrimSpace(line))
		}
	}
}
