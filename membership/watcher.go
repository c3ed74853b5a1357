package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"cairn"
)

// WatcherConfig configures a Watcher.
type WatcherConfig struct {
	Nodes  NodeRows
	Prober Prober
	Gossip Gossip       // nil: probes alone tell
	Self   cairn.NodeID // this process's node: it is not probed
	// Holds tells whether volumes have slots on a node's drives; nil: they have.
	Holds    func(cairn.NodeID) bool
	Patience Patience
	// ProbeEvery is how often every node is probed, ProbeTimeout how long an answer may take; default 1 s each.
	ProbeEvery, ProbeTimeout time.Duration
	// Changed is called after a state was committed. It must not block.
	Changed func()
	Logger  *slog.Logger // default: discard
}

const (
	defaultProbeEvery = time.Second
	probesAtOnce      = 256
	// latencyWeight is the share of a new latency in the smoothed one: one in this many.
	latencyWeight = 4
)

func (c *WatcherConfig) setDefaults() error {
	if c.Nodes == nil || c.Prober == nil || c.Self.IsZero() {
		return &cairn.Error{Op: "membership.watcher", Err: fmt.Errorf("it needs Nodes, Prober and Self: %w", cairn.ErrInvalid)}
	}
	if c.Holds == nil {
		c.Holds = func(cairn.NodeID) bool { return true }
	}
	setDefault(&c.ProbeEvery, defaultProbeEvery)
	setDefault(&c.ProbeTimeout, defaultProbeEvery)
	if c.Changed == nil {
		c.Changed = func() {}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.ProbeEvery < 0 || c.ProbeTimeout < 0 {
		return &cairn.Error{Op: "membership.watcher", Err: fmt.Errorf("negative interval: %w", cairn.ErrInvalid)}
	}
	return c.Patience.setDefaults()
}

// Watcher probes the nodes and commits their states. One process has it, the one beside the metadata's leader; it begins
// anew with every Run, so that what an earlier leader saw long ago counts for nothing.
type Watcher struct {
	cfg WatcherConfig

	mu     sync.Mutex
	frozen string
}

// NewWatcher returns a Watcher; Run does its work.
func NewWatcher(cfg WatcherConfig) (*Watcher, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	return &Watcher{cfg: cfg}, nil
}

// Frozen says why automatic repair of nodes is frozen, "" if it is not.
func (w *Watcher) Frozen() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.frozen
}

// Run probes and commits until ctx ends. It may be run again afterwards, never twice at once.
func (w *Watcher) Run(ctx context.Context) error {
	seen := map[cairn.NodeID]sighting{}
	var hints <-chan struct{}
	if w.cfg.Gossip != nil {
		hints = w.cfg.Gossip.Changed()
	}
	defer w.freeze("")
	return rounds(ctx, w.cfg.ProbeEvery, hints, func(ctx context.Context) {
		if err := w.round(ctx, seen); err != nil && ctx.Err() == nil {
			w.cfg.Logger.Warn("the nodes' states could not be brought up to date", "err", err)
		}
	})
}

// round probes every node once and commits what that changes.
func (w *Watcher) round(ctx context.Context, seen map[cairn.NodeID]sighting) error {
	rows, err := w.cfg.Nodes.Nodes(ctx)
	if err != nil {
		return err
	}
	w.look(ctx, rows, seen)
	if ctx.Err() != nil {
		return ctx.Err() // cut short: probes that failed for it say nothing
	}
	now := time.Now()
	markSlow(now, w.cfg.Patience, seen)
	changed, frozen := judge(now, w.cfg.Patience, rows, seen, w.cfg.Holds)
	w.freeze(frozen)
	was := make(map[cairn.NodeID]cairn.NodeState, len(rows))
	for _, n := range rows {
		was[n.ID] = n.State
	}
	var errs []error
	for _, n := range changed {
		if _, err := w.cfg.Nodes.PutNode(ctx, n); err != nil {
			if !errors.Is(err, cairn.ErrPrecondition) { // somebody else changed it: judged again in the next round
				errs = append(errs, err)
			}
			continue
		}
		if was[n.ID] != n.State {
			w.cfg.Logger.Info("node changed", "node", n.ID, "name", n.Name, "was", was[n.ID], "state", n.State, "reason", n.Reason)
		}
		w.cfg.Changed()
	}
	return errors.Join(errs...)
}

func (w *Watcher) freeze(why string) {
	w.mu.Lock()
	was := w.frozen
	w.frozen = why
	w.mu.Unlock()
	if why != "" && was == "" {
		w.cfg.Logger.Warn(why)
	}
}

// look probes the nodes, some at a time, and notes what they answered.
func (w *Watcher) look(ctx context.Context, rows []cairn.Node, seen map[cairn.NodeID]sighting) {
	began := time.Now()
	var mu sync.Mutex
	var probes errgroup.Group
	probes.SetLimit(probesAtOnce)
	asked := make(map[cairn.NodeID]bool, len(rows))
	for _, n := range rows {
		if n.State == cairn.NodeRemoved {
			continue
		}
		asked[n.ID] = true
		mu.Lock()
		s, ok := seen[n.ID]
		mu.Unlock()
		if !ok {
			s.answered = began // we have just begun to ask
		}
		probes.Go(func() error {
			s = w.probe(ctx, n.ID, s)
			mu.Lock()
			defer mu.Unlock()
			seen[n.ID] = s
			return nil
		})
	}
	_ = probes.Wait() // probes return no error: it is in the sighting
	maps.DeleteFunc(seen, func(id cairn.NodeID, _ sighting) bool { return !asked[id] })
}

// probe asks one node and returns what is known of it then.
func (w *Watcher) probe(ctx context.Context, id cairn.NodeID, s sighting) sighting {
	if w.cfg.Gossip != nil {
		s.hint = w.cfg.Gossip.Hint(id)
	}
	start := time.Now()
	var pulse Pulse
	var err error
	if id != w.cfg.Self {
		try, cancel := context.WithTimeout(ctx, w.cfg.ProbeTimeout)
		pulse, err = w.cfg.Prober.Probe(try, id)
		cancel()
	}
	now := time.Now()
	if err != nil {
		s.since, s.why, s.refused = time.Time{}, err.Error(), errors.Is(err, syscall.ECONNREFUSED)
		return s
	}
	if s.answered = now; s.since.IsZero() {
		s.since = now
	}
	took := max(now.Sub(start), pulse.ReadLatency)
	if s.latency == 0 {
		s.latency = took
	}
	s.latency += (took - s.latency) / latencyWeight
	return s
}
