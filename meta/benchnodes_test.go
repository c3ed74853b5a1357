package meta_test

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn/meta"

	"github.com/cockroachdb/pebble/v2"
)

func TestBenchmarkNodeCommits(t *testing.T) {
	res, err := meta.BenchmarkNodeCommits(t.Context(), []string{t.TempDir(), t.TempDir(), t.TempDir()}, 3, 4, 512, 200*time.Millisecond)
	if err != nil || res.Commits == 0 || res.PerSecond <= 0 || res.Voters != 3 {
		t.Errorf("%+v, %v", res, err)
	}
}

// BenchmarkNodes prints the commits per second of three voters in one process and on three nodes, and beside them what a bare
// Pebble on the same disk does with synced writes of that size. Threads that wait for a disk have places of their own, as in
// the server (cmd/cairn/tuning.go); GOMAXPROCS in the environment is kept.
func BenchmarkNodes(b *testing.B) {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		cores := runtime.GOMAXPROCS(0)
		runtime.GOMAXPROCS(cores + min(3*cores, 2*3))
		defer runtime.GOMAXPROCS(cores)
	}
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
		bare := syncedPebble(b, clients, 512, 3*time.Second)
		b.Logf("%d clients: one process %.0f/s, p99 %v; three nodes %.0f/s, p50 %v, p99 %v; synced Pebble %.0f/s, three nodes reach %.2f of it",
			clients, one.PerSecond, one.P99, nodes.PerSecond, nodes.P50, nodes.P99, bare, nodes.PerSecond/bare)
	}
}

// syncedPebble measures single writes, each synced, to a Pebble of its own.
func syncedPebble(b *testing.B, clients, valueBytes int, d time.Duration) (perSecond float64) {
	db, err := pebble.Open(b.TempDir(), &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	var wg sync.WaitGroup
	var count atomic.Int64
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			value := make([]byte, valueBytes)
			for i := 0; time.Since(start) < d; i++ {
				if err := db.Set(fmt.Appendf(nil, "client%03d/%09d", c, i), value, pebble.Sync); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(count.Load()) / time.Since(start).Seconds()
}

// quiet is a Pebble logger that says nothing but what is fatal.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
