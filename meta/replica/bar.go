package replica

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"cairn"
)

// barRequest asks the leader to let a node carry voters, or not.
type barRequest struct {
	Node   cairn.NodeID `json:"node"`
	Barred bool         `json:"barred"`
}

// AddVoter lets a node carry a voter: one is made there as soon as the set of voters is better with it. Errors: ErrNotFound
// (the node offers no home), ErrQuorum, ErrUnavailable, ErrCanceled.
func (g *Group) AddVoter(ctx context.Context, node cairn.NodeID) error {
	return g.bar(ctx, "bar", g.serveBar, barRequest{Node: node})
}

// RemoveVoter lets a node carry no voter any more: those that it has move to other nodes. Errors: ErrPrecondition (too few
// nodes would be left), ErrQuorum, ErrUnavailable, ErrCanceled.
func (g *Group) RemoveVoter(ctx context.Context, node cairn.NodeID) error {
	return g.bar(ctx, "bar", g.serveBar, barRequest{Node: node, Barred: true})
}

// MayRemoveVoter tells why RemoveVoter would refuse, and changes nothing. Errors: those of RemoveVoter.
func (g *Group) MayRemoveVoter(ctx context.Context, node cairn.NodeID) error {
	return g.bar(ctx, "maybar", g.serveMayBar, barRequest{Node: node, Barred: true})
}

// bar puts a request to the leader: by a call named what, or by here if the leader is in this process.
func (g *Group) bar(ctx context.Context, what string, here callHandler, q barRequest) error {
	if g.links == nil {
		return fmt.Errorf("all voters are of this process: start it with an address to have other nodes: %w", cairn.ErrPrecondition)
	}
	body, err := json.Marshal(q)
	if err != nil {
		return err
	}
	for {
		r, err := g.route(ctx)
		if err != nil {
			return err
		}
		if r.v != nil {
			_, err = here(ctx, g.cfg.Node, body)
		} else if _, err = g.callLeader(ctx, r, what, body); err != nil {
			err = g.lostWay(ctx, r.node, err)
		}
		if err == nil || ctx.Err() != nil || !errors.Is(err, errNotLeader) && !errors.Is(err, errUnknown) && !errors.Is(err, ErrConflict) {
			return err
		}
		if err := g.unconfirmed(ctx); err != nil {
			return err
		}
	}
}

// serveBar decides at the leader. Asking again is safe: it sets what is wanted.
func (g *Group) serveBar(ctx context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	var q barRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	g.keep.Lock()
	defer g.keep.Unlock()
	r := g.takeRoster()
	if r == nil {
		return nil, errNotLeader // or members change just now: asked again
	}
	index := r.lead.applied.Load()
	m := g.table.Load().clone()
	l := g.layout(r, g.homesNow())
	was := l.barred[q.Node]
	m.Barred = slices.DeleteFunc(m.Barred, func(n cairn.NodeID) bool { return n == q.Node })
	if q.Barred {
		if err := l.mayLose(q.Node); err != nil {
			return nil, err
		}
		m.Barred = append(m.Barred, q.Node)
	} else if !l.live[q.Node] && !was {
		return nil, fmt.Errorf("node %s offers no home for a voter: it must run with the meta role and have a drive: %w", q.Node, cairn.ErrNotFound)
	}
	b := &Batch{ReadIndex: index, RequestID: newVoterID()}
	b.Check(membersKey)
	b.Put(membersKey, m.encode())
	_, err := r.lead.commit(ctx, b)
	return nil, err
}

// serveMayBar judges at the leader whether a node may be barred. It is a call of its own: a leader of an earlier release must
// not take the question for the request.
func (g *Group) serveMayBar(_ context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	var q barRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("%w: %w", err, cairn.ErrInvalid)
	}
	g.keep.Lock()
	defer g.keep.Unlock()
	r := g.takeRoster()
	if r == nil {
		return nil, errNotLeader // or members change just now: asked again
	}
	return nil, g.layout(r, g.homesNow()).mayLose(q.Node)
}

// mayLose tells why a node must go on carrying voters; nil if it need not.
func (l *layout) mayLose(node cairn.NodeID) error {
	elsewhere := 0
	carries := false
	for _, id := range l.voters {
		if l.nodeOf[id] == node {
			carries = true
		} else {
			elsewhere++
		}
	}
	if !carries {
		return nil
	}
	nodes := l.nodes()
	delete(nodes, node)
	live := 0
	for n := range nodes {
		if l.live[n] {
			live++
		}
	}
	switch {
	case elsewhere == 0 && len(nodes) < 3:
		return fmt.Errorf("node %s carries the last voters of the metadata: let two more nodes join with the meta role first: %w", node, cairn.ErrPrecondition)
	case len(nodes) < 3:
		return fmt.Errorf("%d nodes would be left to carry voters, and the loss of one would stop the metadata: let another node join with the meta role first: %w",
			len(nodes), cairn.ErrPrecondition)
	case live < min(l.asked, len(nodes))/2+1 || live < 3:
		return fmt.Errorf("only %d of the %d other nodes that could carry voters are there: bring them back first: %w", live, len(nodes), cairn.ErrPrecondition)
	}
	return nil
}
