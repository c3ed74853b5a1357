package replica

import "bytes"

// conflicts remembers which keys were written at which index, as far back as its memory reaches. The leader asks it
// whether what a batch was decided on still holds. One goroutine uses it.
type conflicts struct {
	floor  uint64 // batches read below it cannot be judged: they conflict
	recent map[uint64]uint64
	older  map[uint64]uint64
	turned uint64 // index at which older was closed: it holds no later write
	ranges []rangeWrite
}

type rangeWrite struct {
	keyRange
	index uint64
}

const (
	maxConflictKeys   = 1 << 16 // per generation; two are kept
	maxConflictRanges = 64
)

// reset forgets everything: only what is read at index or later can be judged.
func (c *conflicts) reset(index uint64) {
	*c = conflicts{floor: index, turned: index, recent: make(map[uint64]uint64)}
}

// holds tells whether none of the batch's checked keys was written after its ReadIndex.
func (c *conflicts) holds(b *Batch) bool {
	if len(b.checks) == 0 {
		return true
	}
	if b.ReadIndex < c.floor {
		return false
	}
	for _, h := range b.checks {
		if c.recent[h] > b.ReadIndex || c.older[h] > b.ReadIndex {
			return false
		}
	}
	for _, r := range c.ranges {
		if r.index > b.ReadIndex {
			return false // hashes cannot tell which keys a range holds; ranges are rare
		}
	}
	return true
}

// wrote notes a batch's changes at index.
func (c *conflicts) wrote(b *Batch, index uint64) {
	if len(c.recent)+len(b.writes) > maxConflictKeys {
		c.floor = c.turned
		c.older, c.recent, c.turned = c.recent, make(map[uint64]uint64, len(b.writes)), index
	}
	for _, h := range b.writes {
		c.recent[h] = index
	}
	for _, r := range b.ranges {
		if bytes.Compare(r.from, r.to) < 0 {
			c.ranges = append(c.ranges, rangeWrite{r, index})
		}
	}
	if n := len(c.ranges) - maxConflictRanges; n > 0 {
		c.floor = max(c.floor, c.ranges[n-1].index)
		c.ranges = append(c.ranges[:0], c.ranges[n:]...)
	}
}
