// Package health judges which drives wear out before they fail: from how slow a drive is beside its peers, from the I/O errors
// and the checksum mismatches that it showed of late, and from shards that scrub found missing on it. It owns the window in
// which errors count, the score, its explanation, and the rule by which a drive may be emptied without a person. All of it is
// pure: whoever owns a Window feeds it samples and acts on what it says.
//
// Invariants: one kind of signal alone never makes a drive one that wears out; Choose names one drive at most, none within a
// day of the last, and none while another one is away or being emptied.
package health

import (
	"fmt"
	"slices"
	"time"

	"cairn"
)

// Kind is what a signal rests on. Two signals of the same kind are one piece of evidence.
type Kind string

// The kinds.
const (
	Slow     Kind = "slow"     // its operations take much longer than those of its peers
	Errors   Kind = "errors"   // reads or writes failed
	Corrupt  Kind = "corrupt"  // bytes did not match their checksums
	Flapping Kind = "flapping" // it was away, hung or failing again and again
)

// Signal is one reason why a drive scores less than 100.
type Signal struct {
	Kind Kind   `json:"kind"`
	Cost int    `json:"cost"` // taken off the score
	Text string `json:"text"`
}

// Verdict is a drive's score, 100 at best and 0 at worst, and what it is made of.
type Verdict struct {
	Drive   cairn.DriveID `json:"drive"`
	Score   int           `json:"score"`
	Signals []Signal      `json:"signals,omitempty"`
	// Wearing: it scores below Limit on signals of two kinds or more.
	Wearing bool `json:"wearing,omitempty"`
}

const (
	// Limit is the score below which a drive may count as wearing out.
	Limit = 50
	// Span is how far back errors count.
	Span = 24 * time.Hour
	// Apart is the least time between two drives that are emptied without a person.
	Apart = 24 * time.Hour

	minPeers    = 3                     // with fewer, nobody can tell which of them is slow
	slowTimes   = 4                     // times the peers' median
	slowAtLeast = 20 * time.Millisecond // what is faster than this is not slow, whatever the others are
	maxCost     = 45                    // of one kind: below Limit it takes two
	errorCost   = 5                     // of each read or write error
	corruptCost = 5
	flapCost    = 10
	fewFlaps    = 2 // times away in a Span that are nothing unusual
)

// Judge scores drives by what the window knows of them, beside one another.
func (w *Window) Judge(now time.Time) []Verdict {
	list := make([]Verdict, 0, len(w.drives))
	for id, d := range w.drives {
		if now.Sub(d.last.At) > stale {
			continue
		}
		v := Verdict{Drive: id, Score: 100}
		from := d.since(now.Add(-Span))
		v.slow("reads", d.last.Read, w.median(id, func(s Sample) time.Duration { return s.Read }))
		v.slow("syncs", d.last.Sync, w.median(id, func(s Sample) time.Duration { return s.Sync }))
		if n := d.total.Errors - from.Errors; n > 0 {
			v.add(Errors, n*errorCost, fmt.Sprintf("%d reads or writes failed within %v", n, Span))
		}
		if n := d.total.Corrupt - from.Corrupt; n > 0 {
			v.add(Corrupt, n*corruptCost, fmt.Sprintf("%d blocks did not match their checksums within %v", n, Span))
		}
		if n := d.total.Flaps - from.Flaps; n > fewFlaps {
			v.add(Flapping, (n-fewFlaps)*flapCost, fmt.Sprintf("it was away, hung or failing %d times within %v", n, Span))
		}
		v.settle()
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b Verdict) int {
		if a.Score != b.Score {
			return a.Score - b.Score
		}
		return slices.Compare(a.Drive[:], b.Drive[:])
	})
	return list
}

func (v *Verdict) slow(what string, took, peers time.Duration) {
	if peers <= 0 || took < slowAtLeast || took < slowTimes*peers {
		return
	}
	v.add(Slow, 10*int64(took/peers), fmt.Sprintf("%s take %v, those of its peers %v", what, took.Round(time.Millisecond/10), peers.Round(time.Millisecond/10)))
}

func (v *Verdict) add(k Kind, cost int64, text string) {
	v.Signals = append(v.Signals, Signal{k, int(min(cost, maxCost)), text})
}

// settle makes the score: of each kind the worst signal counts.
func (v *Verdict) settle() {
	worst := map[Kind]int{}
	for _, s := range v.Signals {
		worst[s.Kind] = max(worst[s.Kind], s.Cost)
	}
	for _, cost := range worst {
		v.Score -= cost
	}
	v.Score = max(v.Score, 0)
	v.Wearing = v.Score < Limit && len(worst) >= 2
}

// Choose names the drive that may be emptied now without a person: the worst of those that wear out. last is when that was
// done last (zero: never). drives are all that there are, and nothing is chosen while one of them is away, hung, failing or
// being emptied: a store that lacks a drive has no redundancy to spare for a mistake.
func Choose(now, last time.Time, verdicts []Verdict, drives []cairn.Drive) (worst Verdict, why string) {
	known := map[cairn.DriveID]bool{}
	for _, d := range drives {
		switch {
		case d.Retired:
			continue
		case d.Draining:
			return worst, "drive " + d.ID.String() + " is being emptied"
		case !d.State.Readable():
			return worst, "drive " + d.ID.String() + " is " + d.State.String()
		}
		known[d.ID] = true
	}
	for _, v := range verdicts { // the worst comes first
		if !v.Wearing || !known[v.Drive] {
			continue
		}
		if !last.IsZero() && now.Sub(last) < Apart {
			return worst, "another drive was emptied for its health within a day"
		}
		return v, ""
	}
	return worst, "no drive wears out"
}
