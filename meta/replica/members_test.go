package replica

import "testing"

// A learner that could not catch up must never be given a vote: the end of the change might wait for it for good.
func TestCaughtUp(t *testing.T) {
	for _, c := range []struct {
		name               string
		match, first, last uint64
		want               bool
	}{
		{"never heard from, in a young group", 0, 1, 20, false},
		{"up to date", 20, 5, 20, true},
		{"a little behind", 10, 5, 20, true},
		{"at the edge of the leader's log", 4, 5, 20, true},
		{"behind the leader's log", 3, 5, 20, false},
		{"far behind", 100, 1, 100 + maxLag + 1, false},
	} {
		r := &roster{first: c.first, last: c.last, tidings: &tidings{Match: map[uint64]uint64{7: c.match}}}
		if got := r.caughtUp(7); got != c.want {
			t.Errorf("%s: caughtUp = %v, want %v", c.name, got, c.want)
		}
	}
}
