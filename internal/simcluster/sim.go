// Package simcluster runs a cluster's metadata inside one test, in simulated time: real nodes (meta/replica with its real
// links over net/http), a simulated network (delay, loss, cuts in one direction or both, resets; connections overtake each
// other), and simulated disks (slow, stalled, failing, losing what was not synced). Everything that is left to chance
// comes from one seed: the network, the disks, the faults, the clients, and through crypto/rand the nodes' own draws.
//
// Time is that of testing/synctest: it moves when every goroutine waits, and then to the next timer, so a simulated minute
// takes as long as the work in it. No two deliveries, syncs or client steps share an instant, and the nodes' tickers
// have random periods, so that what happens between two instants is the answer of one node to one event.
//
// The same seed gives the same trace (Trace: every delivery with its bytes, every sync, every fault, at its nanosecond) as far
// as the Go scheduler lets it: with one processor (GOMAXPROCS=1) goroutines that are ready in the same instant run in
// an order that depends on the program alone. Three things are outside every seed: the runtime interrupts a goroutine that
// had the processor for 10 ms of real time, as happens when the machine is busy; a select that finds two cases ready draws
// one by lot; and the race detector shuffles goroutines on purpose. Then a message may travel together with the next
// one or by itself, and what follows differs, later faults with it where they are aimed at the leader: most seeds have one
// trace, some have two or three. TestSameTrace says what is relied on.
//
// It does not simulate crashes of Pebble's own file operations at every step (meta/replica's sweeps do), corrupt bytes
// on the way (TLS and the frames' checksums are tested by themselves), or clocks that disagree: nodes share one clock.
package simcluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/meta/replica"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Config says what is simulated. The zero value of a field means its default.
type Config struct {
	Seed    uint64
	Homes   int // nodes that may carry voters. Default 3
	Clients int // nodes without voters. Default 1
	// Change adjusts a node's configuration before its first start; nil for none.
	Change func(node int, cfg *replica.Config)
	// Logger hears what the nodes log. Default: nobody.
	Logger *slog.Logger
	// KeepTrace keeps the trace's events, not just their sum.
	KeepTrace bool
}

// Sim is a running simulation. It lives inside one call of Run.
type Sim struct {
	T     *testing.T
	Nodes []*Node
	Trace Trace
	cfg   Config
	net   *network

	mu       sync.Mutex
	requests uint64
	taken    map[int64]struct{} // instants in unix nanoseconds, later than now but for a few
	leader   map[uint64]int     // term → node that was seen to lead in it
}

// Run simulates: f runs in a bubble of simulated time, beside nodes that have been made and not started. What f starts ends
// with it.
func Run(t *testing.T, cfg Config, f func(s *Sim)) *Trace {
	t.Helper()
	if cfg.Homes == 0 {
		cfg.Homes, cfg.Clients = 3, max(cfg.Clients, 1)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sim{cfg: cfg, Trace: Trace{keep: cfg.KeepTrace}, taken: make(map[int64]struct{}), leader: make(map[uint64]int)}
	cryptotest.SetGlobalRandom(t, cfg.Seed)
	synctest.Test(t, func(t *testing.T) {
		s.T = t
		s.net = newNetwork(s)
		for i := range cfg.Homes + cfg.Clients {
			s.Nodes = append(s.Nodes, newNode(s, i))
		}
		defer s.end()
		f(s)
	})
	return &s.Trace
}

// end stops what still runs.
func (s *Sim) end() {
	for _, n := range s.Nodes {
		n.Heal()
	}
	for _, n := range s.Nodes {
		if n.Up() {
			n.Stop(Kill)
		}
	}
	for _, n := range s.Nodes {
		n.dying.Wait()
	}
}

// rng returns a source of chance for one purpose.
func (s *Sim) rng(purpose string, which ...uint64) *rand.Rand {
	h := s.cfg.Seed
	for _, b := range []byte(purpose) {
		h = (h ^ uint64(b)) * 0x100000001b3
	}
	for _, w := range which {
		h = (h ^ (w + 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd
		h ^= h >> 32
	}
	return rand.New(rand.NewPCG(s.cfg.Seed, h))
}

// lone returns a wait that is as long as d, or by nanoseconds longer, and ends at an instant that nobody else has.
func (s *Sim) lone(d time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UnixNano()
	at := now + int64(max(d, 1))
	for {
		if _, used := s.taken[at]; !used {
			break
		}
		at++
	}
	if len(s.taken) > 10_000 {
		for t := range s.taken {
			if t < now {
				delete(s.taken, t)
			}
		}
	}
	s.taken[at] = struct{}{}
	return time.Duration(at - now)
}

// request draws a request's ID.
func (s *Sim) request() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	return s.cfg.Seed<<32 | s.requests
}

// Sleep lets simulated time pass.
func (s *Sim) Sleep(d time.Duration) { time.Sleep(s.lone(d)) }

// Cut stops what one node sends to another, or lets it pass again.
func (s *Sim) Cut(from, to int, cut bool) {
	s.fault("cut", from, to, cut)
	s.net.change(from, to, func(w *way) { w.cut = cut })
}

// Isolate cuts a node off from all others, both ways, or lets everything pass again.
func (s *Sim) Isolate(node int, cut bool) {
	for i := range s.Nodes {
		if i != node {
			s.Cut(i, node, cut)
			s.Cut(node, i, cut)
		}
	}
}

// Weather sets loss and additional delay of what one node sends to another.
func (s *Sim) Weather(from, to int, loss float64, delay time.Duration) {
	s.fault("weather", from, to, loss > 0 || delay > 0)
	s.net.change(from, to, func(w *way) { w.loss, w.delay = loss, delay })
}

func (s *Sim) fault(what string, a, b int, on bool) {
	s.Trace.add(what, uint64(a), uint64(b), fmt.Append(nil, on))
}

// Node is one simulated machine and the process on it.
type Node struct {
	sim   *Sim
	Index int
	ID    cairn.NodeID
	cfg   replica.Config
	homes []replica.Home
	dying sync.WaitGroup

	mu    sync.Mutex
	lives uint64
	dark  bool // without power
	disk  *disk
	run   *process
	mem   *vfs.MemFS // while no process runs
}

// process is one life of a node.
type process struct {
	node   *Node
	group  *replica.Group
	server *http.Server
	conns  *http.Transport
	stop   context.CancelFunc
	ended  chan struct{}
	ran    sync.WaitGroup
}

func newNode(s *Sim, i int) *Node {
	n := &Node{sim: s, Index: i, ID: cairn.NodeID{0: 0xa0, 15: byte(i + 1)}, mem: vfs.NewCrashableMem()}
	if i < s.cfg.Homes {
		n.homes = []replica.Home{{Drive: cairn.DriveID{0: 0xd0, 15: byte(i + 1)}, Dir: fmt.Sprintf("/node%d", i), Usable: true}}
		n.makeHome()
	}
	n.cfg = replica.Config{
		Cluster: cairn.ClusterID{1}, Voters: 3, Node: n.ID, Logger: s.cfg.Logger.With("node", i),
		CacheBytes: 1 << 20, MemTableBytes: 256 << 10, SegmentBytes: 32 << 10, LogBytes: 256 << 10,
		Caller: func(r *http.Request) (id cairn.NodeID, err error) {
			return id, id.UnmarshalText([]byte(r.Header.Get(nodeHeader)))
		},
	}
	if i > 0 {
		n.cfg.Seeds = []cairn.NodeID{s.Nodes[0].ID}
	}
	if s.cfg.Change != nil {
		s.cfg.Change(i, &n.cfg)
	}
	return n
}

// makeHome makes the node's home on its disk.
func (n *Node) makeHome() {
	dir := n.homes[0].Dir
	err := n.mem.MkdirAll(dir, 0o755)
	for _, name := range []string{"/", dir} {
		d, e := n.mem.OpenDir(name)
		if e == nil {
			e = errors.Join(d.Sync(), d.Close())
		}
		err = errors.Join(err, e)
	}
	if err != nil {
		n.sim.T.Fatal(err)
	}
}

const nodeHeader = "Sim-Node"

// Peer implements replica.Peers.
func (p *process) Peer(id cairn.NodeID) (*http.Client, string, error) {
	for _, o := range p.node.sim.Nodes {
		if o.ID == id {
			return &http.Client{Transport: signed{p.conns, p.node.ID}}, "http://" + address(o.Index).String(), nil
		}
	}
	return nil, "", cairn.ErrNotFound
}

// dial connects as long as the process lives: what a dead one still tries reaches nobody.
func (p *process) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	var to int
	if _, err := fmt.Sscanf(addr, "node%d:80", &to); err != nil {
		return nil, err
	}
	select {
	case <-p.ended:
		return nil, net.ErrClosed
	default:
		return p.node.sim.net.dial(ctx, p.node.Index, to, p.ended)
	}
}

// signed says who asks.
type signed struct {
	next http.RoundTripper
	id   cairn.NodeID
}

// RoundTrip implements http.RoundTripper.
func (s signed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(nodeHeader, s.id.String())
	return s.next.RoundTrip(r)
}

// Start begins the node's next life.
func (n *Node) Start() {
	n.sim.T.Helper()
	if err := n.Try(); err != nil {
		n.sim.T.Errorf("node %d does not start: %v", n.Index, err)
	}
}

// Try is Start that may be refused.
func (n *Node) Try() error {
	n.sim.fault("start", n.Index, 0, true)
	n.mu.Lock()
	n.lives++
	n.disk = newDisk(n.sim, n.Index, n.mem, n.lives)
	n.dark = false
	cfg := n.cfg
	cfg.FS = n.disk
	p := &process{node: n, ended: make(chan struct{})}
	p.conns = &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true, DialContext: p.dial}
	cfg.Peers = p
	n.mu.Unlock()
	var err error
	if p.group, err = replica.Open(cfg, n.homes); err != nil {
		close(p.ended)
		return err
	}
	p.server = &http.Server{Handler: p.group.Handler(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	l := n.sim.net.listen(n.Index)
	p.ran.Go(func() { _ = p.server.Serve(l) }) // it ends by Close
	var ctx context.Context
	ctx, p.stop = context.WithCancel(context.Background())
	p.ran.Go(func() { _ = p.group.Run(ctx) }) // nil
	n.mu.Lock()
	n.run = p
	n.mu.Unlock()
	return nil
}

// Group returns the node's store; nil while no process runs.
func (n *Node) Group() *replica.Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.run == nil {
		return nil
	}
	return n.run.group
}

// Up tells whether a process runs.
func (n *Node) Up() bool { return n.Group() != nil }

func (n *Node) isDark() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dark
}

// End says how a process ends.
type End int

// The ways to end.
const (
	Kill  End = iota // the process alone: what it wrote is there, and its connections are reset
	Power            // the machine: what was not synced may be lost, and nobody hears of it
)

// Stop ends the node's process in this instant. What it still does is seen by nobody.
func (n *Node) Stop(how End) {
	n.sim.fault("stop", n.Index, int(how), true)
	n.mu.Lock()
	p := n.run
	n.run = nil
	n.dark = how == Power
	rng := n.sim.rng("crash", uint64(n.Index), n.lives)
	n.mu.Unlock()
	if p == nil {
		return
	}
	close(p.ended)
	n.mem = n.disk.crash(how == Power, rng)
	n.sim.net.silence(n.Index)
	n.sim.net.reset(n.Index, how == Power)
	n.dying.Go(func() {
		p.stop()
		_ = p.server.Close() // its listener is all that can fail
		if err := p.group.Close(); err != nil {
			n.sim.T.Errorf("node %d: close: %v", n.Index, err)
		}
		p.conns.CloseIdleConnections()
		p.ran.Wait()
	})
}

// StallDisk holds the syncs of the node's log back, or lets them go on.
func (n *Node) StallDisk(on bool) {
	n.sim.fault("stall", n.Index, 0, on)
	n.mu.Lock()
	d := n.disk
	n.mu.Unlock()
	if d != nil {
		d.stall(on)
	}
}

// FailDisk lets the next sync of the node's log fail.
func (n *Node) FailDisk() {
	n.sim.fault("fail", n.Index, 0, true)
	n.mu.Lock()
	d := n.disk
	n.mu.Unlock()
	if d != nil {
		d.failNext()
	}
}

// Heal ends all that is wrong with the node's disk and network; a process that was stopped stays so.
func (n *Node) Heal() {
	n.StallDisk(false)
	for i := range n.sim.Nodes {
		if i != n.Index {
			n.sim.Cut(n.Index, i, false)
			n.sim.Cut(i, n.Index, false)
			n.sim.Weather(n.Index, i, 0, 0)
			n.sim.Weather(i, n.Index, 0, 0)
		}
	}
}

// Reset breaks the node's connections.
func (n *Node) Reset() {
	n.sim.fault("reset", n.Index, 0, true)
	n.sim.net.reset(n.Index, false)
}
