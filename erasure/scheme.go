package erasure

import (
	"fmt"
	"math/bits"
)

// Scheme is an erasure code by its numbers. With Local 0 it is a plain Reed-Solomon code: any K of the K+M units decode.
//
// Otherwise it is a locally repairable one (C. Huang et al., "Erasure Coding in Windows Azure Storage", USENIX ATC 2012):
// the data units are cut into Local groups; the first Local parity units are the exclusive or of one group each, the rest
// are global. A unit that is the only one lost of its group is computed from the others of the group alone. The code is
// maximally recoverable: it decodes every pattern of losses that a code of this shape can. One loss in each group costs
// nothing of the global parities, any other takes one of them.
//
// Units are numbered as the slots of a volume: data, local parities, global parities. Sets of units are bits of a uint64.
type Scheme struct {
	K     int // data units
	M     int // parity units
	Local int // how many of the parity units are local; 0 or localGroups
}

const (
	localGroups = 2  // with two, the coefficients of the global parities are known to be right
	maxGroup    = 15 // data units of a group: what is not zero in half of a byte
	maxGlobal   = 2
)

// Validate refuses a scheme that no code here has.
func (s Scheme) Validate() error {
	switch {
	case s.K < 1 || s.M < 0 || s.K+s.M > MaxSlots:
		return fmt.Errorf("erasure: %d+%d units: want 1 or more data units, at most %d units in all", s.K, s.M, MaxSlots)
	case s.Local == 0:
		return nil
	case s.Local != localGroups || s.K%localGroups != 0 || s.K/localGroups > maxGroup:
		return fmt.Errorf("erasure: %d data units in %d groups: want %d groups of %d at most", s.K, s.Local, localGroups, maxGroup)
	case s.M-s.Local < 1 || s.M-s.Local > maxGlobal:
		return fmt.Errorf("erasure: %d global parity units: want 1 to %d", s.M-s.Local, maxGlobal)
	}
	return nil
}

// Width is the number of units.
func (s Scheme) Width() int { return s.K + s.M }

// members is the set of a group's units, its parity included.
func (s Scheme) members(group int) uint64 {
	n := s.K / s.Local
	return (1<<n-1)<<(group*n) | 1<<(s.K+group)
}

func (s Scheme) globals() uint64 { return (1<<(s.M-s.Local) - 1) << (s.K + s.Local) }

// rank is how many units worth of data a set holds.
func (s Scheme) rank(have uint64) int {
	if s.Local == 0 {
		return min(s.K, bits.OnesCount64(have))
	}
	n := bits.OnesCount64(have & s.globals())
	for g := range s.Local {
		n += min(s.K/s.Local, bits.OnesCount64(have&s.members(g)))
	}
	return min(s.K, n)
}

// Decodes tells whether all units can be computed from those of a set.
func (s Scheme) Decodes(have uint64) bool { return s.rank(have) == s.K }

// Enough tells whether the wanted units can be computed from those at hand.
func (s Scheme) Enough(have, want uint64) bool {
	missing := want &^ have
	for g := range s.Local {
		if group := s.members(g); bits.OnesCount64(group&^have) == 1 {
			missing &^= group
		}
	}
	return missing == 0 || s.Decodes(have)
}

// Choose picks units to read, in order of preference, so that with those at hand the wanted ones can be computed; it
// takes the way over the groups if that suffices. If ok is false even all of them do not suffice, and read has what of
// them is of use.
func (s Scheme) Choose(have uint64, order []int, want uint64) (read uint64, ok bool) {
	if read, ok = s.chooseLocal(have, order, want); ok {
		return read, true
	}
	read = 0
	rank := s.rank(have)
	for _, unit := range order {
		if rank == s.K {
			break
		}
		if r := s.rank(have | read | 1<<unit); r > rank {
			rank, read = r, read|1<<unit
		}
	}
	return read, rank == s.K
}

// chooseLocal reads the wanted units, and of the groups of those that cannot be read the rest.
func (s Scheme) chooseLocal(have uint64, order []int, want uint64) (read uint64, ok bool) {
	if s.Local == 0 {
		return 0, false
	}
	all := have
	for _, unit := range order {
		all |= 1 << unit
	}
	need := want & all
	gone := want &^ all
	for g := range s.Local {
		if group := s.members(g); gone&group != 0 && bits.OnesCount64(group&^all) == 1 {
			need |= group & all
			gone &^= group
		}
	}
	return need &^ have, gone == 0
}

// basis is a least set of units of have that decodes, lower units first; with too little it is all that counts.
func (s Scheme) basis(have uint64) uint64 {
	var set uint64
	for rest := have; rest != 0; rest &= rest - 1 {
		if bit := rest & -rest; s.rank(set|bit) > s.rank(set) {
			set |= bit
		}
	}
	return set
}

// Spare is the largest number of units such that whichever so many are lost beside those of lost, the rest decodes.
// Below 0 it is by how many units what is left falls short.
func (s Scheme) Spare(lost uint64) int {
	if s.Local == 0 {
		return s.M - bits.OnesCount64(lost)
	}
	lostGlobals := bits.OnesCount64(lost & s.globals())
	slack := s.M - s.Local - lostGlobals
	taking := s.M - s.Local - lostGlobals // units whose loss takes one off the slack
	whole := 0                            // groups of which the first loss takes nothing
	size := s.K/s.Local + 1
	for g := range s.Local {
		n := bits.OnesCount64(lost & s.members(g))
		slack -= max(n-1, 0)
		if n > 0 {
			taking += size - n
		} else {
			whole++
		}
	}
	if slack < 0 {
		return slack
	}
	// The worst losses take from the slack each; only when there are no more such units do they begin on a whole group.
	free := 0
	for ; taking <= slack && whole > 0; whole-- {
		free++
		taking += size - 1
	}
	return slack + free
}
