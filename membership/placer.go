package membership

import (
	"fmt"
	"slices"
	"strconv"

	"cairn"
)

// Placer chooses drives for new volumes out of a fixed set. It is immutable, and safe for concurrent use.
//
// The slots of a volume lie on distinct drives, spread over the widest failure domains first. Among drives that are equal in
// that, the choice is random in proportion to free space, and against load: by weighted rendezvous hashing (Schindelhauer and
// Schomaker, "Weighted Distributed Hash Tables", 2005) each drive draws -ln(u)/weight, and of the few smallest draws
// the drive that is least full wins (Mitzenmacher, "The Power of Two Choices", 2001), which keeps drives of all sizes equally full.
type Placer struct {
	drives []cairn.Drive
	sites  []site // of drives
	names  *domainNames
}

// site is a drive as placement sees it.
type site struct {
	id      cairn.DriveID
	domains []int32 // number of its domain at each level, widest first
	weight  float64
	full    float64 // share of the drive that is used; 0 if its size is unknown
}

// NewPlacer prepares drives to be chosen from. load is the number of volumes on a drive that take writes now; a drive that
// is not in it has none.
func NewPlacer(drives []cairn.Drive, load map[cairn.DriveID]int) *Placer {
	p := &Placer{drives: drives, sites: make([]site, len(drives)), names: newDomainNames()}
	for i, d := range drives {
		p.sites[i] = site{id: d.ID, domains: p.names.of(d), full: fullness(d),
			weight: float64(max(d.FreeBytes, 1)) / float64(1+load[d.ID])}
	}
	return p
}

// fullness is the share of a drive that is used.
func fullness(d cairn.Drive) float64 {
	if d.TotalBytes <= 0 {
		return 0
	}
	return 1 - float64(d.FreeBytes)/float64(d.TotalBytes)
}

// domainNames gives failure domains numbers. A rack belongs to its zone: two racks of one name in two zones are two.
type domainNames struct {
	numbers map[string]int32
}

func newDomainNames() *domainNames { return &domainNames{numbers: map[string]int32{}} }

func (n *domainNames) of(d cairn.Drive) []int32 {
	out := make([]int32, len(d.Domains))
	for level, path := range domainPaths(d) {
		number, ok := n.numbers[path]
		if !ok {
			number = int32(len(n.numbers))
			n.numbers[path] = number
		}
		out[level] = number
	}
	return out
}

// domainPaths names a drive's domains, each with those around it.
func domainPaths(d cairn.Drive) []string {
	paths := make([]string, len(d.Domains))
	path := ""
	for level, name := range d.Domains {
		path += strconv.Itoa(len(name)) + ":" + name + "/" // the length keeps "a/b" + "c" apart from "a" + "b/c"
		paths[level] = path
	}
	return paths
}

// Place returns drives for n slots, in the order of the slots. The same input, seed included, gives the same answer.
// ErrUnavailable if there are fewer than n drives.
func (p *Placer) Place(n int, seed uint64) ([]cairn.DriveID, error) {
	if len(p.sites) < n {
		return nil, &cairn.Error{Op: "membership.place", Err: fmt.Errorf("%d drives for %d slots: %w",
			len(p.sites), n, cairn.ErrUnavailable)}
	}
	draws := make([]float64, len(p.sites)) // the same for every slot
	for i := range p.sites {
		draws[i] = drawFor(p.sites[i].id, p.sites[i].weight, seed)
	}
	crowds := make([]int32, len(p.names.numbers)) // slots chosen in each domain
	taken := make([]bool, len(p.sites))
	ids := make([]cairn.DriveID, 0, n)
	for range n {
		at := p.pick(draws, crowds, taken)
		taken[at] = true
		for _, d := range p.sites[at].domains {
			crowds[d]++
		}
		ids = append(ids, p.sites[at].id)
	}
	return ids, nil
}

// Replace chooses another home for one slot of a volume; see the function Replace.
func (p *Placer) Replace(known map[cairn.DriveID]cairn.Drive, v cairn.Volume, slot uint8) (cairn.DriveID, bool) {
	crowds := make([]int32, len(p.names.numbers)) // other slots in each domain
	for i, id := range v.Slots {
		if d, ok := known[id]; ok && i != int(slot) {
			for _, path := range domainPaths(d) {
				if number, ok := p.names.numbers[path]; ok {
					crowds[number]++
				}
			}
		}
	}
	old, knowOld := known[v.Slots[slot]]
	// The seed is fixed, so that a move that starts again goes to the same drive.
	seed := uint64(v.ID)<<8 | uint64(slot)
	at, least := -1, 0.0
	for i := range p.drives {
		d := &p.drives[i]
		if slices.Contains(v.Slots, d.ID) {
			continue
		}
		if knowOld && old.Path != "" && d.Path == old.Path && d.Node == old.Node {
			return d.ID, true
		}
		c := -1
		if at >= 0 {
			c = compareCrowds(crowds, p.sites[i].domains, p.sites[at].domains)
		}
		if c > 0 {
			continue
		}
		if lot := drawFor(d.ID, float64(max(d.FreeBytes, 1)), seed); c < 0 || lot < least {
			at, least = i, lot
		}
	}
	if at < 0 {
		return cairn.DriveID{}, false
	}
	return p.drives[at].ID, true
}

// choices is how many of the smallest draws compete; with four, 100 drives stay within 5% of each other where two give 10%.
const choices = 4

// pick returns the drive for the next slot.
func (p *Placer) pick(draws []float64, crowds []int32, taken []bool) int {
	var best [choices]int // by draw, among the drives in the emptiest domains
	n := 0
	for i := range p.sites {
		if taken[i] {
			continue
		}
		if n > 0 {
			c := compareCrowds(crowds, p.sites[i].domains, p.sites[best[0]].domains)
			if c > 0 {
				continue
			}
			if c < 0 {
				n = 0
			}
		}
		if n == choices && draws[i] >= draws[best[n-1]] {
			continue
		}
		if n < choices {
			n++
		}
		at := n - 1
		for ; at > 0 && draws[i] < draws[best[at-1]]; at-- {
			best[at] = best[at-1]
		}
		best[at] = i
	}
	win := best[0]
	for _, i := range best[1:n] {
		if p.sites[i].full < p.sites[win].full {
			win = i
		}
	}
	return win
}

// compareCrowds tells which of two drives is in the emptier domains, widest first: negative for a.
func compareCrowds(crowds []int32, a, b []int32) int {
	for level := range min(len(a), len(b)) {
		if c := crowds[a[level]] - crowds[b[level]]; c != 0 {
			return int(c)
		}
	}
	return 0
}
