package simcluster

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"sync"
	"time"
)

// Trace is what happened outside the nodes: every delivery of bytes, every sync of a log, every fault, with its instant. Its
// sum stands for all of it. What happens in the same instant counts in any order.
type Trace struct {
	mu    sync.Mutex
	keep  bool
	lines []string
	now   int64
	sum   uint64 // of all instants before now
	here  uint64 // of now
	count int
}

func (tr *Trace) add(what string, a, b uint64, data []byte) {
	now := time.Now().UnixNano()
	h := fnv.New64a()
	h.Write([]byte(what))
	h.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a), b))
	h.Write(data)
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if now != tr.now {
		tr.fold()
		tr.now = now
	}
	tr.here += h.Sum64()
	tr.count++
	if tr.keep {
		tr.lines = append(tr.lines, fmt.Sprintf("%d %s %d %d %q", now-epoch, what, a, b, data))
	}
}

// fold closes an instant. mu is held.
func (tr *Trace) fold() {
	h := fnv.New64a()
	h.Write(binary.BigEndian.AppendUint64(nil, tr.sum))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(tr.now)))
	h.Write(binary.BigEndian.AppendUint64(nil, tr.here))
	tr.sum, tr.here = h.Sum64(), 0
}

// Sum returns a number that stands for the whole trace, and how many events it has.
func (tr *Trace) Sum() (sum uint64, events int) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.fold()
	return tr.sum, tr.count
}

// epoch is when every simulation begins, in unix nanoseconds: midnight UTC 2000-01-01.
const epoch = 946684800 * 1e9
