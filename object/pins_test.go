package object

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
)

func TestPins(t *testing.T) {
	p := newPins()
	a, b := cairn.BlobRef{Volume: 1, Blob: 1, Length: 5}, cairn.BlobRef{Volume: 1, Blob: 2, Length: 5}
	p.pin([]cairn.BlobRef{a, b})
	p.pin([]cairn.BlobRef{a})
	p.unpin([]cairn.BlobRef{a, b})
	if !p.pinned(a) || p.pinned(b) || p.count() != 1 {
		t.Errorf("after one of two readers: a %t, b %t, count %d; want true, false, 1", p.pinned(a), p.pinned(b), p.count())
	}
	p.unpin([]cairn.BlobRef{a})
	if p.pinned(a) || p.count() != 0 {
		t.Errorf("after both: pinned %t, count %d; want false, 0", p.pinned(a), p.count())
	}
}

// A barrier waits for the look-ups that began before it, and for no others.
func TestBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPins()
		before := p.enter()
		done := make(chan error, 1)
		go func() { done <- p.barrier(t.Context()) }()
		time.Sleep(10 * time.Millisecond)
		after := p.enter()
		select {
		case <-done:
			t.Fatal("the barrier did not wait for a look-up that began before it")
		default:
		}
		p.leave(before)
		// The barrier's second half waits for after as well: it began while the first half waited. One more may not hold it.
		time.Sleep(10 * time.Millisecond)
		p.leave(after)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A barrier that was given up leaves nothing behind that the next one would overlook.
func TestBarrierAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPins()
		phase := p.enter()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := p.barrier(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v, want a timeout", err)
		}
		done := make(chan error, 1)
		go func() { done <- p.barrier(t.Context()) }()
		time.Sleep(20 * time.Millisecond)
		select {
		case <-done:
			t.Fatal("the second barrier overlooked a look-up that the first had waited for")
		default:
		}
		p.leave(phase)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Under constant look-ups, every barrier ends, and what was published before a barrier is seen by all that enter after it.
func TestBarrierUnderLoad(t *testing.T) {
	p := newPins()
	ctx, cancel := context.WithCancel(t.Context())
	var released sync.Map // generation → true, once released
	var current int
	var mu sync.Mutex
	held := make(map[int]int) // generation → look-ups that saw it and have not left
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				phase := p.enter()
				mu.Lock()
				seen := current
				held[seen]++
				mu.Unlock()
				if _, gone := released.Load(seen); gone {
					t.Error("a look-up saw what a barrier had declared unseen")
				}
				mu.Lock()
				held[seen]--
				mu.Unlock()
				p.leave(phase)
			}
		})
	}
	for range 200 {
		mu.Lock()
		old := current
		current++
		mu.Unlock()
		if err := p.barrier(ctx); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if held[old] != 0 {
			t.Errorf("%d look-ups still hold what the barrier waited for", held[old])
		}
		mu.Unlock()
		released.Store(old, true)
	}
	cancel()
	wg.Wait()
}
