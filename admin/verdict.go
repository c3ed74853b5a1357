package admin

import (
	"fmt"
	"strings"

	"cairn"
)

// Health is the verdict on the whole store in one word.
type Health string

// The verdicts, from best to worst.
const (
	HealthOK      Health = "ok"      // every blob has all its shards
	HealthHealing Health = "healing" // some redundancy is missing, and repair is able to restore it
	HealthAtRisk  Health = "at-risk" // some blob may lose no further shard, or full redundancy cannot be restored as things are
	HealthLost    Health = "lost"    // some blob cannot be read any more
)

// Evidence is what a verdict is made from.
type Evidence struct {
	Profile      cairn.Profile
	BlobsBySpare map[int]int64
	Degraded     int64 // blobs with fewer spares than their own profile gives
	Queued       int64 // damage rows
	DrivesTotal  int   // drives that are expected
	DrivesBad    []string
	DrivesOK     int // drives that can take new shards
	DrivesFull   int
	Frozen       string // why automatic repair of nodes is frozen
	VotersWanted int
	VotersOK     int
	// BlobsUnknown: the counts above could not be had, because metadata has no quorum.
	BlobsUnknown error
}

// Judge turns evidence into a verdict: pure.
func Judge(e Evidence) (h Health, reasons []string, needs string) {
	worsen := func(to Health, format string, args ...any) {
		if rank(to) > rank(h) {
			h = to
		}
		reasons = append(reasons, fmt.Sprintf(format, args...))
	}
	h = HealthOK
	if e.BlobsUnknown != nil {
		worsen(HealthAtRisk, "The state of the blobs is not known: %v.", e.BlobsUnknown)
	}
	lost, bare := int64(0), int64(0)
	for spare, n := range e.BlobsBySpare {
		if spare < 0 {
			lost += n
		}
		if spare == 0 {
			bare += n
		}
	}
	if lost > 0 {
		worsen(HealthLost, "%s fewer good shards than reading needs.", plural(lost, "blob has", "blobs have"))
	}
	if bare > 0 && e.Profile.M > 0 {
		worsen(HealthAtRisk, "%s no spare shard left: the next loss would be one of data.", plural(bare, "blob has", "blobs have"))
	}
	if e.Degraded > 0 {
		worsen(HealthHealing, "%s less redundancy than the profile gives.", plural(e.Degraded, "blob has", "blobs have"))
	} else if e.Queued > 0 {
		worsen(HealthHealing, "%s for repair.", plural(e.Queued, "finding waits", "findings wait"))
	}
	needs = judgeDrives(e, worsen)
	if e.Frozen != "" {
		worsen(HealthAtRisk, "%s: bring them back, or run `cairn node out` for each that will not be back soon.", strings.ToUpper(e.Frozen[:1])+e.Frozen[1:])
	}
	if e.VotersOK < e.VotersWanted {
		worsen(HealthHealing, "%d of %d metadata voters are up.", e.VotersOK, e.VotersWanted)
	}
	return h, reasons, needs
}

func judgeDrives(e Evidence, worsen func(Health, string, ...any)) (needs string) {
	if missing := e.Profile.Width() - e.DrivesOK - e.DrivesFull; missing > 0 {
		needs = plural(int64(missing), "more drive", "more drives")
		worsen(HealthAtRisk, "%d of the %d drives that %s needs are healthy: full redundancy needs %s.",
			e.DrivesOK+e.DrivesFull, e.Profile.Width(), e.Profile, needs)
	}
	if e.DrivesOK < e.Profile.Width() && e.DrivesFull > 0 {
		worsen(HealthAtRisk, "%s full.", plural(int64(e.DrivesFull), "drive is", "drives are"))
		if needs == "" {
			needs = "more space"
		}
	}
	if n := len(e.DrivesBad); n > 0 {
		worsen(HealthHealing, "%s not healthy: %s.", plural(int64(n), "drive is", "drives are"), strings.Join(e.DrivesBad, ", "))
	}
	return needs
}

func rank(h Health) int {
	for i, x := range []Health{HealthOK, HealthHealing, HealthAtRisk, HealthLost} {
		if x == h {
			return i
		}
	}
	return 0
}

func plural(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
