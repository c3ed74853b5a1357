package repair

import (
	"runtime"
	"testing"
	"time"

	"cairn"
	"cairn/membership"
)

// BenchmarkPlan prints what the plan for the loss of a whole node costs in a cluster of 10,000 drives and 2,000,000 volumes
// of 4+2: 20 drives with 1,200 slots each, 24,000 rows of damage, and a home for each. (What the map of such a cluster
// costs is printed by membership's TestScale.)
func BenchmarkPlan(b *testing.B) {
	const drives, perNode, slotsEach = 10_000, 20, 1_200
	w := world{volumes: map[cairn.VolumeID]cairn.Volume{}, stats: map[cairn.VolumeID]stats{}, drives: map[cairn.DriveID]cairn.Drive{},
		blocked: func(cairn.Damage) bool { return false }}
	list := make([]cairn.Drive, drives)
	for i := range list {
		node := i / perNode
		list[i] = cairn.Drive{ID: cairn.DriveID{1, byte(i >> 16), byte(i >> 8), byte(i)}, Node: cairn.NodeID{2, byte(node >> 8), byte(node)},
			TotalBytes: 16 << 40, FreeBytes: int64(4+i%8) << 40, Retired: node == 0,
			Domains: []string{string(rune('a' + node%4)), string(rune('a' + node%20)), string(rune(0x4e00 + node))}}
		w.drives[list[i].ID] = list[i]
	}
	found := time.Unix(1_800_000_000, 0)
	for d := range perNode {
		for s := range slotsEach {
			v := cairn.Volume{ID: cairn.VolumeID(len(w.volumes) + 1), Profile: cairn.Profile{K: 4, M: 2}, Unit: 256 << 10, Epoch: 1, State: cairn.VolumeSealed}
			v.Slots = []cairn.DriveID{list[d].ID}
			for i := 1; i < v.Profile.Width(); i++ { // the others are on other nodes
				v.Slots = append(v.Slots, list[perNode*(1+(7*s+79*i)%(drives/perNode-1))+d].ID)
			}
			w.volumes[v.ID], w.stats[v.ID] = v, stats{blobs: 64, bytes: 4 << 30}
			w.rows = append(w.rows, cairn.Damage{Shard: cairn.ShardID{Volume: v.ID}, Kind: cairn.DamageSlot, Drive: v.Slots[0], Found: found})
		}
	}
	placer := membership.NewPlacer(list, nil)
	w.replace = func(v cairn.Volume, slot uint8) (cairn.DriveID, bool) { return placer.Replace(w.drives, v, slot) }
	var before, after runtime.MemStats
	var p plan
	runtime.ReadMemStats(&before)
	start := time.Now()
	for b.Loop() {
		p = makePlan(w)
	}
	took := time.Since(start) / time.Duration(b.N)
	runtime.ReadMemStats(&after)
	if len(p.jobs) != len(w.rows) || len(p.waiting) > 0 || p.jobs[0].do != swap {
		b.Errorf("%d jobs for %d rows, the first is %v; waiting: %v", len(p.jobs), len(w.rows), p.jobs[0].do, p.waiting)
	}
	b.Logf("%d drives, %d rows: planned in %v (%v a row), %d MiB allocated", drives, len(w.rows), took, took/time.Duration(len(w.rows)),
		int64(after.TotalAlloc-before.TotalAlloc)/int64(b.N)>>20)
}
