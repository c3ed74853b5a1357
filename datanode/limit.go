package datanode

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"cairn"
)

// limits bounds what one drive does at once, and times it: the watchdog looks for an operation that began too long ago.
type limits struct {
	reads      chan int // free numbers of foreground reads
	background chan int // free numbers of background operations
	waiting    atomic.Int64
	maxWaiting int64
	started    []atomic.Int64 // Unix ns at which the operation of a number began, 0 for none
	firstRead  int
	firstBG    int

	pace    *throttle // of background work
	clients clients
}

// The numbers of writes: the committer is 0, piece writers follow, then the janitor and the monitor's probe.
func newLimits(cfg Config) *limits {
	writers := 1 + cfg.StreamWriters + 2
	l := &limits{reads: make(chan int, cfg.Reads), background: make(chan int, cfg.Background),
		maxWaiting: int64(cfg.ReadQueue), started: make([]atomic.Int64, writers+cfg.Reads+cfg.Background),
		firstRead: writers, firstBG: writers + cfg.Reads, pace: newThrottle(cairn.DefaultThrottle().Drive, nil)}
	for i := range cfg.Reads {
		l.reads <- l.firstRead + i
	}
	for i := range cfg.Background {
		l.background <- l.firstBG + i
	}
	return l
}

func (c Config) janitorNumber() int { return 1 + c.StreamWriters }
func (c Config) probeNumber() int   { return 2 + c.StreamWriters }

// watch is an operation under way.
type watch struct {
	l      *limits
	number int
	back   chan int
}

func (l *limits) watchWrite(number int) watch {
	l.started[number].Store(time.Now().UnixNano())
	return watch{l: l, number: number}
}

func (w watch) end() {
	w.l.started[w.number].Store(0)
	if w.back != nil {
		w.back <- w.number
	}
}

// acquire waits for a turn to read. Background work waits as long as ctx allows; foreground work is turned away with
// ErrOverloaded when too many wait.
func (l *limits) acquire(ctx context.Context) (watch, error) {
	from := l.reads
	background := cairn.IsBackground(ctx)
	if background {
		from = l.background
	}
	var number int
	select {
	case number = <-from:
	default:
		if !background {
			if l.waiting.Add(1) > l.maxWaiting {
				l.waiting.Add(-1)
				return watch{}, fmt.Errorf("%d reads wait: %w", l.maxWaiting, cairn.ErrOverloaded)
			}
			defer l.waiting.Add(-1)
		}
		select {
		case number = <-from:
		case <-ctx.Done():
			return watch{}, ctx.Err()
		}
	}
	l.started[number].Store(time.Now().UnixNano())
	return watch{l: l, number: number, back: from}, nil
}

// clientsOf is what measures an operation; nil for background work, which is not measured.
func (l *limits) clientsOf(ctx context.Context) *clients {
	if cairn.IsBackground(ctx) {
		return nil
	}
	return &l.clients
}

// longest tells for how long the oldest operation has been under way.
func (l *limits) longest(now time.Time) time.Duration {
	var oldest time.Duration
	for i := range l.started {
		if at := l.started[i].Load(); at != 0 {
			oldest = max(oldest, now.Sub(time.Unix(0, at)))
		}
	}
	return oldest
}
