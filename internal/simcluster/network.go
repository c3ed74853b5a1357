package simcluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// network carries bytes between nodes as TCP does: each connection delivers in order, connections overtake each other, and
// what is lost arrives later, since it is sent again. Every delivery has an instant of its own.
type network struct {
	sim *Sim

	mu        sync.Mutex
	listeners map[int]*listener
	ways      map[[2]int]*way
	made      uint64 // connections
}

// way is the way from one node to another. Guarded by network.mu.
type way struct {
	cut   bool
	loss  float64       // of what is sent once
	delay time.Duration // beside the usual
	dials uint64        // so far
	rng   *rand.Rand    // of dials
	conns map[*conn]struct{}
}

const (
	leastDelay = 100 * time.Microsecond
	mostDelay  = 600 * time.Microsecond
	firstRetry = 200 * time.Millisecond // of what was lost; doubled with every loss
	lastRetry  = 1600 * time.Millisecond
	windowSize = 256 << 10 // bytes of one direction that are under way or not read yet
)

func newNetwork(s *Sim) *network {
	return &network{sim: s, listeners: make(map[int]*listener), ways: make(map[[2]int]*way)}
}

// way returns the state of a direction. mu is held.
func (n *network) way(from, to int) *way {
	w := n.ways[[2]int{from, to}]
	if w == nil {
		w = &way{rng: n.sim.rng("way", uint64(from), uint64(to)), conns: make(map[*conn]struct{})}
		n.ways[[2]int{from, to}] = w
	}
	return w
}

// change sets the state of a direction.
func (n *network) change(from, to int, f func(w *way)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.way(from, to))
}

// passes tells whether a packet passes now, and how long it takes if it does.
func (n *network) passes(from, to int, rng *rand.Rand) (time.Duration, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := n.way(from, to)
	d := leastDelay + time.Duration(rng.Int64N(int64(mostDelay-leastDelay))) + w.delay
	lost := w.loss > 0 && rng.Float64() < w.loss
	return d, !w.cut && !lost
}

// address is a node's on the network.
type address int

// Network implements net.Addr.
func (address) Network() string { return "sim" }

// String is what clients dial.
func (a address) String() string { return fmt.Sprintf("node%d:80", int(a)) }

// listener takes a node's connections.
type listener struct {
	net    *network
	node   int
	queue  chan *conn
	closed chan struct{}
	once   sync.Once
}

func (n *network) listen(node int) *listener {
	l := &listener{net: n, node: node, queue: make(chan *conn, 64), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[node] = l
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.net.mu.Lock()
	if l.net.listeners[l.node] == l {
		delete(l.net.listeners, l.node)
	}
	l.net.mu.Unlock()
	l.refuse()
	return nil
}

// silence takes a node's listener away; its process closes it later.
func (n *network) silence(node int) {
	n.mu.Lock()
	l := n.listeners[node]
	delete(n.listeners, node)
	n.mu.Unlock()
	if l != nil {
		l.refuse()
	}
}

// refuse ends the connections that nobody has accepted.
func (l *listener) refuse() {
	for { // nobody adds to the queue any more
		select {
		case c := <-l.queue:
			c.in.break_(net.ErrClosed)
			c.out.orphan(false)
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return address(l.node) }

// dial connects two nodes: a packet there and one back, each sent again until it passes, or the process that asks has ended.
func (n *network) dial(ctx context.Context, from, to int, ended <-chan struct{}) (net.Conn, error) {
	n.mu.Lock()
	w := n.way(from, to)
	w.dials++
	rng := n.sim.rng("conn", uint64(from), uint64(to), w.dials)
	n.mu.Unlock()
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		there, ok := n.passes(from, to, rng)
		back, ok2 := n.passes(to, from, rng)
		wait := there + back
		ok = ok && ok2 && !n.sim.Nodes[to].isDark()
		if !ok {
			wait += retry
		}
		select {
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(to), Err: ctx.Err()}
		case <-ended:
			return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(to), Err: syscall.ENETDOWN}
		case <-time.After(n.sim.lone(wait)):
		}
		if ok {
			return n.connect(from, to, rng)
		}
	}
}

func (n *network) connect(from, to int, rng *rand.Rand) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.listeners[to]
	if l == nil {
		return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(to), Err: syscall.ECONNREFUSED}
	}
	there := newHalf(n, from, to, rand.New(rand.NewPCG(rng.Uint64(), 1)))
	back := newHalf(n, to, from, rand.New(rand.NewPCG(rng.Uint64(), 2)))
	there.other, back.other = back, there
	n.made++
	near := &conn{net: n, made: n.made, from: from, to: to, out: there, in: back}
	far := &conn{net: n, made: n.made, from: to, to: from, out: back, in: there}
	select {
	case l.queue <- far:
	default:
		return nil, &net.OpError{Op: "dial", Net: "sim", Addr: address(to), Err: syscall.ECONNREFUSED}
	}
	n.way(from, to).conns[near] = struct{}{}
	n.way(to, from).conns[far] = struct{}{}
	return near, nil
}

// reset breaks all connections of a node at once, at both ends, as when its process is killed. dark: the other ends hear
// nothing of it, as when it loses power.
func (n *network) reset(node int, dark bool) {
	n.mu.Lock()
	var list []*conn
	for pair, w := range n.ways {
		if pair[0] == node {
			for c := range w.conns {
				list = append(list, c)
			}
		}
	}
	n.mu.Unlock()
	slices.SortFunc(list, func(a, b *conn) int { return cmp.Compare(a.made, b.made) })
	for _, c := range list {
		c.in.break_(syscall.ECONNRESET)
		c.out.orphan(dark)
		c.out.breakWrites(syscall.ECONNRESET)
	}
}

// conn is one end of a connection.
type conn struct {
	net      *network
	from, to int // from is the node whose end it is
	out, in  *half
	made     uint64 // the how many-th of all
	once     sync.Once
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) { return c.in.read(p) }

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) { return c.out.write(p) }

// Close ends the connection: what was written still arrives, and what arrives later is refused.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.in.break_(net.ErrClosed)
		c.out.finish()
		c.net.mu.Lock()
		delete(c.net.way(c.from, c.to).conns, c)
		c.net.mu.Unlock()
	})
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return address(c.from) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return address(c.to) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.setDeadline(&c.in.readBy, t)
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.setDeadline(&c.out.writeBy, t)
	return nil
}

// half is one direction of a connection.
type half struct {
	net      *network
	from, to int
	rng      *rand.Rand
	other    *half // of the same connection

	mu       sync.Mutex
	cond     *sync.Cond // something below has changed
	flying   []chunk    // oldest first; the timer is for the first
	moving   bool       // the timer runs
	arrived  []byte
	pending  int // bytes of flying and arrived
	retry    time.Duration
	lastAt   time.Time
	readBy   time.Time
	writeBy  time.Time
	finished bool  // nothing more will be written
	ended    bool  // and all of it has arrived
	lost     bool  // the writer is gone, and nobody says so
	readErr  error // the reading end is closed or broken
	writeErr error // the writing end is
}

// chunk is what one Write sent. Without data it is the end of the direction.
type chunk struct {
	data []byte
	end  error // io.EOF for an orderly end
	at   time.Time
}

func newHalf(n *network, from, to int, rng *rand.Rand) *half {
	h := &half{net: n, from: from, to: to, rng: rng, retry: firstRetry}
	h.cond = sync.NewCond(&h.mu)
	return h
}

func (h *half) setDeadline(which *time.Time, t time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*which = t
	if d := time.Until(t); !t.IsZero() && d > 0 {
		time.AfterFunc(d, h.cond.Broadcast) // a few that are not needed any more do no harm
	}
	h.cond.Broadcast()
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (h *half) read(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.readErr != nil:
			return 0, h.readErr
		case past(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case len(h.arrived) > 0:
			n := copy(p, h.arrived)
			h.arrived = h.arrived[n:]
			h.pending -= n
			h.cond.Broadcast()
			return n, nil
		case h.ended:
			return 0, io.EOF
		}
		h.cond.Wait()
	}
}

func (h *half) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.writeErr != nil:
			return 0, h.writeErr
		case h.finished:
			return 0, net.ErrClosed
		case past(h.writeBy):
			return 0, os.ErrDeadlineExceeded
		case h.pending < windowSize:
			h.pending += len(p)
			h.fly(chunk{data: append([]byte(nil), p...)})
			return len(p), nil
		}
		h.cond.Wait()
	}
}

// fly puts a chunk on its way. mu is held.
func (h *half) fly(c chunk) {
	d, _ := h.net.passes(h.from, h.to, h.rng)
	if c.at = time.Now().Add(d); !c.at.After(h.lastAt) {
		c.at = h.lastAt.Add(1)
	}
	h.lastAt = c.at
	h.flying = append(h.flying, c)
	h.move()
}

// move sets the timer for the first chunk. mu is held.
func (h *half) move() {
	if h.moving || len(h.flying) == 0 {
		return
	}
	h.moving = true
	time.AfterFunc(h.net.sim.lone(time.Until(h.flying[0].at)), h.arrive)
}

// arrive delivers the first chunk, unless it is lost: then it is sent again later, and all behind it wait.
func (h *half) arrive() {
	_, ok := h.net.passes(h.from, h.to, h.rng)
	if h.land(ok && !h.net.sim.Nodes[h.to].isDark()) {
		h.other.break_(syscall.ECONNRESET)
	}
}

// land is arrive with the connection locked. refused: the reading end is gone, and says so to the writer.
func (h *half) land(ok bool) (refused bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.moving = false
	if len(h.flying) == 0 || h.lost {
		return false
	}
	if !ok {
		h.flying[0].at = time.Now().Add(h.retry)
		h.retry = min(2*h.retry, lastRetry)
		h.move()
		return false
	}
	h.retry = firstRetry
	c := h.flying[0]
	h.flying = h.flying[1:]
	h.net.sim.Trace.add("net", uint64(h.from), uint64(h.to), c.data)
	switch {
	case c.end == nil:
		h.arrived = append(h.arrived, c.data...)
		if refused = h.readErr != nil; refused && h.writeErr == nil {
			h.writeErr = syscall.EPIPE
		}
	case errors.Is(c.end, io.EOF):
		h.ended = true
	default:
		h.readErr = c.end
	}
	h.cond.Broadcast()
	h.move()
	return refused
}

// finish lets what was written arrive, and then the end.
func (h *half) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.finished || h.lost {
		return
	}
	h.finished = true
	h.fly(chunk{end: io.EOF})
	h.cond.Broadcast()
}

// orphan ends what the writer's node said: the reader hears of a reset, or of nothing ever again.
func (h *half) orphan(dark bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.flying = nil
	if h.lost = dark; !dark && !h.finished {
		h.finished = true
		h.fly(chunk{end: syscall.ECONNRESET})
	}
	h.cond.Broadcast()
}

// break_ ends the reading end.
func (h *half) break_(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readErr == nil {
		h.readErr = err
	}
	h.pending -= len(h.arrived)
	h.arrived = nil
	h.cond.Broadcast()
}

// breakWrites ends the writing end.
func (h *half) breakWrites(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.writeErr == nil {
		h.writeErr = err
	}
	h.cond.Broadcast()
}
