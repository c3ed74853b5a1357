package replica

import "sync"

// queue hands what many goroutines put to one that takes all of it at once. What goes in is bounded by its users: Raft's
// in-flight limits for messages, Config.QueueBytes for proposals.
type queue[T any] struct {
	mu     sync.Mutex
	items  []T
	closed bool
	wake   chan struct{}
}

func newQueue[T any]() *queue[T] { return &queue[T]{wake: make(chan struct{}, 1)} }

// put appends an item; false when the queue is closed.
func (q *queue[T]) put(items ...T) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.items = append(q.items, items...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// take waits for items and returns all; nil when the queue is closed. spare is reused for the next ones.
func (q *queue[T]) take(spare []T) []T {
	for {
		q.mu.Lock()
		if q.closed {
			q.mu.Unlock()
			return nil
		}
		if len(q.items) > 0 {
			items := q.items
			clear(spare[:cap(spare)])
			q.items = spare[:0]
			q.mu.Unlock()
			return items
		}
		q.mu.Unlock()
		<-q.wake
	}
}

// close ends take, and returns what was not taken.
func (q *queue[T]) close() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	items := q.items
	q.items, q.closed = nil, true
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return items
}
