package membership

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"cairn"
)

// Held is a volume with what one of its slots weighs in bytes, on average.
type Held struct {
	Volume    cairn.Volume
	SlotBytes int64
}

// Move is one slot that should lie on another drive.
type Move struct {
	Volume cairn.VolumeID `json:"volume"`
	Slot   uint8          `json:"slot"`
	From   cairn.DriveID  `json:"from"`
	To     cairn.DriveID  `json:"to"`
	Bytes  int64          `json:"bytes"`
}

// slack is how far a drive's fill may be from the mean, as a share of the mean, before Rebalance moves slots for it.
const slack = 0.02

// board is the drives as a plan goes on: what it has moved already counts.
type board struct {
	sites []boardSite
	index map[cairn.DriveID]int32
}

type boardSite struct {
	drive   cairn.Drive
	domains []int32
	used    int64 // bytes
	total   int64
	target  bool // may take slots
}

func (s *boardSite) fill() float64 { return float64(s.used) / float64(s.total) }

// counts tells whether the drive is one of those that should be equally full; one that is sick or drained has other worries.
func (s *boardSite) counts() bool {
	return s.total > 0 && s.drive.State <= cairn.DriveFull && !s.drive.Retired && !s.drive.Draining
}

// room tells whether a slot of so many bytes fits.
func (s *boardSite) room(bytes int64) bool { return s.target && s.used+bytes <= s.total }

func newBoard(drives []cairn.Drive, leaving map[cairn.DriveID]bool) *board {
	b := &board{index: make(map[cairn.DriveID]int32, len(drives)), sites: make([]boardSite, 0, len(drives))}
	names := newDomainNames()
	for _, d := range drives {
		b.index[d.ID] = int32(len(b.sites))
		b.sites = append(b.sites, boardSite{drive: d, domains: names.of(d), used: d.TotalBytes - d.FreeBytes, total: d.TotalBytes,
			target: d.State.Writable() && !d.Retired && !d.Draining && d.TotalBytes > 0 && !leaving[d.ID]})
	}
	return b
}

// slots returns the numbers of a volume's drives; a drive that nobody knows is -1.
func (b *board) slots(v cairn.Volume, into []int32) []int32 {
	into = into[:0]
	for _, id := range v.Slots {
		at, ok := b.index[id]
		if !ok {
			at = -1
		}
		into = append(into, at)
	}
	return into
}

// crowding compares two drives as homes of one slot of a volume: negative if a shares fewer and narrower domains with the
// other slots than b does.
func (b *board) crowding(slots []int32, slot int, x, y int32) int {
	dx, dy := b.sites[x].domains, b.sites[y].domains
	for level := range min(len(dx), len(dy)) {
		diff := 0
		for i, other := range slots {
			if i == slot || other < 0 {
				continue
			}
			if od := b.sites[other].domains; level < len(od) {
				if od[level] == dx[level] {
					diff++
				}
				if od[level] == dy[level] {
					diff--
				}
			}
		}
		if diff != 0 {
			return diff
		}
	}
	return 0
}

// slotRef is one slot on a drive that gives slots away.
type slotRef struct {
	volume int32 // into plan.volumes
	slot   uint8
}

// Drain plans where the slots of drives that are to be emptied go: to the emptiest drive that has room and makes no two
// slots of the volume share a failure domain that they do not share now. At most max moves are returned; plan again when
// they are done. ErrFull or ErrUnavailable, with what to add, if some slot has no place: then nothing is to be begun.
func Drain(drives []cairn.Drive, leaving []cairn.DriveID, volumes iter.Seq[Held], max int) ([]Move, error) {
	gone := make(map[cairn.DriveID]bool, len(leaving))
	for _, id := range leaving {
		gone[id] = true
	}
	b := newBoard(drives, gone)
	var moves []Move
	var stuck stuckSlots
	var slots []int32
	for h := range volumes {
		slots = b.slots(h.Volume, slots)
		for i, id := range h.Volume.Slots {
			if !gone[id] || slots[i] < 0 {
				continue
			}
			to, why := b.home(slots, i, h.SlotBytes)
			if to < 0 {
				stuck.add(why, h.SlotBytes)
				continue
			}
			b.sites[to].used += h.SlotBytes
			b.sites[slots[i]].used -= h.SlotBytes
			slots[i] = to
			if len(moves) < max {
				moves = append(moves, Move{Volume: h.Volume.ID, Slot: uint8(i), From: id, To: b.sites[to].drive.ID, Bytes: h.SlotBytes})
			}
		}
	}
	if err := stuck.refusal(); err != nil {
		return nil, err
	}
	return moves, nil
}

// home chooses the drive for a slot that leaves its own; negative if there is none, and then why.
func (b *board) home(slots []int32, slot int, bytes int64) (to int32, why noPlace) {
	to, why = -1, noDrive
	for i := range b.sites {
		s, at := &b.sites[i], int32(i)
		if !s.target || slices.Contains(slots, at) {
			continue
		}
		if b.crowding(slots, slot, at, slots[slot]) > 0 {
			why = max(why, noDomain)
			continue
		}
		if !s.room(bytes) {
			why = noRoom
			continue
		}
		if to < 0 {
			to = at
		} else if c := b.crowding(slots, slot, at, to); c < 0 || c == 0 && s.fill() < b.sites[to].fill() {
			to = at
		}
	}
	return to, why
}

// noPlace is why a slot has no place, the nearest miss last.
type noPlace uint8

const (
	noDrive  noPlace = iota // every drive that takes slots is in the volume
	noDomain                // the others would put two slots into one failure domain
	noRoom                  // the others have no space
)

// stuckSlots counts the slots without a place.
type stuckSlots struct {
	slots [3]int
	bytes int64 // of those for want of room
}

func (s *stuckSlots) add(why noPlace, bytes int64) {
	s.slots[why]++
	if why == noRoom {
		s.bytes += bytes
	}
}

func (s *stuckSlots) refusal() error {
	fail := func(kind error, format string, args ...any) error {
		return &cairn.Error{Op: "membership.drain", Err: fmt.Errorf(format+": %w", append(args, kind)...)}
	}
	switch {
	case s.slots[noDrive] > 0:
		return fail(cairn.ErrUnavailable, "%d slots have no drive outside their volumes to go to: add a drive", s.slots[noDrive])
	case s.slots[noDomain] > 0:
		return fail(cairn.ErrUnavailable, "%d slots would share a failure domain with another slot of their volume: add a drive in "+
			"another node (or rack, or zone) than the volume has", s.slots[noDomain])
	case s.slots[noRoom] > 0:
		return fail(cairn.ErrFull, "%d slots with %d bytes have no room on the other drives: add as much space", s.slots[noRoom], s.bytes)
	}
	return nil
}

// Rebalance plans moves that make drives of all sizes equally full, the greatest gain first: from the fullest drive to the
// emptiest that may take one of its slots. A move never makes two slots of a volume share a failure domain that they do not
// share now, and never makes its target fuller than its source, so that hardly more bytes move than must. At most max moves
// are returned, and none when all drives are within a few percent of the mean (or as near as whole slots allow): plan again
// when they are done.
//
// volumes is walked once.
func Rebalance(drives []cairn.Drive, volumes iter.Seq[Held], max int) []Move {
	r := &rebalance{board: newBoard(drives, nil), max: max}
	if !r.sort() {
		return nil
	}
	r.gather(volumes)
	var moves []Move
	for len(moves) < max {
		m, ok := r.next()
		if !ok {
			break
		}
		moves = append(moves, m)
	}
	return moves
}

// rebalance is one plan under way.
type rebalance struct {
	*board
	max     int
	mean    float64
	sources []int32 // drives that may give, the fullest first
	targets []int32 // drives that may take, the emptiest first
	refs    map[int32][]slotRef
	volumes []cairn.Volume
	bytes   []int64 // of a slot of each volume
	moved   map[slotRef]int32
}

// sort finds who gives and who takes; false if nobody needs to.
func (r *rebalance) sort() bool {
	var used, total int64
	for i := range r.sites {
		if s := &r.sites[i]; s.counts() {
			used, total = used+s.used, total+s.total
		}
	}
	if used <= 0 {
		return false
	}
	r.mean = float64(used) / float64(total)
	for i := range r.sites {
		s := &r.sites[i]
		if !s.counts() {
			continue
		}
		switch fill := s.fill(); {
		case fill > r.mean:
			r.sources = append(r.sources, int32(i))
		case s.target:
			r.targets = append(r.targets, int32(i))
		}
	}
	byFill := func(a, b int32) int { return cmp.Compare(r.sites[a].fill(), r.sites[b].fill()) }
	slices.SortFunc(r.targets, byFill)
	slices.SortFunc(r.sources, func(a, b int32) int { return byFill(b, a) })
	r.sources = r.sources[:min(len(r.sources), r.max)] // each gives one slot or more
	if len(r.sources) == 0 || len(r.targets) == 0 {
		return false
	}
	return r.uneven(r.sources[0], r.targets[0])
}

// uneven tells whether one of the two drives is further from the mean than it may be.
func (r *rebalance) uneven(source, target int32) bool {
	return r.sites[source].fill() > r.mean*(1+slack) || r.sites[target].fill() < r.mean*(1-slack)
}

// gather notes the slots on the sources.
func (r *rebalance) gather(volumes iter.Seq[Held]) {
	giving := make(map[cairn.DriveID]int32, len(r.sources))
	for _, at := range r.sources {
		giving[r.sites[at].drive.ID] = at
	}
	r.refs, r.moved = make(map[int32][]slotRef, len(r.sources)), map[slotRef]int32{}
	for h := range volumes {
		number := int32(-1)
		for i, id := range h.Volume.Slots {
			at, ok := giving[id]
			if !ok || h.SlotBytes <= 0 {
				continue
			}
			if number < 0 {
				number = int32(len(r.volumes))
				r.volumes, r.bytes = append(r.volumes, h.Volume), append(r.bytes, h.SlotBytes)
			}
			r.refs[at] = append(r.refs[at], slotRef{number, uint8(i)})
		}
	}
}

// targetsTried bounds the drives that are tried for one source, and slotsTried the slots that are tried for one pair, so that
// a plan over many drives stays quick though the rules may allow hardly anything.
const (
	targetsTried = 32
	slotsTried   = 256
)

// next finds the best move, and counts it.
func (r *rebalance) next() (Move, bool) {
	for len(r.sources) > 0 {
		source := r.sources[0]
		for t, target := range r.targets[:min(len(r.targets), targetsTried)] {
			if !r.uneven(source, target) {
				break
			}
			if i := r.fitting(source, target); i >= 0 {
				m := r.move(source, target, i)
				settle(r.sources, 0, func(a, b int32) bool { return r.sites[a].fill() > r.sites[b].fill() })
				settle(r.targets, t, func(a, b int32) bool { return r.sites[a].fill() < r.sites[b].fill() })
				return m, true
			}
		}
		r.sources = r.sources[1:] // nothing of it can go anywhere
	}
	return Move{}, false
}

// settle brings the element at i of a sorted list to its place, now that it stands further behind.
func settle(list []int32, i int, before func(a, b int32) bool) {
	for ; i+1 < len(list) && before(list[i+1], list[i]); i++ {
		list[i], list[i+1] = list[i+1], list[i]
	}
}

// fitting returns which of the source's slots may go to the target, the heaviest that fits best; -1 if none may.
func (r *rebalance) fitting(source, target int32) int {
	s, t := &r.sites[source], &r.sites[target]
	best := -1
	var slots []int32
	refs := r.refs[source]
	for i := 0; i < len(refs); i += 1 + len(refs)/slotsTried { // a sample from all ages, since those of one age lie alike
		ref := refs[i]
		bytes := r.bytes[ref.volume]
		if best >= 0 && bytes <= r.bytes[refs[best].volume] || !t.room(bytes) ||
			float64(s.used-bytes)/float64(s.total) < float64(t.used+bytes)/float64(t.total) {
			continue
		}
		slots = r.now(ref.volume, slots)
		if slices.Contains(slots, target) || r.crowding(slots, int(ref.slot), target, source) > 0 {
			continue
		}
		best = i
	}
	return best
}

// now is where a volume's slots lie when the moves planned so far are done.
func (r *rebalance) now(volume int32, into []int32) []int32 {
	into = r.slots(r.volumes[volume], into)
	for i := range into {
		if at, ok := r.moved[slotRef{volume, uint8(i)}]; ok {
			into[i] = at
		}
	}
	return into
}

func (r *rebalance) move(source, target int32, i int) Move {
	refs := r.refs[source]
	ref := refs[i]
	r.refs[source] = slices.Delete(refs, i, i+1)
	bytes := r.bytes[ref.volume]
	r.sites[source].used -= bytes
	r.sites[target].used += bytes
	r.moved[ref] = target
	return Move{Volume: r.volumes[ref.volume].ID, Slot: ref.slot, From: r.sites[source].drive.ID, To: r.sites[target].drive.ID, Bytes: bytes}
}
