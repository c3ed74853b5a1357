package replica

import (
	"fmt"
	"net/http"

	"cairn"
	"cairn/internal/rpc"
)

// Handler serves the group to other nodes, under /meta/.
func (g *Group) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rpc.WriteError(w, fmt.Errorf("metadata is not served to other nodes yet: %w", cairn.ErrUnavailable))
	})
}

// Leader returns the node whose voter leads, and its term; zeros while that is not known.
func (g *Group) Leader() (node cairn.NodeID, term uint64) {
	if v, term := g.leaderNow(); v != nil {
		return g.cfg.Node, term
	}
	return cairn.NodeID{}, 0
}

// Leads tells whether a voter of this process leads, as far as it knows: another may have been elected meanwhile. What must
// not be done twice needs a commit that can be done once only.
func (g *Group) Leads() bool {
	v, _ := g.leaderNow()
	return v != nil
}

// News returns a channel that is closed when leadership, members or failures change. Take it before looking.
func (g *Group) News() <-chan struct{} { return g.nextNews() }
