package membership

import (
	"encoding/binary"
	"math"

	"cairn"
)

// Width returns the widest profile with want's parity that fits on domains healthy failure domains: 4+2 becomes 3+2 on
// five, 2+2 on four, 1+2 on three. It reports false below 1+m: no volume of that protection can be made.
func Width(want cairn.Profile, domains int) (cairn.Profile, bool) {
	k := min(want.K, domains-want.M)
	if k < 1 {
		return cairn.Profile{}, false
	}
	return cairn.Profile{K: k, M: want.M}, true
}

// Place chooses n of the drives for the slots of a new volume; see Placer.
func Place(drives []cairn.Drive, n int, seed uint64) ([]cairn.DriveID, error) {
	return NewPlacer(drives, nil).Place(n, seed)
}

// Replace chooses, among drives, another home for one slot of a volume: a drive that is not in the volume, at the path of
// the old one if there is such a drive (it was put there to replace it), otherwise as Place would. It reports false if
// there is none.
func Replace(drives []cairn.Drive, known map[cairn.DriveID]cairn.Drive, v cairn.Volume, slot uint8) (cairn.DriveID, bool) {
	var others, free []cairn.Drive
	taken := make(map[cairn.DriveID]bool, len(v.Slots))
	for i, id := range v.Slots {
		taken[id] = true
		if d, ok := known[id]; ok && i != int(slot) {
			others = append(others, d)
		}
	}
	old, knowOld := known[v.Slots[slot]]
	for _, d := range drives {
		if taken[d.ID] {
			continue
		}
		if knowOld && old.Path != "" && d.Path == old.Path && d.Node == old.Node {
			return d.ID, true
		}
		free = append(free, d)
	}
	if len(free) == 0 {
		return cairn.DriveID{}, false
	}
	// The seed is fixed, so that a move that starts again goes to the same drive.
	return free[best(free, others, uint64(v.ID)<<8|uint64(slot))].ID, true
}

// best returns the index of the drive that is not among chosen, shares the fewest and narrowest domains with them, and has
// the best draw. drives must hold at least one that is not chosen.
func best(drives, chosen []cairn.Drive, seed uint64) int {
	at, bestCrowd, bestDraw := -1, []int(nil), 0.0
	for i, d := range drives {
		crowd, own := crowding(d, chosen)
		if own {
			continue
		}
		draw := draw(d, seed)
		c := compare(crowd, bestCrowd)
		if at < 0 || c < 0 || c == 0 && draw < bestDraw {
			at, bestCrowd, bestDraw = i, crowd, draw
		}
	}
	return at
}

// crowding counts, for each level of d's domains from the widest, how many of chosen are in the same one; own tells that
// d itself is among them.
func crowding(d cairn.Drive, chosen []cairn.Drive) (crowd []int, own bool) {
	crowd = make([]int, len(d.Domains))
	for _, c := range chosen {
		if c.ID == d.ID {
			return nil, true
		}
		for level := range d.Domains {
			if level >= len(c.Domains) || c.Domains[level] != d.Domains[level] {
				break
			}
			crowd[level]++
		}
	}
	return crowd, false
}

func compare(a, b []int) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return a[i] - b[i]
		}
	}
	return 0
}

// draw is the drive's lot for a seed: smaller wins, and wins the more often the more space is free.
func draw(d cairn.Drive, seed uint64) float64 {
	return drawFor(d.ID, float64(max(d.FreeBytes, 1)), seed)
}

func drawFor(id cairn.DriveID, weight float64, seed uint64) float64 {
	h := mix(seed ^ mix(binary.LittleEndian.Uint64(id[:8])))
	h = mix(h ^ binary.LittleEndian.Uint64(id[8:]))
	u := (float64(h>>11) + 0.5) / (1 << 53) // in (0,1)
	return -math.Log(u) / weight
}

// mix is the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
