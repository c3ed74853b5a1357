package membership

import (
	"encoding/binary"
	"math"

	"cairn"
)

// Width returns the widest profile that survives as many losses as want and fits on domains healthy failure domains: 4+2
// becomes 3+2 on five, 2+2 on four, 1+2 on three, and 12+2+2 becomes 12+3 on fifteen. It reports false where no volume of
// that protection can be made.
func Width(want cairn.Profile, domains int) (cairn.Profile, bool) {
	for _, p := range narrowing(want) {
		if p.Width() <= domains {
			return p, true
		}
	}
	return cairn.Profile{}, false
}

// narrowing lists a profile and the narrower ones that survive as many losses, the widest first.
func narrowing(want cairn.Profile) []cairn.Profile {
	all := []cairn.Profile{want}
	for k := want.K; k >= 1; k-- {
		if p := (cairn.Profile{K: k, M: want.Tolerance()}); p != want {
			all = append(all, p)
		}
	}
	return all
}

// Place chooses n of the drives for the slots of a new volume; see Placer.
func Place(drives []cairn.Drive, n int, seed uint64) ([]cairn.DriveID, error) {
	return NewPlacer(drives, nil).Place(n, seed)
}

// Replace chooses, among drives, another home for one slot of a volume: a drive that is not in the volume, at the path of
// the old one if there is such a drive (it was put there to replace it), otherwise as Place would. It reports false if
// there is none.
func Replace(drives []cairn.Drive, known map[cairn.DriveID]cairn.Drive, v cairn.Volume, slot uint8) (cairn.DriveID, bool) {
	return NewPlacer(drives, nil).Replace(known, v, slot)
}

// drawFor is the drive's lot for a seed: smaller wins, and wins the more often the greater the weight.
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
