package replica

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
)

// Reads of a voter that cannot be confirmed in memory, since a majority lives elsewhere, go through ReadIndex: the leader
// says how far the log is committed, after a round of heartbeats that starts later than the read. One round serves all
// readers that wait for it.

// readRounds is main's own.
type readRounds struct {
	waiting []chan uint64
	flying  []readRound // oldest first
	seq     uint64
}

type readRound struct {
	seq     uint64
	ticks   int
	readers []chan uint64
}

const (
	maxRounds    = 4 // under way; later readers gather for the next one
	roundPatient = 3 // ticks until a round's messages count as lost
)

// waitApplied is a reader that knows its index and waits for the state to hold it.
type waitApplied struct {
	index uint64
	ready chan uint64
}

// startReads begins a round for those who wait, if there is room.
func (v *voter) startReads() {
	r := &v.rounds
	if len(r.waiting) == 0 || len(r.flying) >= maxRounds {
		return
	}
	r.seq++
	r.flying = append(r.flying, readRound{seq: r.seq, readers: r.waiting})
	r.waiting = nil
	v.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, r.seq))
}

// ageReads asks anew for rounds whose messages were lost, by a change of leader or by the network.
func (v *voter) ageReads() {
	r := &v.rounds
	keep := r.flying[:0]
	for _, f := range r.flying {
		if f.ticks++; f.ticks >= roundPatient {
			r.waiting = append(r.waiting, f.readers...)
		} else {
			keep = append(keep, f)
		}
	}
	r.flying = keep
}

// endReads hands the readers of a round on to the applier.
func (v *voter) endReads(states []raft.ReadState) {
	r := &v.rounds
	for _, st := range states {
		if len(st.RequestCtx) != 8 {
			continue
		}
		seq := binary.BigEndian.Uint64(st.RequestCtx)
		keep := r.flying[:0]
		for _, f := range r.flying {
			if f.seq == seq {
				for _, ready := range f.readers {
					v.awaitApplied(st.Index, ready)
				}
			} else {
				keep = append(keep, f)
			}
		}
		r.flying = keep
	}
}

// awaitApplied sends on ready, which has room, once the state holds index.
func (v *voter) awaitApplied(index uint64, ready chan uint64) {
	v.pendMu.Lock()
	defer v.pendMu.Unlock()
	if at := v.applied.Load(); at >= index {
		ready <- at
		return
	}
	v.behind = append(v.behind, waitApplied{index, ready})
}

// releaseReads is the applier's: it answers those whose index the state now holds. pendMu is held.
func (v *voter) releaseReads(at uint64) {
	keep := v.behind[:0]
	for _, w := range v.behind {
		if w.index <= at {
			w.ready <- at
		} else {
			keep = append(keep, w)
		}
	}
	v.behind = keep
}

// readIndex waits until the state holds all that was acknowledged before the call. It gives up after patience.
func (v *voter) readIndex(ctx context.Context, patience time.Duration) error {
	ready := make(chan uint64, 1)
	return v.awaitRead(ctx, ready, patience, event{read: ready})
}

// reach waits until the state holds index.
func (v *voter) reach(ctx context.Context, index uint64, patience time.Duration) error {
	if v.applied.Load() >= index {
		return nil
	}
	ready := make(chan uint64, 1)
	return v.awaitRead(ctx, ready, patience, event{do: func(*raft.RawNode) { v.awaitApplied(index, ready) }})
}

func (v *voter) awaitRead(ctx context.Context, ready chan uint64, patience time.Duration, e event) error {
	if !v.in.put(e) {
		return errClosed
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-ready:
		return nil
	case <-v.stopped:
		return errClosed
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ctx.Err(), cairn.ErrCanceled)
	case <-t.C:
		return fmt.Errorf("no majority confirms a read for %v: %w: %w", patience, cairn.ErrQuorum, cairn.ErrUnavailable)
	}
}
