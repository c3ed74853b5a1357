package datanode

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"cairn"
)

const mib = 1 << 20

// disk is a model of a drive: operations take longer the more of its rate is used, by everybody together.
type disk struct {
	rate    float64 // bytes per second
	clients float64 // bytes per second that clients want
	service time.Duration
	noise   *rand.Rand
}

// felt is how long a client's operation takes, in ns, while background work moves bg bytes per second.
func (d disk) felt(bg float64) float64 {
	used := min((d.clients+bg)/d.rate, 0.99)
	return float64(d.service) / (1 - used) * (0.8 + 0.4*d.noise.Float64())
}

// play lets a pace and a disk play for n beats. Background work wants want bytes per second. It returns the mean rate of
// background work and the mean slowdown beside an undisturbed disk over the last half of the beats.
func play(t *testing.T, p *pace, u *usual, d disk, want float64, n int) (rate, slowdown float64) {
	t.Helper()
	for i := range n {
		bg := min(p.rate, want)
		if d.clients > 0 {
			bg = min(bg, max(d.rate-d.clients, float64(p.band.Floor)))
		} else {
			bg = min(bg, d.rate)
		}
		b := beat{elapsed: beatEvery, moved: int64(bg * beatEvery.Seconds()), slowdown: 1}
		if d.clients > 0 {
			var seen [classes]took
			ops := int64(d.clients / (1 << 20) * beatEvery.Seconds())
			mean := d.felt(bg)
			seen[class(tookCold, mib)] = took{count: ops, sum: time.Duration(mean * float64(ops))}
			b.ended, b.slowdown = u.weigh(&seen, b.moved == 0, p.rate <= float64(p.band.Floor))
			if i >= n/2 {
				idle := float64(d.service) / (1 - d.clients/d.rate)
				slowdown += mean / idle / float64(n-n/2)
			}
		}
		*p = p.next(b)
		if p.rate < float64(p.band.Floor) || p.rate > float64(p.band.Ceiling) || math.IsNaN(p.rate) {
			t.Fatalf("beat %d: %.0f bytes per second are outside of %+v (%s)", i, p.rate, p.band, p.why)
		}
		if i >= n/2 {
			rate += bg / float64(n-n/2)
		}
	}
	return rate, slowdown
}

var testBand = cairn.Band{Floor: 8 * mib, Ceiling: 1024 * mib}

// Whatever share of the disk clients use, background work gets its floor, clients are at most twice as slow in the mean, and
// what clients leave is used.
func TestPaceOnALoadedDisk(t *testing.T) {
	for _, load := range []float64{0.1, 0.3, 0.5, 0.7, 0.9} {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("load %.1f seed %d", load, seed), func(t *testing.T) {
				d := disk{rate: 400 * mib, clients: load * 400 * mib, service: 2 * time.Millisecond, noise: rand.New(rand.NewPCG(seed, 1))}
				p, u := newPace(testBand), usual{}
				play(t, &p, &u, d, 0, 40) // clients alone
				rate, slow := play(t, &p, &u, d, math.Inf(1), 400)
				if rate < float64(testBand.Floor) || slow > 2 {
					t.Errorf("background work at %.1f MiB/s, clients %.2fx as slow (%s)", rate/mib, slow, p.why)
				}
				if room := (1 - load) * 400 * mib; rate < 0.1*room {
					t.Errorf("background work at %.1f of %.1f MiB/s that are left", rate/mib, room/mib)
				}
			})
		}
	}
}

// A disk that background work always slows down gets the floor, no less.
func TestPaceFallsToItsFloor(t *testing.T) {
	p := newPace(testBand)
	for range 200 {
		p = p.next(beat{elapsed: beatEvery, ended: 100, slowdown: 5, moved: int64(p.rate * beatEvery.Seconds())})
	}
	if p.rate != float64(testBand.Floor) {
		t.Errorf("%.0f, want the floor", p.rate)
	}
	// Clients that are slow by themselves are no reason to give way.
	calm := newPace(testBand)
	for range 50 {
		calm = calm.next(beat{elapsed: beatEvery, ended: 100, slowdown: 5})
	}
	if calm.rate != float64(testBand.Ceiling) {
		t.Errorf("%.0f after background work did nothing, want the ceiling", calm.rate)
	}
}

// Clients come, go, and come: the pace falls within seconds, and is back at the ceiling within seconds.
func TestPaceFollowsClients(t *testing.T) {
	busy := disk{rate: 400 * mib, clients: 200 * mib, service: 2 * time.Millisecond, noise: rand.New(rand.NewPCG(3, 1))}
	idle := busy
	idle.clients = 0
	p, u := newPace(testBand), usual{}
	play(t, &p, &u, busy, 0, 40)
	for range 3 {
		play(t, &p, &u, idle, math.Inf(1), 40)
		if p.rate != float64(testBand.Ceiling) {
			t.Errorf("%.0f without clients for 10 s, want the ceiling", p.rate)
		}
		play(t, &p, &u, busy, math.Inf(1), 20)
		if p.rate > 200*mib {
			t.Errorf("%.1f MiB/s after 5 s with clients", p.rate/mib)
		}
	}
	// Operations that do not end are not "no clients".
	p = newPace(testBand)
	p.rate = 8 * mib
	for range 20 {
		p = p.next(beat{elapsed: beatEvery, underway: 3, slowdown: 1, moved: 2 * mib})
	}
	if p.rate != 8*mib {
		t.Errorf("%.0f while clients wait, want it as it was", p.rate)
	}
}

// A load that grows makes clients slower by itself; in time that is what is usual, and background work does not stay at its
// floor for ever.
func TestPaceLearnsANewLoad(t *testing.T) {
	d := disk{rate: 400 * mib, clients: 40 * mib, service: 2 * time.Millisecond, noise: rand.New(rand.NewPCG(9, 1))}
	p, u := newPace(testBand), usual{}
	play(t, &p, &u, d, 0, 40)
	d.clients = 240 * mib // 2.25x as slow without any background work
	play(t, &p, &u, d, math.Inf(1), 2000)
	rate, slow := play(t, &p, &u, d, math.Inf(1), 400)
	if rate < 2*float64(testBand.Floor) || slow > 2 {
		t.Errorf("background work at %.1f MiB/s, clients %.2fx as slow", rate/mib, slow)
	}
}

// Operations are compared with those of their kind and size.
func TestUsualComparesLikeWithLike(t *testing.T) {
	var u usual
	small, large := class(tookAppend, 4<<10), class(tookAppend, 4*mib)
	of := func(a, b time.Duration) *[classes]took {
		var seen [classes]took
		seen[small], seen[large] = took{100, 100 * a}, took{100, 100 * b}
		return &seen
	}
	u.weigh(of(time.Millisecond, 40*time.Millisecond), true, false)
	if n, slow := u.weigh(of(time.Millisecond, 40*time.Millisecond), false, false); n != 200 || slow != 1 {
		t.Errorf("the same again: %d operations, %.2fx", n, slow)
	}
	if _, slow := u.weigh(of(3*time.Millisecond, 40*time.Millisecond), false, false); math.Abs(slow-2) > 0.01 {
		t.Errorf("half of them thrice as slow: %.2fx, want 2", slow)
	}
	var fresh usual
	if _, slow := fresh.weigh(of(time.Second, time.Second), false, false); slow != 1 || fresh[small] != 0 {
		t.Errorf("nothing is known, yet %.2fx; learned %v from a disturbed drive", slow, fresh[small])
	}
}
