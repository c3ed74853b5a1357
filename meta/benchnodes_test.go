package meta_test

import (
	"testing"
	"time"

	"cairn/meta"
)

func TestBenchmarkNodeCommits(t *testing.T) {
	res, err := meta.BenchmarkNodeCommits(t.Context(), []string{t.TempDir(), t.TempDir(), t.TempDir()}, 3, 4, 512, 200*time.Millisecond)
	if err != nil || res.Commits == 0 || res.PerSecond <= 0 || res.Voters != 3 {
		t.Errorf("%+v, %v", res, err)
	}
}

// BenchmarkNodes prints the commits per second of three voters in one process and on three nodes.
func BenchmarkNodes(b *testing.B) {
	dirs := []string{b.TempDir(), b.TempDir(), b.TempDir()}
	for _, clients := range []int{1, 16, 64} {
		one, err := meta.BenchmarkCommits(b.Context(), dirs, 3, clients, 512, 3*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		nodes, err := meta.BenchmarkNodeCommits(b.Context(), dirs, 3, clients, 512, 3*time.Second)
		if err != nil {
			b.Fatal(err)
		}
		b.Logf("%d clients: one process %.0f/s, p99 %v; three nodes %.0f/s, p50 %v, p99 %v", clients, one.PerSecond, one.P99, nodes.PerSecond, nodes.P50, nodes.P99)
	}
}
