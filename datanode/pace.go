package datanode

import (
	"fmt"
	"time"

	"cairn"
)

// pace decides how fast background work may go: a floor it always has, a ceiling it never passes, and between them it
// falls by a share when clients' operations take longer than undisturbed, and rises by a little while they do not
// (additive increase, multiplicative decrease; D.-M. Chiu and R. Jain, 1989). It is a value: next returns the next one.
type pace struct {
	band cairn.Band
	rate float64 // bytes per second that are allowed
	slow float64 // how long clients' operations took lately, beside undisturbed ones; 0: there are none
	idle int     // beats without clients
	why  string
}

// beat is what was seen since the last step.
type beat struct {
	elapsed  time.Duration
	ended    int     // clients' operations that ended
	underway int     // and that have not
	slowdown float64 // how long those that ended took, beside what they take undisturbed; 1 if that is not known
	moved    int64   // bytes that background work read and wrote
}

const (
	beatEvery = 250 * time.Millisecond
	tolerated = 1.5  // slowdown of clients that is no reason to give way
	backOff   = 0.5  // the most that one beat takes off
	riseShare = 0.05 // of the rate, that a beat adds
	riseFloor = 0.25 // of the floor, that it adds at least
	restBeats = 2    // without clients, until the rate rises as if there were none
	smoothing = 0.5  // share of a new slowdown
	inUse     = 0.5  // of the rate; with less in use, more would do nothing, and tell nothing
)

func newPace(b cairn.Band) pace {
	return pace{band: b, rate: float64(b.Ceiling), why: "no clients"}
}

// to returns the pace within another band.
func (p pace) to(b cairn.Band) pace {
	if p.band != b {
		p.band = b
		p.rate = min(max(p.rate, float64(b.Floor)), float64(b.Ceiling))
	}
	return p
}

// next is the pace after a beat.
func (p pace) next(b beat) pace {
	floor, ceiling := float64(p.band.Floor), float64(p.band.Ceiling)
	if b.ended == 0 {
		return p.withoutClients(b)
	}
	p.idle = 0
	if p.slow == 0 {
		p.slow = b.slowdown
	}
	p.slow += smoothing * (b.slowdown - p.slow)
	used := float64(b.moved) / max(b.elapsed.Seconds(), 1e-3)
	switch {
	case p.slow > tolerated && b.moved == 0:
		p.why = fmt.Sprintf("clients take %.1fx as long as undisturbed, but not for background work", p.slow)
	case p.slow > tolerated:
		// What was not used cannot have harmed anybody: the cut begins at what was.
		p.rate = max(floor, min(p.rate, used)*max(backOff, tolerated/p.slow))
		p.why = fmt.Sprintf("gives way: clients take %.1fx as long as undisturbed", p.slow)
	case p.rate >= ceiling:
		p.rate, p.why = ceiling, "clients are not disturbed"
	case used < inUse*p.rate:
		p.why = "there is not more to do"
	default:
		p.rate = min(ceiling, p.rate+max(riseShare*p.rate, riseFloor*floor))
		p.why = "rises: clients are not disturbed"
	}
	return p
}

// withoutClients rises fast, unless clients' operations are under way that take longer than the beat.
func (p pace) withoutClients(b beat) pace {
	if b.underway > 0 {
		p.why = "waits for clients' operations to end"
		return p
	}
	if p.idle++; p.idle < restBeats {
		return p
	}
	p.slow = 0
	p.rate = min(float64(p.band.Ceiling), 2*p.rate)
	p.why = "no clients"
	return p
}

// usual knows how long clients' operations take undisturbed, by their class, in nanoseconds; 0: not known.
type usual [classes]float64

// took is what was seen of a class of operations.
type took struct {
	count int64
	sum   time.Duration
}

const (
	learnOps   = 64   // operations without background work that count as much as all before
	relearnOps = 4096 // operations at the floor that do: a load that grew is not mistaken for our doing for ever
	maxRatio   = 20   // one class cannot say more
)

// weigh compares operations with the usual ones, and learns from them: from those without background work, from those that
// were quicker than known, and slowly from those with background work at its floor.
func (u *usual) weigh(seen *[classes]took, quiet, atFloor bool) (ended int, slowdown float64) {
	sum := 0.0
	for c, s := range seen {
		if s.count == 0 {
			continue
		}
		mean := float64(s.sum) / float64(s.count)
		ratio := 1.0
		if u[c] > 0 {
			ratio = min(mean/u[c], maxRatio)
		}
		ended += int(s.count)
		sum += ratio * float64(s.count)
		switch over := float64(0); {
		case u[c] == 0 && (quiet || atFloor):
			u[c] = mean
		case u[c] == 0:
		case quiet || mean < u[c]:
			over = learnOps
			u[c] += (mean - u[c]) * min(1, float64(s.count)/over)
		case atFloor:
			over = relearnOps
			u[c] += (mean - u[c]) * min(1, float64(s.count)/over)
		}
	}
	if ended == 0 {
		return 0, 1
	}
	return ended, sum / float64(ended)
}
