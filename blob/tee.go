package blob

import (
	"context"
	"fmt"
	"io"
)

// teeing passes batches to the put's Tee on a goroutine of its own, so that hashing batch n overlaps with reading batch
// n+1: of all that a put does, MD5 is the slowest.
type teeing struct {
	w       io.Writer // nil: batches are just released
	batches chan *batch
	failed  chan struct{} // closed when w has failed
	ended   chan struct{}
	err     error // valid when failed or ended is closed
}

func startTee(w io.Writer) *teeing {
	t := &teeing{w: w}
	if w == nil {
		return t
	}
	t.batches, t.failed, t.ended = make(chan *batch), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(t.ended)
		for b := range t.batches {
			if t.err == nil {
				t.write(b)
			}
			b.release()
		}
	}()
	return t
}

func (t *teeing) write(b *batch) {
	t.err = b.each(func(p []byte) error {
		_, err := t.w.Write(p)
		return err
	})
	if t.err != nil {
		t.err = fmt.Errorf("hashing the body: %w", t.err)
		close(t.failed)
	}
}

// hand passes a batch on, with the caller's hold on it. It waits until the one before is through.
func (t *teeing) hand(ctx context.Context, b *batch) error {
	if t.w == nil {
		b.release()
		return nil
	}
	select {
	case <-t.failed:
		b.release()
		return t.err
	case <-ctx.Done():
		b.release()
		return ctx.Err()
	case t.batches <- b:
		return nil
	}
}

// stop waits for the last batch and returns the writer's error.
func (t *teeing) stop() error {
	if t.w == nil {
		return nil
	}
	close(t.batches)
	<-t.ended
	return t.err
}
