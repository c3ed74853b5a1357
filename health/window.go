package health

import (
	"slices"
	"time"

	"cairn"
)

// Sample is what is known of a drive at a moment. Counters grow, and begin anew when the drive's node does.
type Sample struct {
	At      time.Time
	Read    time.Duration // moving average; 0: nothing was read
	Sync    time.Duration
	Errors  int64 // reads and writes that failed
	Corrupt int64 // checksum mismatches
	Away    bool  // missing, hung or failing
}

// SampleOf reads a sample off a drive's status.
func SampleOf(now time.Time, st cairn.DriveStatus) Sample {
	return Sample{At: now, Read: st.ReadLatency, Sync: st.SyncLatency, Errors: st.ReadErrors + st.WriteErrors, Corrupt: st.Corruptions,
		Away: !st.State.Readable()}
}

// counts are what has been counted of a drive since the window knows it, restarts of its node left out.
type counts struct {
	at                     time.Time
	Errors, Corrupt, Flaps int64
}

const (
	every    = 15 * time.Minute // between two points of the window
	stale    = 5 * time.Minute  // a drive that was not sampled for so long is not judged
	maxKnown = 100_000          // drives
)

type known struct {
	last   Sample
	total  counts
	points []counts // one every so often, Span and a little back
}

// since returns the counts at a moment, or the oldest that are known.
func (k *known) since(at time.Time) counts {
	i, _ := slices.BinarySearchFunc(k.points, at, func(c counts, at time.Time) int { return c.at.Compare(at) })
	if i > 0 {
		i-- // the last one before it
	}
	return k.points[i]
}

// Window holds what was seen of drives of late. It is used by one goroutine at a time; the zero value is ready.
type Window struct{ drives map[cairn.DriveID]*known }

// Add takes a sample of a drive. The first one only says where the counters stand.
func (w *Window) Add(id cairn.DriveID, s Sample) {
	if w.drives == nil {
		w.drives = map[cairn.DriveID]*known{}
	}
	k := w.drives[id]
	if k == nil {
		if len(w.drives) < maxKnown {
			w.drives[id] = &known{last: s, points: []counts{{at: s.At}}}
		}
		return
	}
	k.total.Errors += grown(k.last.Errors, s.Errors)
	k.total.Corrupt += grown(k.last.Corrupt, s.Corrupt)
	if s.Away && !k.last.Away {
		k.total.Flaps++
	}
	k.last, k.total.at = s, s.At
	if s.At.Sub(k.points[len(k.points)-1].at) >= every {
		k.points = append(k.points, k.total)
	}
	for len(k.points) > 1 && !k.points[1].at.After(s.At.Add(-Span)) {
		k.points = k.points[1:]
	}
}

// grown is how much a counter grew; one that fell has begun anew.
func grown(was, is int64) int64 {
	if is < was {
		return is
	}
	return is - was
}

// Forget drops the drives that keep does not want.
func (w *Window) Forget(keep func(cairn.DriveID) bool) {
	for id := range w.drives {
		if !keep(id) {
			delete(w.drives, id)
		}
	}
}

// median is that of the other drives which have a value; 0 if there are too few to tell.
func (w *Window) median(but cairn.DriveID, of func(Sample) time.Duration) time.Duration {
	var list []time.Duration
	for id, k := range w.drives {
		if v := of(k.last); id != but && v > 0 && !k.last.Away {
			list = append(list, v)
		}
	}
	if len(list) < minPeers {
		return 0
	}
	slices.Sort(list)
	return list[len(list)/2]
}
