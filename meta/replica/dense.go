package replica

import (
	"bytes"
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// A deleted key stays in Pebble as a tombstone until a compaction happens to pass by, and every walk steps over it: after
// many deletions in a row the first page of a listing takes ten times as long. So a walk that stepped over far more than
// it showed asks for a compaction of just the keys that it passed.

// span is a range of keys, [from, to).
type span struct{ from, to []byte }

const (
	// denseSteps is how many steps a walk may make for nothing, beside one for each key that it shows.
	denseSteps = 1000
	// densePause is the least time between two such compactions of a voter: what a long-lived reader keeps from being
	// dropped must not be compacted over and over.
	densePause = time.Second
)

// passed looks at what a walk cost. It does not block: one wish for a compaction is kept, further ones are dropped, since a
// later walk has them again.
func (v *voter) passed(it *pebble.Iterator, from, to []byte) {
	stats := it.Stats()
	shown, made := stats.ForwardStepCount[pebble.InterfaceCall], stats.ForwardStepCount[pebble.InternalIterCall]
	if made-shown <= shown+denseSteps {
		return
	}
	if it.Valid() {
		to = it.Key()
	}
	if bytes.Compare(from, to) >= 0 {
		return
	}
	select {
	case v.dense <- span{bytes.Clone(from), bytes.Clone(to)}:
	default:
	}
}

// thinner compacts what walks found dense with tombstones.
func (v *voter) thinner() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case s := <-v.dense:
			if err := v.thin(ctx, cancel, s); err != nil {
				return err
			}
		case <-v.stopped:
			return nil
		}
		pause := time.NewTimer(densePause)
		select {
		case <-pause.C:
		case <-v.stopped:
			pause.Stop()
			return nil
		}
	}
}

// thin compacts one span, and gives up when the voter stops.
func (v *voter) thin(ctx context.Context, cancel func(), s span) error {
	done := make(chan error, 1)
	go func() { done <- v.st.fuse.run(func() error { return v.st.db.Compact(ctx, s.from, s.to, false) }) }()
	select {
	case err := <-done:
		return err
	case <-v.stopped:
		cancel()
		<-done
		return nil
	}
}
