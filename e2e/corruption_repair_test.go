//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"cairn/admin"
)

// TestCorruptSources (I2, I6, I7) is the matrix's third column: a drive is lost, and repair reads what it rebuilds from
// shards of which one is harmed. It must notice by itself, rebuild both, and never decode from bad bytes. One drive is lost
// for all kinds that harm one shard alone, and one more for each kind that spills.
func TestCorruptSources(t *testing.T) {
	s := start(t)
	var alone []damageKind
	for _, kind := range damageKinds {
		if !kind.spills {
			alone = append(alone, kind)
		}
	}
	t.Run("single shards", func(t *testing.T) {
		s.t = t
		s.loseAndRebuild(1, func(lost string) (victims []*victim, hurt []harmed) {
			for i, kind := range alone {
				for j, role := range []string{"data", "parity"} {
					vs, hs := s.harmSources(kind, role, lost, sourceSizes(2*i+j))
					victims, hurt = append(victims, vs...), append(hurt, hs...)
				}
			}
			return victims, hurt
		})
	})
	for i, kind := range damageKinds {
		if !kind.spills {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			s.t = t
			s.loseAndRebuild(2+i%5, func(lost string) ([]*victim, []harmed) {
				return s.harmSources(kind, "data", lost, sourceSizes(i))
			})
		})
	}
	s.t = t
}

// sourceSizes deals the sizes out to the n-th set of victims: all sets have the small ones, every other set one each of
// those around a blob, and one set has 200 MiB.
func sourceSizes(n int) []int {
	sizes := slices.Clone(matrixSizes[:8])
	if n%2 == 0 {
		sizes = append(sizes, matrixSizes[8+n/2%3])
	}
	if n == 1 {
		sizes = append(sizes, 200<<20)
	}
	return sizes
}

// harmSources makes objects and harms one shard of each of their blobs: the first of a role that is not on the drive that
// will be lost. A kind that spills keeps to one drive.
func (s *store) harmSources(kind damageKind, role, lost string, sizes []int) (victims []*victim, hurt []harmed) {
	s.t.Helper()
	for i, size := range sizes {
		victims = append(victims, s.victim(fmt.Sprintf("sources/%s/%s/%d", kind.name, role, size), uint64(i)<<30+uint64(size), size))
	}
	only := ""
	for _, v := range victims {
		for i, b := range v.before.Blobs {
			at := slices.IndexFunc(b.Shards, func(sh admin.Shard) bool {
				if only != "" {
					return sh.DrivePath == only
				}
				return sh.Role == role && sh.DrivePath != lost
			})
			sh := b.Shards[at]
			s.harmShard(kind, sh)
			hurt = append(hurt, harmed{v, kind, i, sh})
			if kind.spills {
				only = sh.DrivePath
			}
		}
	}
	return victims, hurt
}

// loseAndRebuild has objects made and harmed, loses a drive, and looks at what repair made of it, before and after scrub.
func (s *store) loseAndRebuild(drive int, prepare func(lost string) ([]*victim, []harmed)) {
	s.t.Helper()
	lost := s.drive(drive)
	victims, hurt := prepare(lost)
	s.checkHarm(victims, hurt)
	before := s.status()
	removeAll(s.t, lost)
	s.waitNoticed(before, lost)
	s.waitHealthy(healWithin) // nobody has read an object, and nobody has asked for a scrub
	met := s.metByRepair(hurt, lost)
	mended := s.waitSomeMended(met)
	s.t.Logf("%d shards harmed, %d of them sources of repair while no drive is avoided, %d mended", len(hurt), len(met), mended)
	s.scrub()
	s.waitHealthy(healWithin)
	s.compare(victims, "rebuilt")
	s.checkRebuilt(victims)
}

// waitSomeMended waits until a third of the shards are as they were, and counts them. It cannot ask for all: repair takes
// another source where it finds a drive slow, and what it did not read is left to scrub.
func (s *store) waitSomeMended(met []harmed) (mended int) {
	s.t.Helper()
	if len(met) == 0 {
		s.t.Fatal("repair met none of the harm: the test proves nothing")
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		mended = 0
		for _, h := range met {
			if sum, err := shardSum(s.show(h.v.key).Blobs[h.blob].Shards[h.shard.Slot]); err == nil && sum == h.v.shards[h.name()] {
				mended++
			}
		}
		if 3*mended >= len(met) {
			return mended
		}
		if time.Since(began) > healWithin {
			s.t.Fatalf("%d of %d shards that repair should have met are as they were", mended, len(met))
		}
	}
}

// metByRepair lists the harmed shards that a rebuild of the lost drive's shard reads, if no drive is avoided as slow, and
// whose harm shows in doing so: sources are the k lowest of the other slots.
func (s *store) metByRepair(hurt []harmed, lost string) (met []harmed) {
	for _, h := range hurt {
		if h.kind.silent {
			continue
		}
		b := h.v.before.Blobs[h.blob]
		sources := 0
		for _, sh := range b.Shards {
			if sh.DrivePath == lost {
				continue
			}
			if sources++; sh.Slot == h.shard.Slot && sources <= int(b.Profile.K) {
				met = append(met, h)
			}
		}
	}
	return met
}
