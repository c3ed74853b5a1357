package membership_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/membership"
	"cairn/membership/membershiptest"
)

// fleet is a number of nodes whose answers and whose reputation a test sets.
type fleet struct {
	t    *testing.T
	meta *membershiptest.Meta
	ids  []cairn.NodeID
	w    *membership.Watcher

	mu      sync.Mutex
	gone    map[cairn.NodeID]bool
	hints   map[cairn.NodeID]membership.Hint
	latency map[cairn.NodeID]time.Duration
	refused map[cairn.NodeID]bool // nobody listens where a node that is gone was
	changed chan struct{}
}

// newFleet commits the nodes and starts to watch them as the first; stop ends that.
func newFleet(t *testing.T, nodes int, zone func(i int) string, holds func(cairn.NodeID) bool) (f *fleet, stop func()) {
	f = &fleet{t: t, meta: &membershiptest.Meta{}, gone: map[cairn.NodeID]bool{}, hints: map[cairn.NodeID]membership.Hint{},
		latency: map[cairn.NodeID]time.Duration{}, refused: map[cairn.NodeID]bool{}, changed: make(chan struct{}, 1)}
	for i := range nodes {
		n, err := f.meta.PutNode(t.Context(), cairn.Node{ID: cairn.NodeID{15: byte(i + 1)}, Name: fmt.Sprintf("n%d", i),
			Roles: cairn.RoleData, Zone: zone(i), StateSince: time.Now()})
		must(t, err)
		f.ids = append(f.ids, n.ID)
	}
	var err error
	f.w, err = membership.NewWatcher(membership.WatcherConfig{Nodes: f.meta, Prober: f, Gossip: f, Self: f.ids[0], Holds: holds})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { must(t, f.w.Run(ctx)) })
	return f, func() { cancel(); running.Wait() }
}

func (f *fleet) Probe(ctx context.Context, id cairn.NodeID) (membership.Pulse, error) {
	f.mu.Lock()
	gone, latency, refused := f.gone[id], f.latency[id], f.refused[id]
	f.mu.Unlock()
	if gone && refused {
		return membership.Pulse{}, &cairn.Error{Op: "probe", Err: fmt.Errorf("%w: %w", syscall.ECONNREFUSED, cairn.ErrUnavailable)}
	}
	if gone {
		<-ctx.Done()
		return membership.Pulse{}, &cairn.Error{Op: "probe", Err: cairn.ErrUnavailable}
	}
	return membership.Pulse{ReadLatency: latency + time.Millisecond}, nil
}

func (f *fleet) Hint(id cairn.NodeID) membership.Hint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hints[id]
}

func (f *fleet) Changed() <-chan struct{} { return f.changed }

// set makes a node silent or not, and what gossip says of it.
func (f *fleet) set(i int, gone bool, hint membership.Hint) {
	f.mu.Lock()
	f.gone[f.ids[i]], f.hints[f.ids[i]] = gone, hint
	f.mu.Unlock()
	if hint != membership.HintNone {
		select {
		case f.changed <- struct{}{}:
		default:
		}
	}
}

func (f *fleet) node(i int) cairn.Node {
	f.t.Helper()
	rows, err := f.meta.Nodes(f.t.Context())
	must(f.t, err)
	return rows[i]
}

func (f *fleet) want(i int, state cairn.NodeState, reason string) {
	f.t.Helper()
	if n := f.node(i); n.State != state || !strings.Contains(n.Reason, reason) {
		f.t.Errorf("n%d is %s (%s), want %s with %q; history %v", i, n.State, n.Reason, state, reason, n.History)
	}
}

// until waits for a state and returns how long that took.
func (f *fleet) until(i int, state cairn.NodeState, limit time.Duration) time.Duration {
	f.t.Helper()
	start := time.Now()
	for f.node(i).State != state {
		if time.Since(start) > limit {
			f.t.Fatalf("n%d is %s after %v, want %s; history %v", i, f.node(i).State, limit, state, f.node(i).History)
		}
		time.Sleep(10*time.Millisecond + 7*time.Nanosecond)
	}
	return time.Since(start)
}

func flat(int) string { return "" }

func TestNodeGoesAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 7, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		f.want(3, cairn.NodeUp, "answers")
		f.set(3, true, membership.HintNone)
		suspect := f.until(3, cairn.NodeSuspect, 10*time.Second)
		down := suspect + f.until(3, cairn.NodeDown, 10*time.Second)
		if suspect > 6*time.Second || down > 10*time.Second {
			t.Errorf("suspect after %v, down after %v; want down within 10 s", suspect, down)
		}
		f.want(3, cairn.NodeDown, "no answer")
		time.Sleep(9 * time.Minute)
		f.want(3, cairn.NodeDown, "no answer")
		f.until(3, cairn.NodeOut, 2*time.Minute)
		f.want(3, cairn.NodeOut, "rebuilt elsewhere")
		f.set(3, false, membership.HintNone)
		f.until(3, cairn.NodeSuspect, 3*time.Second)
		f.until(3, cairn.NodeUp, 10*time.Second)
		var states []string
		for _, c := range f.node(3).History {
			states = append(states, c.State.String())
		}
		if got := strings.Join(states, " "); got != "joining up suspect down out suspect up" {
			t.Errorf("history %s", got)
		}
		for i := range f.ids {
			f.want(i, cairn.NodeUp, "")
		}
	})
}

// Gossip alone brings no node down, speeds up what a probe confirms, and holds back what it does not.
func TestGossipIsAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 7, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		f.set(1, false, membership.HintFailed)
		time.Sleep(time.Minute)
		f.want(1, cairn.NodeUp, "")
		f.set(2, true, membership.HintFailed)
		if took := f.until(2, cairn.NodeDown, 10*time.Second); took > 5*time.Second {
			t.Errorf("down after %v though gossip had lost it too", took)
		}
		f.want(2, cairn.NodeDown, "gossip has lost it")
		f.set(2, false, membership.HintAlive)
		f.until(2, cairn.NodeUp, time.Minute)
		f.set(4, true, membership.HintAlive)
		time.Sleep(50 * time.Second)
		f.want(4, cairn.NodeSuspect, "gossip still hears it")
		f.until(4, cairn.NodeDown, 15*time.Second)
		f.mu.Lock()
		f.refused[f.ids[5]] = true
		f.mu.Unlock()
		f.set(5, true, membership.HintAlive) // the process has ended, and gossip does not know yet
		if took := f.until(5, cairn.NodeDown, time.Minute); took > 8*time.Second {
			t.Errorf("down after %v though connections were refused", took)
		}
	})
}

// A node that comes and goes is held longer every time, and never goes out.
func TestFlappingNodeMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 7, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		var served time.Duration
		for range 90 {
			f.set(5, true, membership.HintNone)
			time.Sleep(20 * time.Second)
			f.set(5, false, membership.HintNone)
			for range 40 {
				time.Sleep(time.Second)
				if f.node(5).State == cairn.NodeUp {
					served += time.Second
				}
				if f.node(5).State == cairn.NodeOut {
					t.Fatalf("a flapping node went out: %v", f.node(5).History)
				}
			}
		}
		if served > 20*time.Minute { // of an hour and a half, in which it answered for an hour
			t.Errorf("it took writes for %v", served)
		}
		time.Sleep(45 * time.Minute)
		f.want(5, cairn.NodeUp, "answers")
	})
}

func TestOneFailureDomainGoesOut(t *testing.T) {
	for _, tt := range []struct {
		name  string
		nodes int
		zone  func(int) string
		gone  []int // one after the other
		out   []int
		note  string // on the last that is not out
	}{
		{"one of three nodes", 3, flat, []int{1}, []int{1}, ""},
		{"two of twelve nodes", 12, flat, []int{3, 7}, []int{3}, "n3 is out"},
		{"two of twelve nodes in one zone", 12, func(i int) string { return fmt.Sprint("z", i%3) }, []int{4, 7}, []int{4, 7}, ""},
		{"two of twelve nodes in two zones", 12, func(i int) string { return fmt.Sprint("z", i%3) }, []int{4, 8}, []int{4}, "n4 is out"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, stop := newFleet(t, tt.nodes, tt.zone, nil)
				defer stop()
				time.Sleep(5 * time.Second)
				for _, i := range tt.gone {
					f.set(i, true, membership.HintNone)
					time.Sleep(time.Minute)
				}
				time.Sleep(time.Hour)
				for _, i := range tt.out {
					f.want(i, cairn.NodeOut, "")
				}
				if tt.note != "" {
					f.want(tt.gone[len(tt.gone)-1], cairn.NodeDown, tt.note)
				}
			})
		})
	}
}

// Once the first node's slots are all rebuilt, the next may go out.
func TestNextNodeGoesOutWhenTheFirstIsRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		rebuilt := false
		f, stop := newFleet(t, 12, flat, func(cairn.NodeID) bool { mu.Lock(); defer mu.Unlock(); return !rebuilt })
		defer stop()
		time.Sleep(5 * time.Second)
		f.set(3, true, membership.HintNone)
		f.set(7, true, membership.HintNone)
		time.Sleep(time.Hour)
		f.want(3, cairn.NodeOut, "")
		f.want(7, cairn.NodeDown, "n3 is out")
		mu.Lock()
		rebuilt = true
		mu.Unlock()
		f.until(7, cairn.NodeOut, time.Minute)
	})
}

func TestManyLostNodesFreezeRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 10, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		f.set(4, true, membership.HintNone)
		f.set(6, true, membership.HintNone)
		time.Sleep(time.Hour)
		f.want(4, cairn.NodeDown, "frozen: 2 of 10 data nodes")
		f.want(6, cairn.NodeDown, "frozen")
		if got := f.w.Frozen(); !strings.Contains(got, "2 of 10") {
			t.Errorf("frozen: %q", got)
		}
		f.set(6, false, membership.HintNone)
		f.until(6, cairn.NodeUp, time.Minute)
		f.until(4, cairn.NodeOut, time.Minute)
		if got := f.w.Frozen(); got != "" {
			t.Errorf("still %q", got)
		}
	})
}

// What automatic repair would not do by itself, an operator may: nodes that are down go out at once, one that is up does not,
// and each is taken back when it answers.
func TestOperatorGivesNodesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 10, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		if _, err := membership.DeclareOut(time.Now(), f.node(4)); !errors.Is(err, cairn.ErrPrecondition) {
			t.Errorf("a node that is up: %v", err)
		}
		f.set(4, true, membership.HintNone)
		f.set(6, true, membership.HintNone)
		f.until(4, cairn.NodeDown, time.Minute)
		f.until(6, cairn.NodeDown, time.Minute)
		for _, i := range []int{4, 6} {
			n, err := membership.DeclareOut(time.Now(), f.node(i))
			must(t, err)
			_, err = f.meta.PutNode(t.Context(), n)
			must(t, err)
		}
		time.Sleep(time.Minute)
		f.want(4, cairn.NodeOut, "an operator")
		f.want(6, cairn.NodeOut, "an operator")
		f.set(6, false, membership.HintNone)
		f.until(6, cairn.NodeUp, time.Minute)
		f.want(4, cairn.NodeOut, "an operator")
	})
}

func TestSlowNodeIsSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 10, flat, nil)
		defer stop()
		slow := func(i int, d time.Duration) { f.mu.Lock(); f.latency[f.ids[i]] = d; f.mu.Unlock() }
		time.Sleep(5 * time.Second)
		slow(2, 2*time.Second)
		time.Sleep(5 * time.Second)
		f.want(2, cairn.NodeUp, "") // not yet
		f.until(2, cairn.NodeSuspect, 15*time.Second)
		f.want(2, cairn.NodeSuspect, "slow")
		slow(3, 2*time.Second)
		time.Sleep(time.Minute)
		f.want(3, cairn.NodeUp, "") // one in ten is enough
		f.want(2, cairn.NodeSuspect, "slow")
		slow(2, 0)
		f.until(2, cairn.NodeUp, time.Minute)
		f.until(3, cairn.NodeSuspect, time.Minute)
	})
}

// A drained node that was away is drained further, and a removed one is left alone.
func TestDrainingAndRemovedNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 7, flat, nil)
		defer stop()
		time.Sleep(5 * time.Second)
		for i, state := range map[int]cairn.NodeState{2: cairn.NodeDraining, 3: cairn.NodeRemoved} {
			n := f.node(i)
			n.State, n.Reason = state, "asked for"
			_, err := f.meta.PutNode(t.Context(), n)
			must(t, err)
			f.set(i, true, membership.HintFailed)
		}
		f.until(2, cairn.NodeDown, 10*time.Second)
		f.set(2, false, membership.HintAlive)
		f.until(2, cairn.NodeDraining, time.Minute)
		time.Sleep(time.Minute)
		f.want(2, cairn.NodeDraining, "")
		f.want(3, cairn.NodeRemoved, "asked for")
	})
}

// A new leader's watcher waits for its own evidence.
func TestWatcherBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, stop := newFleet(t, 7, flat, nil)
		time.Sleep(5 * time.Second)
		stop()
		f.set(1, true, membership.HintNone)
		time.Sleep(time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { must(t, f.w.Run(ctx)) })
		defer running.Wait()
		defer cancel()
		time.Sleep(1500 * time.Millisecond)
		f.want(1, cairn.NodeUp, "")
		f.until(1, cairn.NodeDown, 10*time.Second)
	})
}
