package durability

import (
	"math"
	"math/bits"
	"testing"
)

func near(got, want, within float64) bool { return math.Abs(got-want) <= within*math.Abs(want) }

const day = 1 / 365.25 // years

// The figures of the design: AFR 1.4%, a day to repair.
func TestMTTDL(t *testing.T) {
	for profile, want := range map[string]float64{"4+2": 7.9e8, "8+4": 8.1e15, "12+2+2": 1.2e12} {
		c, err := ParseCode(profile)
		if err != nil {
			t.Fatal(err)
		}
		if got := MTTDL(c, Risks{Lambda: FailureRate(0.014), MTTR: day}); !near(got, want, 0.02) {
			t.Errorf("%s: %.3g years, want %.3g", profile, got, want)
		}
	}
}

// Chains that can be solved by hand: one drive; two copies, (3λ+μ)/(2λ²).
func TestChainsSolvedByHand(t *testing.T) {
	one, _ := ParseCode("1+0")
	two, _ := ParseCode("1+1")
	r := Risks{Lambda: 0.5, MTTR: 0.25}
	if got := MTTDL(one, r); !near(got, 2, 1e-12) {
		t.Errorf("one drive: %v, want 2", got)
	}
	if got, want := MTTDL(two, r), (3*0.5+4)/(2*0.25); !near(got, want, 1e-12) {
		t.Errorf("two copies: %v, want %v", got, want)
	}
}

// The first-order approximation of availability is negative where the exact one is a third; and the repair time that an
// availability asks for has A, not 1−A, under the line.
func TestTraps(t *testing.T) {
	if got := Availability(2, 1); !near(got, 1.0/3, 1e-12) {
		t.Errorf("availability at λ·MTTR = 2: %v, want 1/3", got)
	}
	if got := RepairTime(0.001, 0.999); !near(got, 1.001, 1e-4) {
		t.Errorf("repair time: %v h, want 1.001 h", got)
	}
	if got := Availability(0.001, RepairTime(0.001, 0.999)); !near(got, 0.999, 1e-12) {
		t.Errorf("there and back: %v", got)
	}
}

func TestKOfN(t *testing.T) {
	a := 0.9
	if got, want := KOfN(2, 3, a), 3*a*a*(1-a)+a*a*a; !near(got, want, 1e-12) {
		t.Errorf("2 of 3: %v, want %v", got, want)
	}
	if KOfN(0, 5, 0.1) < 1-1e-12 || KOfN(6, 5, 0.9) != 0 {
		t.Error("none needed, or more than there are")
	}
}

// Every pattern of up to five losses of 12+2+2, one by one.
func TestLocalCodeByBruteForce(t *testing.T) {
	c, err := ParseCode("12+2+2")
	if err != nil {
		t.Fatal(err)
	}
	good, all := map[int]int{}, map[int]int{}
	for set := range uint32(1 << 16) {
		n := bits.OnesCount32(set)
		if n > 5 {
			continue
		}
		a, b, g := bits.OnesCount32(set&0x7f), bits.OnesCount32(set>>7&0x7f), bits.OnesCount32(set>>14)
		all[n]++
		if max(a-1, 0)+max(b-1, 0)+g <= 2 {
			good[n]++
		}
	}
	for n := 1; n <= 4; n++ {
		if got, want := c.Survives[n-1], float64(good[n])/float64(all[n]); !near(got, want, 1e-12) {
			t.Errorf("%d losses: %v, want %v", n, got, want)
		}
	}
	if !near(c.Survives[3], 0.8615, 1e-4) || c.Survives[2] != 1 || good[5] != 0 || len(c.Survives) != 4 {
		t.Errorf("%v; %d patterns of five decode", c.Survives, good[5])
	}
}

func TestWhatMakesItWorse(t *testing.T) {
	c, _ := ParseCode("4+2")
	r := Risks{Lambda: FailureRate(0.014), MTTR: day}
	best := MTTDL(c, r)
	latent, correlated := r, r
	latent.LatentRate, latent.ScrubEvery = 0.01, 14*day
	correlated.Correlation = 10
	if got := MTTDL(c, latent); got >= best || got < best/1e4 {
		t.Errorf("latent errors: %.3g of %.3g", got, best)
	}
	if got := MTTDL(c, correlated); !near(got, best/100, 0.02) {
		t.Errorf("a factor of ten on the second and third loss: %.3g of %.3g", got, best)
	}
	if got := PoolMTTDL(c, 48, r); got >= best || got <= 0 {
		t.Errorf("48 drives: %.3g of %.3g", got, best)
	}
	for _, bad := range []string{"", "4", "4+", "a+b", "0+2", "12+3+2", "11+2+2", "60+5", "4+-1", "1+2+3+4"} {
		if _, err := ParseCode(bad); err == nil {
			t.Errorf("%q is a profile", bad)
		}
	}
}
