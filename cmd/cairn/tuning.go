package main

import (
	"context"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// softMemoryBytes is where the garbage collector begins to work harder, unless GOMEMLIMIT says otherwise: caches and
	// buffers are bounded well below it, so that the process stays under 512 MiB while its indexes are small.
	softMemoryBytes = 400 << 20
	memoryInterval  = 10 * time.Second
)

// processors is how many threads may run Go code at once on the given cores and drives. A thread that waits for a disk
// keeps its place among them until the runtime notices, which takes long enough to leave a core idle: with two places on
// two cores and six drives, large puts reached 480 MiB/s, with eight 780.
func processors(cores, drives int) int { return cores + min(3*cores, 2*drives) }

// tuneProcessors sets GOMAXPROCS for drives, unless the environment does.
func tuneProcessors(drives int) {
	if _, set := os.LookupEnv("GOMAXPROCS"); !set {
		runtime.GOMAXPROCS(processors(runtime.GOMAXPROCS(0), drives))
	}
}

// memoryLimit is the soft limit for a heap of which live bytes are in use: room for a quarter more, so that a store whose
// indexes have outgrown the usual limit does not spend its time collecting.
func memoryLimit(live uint64) int64 {
	return max(softMemoryBytes, int64(min(live, math.MaxInt64/8))*5/4)
}

// keepMemoryLimit sets the soft memory limit, unless the environment does, and raises it with the live heap until ctx ends.
func keepMemoryLimit(ctx context.Context) {
	if _, set := os.LookupEnv("GOMEMLIMIT"); set {
		return
	}
	tick := time.NewTicker(memoryInterval)
	defer tick.Stop()
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	for {
		metrics.Read(live)
		debug.SetMemoryLimit(memoryLimit(live[0].Value.Uint64()))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
