package vfs

import (
	"maps"
	"math/rand/v2"
)

// CrashMode tells what a crash does to changes that were not synced.
type CrashMode uint8

// The modes of Crash.
const (
	KeepAll  CrashMode = iota // everything reached the disk in time
	LoseAll                   // nothing that was not synced did
	KeepSome                  // each write is kept, lost or torn, by the seed; names keep a prefix of their changes
)

// String prints the mode's name.
func (m CrashMode) String() string { return [...]string{"keep all", "lose all", "keep some", ""}[m&3] }

// sector is what a disk writes whole or not at all.
const sector = 512

// Crash returns the file system as a machine would find it after losing power now. Files that are open go on with the
// old one; the new one shares nothing with it and has no locks.
func (m *Mem) Crash(mode CrashMode, seed uint64) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := crasher{mode: mode, rng: rand.New(rand.NewPCG(seed, 1)), nodes: map[*memNode]*memNode{}}
	after := &Mem{locks: map[string]bool{}, total: m.total, inodes: m.inodes + 1}
	after.root = c.dir(m.root)
	for _, n := range c.nodes {
		after.used += int64(len(n.data))
	}
	return after
}

type crasher struct {
	mode  CrashMode
	rng   *rand.Rand
	nodes map[*memNode]*memNode
}

func (c *crasher) dir(d *memDir) *memDir {
	names := maps.Clone(d.durable)
	keep := len(d.pending)
	switch c.mode {
	case LoseAll:
		keep = 0
	case KeepSome:
		keep = c.rng.IntN(keep + 1)
	}
	for _, change := range d.pending[:keep] {
		change.apply(names)
	}
	after := &memDir{inode: d.inode, entries: map[string]any{}}
	for _, name := range sortedNames(names) {
		switch n := names[name].(type) {
		case *memDir:
			after.entries[name] = c.dir(n)
		case *memNode:
			after.entries[name] = c.node(n)
		}
	}
	after.durable = maps.Clone(after.entries)
	return after
}

func (c *crasher) node(n *memNode) *memNode {
	if done := c.nodes[n]; done != nil {
		return done
	}
	data := append([]byte{}, n.durable...)
	for _, change := range n.pending {
		if change, kept := c.survives(change); kept {
			data = change.apply(data)
		}
	}
	after := &memNode{inode: n.inode, data: data, durable: append([]byte{}, data...)}
	c.nodes[n] = after
	return after
}

// survives decides what becomes of one change; a torn write keeps some of its sectors.
func (c *crasher) survives(d dataChange) (dataChange, bool) {
	if c.mode != KeepSome {
		return d, c.mode == KeepAll
	}
	switch c.rng.IntN(3) {
	case 0:
		return d, true
	case 1:
		return d, false
	}
	if len(d.data) <= sector {
		return d, c.rng.IntN(2) == 0
	}
	return dataChange{off: d.off, data: d.data[:sector*c.rng.IntN(len(d.data)/sector+1)]}, true
}
