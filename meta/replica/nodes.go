package replica

import "cairn"

// Leader returns the node whose voter leads, and its term; zeros while that is not known.
func (g *Group) Leader() (node cairn.NodeID, term uint64) {
	r := g.routeNow()
	return r.node, r.term
}

// Leads tells whether a voter of this process leads, as far as it knows: another may have been elected meanwhile. What must
// not be done twice needs a commit that can be done once only.
func (g *Group) Leads() bool {
	v, _ := g.leaderNow()
	return v != nil
}

// News returns a channel that is closed when leadership, members or failures change. Take it before looking.
func (g *Group) News() <-chan struct{} { return g.nextNews() }
