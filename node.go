package cairn

import (
	"fmt"
	"strings"
	"time"
)

// Node is the committed record of a node: one process of the cluster, with its directory, address and roles.
type Node struct {
	ID   NodeID `json:"id"`
	Name string `json:"name"` // for people; unique among nodes that are not removed
	// Addr is where other nodes reach its interconnect, host:port.
	Addr string `json:"addr"`
	// Gossip is where they reach its part in the gossip, host:port; empty if it has none.
	Gossip string `json:"gossip,omitempty"`
	Roles  Roles  `json:"roles"`
	Zone   string `json:"zone,omitempty"`
	Rack   string `json:"rack,omitempty"` // unique within its zone
	// Epoch counts the changes of this record. A change names the epoch that it was decided on and fails if there is a later one.
	Epoch      Epoch     `json:"epoch"`
	State      NodeState `json:"state"`
	StateSince time.Time `json:"state_since"`
	Reason     string    `json:"reason,omitempty"` // why the state is what it is
	JoinedAt   time.Time `json:"joined_at"`
	// Version is the program's, Format the number of the wire and disk formats that the node speaks (FormatVersion).
	Version string `json:"version,omitempty"`
	Format  int    `json:"format"`
	// History is when the state became what and why, oldest first, the current state last; meta keeps it, and keeps the
	// last MaxNodeHistory.
	History []NodeChange `json:"history,omitempty"`
}

// NodeChange is one change of a node's state.
type NodeChange struct {
	State  NodeState `json:"state"`
	At     time.Time `json:"at"`
	Reason string    `json:"reason,omitempty"`
}

// MaxNodeHistory bounds the changes that a node's record remembers.
const MaxNodeHistory = 20

// FormatVersion is the number of the formats on the wire and on disk that this program writes. A node joins a cluster of
// the same number, or of the one before.
const FormatVersion = 1

// Domains are the node's failure domains, widest first: zone, rack, node. One that was not given is the empty string, which
// all nodes that were not given one share.
func (n Node) Domains() []string { return []string{n.Zone, n.Rack, n.ID.String()} }

// Validate refuses a record that could not be shown, reached or placed on.
func (n Node) Validate() error {
	refuse := func(why string) error {
		return &Error{Op: "node", Subject: n.ID.String(), Err: fmt.Errorf("%s: %w", why, ErrInvalid)}
	}
	switch {
	case n.ID.IsZero():
		return refuse("it has no ID")
	case n.Roles == 0 || n.Roles&^AllRoles != 0:
		return refuse("it needs one role or more of meta, data, gateway")
	case int(n.State) >= len(nodeStateNames):
		return refuse("unknown state")
	}
	for _, s := range []string{n.Name, n.Zone, n.Rack} {
		if len(s) > MaxNodeName || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == ',' }) {
			return refuse(fmt.Sprintf("name, zone and rack are at most %d bytes without spaces, slashes and commas", MaxNodeName))
		}
	}
	return nil
}

// MaxNodeName bounds a node's name, zone and rack in bytes: they travel in Serf's tags.
const MaxNodeName = 63

// IsZero tells whether the identifier is unset.
func (id NodeID) IsZero() bool { return id == NodeID{} }

// IsZero tells whether the identifier is unset.
func (id ClusterID) IsZero() bool { return id == ClusterID{} }

// NodeState is how the cluster sees a node. Each change is a commit.
type NodeState uint8

// The states of a node.
const (
	NodeJoining  NodeState = iota // admitted, and not heard of since
	NodeUp                        // takes part
	NodeSuspect                   // may be gone: no new writes go to it
	NodeDown                      // gone: reads go around it at once
	NodeOut                       // gone for long: its shards are rebuilt elsewhere
	NodeDraining                  // up, and being emptied
	NodeRemoved                   // for good: its certificate is refused, its ID never comes back
)

var nodeStateNames = [...]string{"joining", "up", "suspect", "down", "out", "draining", "removed"}

// String prints the state's name.
func (s NodeState) String() string {
	if int(s) < len(nodeStateNames) {
		return nodeStateNames[s]
	}
	return "unknown"
}

// MarshalText prints the state's name for JSON.
func (s NodeState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (s *NodeState) UnmarshalText(b []byte) error {
	for i, n := range nodeStateNames {
		if n == string(b) {
			*s = NodeState(i)
			return nil
		}
	}
	return &Error{Op: "parse node state", Subject: string(b), Err: ErrInvalid}
}

// Roles is a set of what a node does.
type Roles uint8

// The roles.
const (
	RoleMeta    Roles = 1 << iota // may carry metadata voters, and keeps the cluster's certificate authority
	RoleData                      // serves shards on drives
	RoleGateway                   // serves clients

	AllRoles = RoleMeta | RoleData | RoleGateway
)

var roleNames = [...]string{"meta", "data", "gateway"}

// ParseRoles reads "meta,data,gateway" or a part of it.
func ParseRoles(s string) (r Roles, err error) {
names:
	for name := range strings.SplitSeq(s, ",") {
		for i, n := range roleNames {
			if strings.TrimSpace(name) == n {
				r |= 1 << i
				continue names
			}
		}
		return 0, &Error{Op: "parse roles", Subject: s, Err: fmt.Errorf("%q is none of meta, data, gateway: %w", name, ErrInvalid)}
	}
	return r, nil
}

// Has tells whether all roles of want are in r.
func (r Roles) Has(want Roles) bool { return r&want == want }

// String prints the names, separated by commas.
func (r Roles) String() string {
	var names []string
	for i, n := range roleNames {
		if r.Has(1 << i) {
			names = append(names, n)
		}
	}
	return strings.Join(names, ",")
}

// MarshalText prints the names for JSON.
func (r Roles) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (r *Roles) UnmarshalText(b []byte) (err error) {
	if *r = 0; len(b) > 0 {
		*r, err = ParseRoles(string(b))
	}
	return err
}
