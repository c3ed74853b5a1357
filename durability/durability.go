// Package durability models on paper what a design gives: how available its drives, stripes and metadata are, and how long
// a stripe lasts until more of its shards are lost than decoding allows. It is arithmetic on values; it measures nothing.
//
// A drive fails at the constant rate λ and takes the mean time MTTR to be rebuilt. From an annual failure rate (AFR, the
// share of drives that fail within a year) λ = −ln(1−AFR) per year. The availability of a part is A = MTTF/(MTTF+MTTR) =
// 1/(1+λ·MTTR), so MTTR = (1−A)/(λ·A). (1−λ·MTTR is only the first-order approximation of A: at λ·MTTR = 2 it is negative.)
// A k-of-n group is available with Σ_{i≥k} C(n,i)·Aⁱ·(1−A)ⁿ⁻ⁱ. See K. S. Trivedi, "Probability and Statistics with
// Reliability, Queuing, and Computer Science Applications", 2nd ed., Wiley 2001, chapters 3 and 8.
//
// The mean time to data loss is the mean time to absorption of the Markov chain whose state is the number of lost shards:
// n−i shards fail at λ each, i are rebuilt in parallel at 1/MTTR each, and the chain ends where the pattern of losses no
// longer decodes (G. A. Gibson, "Redundant Disk Arrays", MIT Press 1992; the chain is solved exactly, by elimination without
// subtraction after W. K. Grassmann, M. I. Taksar, D. P. Heyman, Operations Research 33, 1985, not by the usual
// approximation). Of a locally repairable code (C. Huang et al., "Erasure Coding in Windows Azure Storage", USENIX ATC
// 2012) with two groups, a pattern decodes if what exceeds one loss in each group, and the lost global parities, are at
// most as many as there are global parities.
//
// A latent error is a bad shard that nobody has read: errors come at their own rate, and scrub finds them after half its
// interval in the mean, so at any moment a shard is bad with probability rate × interval/2; it counts as lost at the moment
// when another one is. Correlated failures (one power supply, one batch, one bug) are a factor on λ once a first shard is
// lost. The model knows nothing of operators' mistakes and software faults, which end more data than drives do: very large
// figures mean "not by independent failures of drives", no more.
package durability

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"cairn"
)

// Availability is the share of time in which a part with failure rate λ and mean repair time mttr works; the units of
// time cancel.
func Availability(lambda, mttr float64) float64 { return 1 / (1 + lambda*mttr) }

// RepairTime is the mean repair time at which a part with failure rate λ has availability a.
func RepairTime(lambda, a float64) float64 { return (1 - a) / (lambda * a) }

// KOfN is the probability that k or more of n independent parts work, each with probability a.
func KOfN(k, n int, a float64) float64 {
	sum := 0.0
	for i := max(k, 0); i <= n; i++ {
		sum += choose(n, i) * math.Pow(a, float64(i)) * math.Pow(1-a, float64(n-i))
	}
	return min(sum, 1)
}

// FailureRate is λ per year of drives of which the share afr fails within a year.
func FailureRate(afr float64) float64 { return -math.Log1p(-afr) }

func choose(n, k int) float64 {
	if k < 0 || k > n {
		return 0
	}
	c := 1.0
	for i := range k {
		c = c * float64(n-i) / float64(i+1)
	}
	return c
}

// Code is what the model needs to know of an erasure code.
type Code struct {
	Name string
	K, N int // data shards, all shards
	// Survives[i] is the share of patterns of i+1 lost shards that decode. It ends before the first size of which none does.
	Survives []float64
}

// ParseCode reads "8+4", or "12+2+2": data shards in two groups with one parity each, and global parities.
func ParseCode(s string) (Code, error) {
	bad := &cairn.Error{Op: "parse profile", Subject: s, Err: fmt.Errorf(
		"want data+parity, e.g. 8+4, or data+2+global for a local code of two groups, e.g. 12+2+2: %w", cairn.ErrInvalid)}
	var n []int
	for _, part := range strings.Split(s, "+") {
		v, err := strconv.Atoi(part)
		if err != nil || v < 0 {
			return Code{}, bad
		}
		n = append(n, v)
	}
	switch {
	case len(n) == 2 && n[0] >= 1 && n[0]+n[1] <= cairn.MaxShards:
		c := Code{Name: s, K: n[0], N: n[0] + n[1]}
		for range n[1] {
			c.Survives = append(c.Survives, 1)
		}
		return c, nil
	case len(n) == 3 && n[1] == localGroups && n[0] >= localGroups && n[0]%localGroups == 0 && n[0]+n[1]+n[2] <= cairn.MaxShards:
		return localCode(s, n[0], n[2]), nil
	}
	return Code{}, bad
}

const localGroups = 2

// WriteQuorum is how many shards a write needs: as many as let any one more be lost; see cairn.Profile.
func (c Code) WriteQuorum() int {
	tolerance := 0
	for tolerance < len(c.Survives) && c.Survives[tolerance] == 1 {
		tolerance++
	}
	return c.N - max(tolerance-1, 0)
}

func localCode(name string, k, global int) Code {
	group := k/localGroups + 1
	c := Code{Name: name, K: k, N: k + localGroups + global}
	for lost := 1; lost <= localGroups+global; lost++ {
		good := 0.0
		for a := 0; a <= lost; a++ {
			for b := 0; a+b <= lost; b++ {
				g := lost - a - b
				if max(a-1, 0)+max(b-1, 0)+g <= global {
					good += choose(group, a) * choose(group, b) * choose(global, g)
				}
			}
		}
		c.Survives = append(c.Survives, good/choose(c.N, lost))
	}
	return c
}

// Risks are what the shards of a stripe meet. Rates are per year, times in years.
type Risks struct {
	Lambda      float64 // failures of one drive
	MTTR        float64 // until a lost shard is rebuilt
	LatentRate  float64 // latent errors of one shard; 0: none
	ScrubEvery  float64 // until a latent error has been found, at the latest
	Correlation float64 // factor on Lambda once a shard is lost; below 1 counts as 1
}

// MTTDL is the mean time in years until a stripe of the code is lost.
func MTTDL(c Code, r Risks) float64 { return chain(c, c.N, r) }

// PoolMTTDL is the mean time in years until the first stripe is lost somewhere on so many drives, if stripes are spread so
// widely that any set of drives shares one: the pessimistic end of what placement makes of it.
func PoolMTTDL(c Code, drives int, r Risks) float64 { return chain(c, max(drives, c.N), r) }

// chain solves the Markov chain of n drives. up is the mean time from a state until more shards are lost than in it, and
// lost the probability that this is the end; both come from those of the state below, by sums of positive terms alone.
func chain(c Code, n int, r Risks) float64 {
	latent := min(1, r.LatentRate*r.ScrubEvery/2)
	ups, losts := []float64{}, []float64{}
	up, lost := 0.0, 0.0
	for i := 0; i <= len(c.Survives); i++ {
		fail := float64(n-i) * r.Lambda
		if i > 0 {
			fail *= max(1, r.Correlation)
		}
		end := 1 - c.next(i, latent)
		back := float64(i) / r.MTTR
		up, lost = (1+back*up)/(fail+back*lost), (fail*end+back*lost)/(fail+back*lost)
		ups, losts = append(ups, up), append(losts, lost)
	}
	total := 0.0
	for i := len(ups) - 1; i >= 0; i-- {
		total = ups[i] + (1-losts[i])*total
	}
	return total
}

// next is the probability that a stripe with i lost shards, which decodes, still decodes when one more is lost and those of
// the others turn out bad that had latent errors.
func (c Code) next(i int, latent float64) float64 {
	if i >= len(c.Survives) {
		return 0
	}
	before := 1.0
	if i > 0 {
		before = c.Survives[i-1]
	}
	left := c.N - i - 1
	sum := 0.0
	for bad := 0; i+bad < len(c.Survives) && bad <= left; bad++ {
		sum += choose(left, bad) * math.Pow(latent, float64(bad)) * math.Pow(1-latent, float64(left-bad)) * c.Survives[i+bad] / before
	}
	return min(sum, 1)
}
