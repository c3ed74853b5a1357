package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"cairn/mount/cache"
)

const (
	pieceBytes   = 1 << 20 // a fetch tells its waiters after each piece of this size, at the latest
	stallTimeout = 15 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// run fetches one chunk, hands it to the cache, and tells those who wait.
func (f *fetcher) run(fl *flight) {
	err := f.fetch(fl)
	if err == nil {
		f.counts.fetches.Add(1)
		fl.src.keep(fl.chunk, fl.buf)
	} else {
		f.counts.failures.Add(1)
		if f.ctx.Err() == nil {
			f.log.Warn("fetch failed", "key", fl.src.object.Key, "chunk", fl.chunk, "err", err)
		}
	}
	fl.end(err)
	f.mu.Lock()
	if fl.planned {
		f.ahead--
	}
	f.settle(fl)
	f.pump()
	f.mu.Unlock()
	fl.src.drop()
}

// fetch fills the flight's buffer, going on where a broken transfer ended, until patience ends.
func (f *fetcher) fetch(fl *flight) error {
	p := newPatience(f.patience)
	for fl.have < fl.size {
		before := fl.have
		err := f.transfer(fl)
		if err == nil {
			continue
		}
		if fl.have > before {
			p.progress()
		}
		p.tell(f.log, err, "key", fl.src.object.Key, "chunk", fl.chunk)
		if err := p.after(f.ctx, err); err != nil {
			return err
		}
		f.counts.retries.Add(1)
	}
	return nil
}

const peersAsked = 2 // for one chunk: the home, and the one who is home if that fails

// fromPeers tries to get the next stretch from the mount that is the chunk's home.
func (f *fetcher) fromPeers(fl *flight) bool {
	for range peersAsked {
		home := f.peers.home(fl)
		if home == "" {
			return false
		}
		off, n := fl.lacking()
		err := f.peers.get(f.ctx, home, fl, off, n)
		f.peers.left()
		if err == nil || f.ctx.Err() != nil {
			return err == nil
		}
	}
	return false
}

// transfer makes one request for the next stretch that the flight lacks. Only run's goroutine changes have.
func (f *fetcher) transfer(fl *flight) error {
	off, n := fl.lacking()
	if f.peers != nil && !fl.alone {
		if f.fromPeers(fl) {
			return nil
		}
		fl.alone = true // the store has the rest
		off, n = fl.lacking()
	}
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	stalled := time.AfterFunc(stallTimeout, cancel)
	defer stalled.Stop()
	body, err := f.store.Read(ctx, fl.src.object, int64(fl.chunk)*cache.ChunkBytes+int64(off), int64(n))
	if err != nil {
		return err
	}
	defer body.Close()
	for n > 0 {
		stalled.Reset(stallTimeout)
		got, err := body.Read(fl.buf[off : off+min(n, pieceBytes)])
		fl.arrived(got)
		f.counts.fromStore.Add(int64(got))
		off, n = off+got, n-got
		if err != nil && n > 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// definite tells that the same question would get the same answer.
func definite(err error) bool {
	return errors.Is(err, ErrChanged) || errors.Is(err, ErrAbsent) || errors.Is(err, ErrRefused) || errors.Is(err, ErrUnfit)
}

// patience is how long something that depends on the store is tried again.
type patience struct {
	all   time.Duration
	until time.Time
	pause time.Duration
	told  bool
}

func newPatience(all time.Duration) *patience {
	return &patience{all: all, until: time.Now().Add(all), pause: firstPause}
}

// progress tells that the attempt that failed had brought something.
func (p *patience) progress() { p.pause = firstPause }

// tell says in the log, once, that something did not work at first.
func (p *patience) tell(log *slog.Logger, err error, what ...any) {
	if p.told || definite(err) {
		return
	}
	p.told = true
	log.Info("the store is asked again", append(what, "err", err)...)
}

// after waits before the next attempt. It returns the error if there shall be none.
func (p *patience) after(ctx context.Context, err error) error {
	if definite(err) || ctx.Err() != nil {
		return err
	}
	if time.Now().Add(p.pause).After(p.until) {
		return fmt.Errorf("given up after %v: %w", p.all, err)
	}
	select {
	case <-time.After(p.pause):
	case <-ctx.Done():
		return ctx.Err()
	}
	p.pause = min(2*p.pause, longestPause)
	return nil
}
