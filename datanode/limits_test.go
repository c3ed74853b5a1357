package datanode

import (
	"context"
	"errors"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// A segment is not recycled while someone reads from it, though all in it is dead.
func TestReadersKeepTheirSegment(t *testing.T) {
	w := newWorld(t)
	defer func() { w.close(false) }()
	if err := errors.Join(w.open(nil), w.append(1, 1, 200_000)); err != nil {
		t.Fatal(err)
	}
	l, err := w.store.locate(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	generation := l.segment.generation
	if err := errors.Join(w.delete(1), w.append(2, 1, 450_000), w.tidy(), w.tidy()); err != nil {
		t.Fatal(err)
	}
	if l.segment.generation != generation {
		t.Error("recycled under a reader")
	}
	l.release()
	if err := errors.Join(w.tidy(), w.tidy()); err != nil {
		t.Fatal(err)
	}
	if l.segment.generation == generation {
		t.Error("never recycled")
	}
}

// slowWrites returns a fault that holds writes to segments until the channel is closed.
func slowWrites(gate chan struct{}) vfs.Fault {
	return func(op vfs.Op) error {
		if op.Kind == vfs.OpWrite && op.Off >= pageSize {
			<-gate
		}
		return nil
	}
}

// I9: what waits for a slow disk is bounded; the rest is turned away, and a stream that lost a piece is never committed.
func TestOverload(t *testing.T) {
	w := newWorld(t)
	w.cfg.QueueBytes, w.cfg.QueueOps, w.cfg.MaxStreams, w.cfg.SegmentBytes = 300_000, 20, 2, 4<<20
	gate := make(chan struct{})
	if err := w.open(slowWrites(gate)); err != nil {
		t.Fatal(err)
	}
	defer w.close(false)
	ctx := context.Background()
	lost, err := w.store.create(ctx, testHeader(testKey(1)), 10*blockSize)
	if err != nil {
		t.Fatal(err)
	}
	pieces := make(chan error, 10)
	for range 10 {
		lost.Write(make([]byte, blockSize), func(err error) { pieces <- err })
	}
	committed := make(chan error, 1)
	lost.Commit(func(err error) { committed <- err })
	if _, err := w.store.create(ctx, testHeader(testKey(2)), 10); err != nil {
		t.Error("second stream:", err)
	}
	if _, err := w.store.create(ctx, testHeader(testKey(3)), 10); !errors.Is(err, cairn.ErrOverloaded) {
		t.Errorf("third stream: got %v, want overloaded", err)
	}
	const appends = 100
	results := make(chan error, appends)
	for i := range appends {
		w.store.append(ctx, testHeader(testKey(100+i)), make([]byte, 100), func(err error) { results <- err })
	}
	time.Sleep(10 * time.Millisecond)
	close(gate)
	refused, done := count(t, results, appends)
	if refused < appends/2 || done == 0 {
		t.Errorf("appends: %d refused, %d done", refused, done)
	}
	if refused, done := count(t, pieces, 10); refused == 0 || done == 0 {
		t.Errorf("pieces: %d refused, %d done", refused, done)
	}
	if err := <-committed; !errors.Is(err, cairn.ErrOverloaded) {
		t.Errorf("commit without all pieces: got %v, want overloaded", err)
	}
	if _, err := w.store.stat(testKey(1)); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a shard without all its pieces: got %v, want not found", err)
	}
}

func count(t *testing.T, results chan error, n int) (refused, done int) {
	for range n {
		switch err := <-results; {
		case err == nil:
			done++
		case errors.Is(err, cairn.ErrOverloaded):
			refused++
		default:
			t.Errorf("got %v", err)
		}
	}
	return refused, done
}

func TestReadsAreBounded(t *testing.T) {
	cfg := testConfig()
	cfg.Reads, cfg.ReadQueue, cfg.Background = 1, 1, 1
	l := newLimits(cfg)
	ctx := context.Background()
	first, err := l.acquire(ctx)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		second, err := l.acquire(ctx)
		if err == nil {
			second.end()
		}
		waiting <- err
	}()
	for l.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := l.acquire(ctx); !errors.Is(err, cairn.ErrOverloaded) {
		t.Errorf("third read: got %v, want overloaded", err)
	}
	background, err := l.acquire(cairn.Background(ctx)) // has a turn of its own
	if err != nil {
		t.Error("background:", err)
	}
	if took := l.longest(time.Now().Add(time.Minute)); took < time.Minute {
		t.Errorf("longest: got %v, want a minute or more", took)
	}
	background.end()
	first.end()
	if err := <-waiting; err != nil {
		t.Error("second read:", err)
	}
	if took := l.longest(time.Now()); took != 0 {
		t.Errorf("longest of none: got %v", took)
	}
}
