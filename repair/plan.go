package repair

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cairn"
)

// action is what a job does.
type action uint8

const (
	swap action = iota // point a slot of a retired drive at another one
	mend               // rebuild damaged shards of one blob in place
	fill               // rebuild in place what the drives of some slots lack
	move               // rebuild a slot on another drive, then swap
)

// job is one piece of work. Jobs of a plan do not depend on each other.
type job struct {
	do     action
	volume cairn.Volume
	spare  int // shards that may still be lost before the blobs concerned are; below 0 they are lost as things stand
	found  time.Time
	rows   []cairn.Damage // what this job is to resolve: one row per slot, in order of slots
	to     cairn.DriveID  // of swap and move
}

func (j *job) slots() []uint8 {
	s := make([]uint8, len(j.rows))
	for i, r := range j.rows {
		s[i] = r.Shard.Slot
	}
	return s
}

// plan is what to do now, most urgent first, and why the rest waits.
type plan struct {
	jobs    []job
	waiting map[string]int // reason → rows
	needs   int            // drives that would have to be added for every slot to find a home
}

// world is what a plan is made of: committed rows and what is known of the drives now.
type world struct {
	rows    []cairn.Damage
	volumes map[cairn.VolumeID]cairn.Volume
	stats   map[cairn.VolumeID]stats // of volumes with a slot to be rebuilt
	drives  map[cairn.DriveID]cairn.Drive
	replace func(v cairn.Volume, slot uint8) (cairn.DriveID, bool)
	// blocked tells that a row failed lately and is to be left alone for now.
	blocked func(cairn.ShardID) bool
}

// stats is how much a volume holds.
type stats struct{ blobs, bytes int64 }

// makePlan decides what to repair, and in which order: fewest spare shards first, then age.
func makePlan(w world) plan {
	p := plan{waiting: map[string]int{}}
	byVolume := map[cairn.VolumeID][]cairn.Damage{}
	for _, r := range w.rows {
		byVolume[r.Shard.Volume] = append(byVolume[r.Shard.Volume], r)
	}
	for id, rows := range byVolume {
		v, ok := w.volumes[id]
		if !ok {
			p.waiting["volume is unknown"] += len(rows)
			continue
		}
		rows = slices.DeleteFunc(rows, func(r cairn.Damage) bool { return int(r.Shard.Slot) >= len(v.Slots) })
		slices.SortFunc(rows, func(a, b cairn.Damage) int {
			return cmp.Or(cmp.Compare(a.Shard.Blob, b.Shard.Blob), cmp.Compare(a.Shard.Slot, b.Shard.Slot))
		})
		w.planVolume(&p, v, rows)
	}
	slices.SortFunc(p.jobs, func(a, b job) int {
		return cmp.Or(first(a.do == swap, b.do == swap), cmp.Compare(a.spare, b.spare), a.found.Compare(b.found),
			cmp.Compare(a.volume.ID, b.volume.ID), cmp.Compare(a.rows[0].Shard.Blob, b.rows[0].Shard.Blob))
	})
	return p
}

func first(a, b bool) int {
	switch {
	case a && !b:
		return -1
	case b && !a:
		return 1
	}
	return 0
}

// planVolume plans the rows of one volume, sorted by blob and slot (so slot rows come first).
func (w world) planVolume(p *plan, v cairn.Volume, rows []cairn.Damage) {
	n := 0
	for n < len(rows) && rows[n].Kind == cairn.DamageSlot {
		n++
	}
	slotRows, shardRows := rows[:n], rows[n:]
	bad := badSlots(v, slotRows, w.drives)
	spare := v.Profile.M - count(bad)
	w.planSlots(p, v, slotRows, spare)
	for len(shardRows) > 0 {
		n := 1
		for n < len(shardRows) && shardRows[n].Shard.Blob == shardRows[0].Shard.Blob {
			n++
		}
		w.planBlob(p, v, shardRows[:n], bad, spare)
		shardRows = shardRows[n:]
	}
}

// badSlots tells which slots cannot be counted on: their drive is gone or cannot be read, or they are being filled.
func badSlots(v cairn.Volume, slotRows []cairn.Damage, drives map[cairn.DriveID]cairn.Drive) []bool {
	bad := make([]bool, len(v.Slots))
	for i, id := range v.Slots {
		d, ok := drives[id]
		bad[i] = !ok || d.Retired || !d.State.Readable()
	}
	for _, r := range slotRows {
		// On a drive that can be read but not written the row asks for a move; what is there is good until then.
		if d := drives[v.Slots[r.Shard.Slot]]; d.State.Writable() {
			bad[r.Shard.Slot] = true
		}
	}
	return bad
}

func count(bad []bool) (n int) {
	for _, b := range bad {
		if b {
			n++
		}
	}
	return n
}

func (w world) planSlots(p *plan, v cairn.Volume, rows []cairn.Damage, spare int) {
	var filling []cairn.Damage
	homeless := 0
	for _, r := range rows {
		slot := r.Shard.Slot
		d, known := w.drives[v.Slots[slot]]
		back, wasKnown := w.drives[r.Drive]
		switch {
		case spare < 0 && wasKnown && r.Drive != v.Slots[slot] && !back.Retired && back.State.Readable():
			// Too little is left to fill the slot, and its former drive has come back with what it holds.
			p.jobs = append(p.jobs, job{do: swap, volume: v, spare: spare, found: r.Found, rows: []cairn.Damage{r}, to: r.Drive})
		case w.blocked(r.Shard):
			p.waiting["failed lately, will be tried again"]++
		case known && !d.Retired && d.State.Writable():
			filling = append(filling, r)
		case spare < 0 && (!known || d.Retired) && w.stats[v.ID].blobs > 0:
			// Swapped away it could not be filled; left in place it is rescued should the drive come back after all.
			p.waiting[fmt.Sprintf("too few shards are left unless lost drives return (%d more needed)", -spare)]++
		default:
			to, ok := w.replace(v, slot)
			if !ok {
				homeless++
				p.waiting["no drive outside the volume can take the slot"]++
				continue
			}
			do := move
			if known && d.Retired {
				do = swap
			}
			p.jobs = append(p.jobs, job{do: do, volume: v, spare: spare, found: r.Found, rows: []cairn.Damage{r}, to: to})
		}
	}
	p.needs = max(p.needs, homeless)
	if len(filling) > 0 {
		p.jobs = append(p.jobs, job{do: fill, volume: v, spare: spare, found: oldest(filling), rows: filling})
	}
}

// planBlob plans the damaged shards of one blob. Slots that are rebuilt as a whole, or cannot be written, wait.
func (w world) planBlob(p *plan, v cairn.Volume, rows []cairn.Damage, bad []bool, spare int) {
	var now []cairn.Damage
	for _, r := range rows {
		d := w.drives[v.Slots[r.Shard.Slot]]
		if !bad[r.Shard.Slot] {
			spare--
		}
		switch {
		case w.blocked(r.Shard):
			p.waiting["failed lately, will be tried again"]++
		case d.Retired:
			p.waiting["drive is gone: the whole slot is to be rebuilt"]++
		case !d.State.Writable() || d.ID.IsZero():
			p.waiting[fmt.Sprintf("drive %s is %s", d.Path, d.State)]++
		case bad[r.Shard.Slot]:
			p.waiting["its slot is being rebuilt"]++
		default:
			now = append(now, r)
		}
	}
	if len(now) > 0 {
		p.jobs = append(p.jobs, job{do: mend, volume: v, spare: spare, found: oldest(now), rows: now})
	}
}

func oldest(rows []cairn.Damage) time.Time {
	t := rows[0].Found
	for _, r := range rows[1:] {
		if r.Found.Before(t) {
			t = r.Found
		}
	}
	return t
}
