package erasure

import "slices"

// localMatrix has a row for each parity unit: the local ones, then the global ones.
//
// The global rows are Σ aᵢ·xᵢ and Σ aᵢ²·xᵢ, with other aᵢ than zero for every unit. A pattern of losses that is left to
// them decodes if within a group no two aᵢ are equal, and no sum of two of one group is a sum of two of the other, one of
// which may be zero (the local parity's). So the first group takes its aᵢ from the lower half of a byte, the second from
// the upper half.
func localMatrix(s Scheme) [][]byte {
	m := make([][]byte, s.M)
	for i := range m {
		m[i] = make([]byte, s.K)
	}
	n := s.K / s.Local
	for unit := range s.K {
		group, in := unit/n, unit%n
		a := byte(in+1) << (4 * group)
		m[group][unit] = 1
		for g, c := s.Local, a; g < s.M; g++ {
			m[g][unit] = c
			c = multiply(c, a)
		}
	}
	return m
}

// multiply is the product in GF(2⁸) with the polynomial that package reedsolomon uses, x⁸+x⁴+x³+x²+1.
func multiply(a, b byte) (p byte) {
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		high := a & 0x80
		if a <<= 1; high != 0 {
			a ^= 0x1d
		}
	}
	return p
}

// reconstructLocal computes what it can within the groups, and the rest from as many units as it takes, of which none
// follows from the others: package reedsolomon takes the first K that it is given, and knows of codes only in which any
// K will do.
func (c *Code) reconstructLocal(units [][]byte, want []bool) error {
	for g := range c.Local {
		if err := c.reconstructInGroup(g, units, want); err != nil {
			return err
		}
	}
	var have uint64
	left := slices.Clone(want)
	for i := range units {
		if len(units[i]) > 0 {
			have |= 1 << i
			left[i] = false
		}
	}
	if !slices.Contains(left, true) {
		return nil
	}
	basis := c.basis(have)
	given := slices.Clone(units)
	for i := range given {
		if have&^basis>>i&1 == 1 {
			given[i] = nil
		}
	}
	err := c.rs.ReconstructSome(given, left)
	for i, w := range left {
		if w {
			units[i] = given[i]
		}
	}
	return err
}

// reconstructInGroup computes the one unit that a group lacks, if it is wanted.
func (c *Code) reconstructInGroup(group int, units [][]byte, want []bool) error {
	n := c.K / c.Local
	lacks := -1
	given, mark := make([][]byte, n+1), make([]bool, n+1)
	slot := func(i int) int { // the parity comes last
		if i == n {
			return c.K + group
		}
		return group*n + i
	}
	for i := range given {
		if given[i] = units[slot(i)]; len(given[i]) > 0 {
			continue
		}
		if lacks >= 0 {
			return nil
		}
		lacks = i
	}
	if lacks < 0 || !want[slot(lacks)] {
		return nil
	}
	mark[lacks] = true
	err := c.group.ReconstructSome(given, mark)
	units[slot(lacks)] = given[lacks]
	return err
}
