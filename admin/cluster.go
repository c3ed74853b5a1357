package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn"
)

// Topology tells what the cluster is made of, and lets nodes in. Safe for concurrent use.
type Topology interface {
	// Nodes returns all nodes, removed ones too; a store of one process has one.
	Nodes(ctx context.Context) ([]cairn.Node, error)
	// Drives returns all drives that are known, retired ones too.
	Drives(ctx context.Context) ([]cairn.Drive, error)
	Volumes
	Tokens
	VoterPlan
	NodeVerdicts
}

// NodeVerdicts lets an operator decide about a node what the watcher would not by itself.
type NodeVerdicts interface {
	// NodeOut says that a node which is down is out: its shards are rebuilt elsewhere at once, however many nodes are away.
	// Errors: ErrNotFound, ErrPrecondition (it is not down).
	NodeOut(ctx context.Context, node cairn.NodeID) (cairn.Node, error)
}

// VoterPlan says which nodes may carry metadata voters. Both return when that is recorded; the voters move afterwards. They
// refuse what would leave the metadata without enough nodes.
type VoterPlan interface {
	AddVoter(ctx context.Context, node cairn.NodeID) error
	RemoveVoter(ctx context.Context, node cairn.NodeID) error
}

// Volumes lists volumes.
type Volumes interface {
	// Volumes returns up to max volumes with IDs above after, in order.
	Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error)
	// Volume returns one with what it holds. Errors: ErrNotFound.
	Volume(ctx context.Context, id cairn.VolumeID) (VolumeDetail, error)
}

// Tokens makes and lists join tokens.
type Tokens interface {
	CreateToken(ctx context.Context, roles cairn.Roles, life time.Duration) (NewToken, error)
	Tokens(ctx context.Context) ([]Token, error)
}

// VolumeDetail is one volume, the drives of its slots, and what it holds.
type VolumeDetail struct {
	cairn.Volume
	Blobs  int64         `json:"blobs"`
	Bytes  int64         `json:"bytes"` // of clients' data
	Drives []cairn.Drive `json:"drives"`
}

// NewToken is a join token in the only answer that shows its secret.
type NewToken struct {
	Token   string      `json:"token"`
	Roles   cairn.Roles `json:"roles"`
	Expires time.Time   `json:"expires"`
	Join    string      `json:"join"` // an address to join at
}

// Token is a join token without its secret.
type Token struct {
	ID      string       `json:"id"` // the beginning of the secret's hash
	Roles   cairn.Roles  `json:"roles"`
	Created time.Time    `json:"created"`
	Expires time.Time    `json:"expires"`
	Used    time.Time    `json:"used,omitzero"`
	Node    cairn.NodeID `json:"node,omitzero"` // that used it
}

// MaxTokenLife bounds how long a join token is good.
const MaxTokenLife = 7 * 24 * time.Hour

const maxVolumePage = 10_000

// clusterRoutes adds what is asked of a Topology.
func (s *Server) clusterRoutes(api register) {
	t := s.cfg.Topology
	api(Route{Pattern: "GET /api/v1/nodes", Action: "cairn:ListNodes", CLI: "node ls", What: "List all nodes, removed ones too.", Gives: []cairn.Node{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return t.Nodes(r.Context()) })
	api(Route{Pattern: "POST /api/v1/nodes/{node}/out", Action: "cairn:GiveNodeUp", CLI: "node out n1", What: "Give up a node that is down: its shards are rebuilt elsewhere at once.", Gives: cairn.Node{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			id, err := cairn.ParseID(r.PathValue("node"))
			if err != nil {
				return nil, err
			}
			return t.NodeOut(r.Context(), id)
		})
	api(Route{Pattern: "GET /api/v1/drives", Action: "cairn:ListDrives", CLI: "drive ls", What: "List all drives that are known, retired ones too.", Gives: []cairn.Drive{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return t.Drives(r.Context()) })
	api(Route{Pattern: "GET /api/v1/tokens", Action: "cairn:ListTokens", CLI: "token ls", What: "List join tokens, without their secrets.", Gives: []Token{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return t.Tokens(r.Context()) })
	api(Route{Pattern: "POST /api/v1/tokens", Action: "cairn:CreateToken", CLI: "token create", What: "Make a join token.", Gives: NewToken{}, Grants: true,
		Query: []Parameter{{"roles", "roles that it lets in, separated by commas"}, {"expires", "how long it is good, e.g. 1h"}}}, s.createToken)
	api(Route{Pattern: "GET /api/v1/volumes", Action: "cairn:ListVolumes", CLI: "volume ls", What: "List volumes by ID.", Gives: []cairn.Volume{},
		Query: []Parameter{{"after", "volume to begin behind"}, {"max", "volumes in the answer, up to 10000"}}}, s.volumes)
	api(Route{Pattern: "GET /api/v1/volumes/{id}", Action: "cairn:ListVolumes", CLI: "volume show v7", What: "Show one volume, its drives and what it holds.", Gives: VolumeDetail{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			id, err := parseVolume(r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			return t.Volume(r.Context(), id)
		})
	api(Route{Pattern: "PUT /api/v1/voters/{node}", Action: "cairn:ChangeVoters", CLI: "meta add n1", What: "Let a node carry metadata voters.", Gives: struct{}{}},
		voterChange(func(ctx context.Context, id cairn.NodeID) error { return t.AddVoter(ctx, id) }))
	api(Route{Pattern: "DELETE /api/v1/voters/{node}", Action: "cairn:ChangeVoters", CLI: "meta remove n1", What: "Let a node carry no metadata voters any more.", Gives: struct{}{}},
		voterChange(func(ctx context.Context, id cairn.NodeID) error { return t.RemoveVoter(ctx, id) }))
}

func voterChange(change func(context.Context, cairn.NodeID) error) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		id, err := cairn.ParseID(r.PathValue("node"))
		if err == nil {
			err = change(r.Context(), id)
		}
		return struct{}{}, err
	}
}

func (s *Server) createToken(_ http.ResponseWriter, r *http.Request) (any, error) {
	roles, err := cairn.ParseRoles(r.URL.Query().Get("roles"))
	if err != nil {
		return nil, err
	}
	life, err := time.ParseDuration(r.URL.Query().Get("expires"))
	if err != nil || life <= 0 || life > MaxTokenLife {
		return nil, &cairn.Error{Op: "admin.token", Subject: "expires",
			Err: fmt.Errorf("want a duration up to %v, e.g. 1h: %w", MaxTokenLife, cairn.ErrInvalid)}
	}
	return s.cfg.Topology.CreateToken(r.Context(), roles, life)
}

func (s *Server) volumes(_ http.ResponseWriter, r *http.Request) (any, error) {
	after, max := cairn.VolumeID(0), maxVolumePage
	q := r.URL.Query()
	var err error
	if text := q.Get("after"); text != "" {
		if after, err = parseVolume(text); err != nil {
			return nil, err
		}
	}
	if text := q.Get("max"); text != "" {
		if max, err = strconv.Atoi(text); err != nil || max < 1 || max > maxVolumePage {
			return nil, &cairn.Error{Op: "admin.volumes", Subject: "max " + text, Err: fmt.Errorf("want 1 to %d: %w", maxVolumePage, cairn.ErrInvalid)}
		}
	}
	return s.cfg.Topology.Volumes(r.Context(), after, max)
}

// parseVolume reads "v7" or "7".
func parseVolume(text string) (cairn.VolumeID, error) {
	id, err := strconv.ParseUint(strings.TrimPrefix(text, "v"), 10, 64)
	if err != nil {
		return 0, &cairn.Error{Op: "admin.volume", Subject: text, Err: fmt.Errorf("want a volume such as v7: %w", cairn.ErrInvalid)}
	}
	return cairn.VolumeID(id), nil
}
