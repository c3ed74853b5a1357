package erasure

import (
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// Code encodes and reconstructs the units of one profile. It is safe for concurrent use.
type Code struct {
	k, m int
	rs   reedsolomon.Encoder // nil if m is 0
}

func newCode(k, m int) (*Code, error) {
	if err := (Geometry{K: k, M: m, Unit: Grain, Length: 1}).Validate(); err != nil {
		return nil, err
	}
	if m == 0 {
		return &Code{k: k}, nil
	}
	// One goroutine: the callers run beside each other, and a unit is too short for a hand-over to pay.
	rs, err := reedsolomon.New(k, m, reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("erasure: %d+%d: %w", k, m, err)
	}
	return &Code{k: k, m: m, rs: rs}, nil
}

// Encode fills the parity units from the data units. All K+M units have the same length.
func (c *Code) Encode(units [][]byte) error {
	if len(units) != c.k+c.m {
		return fmt.Errorf("erasure: %d units given to a %d+%d code", len(units), c.k, c.m)
	}
	if c.m == 0 {
		return nil
	}
	if err := c.rs.Encode(units); err != nil {
		return fmt.Errorf("erasure: encode: %w", err)
	}
	return nil
}

// Reconstruct rebuilds the units named by want, data or parity, from at least K others. A unit is present if its length
// is not zero. A wanted one is written into its slice's capacity, if that suffices, and set to the right length; units
// that are neither present nor wanted stay as they are.
func (c *Code) Reconstruct(units [][]byte, want []bool) error {
	n := c.k + c.m
	if len(units) != n || len(want) != n {
		return fmt.Errorf("erasure: %d units and %d marks given to a %d+%d code", len(units), len(want), c.k, c.m)
	}
	if c.m == 0 {
		for i := range units {
			if want[i] && len(units[i]) == 0 {
				return fmt.Errorf("erasure: unit %d is gone and the profile has no parity", i)
			}
		}
		return nil
	}
	if err := c.rs.ReconstructSome(units, want); err != nil {
		return fmt.Errorf("erasure: reconstruct: %w", err)
	}
	return nil
}

// maxCodes bounds how many profiles a Codes keeps; a cluster uses a handful.
const maxCodes = 32

// Codes hands out codes and keeps them, since making one costs a matrix inversion and its tables. The zero value is
// ready. It is safe for concurrent use.
type Codes struct {
	mu   sync.Mutex
	made map[[2]int]*Code
}

// Get returns the code of a profile.
func (c *Codes) Get(k, m int) (*Code, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code := c.made[[2]int{k, m}]; code != nil {
		return code, nil
	}
	code, err := newCode(k, m)
	if err != nil {
		return nil, err
	}
	if c.made == nil || len(c.made) >= maxCodes {
		c.made = make(map[[2]int]*Code)
	}
	c.made[[2]int{k, m}] = code
	return code, nil
}
