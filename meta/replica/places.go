package replica

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"cairn"
)

// membersKey is the row that tells where voters live. It is replicated like any other, and written by the leader before
// the voter it tells of becomes a member.
var membersKey = []byte{0, 'm'}

const membersFormat = 1

// members is the row's content.
type members struct {
	Format int              `json:"format"`
	Voters map[string]place `json:"voters"` // by voterName
	// Barred nodes get no voter, and those they carry move away.
	Barred []cairn.NodeID `json:"barred,omitempty"`

	nodes map[uint64]cairn.NodeID // of Voters by ID, as decoded
}

// place is where a voter lives.
type place struct {
	Node  cairn.NodeID  `json:"node"`
	Drive cairn.DriveID `json:"drive"`
}

func (m *members) encode() []byte {
	m.Format = membersFormat
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // IDs and numbers always encode
	}
	return b
}

func decodeMembers(row []byte) (*members, error) {
	m := &members{}
	if err := json.Unmarshal(row, m); err != nil {
		return nil, fmt.Errorf("row of members: %w: %w", err, cairn.ErrCorrupt)
	}
	if m.Format != membersFormat {
		return nil, fmt.Errorf("row of members has format %d, this program knows %d: %w", m.Format, membersFormat, cairn.ErrInvalid)
	}
	m.nodes = make(map[uint64]cairn.NodeID, len(m.Voters))
	for name, p := range m.Voters {
		var id uint64
		if _, err := fmt.Sscanf(name, "%x", &id); err != nil {
			return nil, fmt.Errorf("row of members names voter %q: %w", name, cairn.ErrCorrupt)
		}
		m.nodes[id] = p.Node
	}
	return m, nil
}

// clone is a copy that may be changed.
func (m *members) clone() *members {
	c := &members{Format: membersFormat, Voters: make(map[string]place)}
	if m != nil {
		maps.Copy(c.Voters, m.Voters)
		c.Barred = append(c.Barred, m.Barred...)
	}
	return c
}

// carriers lists the nodes that carry voters, in order.
func (m *members) carriers() []cairn.NodeID {
	seen := make(map[cairn.NodeID]bool)
	var list []cairn.NodeID
	if m == nil {
		return nil
	}
	for _, p := range m.Voters {
		if !seen[p.Node] {
			seen[p.Node] = true
			list = append(list, p.Node)
		}
	}
	slices.SortFunc(list, compareNodes)
	return list
}

// learnMembers takes a voter's row, if it is newer than what is known.
func (g *Group) learnMembers(index uint64, m *members) {
	g.mu.Lock()
	if index >= g.membersAt {
		g.membersAt = index
		g.table.Store(m)
	}
	g.mu.Unlock()
}

// nodeOf returns the node that a voter lives on: this one if it runs here, else what the row of members says, else the node
// from which its messages come.
func (g *Group) nodeOf(id uint64) (cairn.NodeID, bool) {
	if g.voter(id) != nil {
		return g.cfg.Node, true
	}
	if m := g.table.Load(); m != nil {
		if n, ok := m.nodes[id]; ok {
			return n, true
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n, ok := g.origins[id]
	return n, ok
}

// maxOrigins bounds what is remembered of voters that the row does not name yet.
const maxOrigins = 64

// learnOrigin notes from where an unknown voter's messages come, and refuses those of a voter that lives elsewhere.
func (g *Group) learnOrigin(id uint64, from cairn.NodeID) error {
	if n, known := g.nodeOf(id); known {
		if n != from {
			return fmt.Errorf("voter %s lives on node %s, not on %s: %w", voterName(id), n, from, cairn.ErrForbidden)
		}
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.origins) >= maxOrigins {
		clear(g.origins)
	}
	g.origins[id] = from
	return nil
}
