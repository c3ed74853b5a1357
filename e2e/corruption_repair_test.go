//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cairn/admin"
)

// TestCorruptSources (I2, I6, I7) is the matrix's third column: a drive is lost, and repair reads what it rebuilds from
// shards of which one is harmed. It must notice by itself, rebuild both, and never decode from bad bytes. Kinds that spill
// harm all that one drive has, so that data and parity take a store each.
func TestCorruptSources(t *testing.T) {
	t.Parallel()
	for i, kind := range damageKinds {
		together := [][]string{{"data", "parity"}}
		if kind.spills {
			together = [][]string{{"data"}, {"parity"}}
		}
		for _, roles := range together {
			t.Run(kind.name+" of "+strings.Join(roles, " and "), func(t *testing.T) {
				s := start(t)
				s.loseAndRebuild(1+i%6, !kind.silent, func(lost string) ([]*victim, []harmed) { return s.harmSources(kind, roles, lost) })
			})
		}
	}
}

// harmSources makes objects of every size and harms one shard of each of their blobs, of every role in some object. A kind
// that spills keeps to one drive, which has the role in the first object.
func (s *store) harmSources(kind damageKind, roles []string, lost string) (victims []*victim, hurt []harmed) {
	s.t.Helper()
	only := ""
	for i, size := range matrixSizes {
		turn := 0
		vs, hs := s.chooseShards(fmt.Sprintf("sources/%s/%d", kind.name, size), uint64(i)<<30+uint64(size), size, roles, func(v *victim) (out []harmed) {
			for i, b := range v.before.Blobs {
				at := slices.IndexFunc(b.Shards, func(sh admin.Shard) bool {
					if only != "" {
						return sh.DrivePath == only
					}
					return sh.Role == roles[turn%len(roles)] && sh.DrivePath != lost
				})
				if kind.spills {
					only = b.Shards[at].DrivePath
				}
				out = append(out, harmed{v, kind, i, b.Shards[at]})
			}
			turn++
			return out
		})
		victims, hurt = append(victims, vs...), append(hurt, hs...)
	}
	for _, h := range hurt {
		s.harmShard(kind, h.shard)
	}
	return victims, hurt
}

// loseAndRebuild has objects made and harmed, loses a drive, and looks at what repair made of it, before and after scrub.
// Harm that shows in reads must be met by repair itself.
func (s *store) loseAndRebuild(drive int, shows bool, prepare func(lost string) ([]*victim, []harmed)) {
	s.t.Helper()
	lost := s.drive(drive)
	victims, hurt := prepare(lost)
	s.checkHarm(victims, hurt)
	before := s.status()
	met := s.metByRepair(hurt, lost)
	if shows && len(met) == 0 {
		s.t.Fatal("the rebuild can meet none of the harm: the test proves nothing")
	}
	// Repair reads four of the five others, and which ones is chance (blob's order); so the drive is lost until all were read.
	rounds := 0
	for left := met; len(left) > 0 || rounds == 0; rounds++ {
		if rounds == maxRounds && len(left) > 0 {
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
