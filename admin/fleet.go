package admin

import (
	"context"
	"net/http"

	"cairn"
)

// Fleet shrinks the cluster and levels it. Safe for concurrent use. What it refuses it refuses with ErrPrecondition,
// ErrUnavailable or ErrFull, and says what to do.
type Fleet interface {
	// DrainNode begins to empty a node: metadata voters first, then slots. With dry set it only says what that would take.
	DrainNode(ctx context.Context, node cairn.NodeID, dry bool) (NodeDrain, error)
	// UndrainNode calls that off, and lets the node take new slots and voters again.
	UndrainNode(ctx context.Context, node cairn.NodeID) (cairn.Node, error)
	// RemoveNode ends the membership of a node that holds nothing, for good; with dry set it only says whether it would.
	RemoveNode(ctx context.Context, node cairn.NodeID, dry bool) (cairn.Node, error)
	// Rebalance begins to make the drives equally full; with dry set it only says what that would take.
	Rebalance(ctx context.Context, dry bool) (Balance, error)
}

// NodeDrain is what emptying a node takes, and the job that does it.
type NodeDrain struct {
	Node   cairn.NodeID `json:"node"`
	Name   string       `json:"name"`
	Voters int          `json:"voters"`
	Slots  int          `json:"slots"`
	Bytes  int64        `json:"bytes"`         // about
	Job    *cairn.Job   `json:"job,omitempty"` // none of a dry run
}

// Balance tells how unevenly full the drives are, what levelling them takes, and the job that does it.
type Balance struct {
	// Spread is the difference between the fullest and the emptiest drive, as a share of the mean.
	Spread float64    `json:"spread"`
	Slots  int        `json:"slots"` // to move
	Bytes  int64      `json:"bytes"` // about
	Job    *cairn.Job `json:"job,omitempty"`
}

// fleetRoutes adds what is asked of a Fleet.
func (s *Server) fleetRoutes(api register) {
	f := s.cfg.Fleet
	dry := []Parameter{{"dry-run", "1: only say what it would take, or whether it would be refused"}}
	api(Route{Pattern: "POST /api/v1/nodes/{node}/drain", Action: "cairn:DrainNode", CLI: "node drain n1", What: "Begin to empty a node, or say what that would take.",
		Gives: NodeDrain{}, Query: dry}, nodeChange(func(ctx context.Context, id cairn.NodeID, dry bool) (any, error) { return f.DrainNode(ctx, id, dry) }))
	api(Route{Pattern: "DELETE /api/v1/nodes/{node}/drain", Action: "cairn:DrainNode", CLI: "node undrain n1", What: "Call a node's drain off, and use the node again.",
		Gives: cairn.Node{}}, nodeChange(func(ctx context.Context, id cairn.NodeID, _ bool) (any, error) { return f.UndrainNode(ctx, id) }))
	api(Route{Pattern: "DELETE /api/v1/nodes/{node}", Action: "cairn:RemoveNode", CLI: "node remove n1 --yes", What: "End the membership of a node that holds nothing.",
		Gives: cairn.Node{}, Query: dry}, nodeChange(func(ctx context.Context, id cairn.NodeID, dry bool) (any, error) { return f.RemoveNode(ctx, id, dry) }))
	api(Route{Pattern: "POST /api/v1/rebalance", Action: "cairn:Rebalance", CLI: "rebalance start", What: "Begin to make the drives equally full, or say what that would take.",
		Gives: Balance{}, Query: dry}, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return f.Rebalance(r.Context(), r.URL.Query().Get("dry-run") != "")
	})
	api(Route{Pattern: "GET /api/v1/rebalance", Action: "cairn:ListJobs", CLI: "rebalance status",
		What: "Show how unevenly full the drives are, and how far the last rebalance has come.", Gives: Balance{}}, s.balance)
}

// nodeChange reads the node's ID and whether it is only asked.
func nodeChange(do func(ctx context.Context, id cairn.NodeID, dry bool) (any, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		id, err := cairn.ParseID(r.PathValue("node"))
		if err != nil {
			return nil, err
		}
		return do(r.Context(), id, r.URL.Query().Get("dry-run") != "")
	}
}

// balance answers with how things stand and the job of the last rebalance, if there was one.
func (s *Server) balance(_ http.ResponseWriter, r *http.Request) (any, error) {
	b, err := s.cfg.Fleet.Rebalance(r.Context(), true)
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Jobs.Jobs(r.Context())
	for _, j := range all {
		if j.Kind == cairn.JobRebalance {
			b.Job = &j
		}
	}
	return b, err
}
