package simcluster

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

var (
	oneSeed = flag.Uint64("seed", 0, "run this seed alone")
	seeds   = flag.Int("seeds", 0, "run so many seeds")
)

// TestMain gives the simulation one processor, so that a seed says what happens (package comment).
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(1)
	os.Exit(m.Run())
}

// Under whatever the seeds do, no acknowledged commit is lost or done twice, reads are linearizable, no two nodes lead in one
// term, and when all is well again every node serves.
func TestSeeds(t *testing.T) {
	n, first := 200, uint64(1)
	if raceEnabled {
		n = 6 // `make test` runs all of them without the race detector
	}
	if os.Getenv("CAIRN_SOAK") != "" {
		n, first = 3000, uint64(time.Now().UnixNano())
	}
	if *seeds > 0 {
		n = *seeds
	}
	if *oneSeed > 0 {
		n, first = 1, *oneSeed
	}
	for i := range uint64(n) {
		seed := first + i
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var h *History
			trace := Run(t, Config{Seed: seed, Homes: 3 + int(seed%2), Clients: 1}, func(s *Sim) {
				h = s.NewHistory()
				Trial(s, 5*time.Second, h)
			})
			sum, events := trace.Sum()
			if t.Failed() || *oneSeed > 0 {
				t.Logf("go test ./internal/simcluster -run TestSeeds -seed %d; trace %x of %d events; %v", seed, sum, events, h)
			}
		})
	}
}
