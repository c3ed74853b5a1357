package replica

import (
	"context"
	"sync"
)

// guests counts the streams of other nodes that are being served, so that Close can end them and wait.
type guests struct {
	ctx  context.Context
	stop context.CancelFunc

	mu sync.Mutex
	wg sync.WaitGroup
}

func newGuests() *guests {
	q := &guests{}
	q.ctx, q.stop = context.WithCancel(context.Background()) // ended by close
	return q
}

// enter admits a stream; false after close.
func (q *guests) enter() (done func(), ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ctx.Err() != nil {
		return nil, false
	}
	q.wg.Add(1)
	return q.wg.Done, true
}

func (q *guests) close() {
	q.mu.Lock()
	q.stop()
	q.mu.Unlock()
	q.wg.Wait()
}
