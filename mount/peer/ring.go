package peer

import (
	"hash/fnv"
	"slices"
	"sync"
	"time"
)

const (
	firstRest   = 2 * time.Second // that a peer gets after it did not answer; doubled each time
	longestRest = 30 * time.Second
)

// Ring is the mounts of one bucket, this one among them. Safe for concurrent use.
type Ring struct {
	self string

	mu    sync.Mutex
	peers []string // the others
	rests map[string]rest
}

// rest is until when a peer is not asked.
type rest struct {
	until time.Time
	long  time.Duration
}

// NewRing makes a ring of addresses; self is this mount's own, as the others know it.
func NewRing(self string, peers []string) *Ring {
	r := &Ring{self: self, rests: map[string]rest{}}
	for _, p := range peers {
		if p != self && !slices.Contains(r.peers, p) {
			r.peers = append(r.peers, p)
		}
	}
	return r
}

// Size counts the mounts, this one among them.
func (r *Ring) Size() int { return len(r.peers) + 1 }

// Home returns the peer that is the home of a block at this time, "" if it is this mount itself. All mounts that see the same
// peers answering agree; one that comes or goes changes the homes of its own share of the blocks only.
func (r *Ring) Home(block string, now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	home, best := "", weight(r.self, block)
	for _, p := range r.peers {
		if now.Before(r.rests[p].until) {
			continue
		}
		if w := weight(p, block); w > best {
			home, best = p, w
		}
	}
	return home
}

// weight orders the mounts for a block. FNV leaves its last bytes poorly mixed, so they are mixed once more (the finalizer of
// MurmurHash3, by Austin Appleby).
func weight(peer, block string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(peer))
	h.Write([]byte{0})
	h.Write([]byte(block))
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// Failed tells that a peer did not answer: it is left alone for a while, for longer each time.
func (r *Ring) Failed(p string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Before(r.rests[p].until) {
		return // several requests failed at the same moment
	}
	long := min(max(firstRest, 2*r.rests[p].long), longestRest)
	r.rests[p] = rest{until: now.Add(long), long: long}
}

// Answered tells that a peer did.
func (r *Ring) Answered(p string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.rests, p)
}
