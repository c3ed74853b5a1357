package erasure

import (
	"fmt"
	"sync"

	"github.com/klauspost/reedsolomon"
)

// Code encodes and reconstructs the units of one profile. It is safe for concurrent use.
type Code struct {
	Scheme
	rs    reedsolomon.Encoder // nil if M is 0
	group reedsolomon.Encoder // of one group and its parity; nil if the scheme has none
}

func newCode(s Scheme) (*Code, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	c := &Code{Scheme: s}
	if s.M == 0 {
		return c, nil
	}
	// One goroutine: the callers run beside each other, and a unit is too short for a hand-over to pay.
	options := []reedsolomon.Option{reedsolomon.WithMaxGoroutines(1)}
	var err error
	if s.Local > 0 {
		c.group, err = reedsolomon.New(s.K/s.Local, 1, append(options, reedsolomon.WithFastOneParityMatrix())...)
		if err != nil {
			return nil, fmt.Errorf("erasure: %+v: %w", s, err)
		}
		options = append(options, reedsolomon.WithCustomMatrix(localMatrix(s)))
	}
	if c.rs, err = reedsolomon.New(s.K, s.M, options...); err != nil {
		return nil, fmt.Errorf("erasure: %+v: %w", s, err)
	}
	return c, nil
}

// Encode fills the parity units from the data units. All K+M units have the same length.
func (c *Code) Encode(units [][]byte) error {
	if len(units) != c.Width() {
		return fmt.Errorf("erasure: %d units given to a %d+%d code", len(units), c.K, c.M)
	}
	if c.M == 0 {
		return nil
	}
	if err := c.rs.Encode(units); err != nil {
		return fmt.Errorf("erasure: encode: %w", err)
	}
	return nil
}

// Reconstruct rebuilds the units named by want, data or parity, from others: Enough tells of which that is possible. A
// unit is present if its length is not zero. A wanted one is written into its slice's capacity, if that suffices, and set
// to the right length; units that are neither present nor wanted stay as they are.
func (c *Code) Reconstruct(units [][]byte, want []bool) error {
	n := c.Width()
	if len(units) != n || len(want) != n {
		return fmt.Errorf("erasure: %d units and %d marks given to a %d+%d code", len(units), len(want), c.K, c.M)
	}
	if c.M == 0 {
		for i := range units {
			if want[i] && len(units[i]) == 0 {
				return fmt.Errorf("erasure: unit %d is gone and the profile has no parity", i)
			}
		}
		return nil
	}
	decode := c.rs.ReconstructSome
	if c.Local > 0 {
		decode = c.reconstructLocal
	}
	if err := decode(units, want); err != nil {
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
	made map[Scheme]*Code
}

// Get returns the code of a scheme.
func (c *Codes) Get(s Scheme) (*Code, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if code := c.made[s]; code != nil {
		return code, nil
	}
	code, err := newCode(s)
	if err != nil {
		return nil, err
	}
	if c.made == nil || len(c.made) >= maxCodes {
		c.made = make(map[Scheme]*Code)
	}
	c.made[s] = code
	return code, nil
}
