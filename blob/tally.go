package blob

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"cairn"
)

// tally counts how far each slot of one blob has come, and decides when a put may go on without the slow ones. A step is
// one piece written or the shard made durable; steps arrive from any goroutine.
type tally struct {
	need int // slots that must come along: the write quorum

	mu       sync.Mutex
	slots    []slotTally
	target   int       // the step that wait waits for
	quorumAt time.Time // when need slots had reached target
	halfAt   time.Time // when half of the slots had
	wake     chan struct{}
}

type slotTally struct {
	steps int
	err   error // why the slot is out; errLeftOut and errStraggler among them
}

func newTally(p cairn.Profile) *tally {
	return &tally{need: p.WriteQuorum(), slots: make([]slotTally, p.Width()), wake: make(chan struct{}, 1)}
}

// step records that a slot has done one more step, or has failed. It reports whether the slot had been given up before.
func (t *tally) step(slot int, err error) (late bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &t.slots[slot]
	switch {
	case s.err != nil:
		return true
	case err != nil:
		s.err = err
	default:
		s.steps++
	}
	t.note()
	return false
}

// note marks the times at which half and quorum were reached, and wakes the waiter if its wait is over.
func (t *tally) note() {
	live, reached := t.count()
	if t.halfAt.IsZero() && 2*reached >= len(t.slots) {
		t.halfAt = time.Now()
	}
	if t.quorumAt.IsZero() && reached >= t.need {
		t.quorumAt = time.Now()
	}
	if reached == live || live < t.need {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// count returns how many slots are in, and how many of these have reached the target.
func (t *tally) count() (live, reached int) {
	for i := range t.slots {
		if t.slots[i].err != nil {
			continue
		}
		live++
		if t.slots[i].steps >= t.target {
			reached++
		}
	}
	return live, reached
}

// out tells why a slot is out, nil while it is in.
func (t *tally) out(slot int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.slots[slot].err
}

// patience bounds a wait.
type patience struct {
	straggler time.Duration // after the quorum
	stall     time.Duration // for the quorum, while less than half has come
}

// quorumPatience times the stragglers' deadline is how long a put waits for its quorum once half of the slots have come.
const quorumPatience = 2

// wait returns when every slot that is in has done target steps, giving up stragglers that the quorum has waited for long
// enough; gaveUp is told which. It fails when the quorum is out of reach or did not get there in time.
func (t *tally) wait(ctx context.Context, target int, p patience, gaveUp func(slot int)) error {
	start := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.target, t.quorumAt, t.halfAt = target, time.Time{}, time.Time{}
	t.note()
	var timer *time.Timer
	for {
		now := time.Now()
		live, reached := t.count()
		if live < t.need {
			return t.failure()
		}
		if reached == live {
			return nil
		}
		limit := start.Add(p.stall)
		if !t.halfAt.IsZero() {
			// Half of the drives show what a write takes now: two that hang must not hold a client as long as a store that is slow.
			limit = earlier(limit, t.halfAt.Add(max(quorumPatience*p.straggler, 10*t.halfAt.Sub(start))))
		}
		if reached >= t.need {
			limit = t.quorumAt.Add(max(p.straggler, 10*t.halfAt.Sub(start)))
			if !now.Before(limit) {
				t.giveUp(gaveUp)
				return nil
			}
		} else if !now.Before(limit) {
			t.giveUp(gaveUp)
			return t.failure()
		} else {
			// Reaching the quorum wakes nobody: look again when its deadline can be over at the earliest.
			limit = earlier(limit, now.Add(max(p.straggler, time.Millisecond)))
		}
		if timer == nil {
			timer = time.NewTimer(limit.Sub(now))
			defer timer.Stop()
		} else {
			timer.Reset(limit.Sub(now))
		}
		t.mu.Unlock()
		select {
		case <-t.wake:
		case <-timer.C:
		case <-ctx.Done():
		}
		t.mu.Lock()
		if err := ctx.Err(); err != nil {
			return err // the drives are not to blame: nobody is given up
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// giveUp takes the slots that have not reached the target out.
func (t *tally) giveUp(gaveUp func(slot int)) {
	for i := range t.slots {
		if t.slots[i].err == nil && t.slots[i].steps < t.target {
			t.slots[i].err = errStraggler
			gaveUp(i)
		}
	}
}

// skipped lists the slots that are out.
func (t *tally) skipped() []uint8 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []uint8
	for i := range t.slots {
		if t.slots[i].err != nil {
			out = append(out, uint8(i))
		}
	}
	return out
}

var (
	errLeftOut   = fmt.Errorf("drive takes no writes: %w", cairn.ErrUnavailable)
	errStraggler = fmt.Errorf("drive did not answer in time: %w", cairn.ErrUnavailable)
)

// failure says why there is no quorum. A kind that all failures share, or that tells the client to come back, is passed on.
func (t *tally) failure() error {
	var in int
	var causes []error
	for i := range t.slots {
		switch err := t.slots[i].err; {
		case err != nil:
			causes = append(causes, err)
		case t.slots[i].steps >= t.target:
			in++
		}
	}
	kind := cairn.ErrQuorum
	for _, k := range []error{cairn.ErrStaleEpoch, cairn.ErrOverloaded, cairn.ErrFull} {
		if slices.ContainsFunc(causes, func(err error) bool { return cairn.Kind(err) == k }) {
			kind = k
			break
		}
	}
	return fmt.Errorf("%d of %d shards written, %d needed (first failure: %v): %w", in, len(t.slots), t.need, first(causes), kind)
}

func first(errs []error) error {
	if len(errs) == 0 {
		return errStraggler
	}
	return errs[0]
}
