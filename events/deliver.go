package events

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"cairn"
)

const (
	// page is how many events of one target are taken from the queue at a time.
	page = 64
	// lanes is how many of them are under way at once. Events of one key share a lane, in order.
	lanes           = 8
	dialTimeout     = 5 * time.Second
	deliveryTimeout = 15 * time.Second
	leastBackoff    = time.Second
	mostBackoff     = time.Minute
)

// Queue keeps events until they are delivered. *meta.Store is one.
type Queue interface {
	EventTargets(ctx context.Context) ([]Target, error)
	// QueuedEvents returns a target's oldest events.
	QueuedEvents(ctx context.Context, target string, max int) ([]Queued, error)
	// DoneEvents takes delivered events out of a target's queue.
	DoneEvents(ctx context.Context, target string, done []Queued) error
	// SetTargetTrouble notes why a target does not get its events, "" when it does again.
	SetTargetTrouble(ctx context.Context, target, why string) error
}

// DelivererConfig is what NewDeliverer needs. Queue is required.
type DelivererConfig struct {
	Queue  Queue
	Region string        // in records; default us-east-1
	Every  time.Duration // how often an empty queue is looked at; default 500 ms
	Logger *slog.Logger  // default: none
}

// Deliverer sends queued events to their targets. One process of a cluster runs it; were it two for a moment, events would be
// delivered twice.
type Deliverer struct{ cfg DelivererConfig }

// NewDeliverer returns a deliverer.
func NewDeliverer(cfg DelivererConfig) (*Deliverer, error) {
	if cfg.Queue == nil || cfg.Every < 0 {
		return nil, &cairn.Error{Op: "events.new", Err: fmt.Errorf("no queue, or a negative interval: %w", cairn.ErrInvalid)}
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Deliverer{cfg: cfg}, nil
}

// worker delivers to one target.
type worker struct {
	target Target
	stop   context.CancelFunc
}

// Run delivers until ctx ends: one worker for each target, started and stopped as targets come and go, so that one that does not
// answer holds up no other.
func (d *Deliverer) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	workers := map[string]worker{}
	for {
		targets, err := d.cfg.Queue.EventTargets(ctx)
		if err == nil {
			d.follow(ctx, &wg, workers, targets)
		}
		if !sleep(ctx, max(d.cfg.Every, 10*time.Millisecond)) {
			return nil
		}
	}
}

// follow makes the workers those of the targets.
func (d *Deliverer) follow(ctx context.Context, wg *sync.WaitGroup, workers map[string]worker, targets []Target) {
	want := make(map[string]Target, len(targets))
	for _, t := range targets {
		want[t.Name] = t
	}
	for name, w := range workers {
		if want[name] != w.target {
			w.stop()
			delete(workers, name)
		}
	}
	for name, t := range want {
		if _, runs := workers[name]; runs {
			continue
		}
		wctx, stop := context.WithCancel(ctx)
		workers[name] = worker{t, stop}
		wg.Go(func() { d.serve(wctx, t) })
	}
}

// serve delivers to one target, more slowly while it fails.
func (d *Deliverer) serve(ctx context.Context, t Target) {
	client := newClient(t.Private)
	defer client.CloseIdleConnections()
	backoff, told, first := time.Duration(0), "", true // what an earlier worker has noted is not known
	for {
		n, err := d.pass(ctx, client, &t)
		if ctx.Err() != nil {
			return
		}
		why := ""
		if err != nil {
			why = err.Error()
			backoff = min(max(2*backoff, leastBackoff), mostBackoff)
		} else {
			backoff = 0
		}
		if (first || (why == "") != (told == "")) && (n > 0 || err != nil) && d.cfg.Queue.SetTargetTrouble(ctx, t.Name, why) == nil {
			d.cfg.Logger.Info("event target", "target", t.Name, "trouble", why)
			told, first = why, false
		}
		switch {
		case err != nil:
			if !sleep(ctx, backoff/2+rand.N(backoff/2)) {
				return
			}
		case n == 0:
			if !sleep(ctx, max(d.cfg.Every, 10*time.Millisecond)) {
				return
			}
		}
	}
}

var laneSeed = maphash.MakeSeed()

// pass delivers a page of events and takes those that arrived out of the queue. A lane ends at its first failure, so that a later
// event of a key does not go before an earlier one.
func (d *Deliverer) pass(ctx context.Context, client *http.Client, t *Target) (delivered int, err error) {
	queued, err := d.cfg.Queue.QueuedEvents(ctx, t.Name, page)
	if err != nil || len(queued) == 0 {
		return 0, err
	}
	var split [lanes][]Queued
	for _, q := range queued {
		at := maphash.String(laneSeed, q.Event.Bucket+"/"+q.Event.Key) % lanes
		split[at] = append(split[at], q)
	}
	var mu sync.Mutex
	var done []Queued
	var failed error
	var wg sync.WaitGroup
	for _, lane := range split {
		if len(lane) == 0 {
			continue
		}
		wg.Go(func() {
			for _, q := range lane {
				err := d.send(ctx, client, t, &q.Event)
				mu.Lock()
				if err == nil {
					done = append(done, q)
				} else if failed == nil {
					failed = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if len(done) > 0 {
		if err := d.cfg.Queue.DoneEvents(ctx, t.Name, done); err != nil {
			return 0, err // they will be delivered again
		}
	}
	return len(done), failed
}

// maxAnswer is how much of a target's answer is read, so that its connection can be used again.
const maxAnswer = 64 << 10

// send delivers one event. Only a 2xx counts.
func (d *Deliverer) send(ctx context.Context, client *http.Client, t *Target, e *Event) error {
	doc, err := e.Document(d.cfg.Region)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(doc))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "Cairn")
	if t.Token != "" {
		req.Header.Set("Authorization", "Bearer "+t.Token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // whatever it says, the status counts
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the target answers %s", resp.Status)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
