package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn"

	"github.com/anishathalye/porcupine"
	"go.uber.org/goleak"
)

// cluster is a few nodes with HTTP between them, whose network can be cut.
type cluster struct {
	t     testing.TB
	nodes []*testNode

	mu  sync.Mutex
	cut map[[2]int]bool // from, to: nothing passes in this direction
}

type testNode struct {
	c     *cluster
	index int
	id    cairn.NodeID
	cfg   Config
	homes []Home
	conns *http.Transport
	trip  http.RoundTripper // conns, or what a test has put before it; guarded by mu

	mu      sync.Mutex // guards what restart changes
	g       *Group
	srv     *httptest.Server
	url     string
	stopRun func()
}

func (n *testNode) group() *Group {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.g
}

// newCluster prepares nodes with homesEach homes each; start begins them.
func newCluster(t testing.TB, nodes, homesEach int) *cluster {
	before := goleak.IgnoreCurrent()
	c := &cluster{t: t, cut: make(map[[2]int]bool)}
	t.Cleanup(func() {
		for _, n := range c.nodes {
			n.stop()
			n.conns.CloseIdleConnections()
		}
		goleak.VerifyNone(t, before)
	})
	for i := range nodes {
		n := &testNode{c: c, index: i, id: cairn.NodeID{15: byte(i + 1)}, homes: makeHomes(t, homesEach)}
		n.conns = &http.Transport{DialContext: c.dialer(i), MaxIdleConnsPerHost: 64}
		n.trip = n.conns
		n.cfg = testConfig(3)
		n.cfg.Tick = 20 * time.Millisecond
		n.cfg.Node, n.cfg.Peers = n.id, n
		n.cfg.Caller = func(r *http.Request) (id cairn.NodeID, err error) {
			return id, id.UnmarshalText([]byte(r.Header.Get("Test-Node")))
		}
		c.nodes = append(c.nodes, n)
	}
	return c
}

// Peer makes a node the Peers of its group.
func (n *testNode) Peer(id cairn.NodeID) (*http.Client, string, error) {
	for _, o := range n.c.nodes {
		if o.id == id {
			o.mu.Lock()
			url := o.url
			o.mu.Unlock()
			if url == "" {
				return nil, "", fmt.Errorf("node %s does not run: %w", id, cairn.ErrUnavailable)
			}
			n.mu.Lock()
			trip := n.trip
			n.mu.Unlock()
			return &http.Client{Transport: &caller{trip, n.id}}, url, nil
		}
	}
	return nil, "", cairn.ErrNotFound
}

func (n *testNode) wrap(trip http.RoundTripper) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.trip = trip
}

// caller says who asks.
type caller struct {
	next http.RoundTripper
	id   cairn.NodeID
}

func (r *caller) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.Header.Set("Test-Node", r.id.String())
	return r.next.RoundTrip(req)
}

func (c *cluster) isCut(from, to int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut[[2]int{from, to}]
}

// setCut cuts or mends one direction between two nodes. Bytes sent over a cut are held back, as by a network that drops
// packets; the connection does not break by itself.
func (c *cluster) setCut(from, to int, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut[[2]int{from, to}] = cut
}

// isolate cuts a node off from all others, or mends that.
func (c *cluster) isolate(i int, cut bool) {
	for j := range c.nodes {
		if j != i {
			c.setCut(i, j, cut)
			c.setCut(j, i, cut)
		}
	}
}

func (c *cluster) dialer(from int) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := -1
		for _, n := range c.nodes {
			n.mu.Lock()
			if n.url == "http://"+addr {
				to = n.index
			}
			n.mu.Unlock()
		}
		for to >= 0 && (c.isCut(from, to) || c.isCut(to, from)) {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(5 * time.Millisecond):
			}
		}
		conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &cutConn{Conn: conn, c: c, from: from, to: to, closed: make(chan struct{})}, nil
	}
}

// cutConn holds bytes back while its direction is cut.
type cutConn struct {
	net.Conn
	c        *cluster
	from, to int
	once     sync.Once
	closed   chan struct{}
}

func (c *cutConn) wait(from, to int) error {
	for c.to >= 0 && c.c.isCut(from, to) {
		select {
		case <-c.closed:
			return net.ErrClosed
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (c *cutConn) Write(p []byte) (int, error) {
	if err := c.wait(c.from, c.to); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if e := c.wait(c.to, c.from); e != nil {
		return 0, e
	}
	return n, err
}

func (c *cutConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// start opens a node's group and serves it.
func (n *testNode) start() {
	n.c.t.Helper()
	g, err := Open(n.cfg, n.homes)
	if err != nil {
		n.c.t.Fatal(err)
	}
	srv := httptest.NewServer(g.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.g, n.srv, n.url = g, srv, srv.URL
	n.stopRun = func() {
		cancel()
		wg.Wait()
	}
}

// stop ends a node as a killed process would look to the others: its connections break.
func (n *testNode) stop() {
	n.mu.Lock()
	g, srv, stopRun := n.g, n.srv, n.stopRun
	n.g, n.srv, n.url = nil, nil, ""
	n.mu.Unlock()
	if g == nil {
		return
	}
	srv.CloseClientConnections()
	stopRun()
	if err := g.Close(); err != nil {
		n.c.t.Error("close:", err)
	}
	srv.CloseClientConnections()
	srv.Close()
}

// layVoters puts a voter of one group into the first home of each of the first n nodes, as if they had grown together.
func (c *cluster) layVoters(n int) {
	c.t.Helper()
	group := cairn.ClusterID(cairn.NewID()).String()
	table := (*members)(nil).clone()
	var ids []uint64
	for i := range n {
		ids = append(ids, newVoterID())
		table.Voters[voterName(ids[i])] = place{c.nodes[i].id, c.nodes[i].homes[0].Drive}
	}
	for i, node := range c.nodes {
		if i > 0 {
			node.cfg.Seeds = []cairn.NodeID{c.nodes[0].id}
		}
		if i >= n {
			continue
		}
		cfg, err := node.cfg.withDefaults()
		if err != nil {
			c.t.Fatal(err)
		}
		g := &Group{cfg: cfg, shared: newShared(1 << 20)}
		f := voterFile{Format: fileFormat, Cluster: cfg.Cluster, Group: group, Voter: voterName(ids[i])}
		err = g.makeVoter(node.homes[0], f, firstPosition, func(dir string) error {
			return createState(&g.cfg, g.shared, dir, firstPosition, votersConf(ids), table)
		})
		if err == nil {
			err = writeJSON(cfg.FS, node.homes[0].Dir, groupName, groupFile{Format: fileFormat, Cluster: cfg.Cluster, Group: group})
		}
		if err != nil {
			c.t.Fatal(err)
		}
		g.shared.close()
	}
}

func (c *cluster) startAll() {
	for _, n := range c.nodes {
		n.start()
	}
}

// leader waits for a node that leads.
func (c *cluster) leader() *testNode {
	c.t.Helper()
	for range 3000 {
		for _, n := range c.nodes {
			if g := n.group(); g != nil && g.Leads() {
				return n
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("no leader")
	return nil
}

func threeVoters(t testing.TB, nodes int) *cluster {
	c := newCluster(t, nodes, 1)
	c.layVoters(3)
	c.startAll()
	return c
}

// Every node reads what any node wrote, at once: the leader's, a follower's, and one without a voter.
func TestNodesAgree(t *testing.T) {
	c := threeVoters(t, 4)
	for i := range 40 {
		key, value := fmt.Sprint("k", i), fmt.Sprint("v", i)
		put(t, c.nodes[i%4].group(), key, value)
		for _, n := range c.nodes {
			if got, found := mustGet(t, n.group(), key); !found || got != value {
				t.Fatalf("node %d reads %q, %v; want %q", n.index, got, found, value)
			}
		}
	}
	for _, n := range c.nodes {
		node, _ := n.group().Leader()
		if want := c.leader().id; node != want {
			t.Errorf("node %d: leader is %s, want %s", n.index, node, want)
		}
	}
}

// Counters that all nodes raise by reading and writing lose nothing: a conflict is seen wherever the batch comes from.
func TestNodesConflict(t *testing.T) {
	c := threeVoters(t, 4)
	const rounds = 15
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		for range 2 {
			wg.Go(func() {
				for range rounds {
					if err := incrementSettled(t.Context(), n.group(), "counter"); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	got, _ := mustGet(t, c.nodes[3].group(), "counter")
	if got != fmt.Sprint(len(c.nodes)*2*rounds) {
		t.Errorf("counter is %s, want %d", got, len(c.nodes)*2*rounds)
	}
}

func incrementSettled(ctx context.Context, g *Group, key string) error {
	for {
		w, err := g.View(ctx)
		if err != nil {
			return err
		}
		var n int
		row, found, err := w.Get([]byte(key), nil)
		index := w.Index
		w.Close()
		if errors.Is(err, ErrMoved) {
			continue
		}
		if err != nil {
			return err
		}
		if found {
			fmt.Sscan(string(row), &n)
		}
		b := &Batch{ReadIndex: index, RequestID: newVoterID()}
		b.Check([]byte(key))
		b.Put([]byte(key), fmt.Append(nil, n+1))
		if _, err = g.Commit(ctx, b); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// A node without a voter walks many pages of one state, forward and by seeks, whatever is written meanwhile.
func TestFarWalk(t *testing.T) {
	c := threeVoters(t, 4)
	lead, far := c.leader().group(), c.nodes[3].group()
	const rows = 3000
	b := &Batch{}
	for i := range rows {
		b.Put(fmt.Appendf(nil, "row%05d", i), bytes.Repeat([]byte{'a'}, 100))
	}
	if _, err := lead.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	w, err := far.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	n := 0
	err = w.Walk([]byte("row"), []byte("rox"), func(cur Cursor) error {
		b := &Batch{}
		b.DeleteRange([]byte("row01000"), []byte("rox"))
		b.Put([]byte("row00000x"), []byte("new"))
		if _, err := lead.Commit(t.Context(), b); err != nil {
			return err
		}
		for ; cur.Valid(); cur.Next() {
			if want := fmt.Sprintf("row%05d", n); string(cur.Key()) != want {
				t.Fatalf("row %d is %s", n, cur.Key())
			}
			n++
		}
		return nil
	})
	if err != nil || n != rows {
		t.Errorf("walked %d rows, %v; want %d of the state at its beginning", n, err, rows)
	}
	var seen []string
	err = w.Walk([]byte("row"), []byte("rox"), func(cur Cursor) error {
		for _, k := range []string{"row00000", "row00000a", "row00005", "row00900", "row00901", "zzz"} {
			if cur.SeekGE([]byte(k)) {
				seen = append(seen, string(cur.Key()))
			}
		}
		return nil
	})
	if want := "[row00000 row00000x row00005 row00900 row00901]"; err != nil || fmt.Sprint(seen) != want {
		t.Errorf("seeks found %v, %v; want %s", seen, err, want)
	}
	if held := len(lead.walks.list); held != 0 {
		t.Errorf("%d walks are still held", held)
	}
}

// What does not belong is refused: another cluster, another format, a voter's message from a node that it does not live on.
func TestStrangersRefused(t *testing.T) {
	c := threeVoters(t, 3)
	c.leader()
	ask := func(change func(h http.Header)) int {
		n := c.nodes[0]
		client, base, err := n.Peer(c.nodes[1].id)
		if err != nil {
			t.Fatal(err)
		}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/meta/where", nil)
		n.group().sign(req.Header)
		change(req.Header)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(func(http.Header) {}); got != http.StatusOK {
		t.Errorf("a node of the cluster: status %d", got)
	}
	for name, change := range map[string]func(h http.Header){
		"another cluster": func(h http.Header) { h.Set(clusterHeader, cairn.ClusterID{9}.String()) },
		"another format":  func(h http.Header) { h.Set(formatHeader, "999") },
	} {
		if got := ask(change); got < 400 {
			t.Errorf("%s: status %d", name, got)
		}
	}
	g := c.nodes[0].group()
	for id := range *c.nodes[1].group().voters.Load() {
		if err := g.learnOrigin(id, c.nodes[2].id); !errors.Is(err, cairn.ErrForbidden) {
			t.Errorf("a voter's message from another node: %v", err)
		}
		if err := g.learnOrigin(id, c.nodes[1].id); err != nil {
			t.Error(err)
		}
	}
}

// nodesHistory runs clients on all nodes, and disturb beside them, and checks that it all fits one order.
func nodesHistory(t *testing.T, c *cluster, d time.Duration, disturb func(ctx context.Context)) {
	const keys = 3
	var mu sync.Mutex
	var ops []porcupine.Operation
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for i := range 2 * len(c.nodes) {
		wg.Go(func() {
			n := c.nodes[i%len(c.nodes)]
			for k := 0; ctx.Err() == nil; k++ {
				g := n.group()
				if g == nil {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				in := register{write: (i+k)%2 == 0, key: k % keys, value: fmt.Sprintf("%d.%d", i, k)}
				op := porcupine.Operation{ClientId: i, Input: in, Call: int64(time.Since(start))}
				opCtx, done := context.WithTimeout(t.Context(), 10*time.Second)
				out, err := doRegister(opCtx, g, in)
				done()
				op.Output, op.Return = out, int64(time.Since(start))
				if err != nil && in.write {
					op.Return = 1 << 62 // it may take effect at any time
				} else if err != nil {
					continue
				}
				mu.Lock()
				ops = append(ops, op)
				mu.Unlock()
				if err != nil {
					return // the client's next operation would overlap this one
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	disturb(ctx)
	wg.Wait()
	if len(ops) < 100 {
		t.Errorf("only %d operations", len(ops))
	}
	if r := porcupine.CheckOperationsTimeout(registers, ops, time.Minute); r != porcupine.Ok {
		t.Errorf("history of %d operations is not linearizable: %v", len(ops), r)
	}
}

// Reads are never stale while leaders are cut off, in one direction and in both, and come back.
func TestNodesLinearizable(t *testing.T) {
	c := threeVoters(t, 4)
	c.leader()
	var took []time.Duration
	nodesHistory(t, c, 6*time.Second, func(ctx context.Context) {
		for round := 0; ctx.Err() == nil; round++ {
			lead := c.leader()
			began := time.Now()
			switch round % 3 {
			case 0:
				c.isolate(lead.index, true)
			case 1:
				for j := range c.nodes {
					c.setCut(lead.index, j, j != lead.index) // it hears, and is not heard
				}
			case 2:
				for j := range c.nodes {
					c.setCut(j, lead.index, j != lead.index)
				}
			}
			other := c.nodes[(lead.index+1)%3]
			b := &Batch{RequestID: newVoterID()}
			b.Put([]byte("elsewhere"), fmt.Append(nil, round))
			if _, err := other.group().Commit(t.Context(), b); err != nil {
				t.Error(err)
			}
			took = append(took, time.Since(began))
			c.isolate(lead.index, false)
			select {
			case <-ctx.Done():
			case <-time.After(300 * time.Millisecond):
			}
		}
	})
	t.Log("leaders cut off, a write elsewhere took:", took)
}

// readOn reads as package meta does: at another voter when one goes away.
func readOn(ctx context.Context, g *Group, key string) (err error) {
	for range 9 {
		var w *View
		if w, err = g.View(ctx); err != nil {
			return err
		}
		_, _, err = w.Get([]byte(key), nil)
		w.Close()
		if !errors.Is(err, ErrMoved) {
			break
		}
	}
	return err
}

// A request that is repeated because its leader went away takes effect once, and reads beside it do not fail.
func TestRepeatAcrossLeaders(t *testing.T) {
	c := threeVoters(t, 4)
	far := c.nodes[3].group()
	var stop atomic.Bool
	var done int64
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			b := &Batch{RequestID: newVoterID()}
			b.Add([]byte("sum"), 1)
			if _, err := far.Commit(t.Context(), b); err != nil {
				t.Error(err)
				return
			}
			done++
		}
	})
	wg.Go(func() {
		for !stop.Load() {
			if err := readOn(t.Context(), far, "sum"); err != nil {
				t.Errorf("read: %v", err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	for range 3 {
		lead := c.leader()
		lead.stop()
		put(t, c.nodes[(lead.index+1)%3].group(), "after", "kill")
		lead.start()
	}
	stop.Store(true)
	wg.Wait()
	row, _ := mustGet(t, far, "sum")
	if got, err := Counters([]byte(row)); err != nil || len(got) != 1 || got[0] != done {
		t.Errorf("sum is %v, %v; %d additions were acknowledged", got, err, done)
	}
}
