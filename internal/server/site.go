package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"cairn"
	"cairn/datanode"
	"cairn/internal/join"
	"cairn/internal/rpc"
	"cairn/membership"
	"cairn/meta"
)

// site is a process's place in a cluster of several: its identity, the way to the other nodes, and what it serves to them.
type site struct {
	papers    papers
	id        cairn.NodeID
	member    Member
	listener  net.Listener
	creds     *rpc.Credentials
	authority *rpc.Authority // nil without the meta role
	dialer    *rpc.Dialer
	server    *rpc.Server
	logger    *slog.Logger

	gossip     *membership.Serf             // nil: the cluster has no key for it
	nodes      atomic.Pointer[[]cairn.Node] // as committed, or as written down before the start
	registered atomic.Bool                  // the node's own row is as it should be
}

// openSite reads who the node is and whom it knew last.
func openSite(d *Directory, l net.Listener, logger *slog.Logger) (s *site, err error) {
	if l == nil {
		return nil, &cairn.Error{Op: "server.open", Err: fmt.Errorf("a member needs its interconnect's listener: %w", cairn.ErrInvalid)}
	}
	s = &site{papers: d.papers(), id: d.State.Node, member: *d.State.Member, listener: l, logger: logger}
	if s.creds, err = s.papers.credentials(); err != nil {
		return nil, err
	}
	if s.member.Roles.Has(cairn.RoleMeta) {
		if s.authority, err = s.papers.authority(); err != nil {
			return nil, err
		}
	}
	known, err := s.papers.nodes()
	if err != nil {
		return nil, err
	}
	s.dialer = rpc.NewDialer(s.creds)
	s.know(known)
	s.server = rpc.NewServer(s.creds, logger)
	return s, s.openGossip(d)
}

func (s *site) know(nodes []cairn.Node) {
	s.nodes.Store(&nodes)
	s.dialer.SetNodes(nodes)
}

// known returns the nodes that are members as far as this one knows.
func (s *site) known() []cairn.Node {
	return slices.DeleteFunc(slices.Clone(*s.nodes.Load()), func(n cairn.Node) bool { return n.State == cairn.NodeRemoved })
}

// gone tells whether a node is out or was removed.
func (s *site) gone(id cairn.NodeID) bool {
	return slices.ContainsFunc(*s.nodes.Load(), func(n cairn.Node) bool {
		return n.ID == id && (n.State == cairn.NodeOut || n.State == cairn.NodeRemoved)
	})
}

// metaNodes are the other nodes that may carry voters.
func (s *site) metaNodes() (ids []cairn.NodeID) {
	for _, n := range s.known() {
		if n.ID != s.id && n.Roles.Has(cairn.RoleMeta) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// caller names the node that sent a request over the interconnect.
func caller(r *http.Request) (cairn.NodeID, error) {
	id, err := rpc.Caller(r)
	return id.Node, err
}

const (
	metaPath  = "/meta/"
	dataPath  = "/data/"
	pulsePath = "/node/pulse"
)

// mount makes what the node serves to others.
func (s *site) mount(state State, m *meta.Store, node *datanode.Node, settings func() (join.Settings, error)) {
	s.server.Mount(meta.VotersPath, cairn.RoleMeta, m.Handler())
	s.server.Mount(metaPath, cairn.AllRoles, m.Handler())
	s.server.Mount(dataPath, cairn.AllRoles, http.StripPrefix("/data", datanode.NewServer(node)))
	s.server.Mount(pulsePath, cairn.AllRoles, pulse(node))
	if s.authority == nil {
		s.server.MountPublic(join.Path, join.Elsewhere(s.known))
		return
	}
	door := join.NewDoor(join.DoorConfig{Cluster: state.Cluster, Authority: s.authority, Rows: m, Settings: settings, Logger: s.logger})
	s.server.MountPublic(join.Path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.registered.Load() { // who joins is told of this node, so its row must be there
			rpc.WriteError(w, fmt.Errorf("this node is starting; try again in a moment: %w", cairn.ErrUnavailable))
			return
		}
		door.ServeHTTP(w, r)
	}))
	s.server.Mount(join.RenewPath, cairn.AllRoles, s.renewals(state.Cluster, m))
}

func (s *site) renewals(cluster cairn.ClusterID, m *meta.Store) *join.Renewals {
	return &join.Renewals{Cluster: cluster, Authority: s.authority, Rows: m}
}

// loops are what the site does as long as the process runs.
func (s *site) loops(state State, m *meta.Store) []loop {
	sign := func(ctx context.Context, csr []byte) ([]byte, error) {
		if s.authority != nil {
			return s.renewals(state.Cluster, m).Sign(ctx, s.id, csr)
		}
		return join.SignAt(ctx, s.dialer, s.metaNodes(), csr)
	}
	renewer := join.Renewer{Credentials: s.creds, Sign: sign, Save: s.papers.renew, Logger: s.logger}
	loops := []loop{
		{"interconnect", func(ctx context.Context) error { return s.server.Serve(ctx, s.listener) }},
		{"nodes", func(ctx context.Context) error { return s.follow(ctx, m) }},
		{"certificate", renewer.Run},
	}
	if s.gossip != nil {
		loops = append(loops, loop{"gossip", s.gossip.Run})
	}
	return loops
}

const (
	// followEvery is how often the committed nodes are read.
	followEvery   = time.Second
	followTimeout = 5 * time.Second
)

// follow keeps the address book like the committed nodes, and the node's own row like the node.
func (s *site) follow(ctx context.Context, m *meta.Store) error {
	saved := *s.nodes.Load()
	for {
		nodes, err := s.refresh(ctx, m)
		if err == nil && !slices.EqualFunc(nodes, saved, sameContact) {
			if err = s.papers.saveNodes(nodes); err == nil {
				saved = nodes
			}
		}
		if err != nil && ctx.Err() == nil {
			s.logger.Warn("the cluster's nodes could not be brought up to date", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// sameContact tells whether what a node needs to find another one is the same.
func sameContact(a, b cairn.Node) bool {
	return a.ID == b.ID && a.Addr == b.Addr && a.Gossip == b.Gossip && a.Roles == b.Roles && (a.State == cairn.NodeRemoved) == (b.State == cairn.NodeRemoved)
}

func (s *site) refresh(ctx context.Context, m *meta.Store) ([]cairn.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	nodes, err := m.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err = s.register(ctx, m, nodes)
	if err != nil {
		return nil, err
	}
	s.know(nodes)
	m.SetSeeds(s.metaNodes())
	return nodes, nil
}

// register brings the node's own row in line with what it was started with. The founder's row is the first.
func (s *site) register(ctx context.Context, m *meta.Store, nodes []cairn.Node) ([]cairn.Node, error) {
	want := s.member.node(s.id)
	want.Version = Version()
	i := slices.IndexFunc(nodes, func(n cairn.Node) bool { return n.ID == s.id })
	now := time.Now().UTC()
	switch {
	case i < 0 && !s.member.Founded:
		return nil, fmt.Errorf("the cluster does not know this node (%s); join it anew with an empty data directory: %w", s.id, cairn.ErrForbidden)
	case i < 0:
		want.State, want.StateSince, want.JoinedAt, want.Reason = cairn.NodeUp, now, now, "founded the cluster"
	case nodes[i].State == cairn.NodeRemoved:
		return nil, fmt.Errorf("this node was removed from the cluster; join it anew with an empty data directory: %w", cairn.ErrForbidden)
	default:
		had := nodes[i]
		if had.Addr == want.Addr && had.Gossip == want.Gossip && had.Name == want.Name && had.Zone == want.Zone && had.Rack == want.Rack &&
			had.Version == want.Version && had.Format == want.Format {
			s.registered.Store(true)
			return nodes, nil
		}
		had.Gossip = want.Gossip
		had.Addr, had.Name, had.Zone, had.Rack, had.Version, had.Format = want.Addr, want.Name, want.Zone, want.Rack, want.Version, want.Format
		want = had
	}
	put, err := m.PutNode(ctx, want)
	if errors.Is(err, cairn.ErrPrecondition) { // the watcher changed its state meanwhile: the next round tries again
		return nodes, nil
	}
	if err != nil {
		return nil, err
	}
	s.registered.Store(true)
	if i < 0 {
		return append(nodes, put), nil
	}
	nodes[i] = put
	return nodes, nil
}

// close lets go of what openSite took.
func (s *site) close() error {
	err := s.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	if s.gossip != nil {
		err = errors.Join(err, s.gossip.Close())
	}
	return errors.Join(err, s.dialer.Close())
}

// pulse answers probes: the node is there, and this is how fast its drives read.
func pulse(node *datanode.Node) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var p membership.Pulse
		n := time.Duration(0)
		for _, d := range node.Statuses() {
			if d.ReadLatency > 0 {
				p.ReadLatency += d.ReadLatency
				n++
			}
		}
		if n > 0 {
			p.ReadLatency /= n
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(p) // a prober that is gone needs no answer
	})
}

// prober asks nodes for their pulse over the interconnect.
type prober struct{ dialer *rpc.Dialer }

const maxPulse = 4 << 10

// Probe is a direct question to one node.
func (p prober) Probe(ctx context.Context, node cairn.NodeID) (pulse membership.Pulse, err error) {
	client, base, err := p.dialer.Peer(node)
	if err != nil {
		return pulse, err
	}
	err = rpc.GetJSON(ctx, client, base+pulsePath, maxPulse, &pulse)
	return pulse, err
}

// Version is the program's version, or the revision that it was built from.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (info.Main.Version == "" || info.Main.Version == "(devel)") {
			return s.Value[:min(len(s.Value), 12)]
		}
	}
	return info.Main.Version
}
