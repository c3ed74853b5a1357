package repair

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cairn"
	"cairn/erasure"
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
	// next is the expected time until one more of their shards is lost, in lifetimes of a healthy drive.
	next  float64
	found time.Time
	rows  []cairn.Damage // what this job is to resolve: one row per slot, in order of slots
	to    cairn.DriveID  // of swap and move
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
	blocked func(cairn.Damage) bool
	// hazard is how likely a drive is lost soon, beside a healthy one (1); nil: every drive is as likely.
	hazard func(cairn.Drive) float64
}

// stats is how much a volume holds.
type stats struct{ blobs, bytes int64 }

// makePlan decides what to repair, and in which order: fewest spare shards first, then the shortest expected time to the
// next loss, then age. Swaps go before everything: they move no bytes, and until they are made new blobs lack a shard.
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
		return cmp.Or(first(a.do == swap, b.do == swap), cmp.Compare(a.spare, b.spare), cmp.Compare(a.next, b.next), a.found.Compare(b.found),
			cmp.Compare(a.volume.ID, b.volume.ID), cmp.Compare(a.rows[0].Shard.Blob, b.rows[0].Shard.Blob))
	})
	return p
}

// urgent returns the jobs that may be worked on now: the swaps, or else those with the fewest spare shards. While a blob
// waits that has none left, nothing that has one is touched.
func (p plan) urgent() []job {
	n := 0
	for n < len(p.jobs) && (p.jobs[n].do == swap) == (p.jobs[0].do == swap) &&
		(p.jobs[n].do == swap || p.jobs[n].spare == p.jobs[0].spare) {
		n++
	}
	return p.jobs[:n]
}

// nextLoss is the expected time until one of the slots that are still good is lost. Drives fail independently here, so the
// rates add up.
func (w world) nextLoss(v cairn.Volume, bad slotSet) float64 {
	rate := 0.0
	for i, id := range v.Slots {
		switch {
		case bad.has(uint8(i)):
		case w.hazard == nil:
			rate++
		default:
			rate += w.hazard(w.drives[id])
		}
	}
	return 1 / rate
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
	for n < len(rows) && rows[n].Shard.Blob == 0 {
		n++
	}
	slotRows, shardRows := rows[:n], rows[n:]
	bad := badSlots(v, slotRows, w.drives)
	spare := erasure.Scheme(v.Profile).Spare(uint64(bad))
	w.planSlots(p, v, slotRows, spare, w.nextLoss(v, bad))
	for len(shardRows) > 0 {
		n := 1
		for n < len(shardRows) && shardRows[n].Shard.Blob == shardRows[0].Shard.Blob {
			n++
		}
		w.planBlob(p, v, shardRows[:n], bad)
		shardRows = shardRows[n:]
	}
}

// badSlots tells which slots cannot be counted on: their drive is gone or cannot be read, or they are being filled.
func badSlots(v cairn.Volume, slotRows []cairn.Damage, drives map[cairn.DriveID]cairn.Drive) (bad slotSet) {
	for i, id := range v.Slots {
		if d, ok := drives[id]; !ok || d.Retired || !d.State.Readable() {
			bad.add(uint8(i))
		}
	}
	for _, r := range slotRows {
		// On a drive that can be read but not written the row asks for a move; what is there is good until then.
		// One that is healthy and is to move is good wherever it is.
		if d := drives[v.Slots[r.Shard.Slot]]; d.State.Writable() && r.Kind != cairn.DamageMove {
			bad.add(r.Shard.Slot)
		}
	}
	return bad
}

// slotSet is a set of slots of one volume, as bits.
type slotSet uint64

func (s slotSet) has(slot uint8) bool { return s>>slot&1 == 1 }
func (s *slotSet) add(slot uint8)     { *s |= 1 << slot }

func (w world) planSlots(p *plan, v cairn.Volume, rows []cairn.Damage, spare int, next float64) {
	base := job{volume: v, spare: spare, next: next}
	var filling []cairn.Damage
	homeless := 0
	for _, r := range rows {
		slot := r.Shard.Slot
		d, known := w.drives[v.Slots[slot]]
		back, wasKnown := w.drives[r.Drive]
		if r.Kind == cairn.DamageMove && known && !d.Retired && d.State.Readable() {
			w.planMove(p, base, r)
			continue
		}
		switch {
		case spare < 0 && wasKnown && r.Drive != v.Slots[slot] && !back.Retired && back.State.Readable():
			// Too little is left to fill the slot, and its former drive has come back with what it holds.
			p.jobs = append(p.jobs, base.with(swap, r.Drive, r))
		case w.blocked(r):
			p.waiting["failed lately, will be tried again"]++
		case known && !d.Retired && d.State.Writable():
			filling = append(filling, r)
		case spare < 0 && (!known || d.Retired) && w.stats[v.ID].blobs > 0:
			// Swapped away it could not be filled; left in place it is rescued should the drive come back after all.
			p.waiting[fmt.Sprintf("too few shards are left unless lost drives return (%d more needed)", -spare)]++
		default:
			to, ok := w.home(v, r)
			if !ok {
				homeless++
				p.waiting["no drive outside the volume can take the slot"]++
				continue
			}
			do := move
			if known && d.Retired {
				do = swap
			}
			p.jobs = append(p.jobs, base.with(do, to, r))
		}
	}
	p.needs = max(p.needs, homeless)
	if len(filling) > 0 {
		p.jobs = append(p.jobs, base.with(fill, cairn.DriveID{}, filling...))
	}
}

// planned is the spare of work that restores nothing: it waits for all that does.
const planned = cairn.MaxShards

// planMove plans the move of a healthy slot. One that lies elsewhere already was swapped just before its row could be
// resolved; filling it finds nothing to do.
func (w world) planMove(p *plan, base job, r cairn.Damage) {
	v := base.volume
	base.spare = planned
	if w.blocked(r) {
		p.waiting["failed lately, will be tried again"]++
		return
	}
	if v.Slots[r.Shard.Slot] != r.Drive {
		if w.drives[v.Slots[r.Shard.Slot]].State.Writable() {
			p.jobs = append(p.jobs, base.with(fill, cairn.DriveID{}, r))
		}
		return
	}
	to, ok := w.home(v, r)
	if !ok {
		p.waiting["no drive outside the volume can take the slot"]++
		return
	}
	p.jobs = append(p.jobs, base.with(move, to, r))
}

// home is the drive that a slot goes to: where its copy has begun already, else where its row wants it, else any.
func (w world) home(v cairn.Volume, r cairn.Damage) (cairn.DriveID, bool) {
	for _, id := range []cairn.DriveID{r.Pass.To, r.To} {
		d, ok := w.drives[id]
		if ok && d.State.Writable() && !d.Retired && !d.Draining && !slices.Contains(v.Slots, id) {
			return id, true
		}
	}
	return w.replace(v, r.Shard.Slot)
}

// with returns a job of the same volume and risk that resolves rows.
func (j job) with(do action, to cairn.DriveID, rows ...cairn.Damage) job {
	j.do, j.to, j.rows, j.found = do, to, rows, oldest(rows)
	return j
}

// planBlob plans the damaged shards of one blob. Slots that are rebuilt as a whole, or cannot be written, wait.
func (w world) planBlob(p *plan, v cairn.Volume, rows []cairn.Damage, bad slotSet) {
	var now []cairn.Damage
	gone := bad
	for _, r := range rows {
		gone.add(r.Shard.Slot)
		d := w.drives[v.Slots[r.Shard.Slot]]
		switch {
		case w.blocked(r):
			p.waiting["failed lately, will be tried again"]++
		case d.Retired:
			p.waiting["drive is gone: the whole slot is to be rebuilt"]++
		case !d.State.Writable() || d.ID.IsZero():
			p.waiting[fmt.Sprintf("drive %s is %s", d.Path, d.State)]++
		case bad.has(r.Shard.Slot):
			p.waiting["its slot is being rebuilt"]++
		default:
			now = append(now, r)
		}
	}
	if len(now) > 0 {
		base := job{volume: v, spare: erasure.Scheme(v.Profile).Spare(uint64(gone)), next: w.nextLoss(v, gone)}
		p.jobs = append(p.jobs, base.with(mend, cairn.DriveID{}, now...))
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
