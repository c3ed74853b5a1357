package simcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// noteLeader checks that no two nodes lead in one term, as far as the node itself tells now.
func (s *Sim) noteLeader(n *Node) {
	g := n.Group()
	if g == nil || !g.Leads() {
		return
	}
	node, term := g.Leader()
	if node != n.ID || term == 0 {
		return // it has changed just now
	}
	s.mu.Lock()
	other, seen := s.leader[term]
	s.leader[term] = n.Index
	s.mu.Unlock()
	if seen && other != n.Index {
		s.T.Errorf("nodes %d and %d both lead in term %d", other, n.Index, term)
	}
}

// Watch calls noteLeader for all nodes now and then, until ctx ends.
func (s *Sim) Watch(ctx context.Context) {
	for ctx.Err() == nil {
		s.Sleep(20 * time.Millisecond)
		for _, n := range s.Nodes {
			s.noteLeader(n)
		}
	}
}

// Leader waits for a node that leads, and returns it.
func (s *Sim) Leader() *Node {
	s.T.Helper()
	for range 3000 {
		for _, n := range s.Nodes {
			if g := n.Group(); g != nil && g.Leads() {
				return n
			}
		}
		s.Sleep(10 * time.Millisecond)
	}
	s.T.Fatal("no leader for 30 s")
	return nil
}

// Form starts all nodes and waits until their metadata has as many voters as nodes can carry, three at most, and everybody
// has heard of them.
func (s *Sim) Form() {
	s.T.Helper()
	for _, n := range s.Nodes {
		n.Start()
		s.Sleep(time.Millisecond)
	}
	s.AwaitVoters(min(3, s.cfg.Homes))
	s.Sleep(3 * time.Second)
}

// AwaitVoters waits until the leader says that so many voters take part.
func (s *Sim) AwaitVoters(want int) {
	s.T.Helper()
	for range 1200 {
		up := 0
		for _, v := range s.Leader().Group().Status().Voters {
			if v.State == "up" && v.Match > 0 {
				up++
			}
		}
		if up == want {
			return
		}
		s.Sleep(50 * time.Millisecond)
	}
	s.T.Fatalf("%d voters are not there after a minute", want)
}

// Chaos does harm by chance until ctx ends, and mends it again. What it does at once is bounded so that most of the time a
// majority could work.
func (s *Sim) Chaos(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		s.Sleep(time.Duration(100+rng.IntN(900)) * time.Millisecond)
		undo := s.harm(rng)
		s.Sleep(time.Duration(100+rng.IntN(2500)) * time.Millisecond)
		undo()
	}
}

// harms are what Chaos does, the likelier ones more than once.
var harms = []func(s *Sim, n, o *Node, rng *rand.Rand) (undo func()){
	(*Sim).harmIsolate, (*Sim).harmIsolate, (*Sim).harmMute, (*Sim).harmDeaf, (*Sim).harmPair, (*Sim).harmReset,
	(*Sim).harmKill, (*Sim).harmKill, (*Sim).harmPower, (*Sim).harmPower, (*Sim).harmBlackout, (*Sim).harmStall, (*Sim).harmStall,
	(*Sim).harmWeather, (*Sim).harmDisk,
}

func (s *Sim) harm(rng *rand.Rand) (undo func()) {
	n, o := s.Nodes[rng.IntN(len(s.Nodes))], s.Nodes[rng.IntN(len(s.Nodes))]
	if rng.IntN(2) == 0 { // the leader is where it hurts
		for _, l := range s.Nodes {
			if g := l.Group(); g != nil && g.Leads() {
				n = l
			}
		}
	}
	return harms[rng.IntN(len(harms))](s, n, o, rng)
}

func (s *Sim) harmIsolate(n, _ *Node, _ *rand.Rand) func() {
	s.Isolate(n.Index, true)
	return func() { s.Isolate(n.Index, false) }
}

// harmMute: the node hears, and is not heard.
func (s *Sim) harmMute(n, _ *Node, _ *rand.Rand) func() {
	set := func(cut bool) {
		for i := range s.Nodes {
			if i != n.Index {
				s.Cut(n.Index, i, cut)
			}
		}
	}
	set(true)
	return func() { set(false) }
}

// harmDeaf: the node is heard, and hears nothing.
func (s *Sim) harmDeaf(n, _ *Node, _ *rand.Rand) func() {
	set := func(cut bool) {
		for i := range s.Nodes {
			if i != n.Index {
				s.Cut(i, n.Index, cut)
			}
		}
	}
	set(true)
	return func() { set(false) }
}

func (s *Sim) harmPair(n, o *Node, _ *rand.Rand) func() {
	if n == o {
		return func() {}
	}
	s.Cut(n.Index, o.Index, true)
	s.Cut(o.Index, n.Index, true)
	return func() {
		s.Cut(n.Index, o.Index, false)
		s.Cut(o.Index, n.Index, false)
	}
}

func (s *Sim) harmReset(n, _ *Node, _ *rand.Rand) func() {
	n.Reset()
	return func() {}
}

func (s *Sim) harmKill(n, _ *Node, _ *rand.Rand) func() { return s.stopped(Kill, n) }

func (s *Sim) harmPower(n, _ *Node, _ *rand.Rand) func() { return s.stopped(Power, n) }

// harmBlackout takes the power from all nodes in one instant.
func (s *Sim) harmBlackout(_, _ *Node, _ *rand.Rand) func() { return s.stopped(Power, s.Nodes...) }

func (s *Sim) stopped(how End, nodes ...*Node) (undo func()) {
	for _, n := range nodes {
		n.Stop(how)
	}
	return func() {
		for _, n := range nodes {
			n.Start()
			s.Sleep(time.Millisecond)
		}
	}
}

func (s *Sim) harmStall(n, _ *Node, _ *rand.Rand) func() {
	n.StallDisk(true)
	return func() { n.StallDisk(false) }
}

func (s *Sim) harmWeather(n, _ *Node, rng *rand.Rand) func() {
	loss, delay := 0.3*rng.Float64(), time.Duration(rng.IntN(80))*time.Millisecond
	set := func(loss float64, delay time.Duration) {
		for i := range s.Nodes {
			if i != n.Index {
				s.Weather(n.Index, i, loss, delay)
				s.Weather(i, n.Index, loss, delay)
			}
		}
	}
	set(loss, delay)
	return func() { set(0, 0) }
}

func (s *Sim) harmDisk(n, _ *Node, _ *rand.Rand) func() {
	n.FailDisk()
	return func() {}
}

// Calm heals every node and starts those that do not run.
func (s *Sim) Calm() {
	for _, n := range s.Nodes {
		n.Heal()
	}
	for _, n := range s.Nodes {
		if !n.Up() {
			n.Start()
			s.Sleep(time.Millisecond)
		}
	}
}

// Trial is one seeded story: a cluster forms, clients work while chance does harm for a while, then all is well again, and
// the history is checked.
func Trial(s *Sim, d time.Duration, h *History) {
	const keys = 3
	s.Form()
	ctx, cancel := context.WithTimeout(context.Background(), s.lone(d))
	defer cancel()
	done := make(chan struct{})
	begin := func(f func()) {
		go func() {
			f()
			done <- struct{}{}
		}()
	}
	began := 0
	for i, n := range s.Nodes {
		for c := range 2 {
			rng := s.rng("client", uint64(i), uint64(c))
			begin(func() { h.Client(ctx, n, keys, rng) })
			began++
		}
	}
	begin(func() { s.Watch(ctx) })
	s.Chaos(ctx, s.rng("chaos"))
	s.Calm()
	for range began + 1 {
		<-done
	}
	h.Settle(keys)
	if all, known := h.Count(); known < 20 {
		s.T.Errorf("only %d operations, %d of them answered", all, known)
	}
}

// String describes what clients met, for a failure's report.
func (h *History) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return fmt.Sprintf("%d operations, %d additions acknowledged, %d not; errors: %v", len(h.ops), h.added, h.maybe, h.refused)
}
