package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"cairn"
)

const (
	probeFresh = time.Second // a probe's answer is good for this long
	probeBytes = 4 << 10
	probeRow   = "server/probe"
)

// probe finds out whether a client's write would succeed, by making one: a small blob through volumes, drives and the
// write quorum, and a row through the metadata voters. The blob is discarded at once, since nothing refers to it.
type probe struct {
	parts   *parts
	timeout time.Duration
	first   func() error // called after successes, until it returns nil once

	turn chan struct{} // whoever holds it probes; the others wait and share the answer

	mu      sync.Mutex
	at      time.Time // of the last answer
	err     error
	stopped bool
}

var errStopping = fmt.Errorf("the process is stopping: %w", cairn.ErrUnavailable)

func newProbe(p *parts, timeout time.Duration, first func() error) *probe {
	return &probe{parts: p, timeout: timeout, first: first, turn: make(chan struct{}, 1)}
}

// ready returns nil if a write has succeeded within the last second, or succeeds now.
func (p *probe) ready(ctx context.Context) error {
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return fmt.Errorf("the last probe has not ended: %w", errors.Join(cairn.ErrUnavailable, ctx.Err()))
	}
	p.mu.Lock()
	at, err, stopped := p.at, p.err, p.stopped
	p.mu.Unlock()
	if stopped {
		return errStopping
	}
	if time.Since(at) < probeFresh {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	err = p.write(ctx)
	if err == nil && p.first != nil {
		if err = p.first(); err == nil {
			p.first = nil // guarded by turn
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.err = time.Now(), err
	return err
}

// write is one write like a client's.
func (p *probe) write(ctx context.Context) error {
	body := make([]byte, probeBytes)
	blobs, err := p.parts.blobs.Put(ctx, cairn.BlobPut{
		Profile: p.parts.profile, Owner: cairn.Owner{Key: probeRow}, Size: probeBytes, Body: bytes.NewReader(body),
	})
	if err != nil {
		return err
	}
	p.parts.blobs.Discard(ctx, blobs)
	return p.parts.meta.PutConfig(ctx, probeRow, []byte(time.Now().UTC().Format(time.RFC3339Nano)))
}

// stop makes all further answers "not ready".
func (p *probe) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}
