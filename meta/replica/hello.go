package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
)

// The leader alone decides who votes. Nodes with homes tell it twice a second what they have (hello), and learn from the
// answer what the leader knows of their voters (tidings): whether they are still members, and how far they have come.

const (
	helloEvery = 500 * time.Millisecond
	// askEvery is how often a node without homes asks for tidings.
	askEvery = 4 * helloEvery
	// helloFresh is how long a node counts as there after its last hello.
	helloFresh = 4 * helloEvery
	maxHellos  = 256
)

// hello is what a node has.
type hello struct {
	Homes []helloHome `json:"homes"`

	at time.Time
}

type helloHome struct {
	Drive  cairn.DriveID `json:"drive"`
	Usable bool          `json:"usable"`
	Voter  uint64        `json:"voter,omitempty"` // that runs on it
	// Seeded: the voter was made by this process and has not been a member yet.
	Seeded  bool   `json:"seeded,omitempty"`
	Applied uint64 `json:"applied,omitempty"`
	Path    string `json:"path,omitempty"`
	Doubt   bool   `json:"doubt,omitempty"`
	Busy    bool   `json:"busy,omitempty"` // not to be seeded now
}

// lacks tells whether a drive is there and carries no voter.
func (h *hello) lacks(drive cairn.DriveID) bool {
	return slices.ContainsFunc(h.Homes, func(hh helloHome) bool { return hh.Drive == drive && hh.Usable && hh.Voter == 0 })
}

// tidings is the leader's word about members.
type tidings struct {
	Voters   []uint64          `json:"voters"` // outgoing ones included
	Learners []uint64          `json:"learners"`
	First    uint64            `json:"first"`   // the first index that the leader's log still has
	Applied  uint64            `json:"applied"` // what the leader had applied before match was read
	Match    map[uint64]uint64 `json:"match"`
	Term     uint64            `json:"term"`             // in which match holds
	Nodes    []cairn.NodeID    `json:"nodes,omitempty"`  // that carry voters
	Status   *Status           `json:"status,omitempty"` // as the leader sees the group

	at time.Time
}

// hellos is what the leader has heard.
type hellos map[cairn.NodeID]*hello

// heardHellos returns those that are not too old.
func (g *Group) heardHellos() hellos {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make(hellos, len(g.hellos))
	for n, h := range g.hellos {
		if time.Since(h.at) < helloFresh {
			list[n] = h
		} else {
			delete(g.hellos, n)
		}
	}
	return list
}

// sayHello tells the leader on another node what this one has, until ctx ends.
func (g *Group) sayHello(ctx context.Context) {
	t := newTicker(helloEvery)
	defer t.Stop()
	for asked := (time.Time{}); ; {
		r := g.routeNow()
		if !r.known() {
			g.lookAround(ctx)
			r = g.routeNow()
		}
		if due := len(g.homesNow()) > 0 || time.Since(asked) >= askEvery; due && r.v == nil && r.known() {
			asked = time.Now()
			if err := g.helloTo(ctx, r); err != nil && ctx.Err() == nil {
				g.cfg.Logger.Debug("meta hello", "node", r.node, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func (g *Group) helloTo(ctx context.Context, r route) error {
	what, body := "tidings", []byte(nil)
	if len(g.homesNow()) > 0 {
		var err error
		if body, err = json.Marshal(g.ownHello()); err != nil {
			return err
		}
		what = votersPart + "hello"
	}
	reply, err := g.callLeader(ctx, r, what, body)
	if err != nil {
		g.compass.shun(r.node)
		return err
	}
	td := &tidings{at: time.Now()}
	if err := json.Unmarshal(reply, td); err != nil {
		return fmt.Errorf("tidings: %w: %w", err, cairn.ErrInvalid)
	}
	g.compass.note(bearing{Term: r.term, Voters: td.Nodes}) // where to ask when this leader is gone
	g.tidings.Store(td)
	g.told.Store(td)
	return nil
}

func (g *Group) ownHello() *hello {
	g.keep.Lock()
	defer g.keep.Unlock()
	h := &hello{at: time.Now()}
	voters := *g.voters.Load()
	for _, home := range g.homesNow() {
		hh := helloHome{Drive: home.Drive, Usable: home.Usable,
			Busy: g.beingSeeded(home.Dir) || time.Now().Before(g.keeping.seedAfter[home.Dir])}
		for id, v := range voters {
			if v.home.Dir == home.Dir && !v.failed() {
				hh.Voter, hh.Seeded, hh.Applied, hh.Path, hh.Doubt = id, g.keeping.seeded[id], v.applied.Load(), v.dir, v.doubtful.Load()
			}
		}
		h.Homes = append(h.Homes, hh)
	}
	return h
}

// serveHello notes what a node has, and answers with what the leader knows.
func (g *Group) serveHello(ctx context.Context, from cairn.NodeID, body []byte) ([]byte, error) {
	h := &hello{at: time.Now()}
	if err := json.Unmarshal(body, h); err != nil {
		return nil, fmt.Errorf("hello: %w: %w", err, cairn.ErrInvalid)
	}
	g.mu.Lock()
	if g.hellos == nil || len(g.hellos) >= maxHellos {
		g.hellos = make(hellos)
	}
	g.hellos[from] = h
	g.mu.Unlock()
	return g.serveTidings(ctx, from, nil)
}

// serveTidings answers with what the leader knows.
func (g *Group) serveTidings(ctx context.Context, _ cairn.NodeID, _ []byte) ([]byte, error) {
	lead, term := g.leaderNow()
	if lead == nil {
		return nil, errNotLeader
	}
	if !g.confirm(lead, term) && lead.readIndex(ctx, readPatience) != nil {
		return nil, errNotLeader
	}
	td := lead.tell()
	if td == nil {
		return nil, errNotLeader
	}
	st := g.Status()
	td.Status, td.Nodes = &st, g.table.Load().carriers()
	return json.Marshal(td)
}

// tell is what a leader knows of the members; nil if it has stopped.
func (v *voter) tell() *tidings {
	conf := v.conf.Load()
	td := &tidings{Voters: slices.Concat(conf.GetVoters(), conf.GetVotersOutgoing()), Learners: slices.Concat(conf.GetLearners(), conf.GetLearnersNext()),
		Applied: v.applied.Load(), Match: make(map[uint64]uint64)}
	_, td.First = v.log.Size()
	if !v.call(func(rn *raft.RawNode) {
		td.Term = v.leadTerm
		for id, p := range rn.Status().Progress {
			td.Match[id] = p.Match
		}
	}) {
		return nil
	}
	return td
}

// heed acts on the leader's word about the voters of this node. g.keep is held.
func (g *Group) heed(td *tidings) error {
	for id := range *g.voters.Load() {
		if td.has(id) {
			delete(g.keeping.seeded, id)
		}
	}
	if err := g.dismiss(td, nil); err != nil {
		return err
	}
	g.endDoubts(td)
	return nil
}

func (td *tidings) has(id uint64) bool {
	return slices.Contains(td.Voters, id) || slices.Contains(td.Learners, id)
}
