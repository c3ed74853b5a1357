package membership

import (
	"iter"

	"cairn"
)

// Weigh returns the drives as Rebalance should see them: used is what the slots on a drive weigh, and its size is that and
// what is free. So what others keep on a drive's file system only makes the drive smaller, drives that share a file system
// are told apart by what they hold, and what was moved away counts before its space is free again.
func Weigh(drives []cairn.Drive, volumes iter.Seq[Held]) []cairn.Drive {
	used := make(map[cairn.DriveID]int64, len(drives))
	for h := range volumes {
		for _, id := range h.Volume.Slots {
			used[id] += h.SlotBytes
		}
	}
	out := make([]cairn.Drive, len(drives))
	for i, d := range drives {
		if d.TotalBytes > 0 {
			d.TotalBytes = used[d.ID] + d.FreeBytes
		}
		out[i] = d
	}
	return out
}

// Spread is how unevenly full the drives are: the difference between the fullest and the emptiest, as a share of the mean; 0
// if nothing is stored. Drives that are sick, retired or drained do not count.
func Spread(drives []cairn.Drive) float64 {
	least, most := 1.0, 0.0
	var used, total int64
	for _, d := range drives {
		s := boardSite{drive: d, used: d.TotalBytes - d.FreeBytes, total: d.TotalBytes}
		if !s.counts() {
			continue
		}
		used, total = used+s.used, total+s.total
		least, most = min(least, s.fill()), max(most, s.fill())
	}
	if used <= 0 {
		return 0
	}
	return (most - least) / (float64(used) / float64(total))
}
