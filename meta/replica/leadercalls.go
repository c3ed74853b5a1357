package replica

import (
	"cmp"
	"context"
	"slices"
	"sync"
)

// leaderCalls are the calls to a leader on another node that are under way. One ends early when this node learns of another
// leader: nobody waits for the answer of a node that is cut off.
type leaderCalls struct {
	mu   sync.Mutex
	list map[*leaderCall]struct{}
	made uint64
}

type leaderCall struct {
	made   uint64 // the how many-th
	route  route
	cancel context.CancelFunc
}

// callLeader is call, to the node that leads as far as r tells.
func (g *Group) callLeader(ctx context.Context, r route, what string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l := &g.leaderCalls
	l.mu.Lock()
	l.made++
	c := &leaderCall{l.made, r, cancel}
	if l.list == nil {
		l.list = make(map[*leaderCall]struct{})
	}
	l.list[c] = struct{}{}
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.list, c)
		l.mu.Unlock()
	}()
	return g.call(ctx, r.node, what, body)
}

// endMisled ends the calls to leaders that are deposed by now, in the order in which they began.
func (g *Group) endMisled() {
	l := &g.leaderCalls
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.list) == 0 {
		return
	}
	r := g.routeNow()
	var misled []*leaderCall
	for c := range l.list {
		if r.known() && r != c.route {
			misled = append(misled, c)
		}
	}
	slices.SortFunc(misled, func(a, b *leaderCall) int { return cmp.Compare(a.made, b.made) })
	for _, c := range misled {
		c.cancel()
	}
}
