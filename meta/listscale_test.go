package meta_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

func putMany(t testing.TB, s *meta.Store, bucket string, n int, key func(i int) string) {
	t.Helper()
	var wg sync.WaitGroup
	const writers = 64
	for w := range writers {
		wg.Go(func() {
			for i := w; i < n; i += writers {
				p := inlinePut(bucket, key(i), "x")
				p.Version.Owner = "owner"
				p.Version.Headers = map[string]string{"Content-Type": "binary/octet-stream"}
				p.Version.Checksums = []cairn.Checksum{{Algo: cairn.CRC64NVME, Value: make([]byte, 8)}}
				if _, err := s.PutVersion(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkListPage compares a page of 1,000 keys with the bare scan of its rows, in turns so that both see the same
// neighbours: the least times of each, and their ratio.
func BenchmarkListPage(b *testing.B) {
	s := newStore(b, 1)
	mustBucket(b, s, "b", cairn.VersioningOff)
	putMany(b, s, "b", scale(100_000, 1_000_000), func(i int) string { return fmt.Sprintf("models/llama/shard-%07d.safetensors", i) })
	list, bare := time.Hour, time.Hour
	b.ReportAllocs()
	for b.Loop() {
		began := time.Now()
		if p, err := s.List(b.Context(), meta.List{Bucket: "b", Max: 1000}); err != nil || len(p.Versions) != 1000 {
			b.Fatal(err)
		}
		list = min(list, time.Since(began))
		began = time.Now()
		if n, err := meta.BareScan(b.Context(), s, "b", 1000); err != nil || n != 1000 {
			b.Fatal(n, err)
		}
		bare = min(bare, time.Since(began))
	}
	b.ReportMetric(float64(list.Microseconds()), "list-us")
	b.ReportMetric(float64(bare.Microseconds()), "bare-us")
	b.ReportMetric(float64(list)/float64(bare), "list/bare")
}

// TestListAfterDeletes: deleted keys burden the listings behind them only until a listing has met them: what it stepped over
// is compacted away. Steps are counted, not time.
func TestListAfterDeletes(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	n := scale(5_000, 100_000)
	key := func(i int) string { return fmt.Sprintf("k%07d", i) }
	putMany(t, s, "b", n+1000, key)
	page := func() int {
		t.Helper()
		p, err := s.List(t.Context(), meta.List{Bucket: "b", Max: 1000})
		if err != nil || len(p.Versions) != 1000 {
			t.Fatalf("%d keys, %v", len(p.Versions), err)
		}
		steps, err := meta.ListSteps(t.Context(), s, "b", 1000)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	before := page()
	for i := 0; i < n; i += 500 {
		var rs []meta.DeleteVersion
		for j := i; j < i+500; j++ {
			rs = append(rs, meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: key(j)}})
		}
		if _, errs := s.DeleteVersions(t.Context(), rs); errors.Join(errs...) != nil {
			t.Fatal(errs)
		}
	}
	met := page()
	for deadline := time.Now().Add(2 * time.Minute); page() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a page takes %d steps, %d before the deletions, %d right after them", page(), before, met)
		}
	}
	t.Logf("steps of a page: %d before, %d right after %d deletions, %d now", before, met, n, page())
}

// scale is the size of a test: the whole of it with CAIRN_SOAK=1.
func scale(short, soak int) int {
	if os.Getenv("CAIRN_SOAK") != "" {
		return soak
	}
	return short
}

// TestPageWork: what a page costs depends on the page, not on how many keys the bucket has, nor on how many versions one key has.
func TestPageWork(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	steps := func() int {
		t.Helper()
		s.FlushForTest() // what was written over stays in memory until then
		n, err := meta.ListSteps(t.Context(), s, "b", 1000)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	key := func(i int) string { return fmt.Sprintf("k%07d", i) }
	putMany(t, s, "b", 1500, key)
	few := steps()
	putMany(t, s, "b", 3000, key)          // 1,500 of them a second time
	if many := steps(); many > 2*few+100 { // twice: what was written over is not merged yet
		t.Errorf("a page takes %d steps of 3,000 keys, %d of 1,500", many, few)
	}
	putMany(t, s, "b", 2000, func(int) string { return key(10) })
	if versions := steps(); versions > 2*few+100 {
		t.Errorf("a page takes %d steps with 2,000 versions of one key, %d without", versions, few)
	}
}
