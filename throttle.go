package cairn

import (
	"context"
	"fmt"
)

// Band bounds a rate in bytes per second: background work may always go at the floor, and never above the ceiling.
type Band struct {
	Floor   int64 `json:"floor"`
	Ceiling int64 `json:"ceiling"`
}

// Throttle bounds the bytes that background work (repair, scrub, drain, rebalance, compaction) reads and writes: on each
// drive, and on all drives of a node together. Between floor and ceiling data nodes give way to clients.
type Throttle struct {
	Drive Band `json:"drive"`
	Node  Band `json:"node"`
}

// The limits of a Throttle in bytes per second. At the least floor, a drive of 10 TB takes four months to rebuild.
const (
	MinThrottle = 1 << 20
	MaxThrottle = 64 << 30
)

// DefaultThrottle lets idle machines repair as fast as they can, and busy ones give way to clients.
func DefaultThrottle() Throttle {
	return Throttle{Drive: Band{Floor: 8 << 20, Ceiling: 2 << 30}, Node: Band{Floor: 32 << 20, Ceiling: 8 << 30}}
}

// Validate refuses what is beyond the limits, and says what to do instead.
func (t Throttle) Validate() error {
	for _, b := range []struct {
		of string
		Band
	}{{"drive", t.Drive}, {"node", t.Node}} {
		why := ""
		switch {
		case b.Floor < MinThrottle:
			why = fmt.Sprintf("a floor of %d bytes per second is too little: want %d (1 MiB) or more; to stop repair altogether, pause its job", b.Floor, MinThrottle)
		case b.Ceiling > MaxThrottle:
			why = fmt.Sprintf("a ceiling of %d bytes per second is beyond any machine: want %d (64 GiB) at most", b.Ceiling, int64(MaxThrottle))
		case b.Ceiling < b.Floor:
			why = fmt.Sprintf("the ceiling of %d bytes per second is below the floor of %d: lower the floor too, or raise the ceiling", b.Ceiling, b.Floor)
		}
		if why != "" {
			return &Error{Op: "throttle", Subject: b.of, Err: fmt.Errorf("%s: %w", why, ErrInvalid)}
		}
	}
	return nil
}

// Pace is how fast background work may go and goes, on a drive or a node.
type Pace struct {
	Band
	Now   int64 `json:"now"`   // bytes per second that are allowed
	Moved int64 `json:"moved"` // bytes per second that were read and written, over the last seconds
	// Slowdown is how long clients' operations take, beside what they take undisturbed (1); 0: there were none.
	Slowdown float64 `json:"slowdown"`
	Why      string  `json:"why"` // Now is not something else
}

type urgentKey struct{}

// Urgent marks background work that does not give way to clients, but keeps to the ceiling: blobs that the next loss would
// take.
func Urgent(ctx context.Context) context.Context {
	return context.WithValue(Background(ctx), urgentKey{}, true)
}

// IsUrgent tells whether ctx was marked by Urgent.
func IsUrgent(ctx context.Context) bool { return ctx.Value(urgentKey{}) != nil }
