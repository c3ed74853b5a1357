package replica

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

// Headers of what nodes say to each other about metadata.
const (
	formatHeader  = "Cairn-Meta-Format"
	clusterHeader = "Cairn-Cluster"
	groupHeader   = "Cairn-Meta-Group"
	outcomeHeader = "Cairn-Meta-Outcome" // names an error of wireErrors
)

// wireErrors are the errors that callers tell apart and that are no kinds of their own.
var wireErrors = map[string]error{
	"conflict": ErrConflict, "not-leader": errNotLeader, "unknown": errUnknown, "moved": ErrMoved, "no-voter": errNoVoter,
}

// errNoVoter: the node that was asked carries no voter.
var errNoVoter = fmt.Errorf("no voter runs on this node: %w", cairn.ErrUnavailable)

const (
	// callPatience is how long one call may take before another node is asked.
	callPatience = 1500 * time.Millisecond
	// shunFor is how long a node that did not answer is not asked again, while there are others.
	shunFor       = 500 * time.Millisecond
	lookPause     = 100 * time.Millisecond
	maxReplyBytes = 40 << 20
)

// compass is what a node knows of where to go when it cannot tell by a voter of its own.
type compass struct {
	mu      sync.Mutex
	look    longLock // held while others are asked
	looked  time.Time
	leader  cairn.NodeID
	term    uint64
	voters  []cairn.NodeID
	shunned map[cairn.NodeID]time.Time
}

// bearing is a node's answer to where the leader is.
type bearing struct {
	Leader cairn.NodeID   `json:"leader"`
	Term   uint64         `json:"term"`
	Voters []cairn.NodeID `json:"voters"`
}

func (c *compass) note(b bearing) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(b.Voters) > 0 && b.Term >= c.term {
		c.voters = b.Voters
	}
	if !b.Leader.IsZero() && b.Term >= c.term {
		c.leader, c.term = b.Leader, b.Term
	}
}

// shun remembers that a node did not answer, or not as a leader does.
func (c *compass) shun(node cairn.NodeID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shunned == nil {
		c.shunned = make(map[cairn.NodeID]time.Time)
	}
	c.shunned[node] = time.Now()
}

func (c *compass) shuns(node cairn.NodeID) bool { return time.Since(c.shunned[node]) < shunFor }

// leaderNow returns the leader's node, unless it has not answered lately.
func (c *compass) leaderNow() (cairn.NodeID, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leader.IsZero() || c.shuns(c.leader) {
		return cairn.NodeID{}, 0
	}
	return c.leader, c.term
}

// anyVoter returns a node with a voter that is not shunned.
func (c *compass) anyVoter() cairn.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range c.voters {
		if !c.shuns(n) {
			return n
		}
	}
	return cairn.NodeID{}
}

// route is the way to the leader: its voter if it runs here, else its node.
type route struct {
	v    *voter
	node cairn.NodeID
	term uint64
}

func (r route) known() bool { return r.v != nil || !r.node.IsZero() }

// routeNow returns the way to the leader as it is known here.
func (g *Group) routeNow() route {
	if v, term := g.leaderNow(); v != nil {
		return route{v: v, node: g.cfg.Node, term: term}
	}
	if g.links == nil {
		return route{}
	}
	if v := g.follower(); v != nil {
		if n, ok := g.nodeOf(v.leader.Load()); ok && n != g.cfg.Node {
			return route{node: n, term: v.term.Load()}
		}
		return route{} // it leads and is about to be ready, or nobody knows where it is
	}
	if n, term := g.compass.leaderNow(); !n.IsZero() && n != g.cfg.Node {
		return route{node: n, term: term}
	}
	return route{}
}

// follower returns a voter of this process that knows a leader, the one of the latest term.
func (g *Group) follower() (best *voter) {
	var at uint64
	for _, v := range *g.voters.Load() {
		if t := v.term.Load(); !v.failed() && v.leader.Load() != 0 && t > at {
			best, at = v, t
		}
	}
	return best
}

// route waits until the way to the leader is known. Errors: ErrQuorum, ErrCanceled, ErrUnavailable.
func (g *Group) route(ctx context.Context) (route, error) {
	if r := g.routeNow(); r.known() {
		return r, nil
	}
	patience := time.NewTimer(leaderPatience)
	defer patience.Stop()
	for {
		news := g.nextNews()
		g.lookAround(ctx)
		if r := g.routeNow(); r.known() {
			return r, nil
		}
		if g.isClosed() {
			return route{}, errClosed
		}
		var again <-chan time.Time
		if g.links != nil {
			again = time.After(lookPause)
		}
		select {
		case <-news:
		case <-again:
		case <-ctx.Done():
			return route{}, fmt.Errorf("no leader: %w: %w", ctx.Err(), cairn.ErrCanceled)
		case <-patience.C:
			return route{}, fmt.Errorf("no leader for %v: %w: %w", leaderPatience, cairn.ErrQuorum, cairn.ErrUnavailable)
		}
	}
}

// lookAround asks the nodes that carry voters, as far as known, where the leader is. It returns at the first good answer.
func (g *Group) lookAround(ctx context.Context) {
	c := &g.compass
	if g.links == nil || g.follower() != nil {
		return
	}
	c.look.Lock()
	defer c.look.Unlock()
	if n, _ := c.leaderNow(); !n.IsZero() || time.Since(c.looked) < lookPause {
		return
	}
	c.looked = time.Now()
	nodes := g.others()
	answers := make(chan bearing, len(nodes))
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, n := range nodes {
		wg.Go(func() {
			var b bearing
			if reply, err := g.call(ctx, n, "where", nil); err == nil {
				_ = json.Unmarshal(reply, &b) // what it does not say stays unknown
			}
			answers <- b
		})
	}
	for range nodes {
		b := <-answers
		if b.Leader == g.cfg.Node {
			b.Leader = cairn.NodeID{} // it did once, and the others have not noticed yet
		}
		c.note(b)
		if n, _ := c.leaderNow(); !n.IsZero() {
			return
		}
	}
}

// maxAsked bounds how many nodes are asked at once.
const maxAsked = 16

// SetSeeds tells which nodes may carry voters, from now on instead of Config.Seeds: a node that only reads and commits at others
// learns of no change of voters while the leader answers it, and must know whom to ask when that one is gone.
func (g *Group) SetSeeds(nodes []cairn.NodeID) {
	nodes = slices.Clone(nodes)
	g.seeds.Store(&nodes)
}

// others lists nodes that may carry voters.
func (g *Group) others() []cairn.NodeID {
	g.compass.mu.Lock()
	list := slices.Clone(g.compass.voters)
	g.compass.mu.Unlock()
	list = slices.Concat(list, g.table.Load().carriers(), *g.seeds.Load())
	seen := map[cairn.NodeID]bool{g.cfg.Node: true}
	list = slices.DeleteFunc(list, func(n cairn.NodeID) bool {
		old := seen[n]
		seen[n] = true
		return old
	})
	return list[:min(len(list), maxAsked)]
}

// call asks another node. Errors: those of wireErrors, and the kinds that it answers with; ErrUnavailable if it does not.
func (g *Group) call(ctx context.Context, node cairn.NodeID, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	return g.callStream(ctx, node, what, bytes.NewReader(body))
}

func (g *Group) callStream(ctx context.Context, node cairn.NodeID, what string, body io.Reader) ([]byte, error) {
	client, base, err := g.cfg.Peers.Peer(node)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+pathPrefix+what, body)
	if err != nil {
		return nil, err
	}
	g.sign(req.Header)
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w: %w", node, err, cairn.ErrUnavailable)
	}
	defer resp.Body.Close()
	if err := rpc.ReadError(resp); err != nil {
		if known := wireErrors[resp.Header.Get(outcomeHeader)]; known != nil {
			return nil, fmt.Errorf("node %s: %w", node, known)
		}
		return nil, fmt.Errorf("node %s: %w", node, err)
	}
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReplyBytes+1))
	if err != nil {
		return nil, fmt.Errorf("node %s: %w: %w", node, err, cairn.ErrUnavailable)
	}
	if len(reply) > maxReplyBytes {
		return nil, fmt.Errorf("node %s answers with more than %d bytes: %w", node, maxReplyBytes, cairn.ErrTooLarge)
	}
	return reply, nil
}

// sign says for whom a request is.
func (g *Group) sign(h http.Header) {
	h.Set(formatHeader, wireFormat)
	h.Set(clusterHeader, g.cfg.Cluster.String())
	h.Set("Content-Type", "application/octet-stream")
}

// commitAt hands a batch to the leader's node.
func (g *Group) commitAt(ctx context.Context, r route, b *Batch) (Outcome, error) {
	reply, err := g.callLeader(ctx, r, "commit", encodeCommit(b, r.term))
	if err != nil {
		return Outcome{}, g.lostWay(ctx, r.node, err)
	}
	return decodeOutcome(reply)
}

// seenAt asks the leader's node for a request ID.
func (g *Group) seenAt(ctx context.Context, r route, id uint64) (o Outcome, found bool, err error) {
	reply, err := g.callLeader(ctx, r, "seen", strconv.AppendUint(nil, id, 10))
	if err != nil {
		return o, false, g.lostWay(ctx, r.node, err)
	}
	if len(reply) == 0 {
		return o, false, nil
	}
	o, err = decodeOutcome(reply)
	o.Repeat = true
	return o, true, err
}

// lostWay turns the failure of a call to the leader into errUnknown, or errNotLeader, where asking again helps.
func (g *Group) lostWay(ctx context.Context, node cairn.NodeID, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w: %w", errUnknown, ctx.Err(), cairn.ErrCanceled)
	}
	switch {
	case errors.Is(err, ErrConflict):
		return ErrConflict
	case errors.Is(err, errNotLeader), errors.Is(err, errNoVoter):
		g.compass.shun(node)
		return fmt.Errorf("%w: %w", errNotLeader, err)
	case errors.Is(err, errUnknown), errors.Is(err, cairn.ErrUnavailable), cairn.Kind(err) == nil, cairn.Kind(err) == cairn.ErrCanceled:
		g.compass.shun(node)
		return fmt.Errorf("%w: %w", errUnknown, err)
	}
	return err
}
