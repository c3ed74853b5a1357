package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cairn"

	"go.uber.org/goleak"
)

// makeHomes returns n empty homes on the real file system.
func makeHomes(t testing.TB, n int) []Home {
	dir := t.TempDir()
	homes := make([]Home, n)
	for i := range homes {
		homes[i] = Home{Drive: cairn.NewID(), Dir: filepath.Join(dir, fmt.Sprint("drive", i+1)), Usable: true}
		if err := os.MkdirAll(homes[i].Dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return homes
}

func testConfig(voters int) Config {
	lg := slog.New(slog.DiscardHandler)
	if os.Getenv("CAIRN_TEST_LOG") != "" {
		lg = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return Config{Cluster: cairn.ClusterID{1}, Voters: voters, CacheBytes: 4 << 20, Logger: lg}
}

// openGroup opens a group and runs it until the test ends.
func openGroup(t testing.TB, cfg Config, homes []Home) *Group {
	t.Helper()
	before := goleak.IgnoreCurrent() // the fault sweep abandons stores, by design
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	g, err := Open(cfg, homes)
	if err != nil {
		t.Fatal(err)
	}
	runGroup(t, g)
	return g
}

func runGroup(t testing.TB, g *Group) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := g.Close(); err != nil {
			t.Error("close:", err)
		}
	})
}

func mustGet(t testing.TB, g *Group, key string) (string, bool) {
	t.Helper()
	w, err := g.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	row, found, err := w.Get([]byte(key), nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(row), found
}

func put(t testing.TB, g *Group, key, value string) {
	t.Helper()
	b := &Batch{RequestID: newVoterID()}
	b.Put([]byte(key), []byte(value))
	if _, err := g.Commit(t.Context(), b); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func TestCommitAndReopen(t *testing.T) {
	for _, voters := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(voters), func(t *testing.T) {
			homes := makeHomes(t, voters)
			for round := range 3 {
				g, err := Open(testConfig(voters), homes)
				if err != nil {
					t.Fatal(err)
				}
				for i := range round * 10 {
					if got, found := mustGet(t, g, fmt.Sprint("k", i)); !found || got != fmt.Sprint("v", i) {
						t.Errorf("round %d: k%d = %q, %v", round, i, got, found)
					}
				}
				for i := range 10 {
					put(t, g, fmt.Sprint("k", 10*round+i), fmt.Sprint("v", 10*round+i))
				}
				b := &Batch{}
				b.Add([]byte("sum"), 1, int64(round))
				if _, err := g.Commit(t.Context(), b); err != nil {
					t.Fatal(err)
				}
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
			}
			g := openGroup(t, testConfig(voters), homes)
			row, _ := mustGet(t, g, "sum")
			if got, err := Counters([]byte(row)); err != nil || len(got) != 2 || got[0] != 3 || got[1] != 3 {
				t.Errorf("counters = %v, %v; want [3 3]", got, err)
			}
		})
	}
}

func TestConflict(t *testing.T) {
	g := openGroup(t, testConfig(3), makeHomes(t, 3))
	const clients, rounds = 8, 50
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range rounds {
				if err := increment(t.Context(), g, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	row, _ := mustGet(t, g, "counter")
	if got := binary.BigEndian.Uint64([]byte(row)); got != clients*rounds {
		t.Errorf("counter = %d, want %d", got, clients*rounds)
	}
}

// increment reads, adds one, and commits under the condition that nobody else did.
func increment(ctx context.Context, g *Group, key string) error {
	for {
		w, err := g.Latest(ctx)
		if err != nil {
			return err
		}
		b := &Batch{ReadIndex: w.Index, RequestID: newVoterID()}
		row, found, err := w.Get([]byte(key), nil)
		w.Close()
		if err != nil {
			return err
		}
		n := uint64(0)
		if found {
			n = binary.BigEndian.Uint64(row)
		}
		b.Check([]byte(key))
		b.Put([]byte(key), binary.BigEndian.AppendUint64(nil, n+1))
		if _, err = g.Commit(ctx, b); err != ErrConflict {
			return err
		}
	}
}

func TestRepeatedRequest(t *testing.T) {
	homes := makeHomes(t, 3)
	g, err := Open(testConfig(3), homes)
	if err != nil {
		t.Fatal(err)
	}
	b := &Batch{RequestID: 77, Result: []byte("first")}
	b.Add([]byte("n"), 1)
	for range 3 {
		if _, err := g.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = openGroup(t, testConfig(3), homes)
	b.Result = []byte("second")
	o, err := g.Commit(t.Context(), b)
	if err != nil || !o.Repeat || string(o.Result) != "first" {
		t.Errorf("outcome = %+v, %v; want the first result", o, err)
	}
	row, _ := mustGet(t, g, "n")
	if got, _ := Counters([]byte(row)); len(got) != 1 || got[0] != 1 {
		t.Errorf("counter = %v, want [1]", got)
	}
}

func BenchmarkCommit(b *testing.B) {
	for _, voters := range []int{1, 3, 5} {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("voters=%d/clients=%d", voters, clients), func(b *testing.B) {
				g := openGroup(b, testConfig(voters), makeHomes(b, voters))
				put(b, g, "x", "y")
				value := make([]byte, 512)
				var wg sync.WaitGroup
				next := make(chan int, 1024)
				start := time.Now()
				for range clients {
					wg.Go(func() {
						for i := range next {
							put(b, g, fmt.Sprint("key", i), string(value))
						}
					})
				}
				for i := range b.N {
					next <- i
				}
				close(next)
				wg.Wait()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "commits/s")
			})
		}
	}
}
