package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"cairn"
	"cairn/meta"
)

// whileLeading runs what one process of the cluster does, the one beside the metadata's leader: it starts when this process
// comes to lead and stops when it does not any more. For a moment two may run; what they commit is decided by meta.
func whileLeading(ctx context.Context, m *meta.Store, once []loop) error {
	for ctx.Err() == nil {
		news := m.News() // before looking
		if !m.Leads() {
			select {
			case <-ctx.Done():
			case <-news:
			}
			continue
		}
		if err := lead(ctx, m, once); err != nil {
			return err
		}
	}
	return nil
}

// lead runs the loops until this process leads no more.
func lead(ctx context.Context, m *meta.Store, once []loop) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range once {
		g.Go(func() error {
			if err := l.run(gctx); err != nil && gctx.Err() == nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
			return nil
		})
	}
	for {
		news := m.News()
		if !m.Leads() {
			break
		}
		select {
		case <-news:
			continue
		case <-gctx.Done():
		}
		break
	}
	stop()
	return g.Wait()
}

// returnsEvery is how often the leader looks for drives of other nodes that came back.
const returnsEvery = time.Second

// watchReturns tells scrub and repair of drives on other nodes that became writable; those of this node the keeper tells.
func (p *parts) watchReturns(ctx context.Context, self cairn.NodeID) error {
	t := time.NewTicker(returnsEvery)
	defer t.Stop()
	var was map[cairn.DriveID]bool // nil on the first look: whoever led before has told of these
	for {
		now := map[cairn.DriveID]bool{}
		for _, d := range p.view.Drives() {
			if d.Node == self || d.Retired || !d.State.Writable() {
				continue
			}
			now[d.ID] = true
			if was != nil && !was[d.ID] {
				p.returned(d.ID)
			}
		}
		was = now
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// findings takes what readers and writers of a process find while repair runs in another one, and commits it for that.
type findings struct {
	meta   *meta.Store
	logger *slog.Logger
	queue  chan cairn.Damage
}

const (
	maxFindings     = 1024
	findingsBatch   = 256
	findingsTimeout = 10 * time.Second
)

func newFindings(m *meta.Store, logger *slog.Logger) *findings {
	return &findings{meta: m, logger: logger, queue: make(chan cairn.Damage, maxFindings)}
}

// Report takes a finding if there is room: scrub finds what is dropped.
func (f *findings) Report(d cairn.Damage) {
	select {
	case f.queue <- d:
	default:
	}
}

// Run commits findings until ctx ends.
func (f *findings) Run(ctx context.Context) error {
	for {
		var batch []cairn.Damage
		select {
		case <-ctx.Done():
			return nil
		case d := <-f.queue:
			batch = append(batch, d)
		}
		for len(batch) < findingsBatch && len(f.queue) > 0 {
			batch = append(batch, <-f.queue)
		}
		try, cancel := context.WithTimeout(ctx, findingsTimeout)
		if err := f.meta.AddDamage(try, batch); err != nil && ctx.Err() == nil {
			f.logger.Warn("findings could not be recorded; scrub will find them", "count", len(batch), "err", err)
		}
		cancel()
	}
}
