//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"

	"cairn/admin"
)

// TestCorruptSources (I2, I6, I7) is the matrix's third column: a drive is lost, and repair reads what it rebuilds from
// shards of which one is harmed. It must notice by itself, rebuild both, and never decode from bad bytes.
func TestCorruptSources(t *testing.T) {
	t.Parallel()
	for i, kind := range damageKinds {
		t.Run(kind.name, func(t *testing.T) {
			s := start(t)
			s.loseAndRebuild(1+i%6, func(lost string) ([]*victim, []harmed) { return s.harmSources(kind, lost) })
		})
	}
}

// harmSources makes objects of every size and harms one shard of each of their blobs, of the data in one object and of the
// parity in another. A kind that spills keeps to one drive, which has both in different volumes.
func (s *store) harmSources(kind damageKind, lost string) (victims []*victim, hurt []harmed) {
	s.t.Helper()
	only := ""
	if kind.spills {
		only = s.driveOfBothRoles(lost)
	}
	for i, size := range matrixSizes {
		parity := false
		vs, hs := s.harmBothRoles(fmt.Sprintf("sources/%s/%d", kind.name, size), uint64(i)<<30+uint64(size), size, func(v *victim) (out []harmed) {
			for i, b := range v.before.Blobs {
				at := slices.IndexFunc(b.Shards, func(sh admin.Shard) bool {
					if only != "" {
						return sh.DrivePath == only
					}
					return (sh.Role == "parity") == parity && sh.DrivePath != lost
				})
				out = append(out, harmed{v, kind, i, b.Shards[at]})
			}
			parity = !parity
			return out
		})
		victims, hurt = append(victims, vs...), append(hurt, hs...)
	}
	for _, h := range hurt {
		s.harmShard(kind, h.shard)
	}
	return victims, hurt
}

// driveOfBothRoles stores small objects until a drive is known that has data in one volume and parity in another.
func (s *store) driveOfBothRoles(lost string) string {
	s.t.Helper()
	roles := map[string]map[string]bool{}
	for i := range 200 {
		key := fmt.Sprintf("probe/%d", i)
		s.mustPut(key, content(uint64(i), unit))
		for _, sh := range s.show(key).Blobs[0].Shards {
			if roles[sh.DrivePath] == nil {
				roles[sh.DrivePath] = map[string]bool{}
			}
			if roles[sh.DrivePath][sh.Role] = true; len(roles[sh.DrivePath]) == 2 && sh.DrivePath != lost {
				return sh.DrivePath
			}
		}
	}
	s.t.Fatalf("no drive but %s has data and parity: %v", lost, roles)
	return ""
}

// loseAndRebuild has objects made and harmed, loses a drive, and looks at what repair made of it, before and after scrub.
func (s *store) loseAndRebuild(drive int, prepare func(lost string) ([]*victim, []harmed)) {
	s.t.Helper()
	lost := s.drive(drive)
	victims, hurt := prepare(lost)
	s.checkHarm(victims, hurt)
	before := s.status()
	met := s.metByRepair(hurt, lost)
	if len(met) == 0 {
		s.t.Fatal("the rebuild can meet none of the harm: the test proves nothing")
	}
	// Repair reads four of the five others, and which ones is chance (blob's order); so the drive is lost until all were read.
	rounds := 0
	for left := met; len(left) > 0; rounds++ {
		if rounds == maxRounds {
			s.t.Fatalf("after %d rebuilds %d of %d harmed sources are not as they were, %s of %s the first", rounds, len(left), len(met), left[0].name(), left[0].v.key)
		}
		removeAll(s.t, lost)
		s.waitNoticed(before, lost)
		s.waitHealthy(healWithin) // nobody has read an object, and nobody has asked for a scrub
		left = slices.DeleteFunc(slices.Clone(left), s.mended)
		before = s.status()
	}
	s.t.Logf("%d shards harmed, %d of them sources of repair, mended after %d rebuilds", len(hurt), len(met), rounds)
	s.scrub()
	s.waitHealthy(healWithin)
	s.compare(victims, "rebuilt")
	s.checkRebuilt(victims)
}

// maxRounds makes it a matter of 1 in 10^10 that a source is never read.
const maxRounds = 15

// mended tells whether a shard is as it was before the harm.
func (s *store) mended(h harmed) bool {
	s.t.Helper()
	sum, err := shardSum(s.show(h.v.key).Blobs[h.blob].Shards[h.shard.Slot])
	return err == nil && sum == h.v.shards[h.name()]
}

// metByRepair lists the harmed shards that a rebuild of the lost drive's shard may read and whose harm shows in doing so.
func (s *store) metByRepair(hurt []harmed, lost string) (met []harmed) {
	for _, h := range hurt {
		if h.kind.silent {
			continue
		}
		for _, sh := range h.v.before.Blobs[h.blob].Shards {
			if sh.DrivePath == lost { // the blob has a shard to rebuild
				met = append(met, h)
			}
		}
	}
	return met
}
