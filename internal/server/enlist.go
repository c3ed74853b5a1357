package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cairn"
	"cairn/internal/join"
	"cairn/internal/rpc"
)

// Member is how a process takes part in a cluster of several.
type Member struct {
	Name  string      `json:"name"`
	Addr  string      `json:"addr"` // that other nodes reach, host:port
	Roles cairn.Roles `json:"roles"`
	Zone  string      `json:"zone,omitempty"`
	Rack  string      `json:"rack,omitempty"`
	// Joined: the cluster has let the node in. Until then it has an identity of its own choice and nothing else.
	Joined bool `json:"joined"`
	// Founded: the node made the cluster, and is the one that may begin its metadata.
	Founded   bool   `json:"founded,omitempty"`
	GossipKey []byte `json:"gossip_key,omitempty"`
	// Gossip is where other nodes reach this one's part in the gossip, host:port.
	Gossip string `json:"gossip,omitempty"`
}

// Enlist is what a command line asks for beyond the drives; zero values leave a member as it is.
type Enlist struct {
	Drives    Wish
	Advertise string // host, or host:port
	Listen    string // default: what is advertised
	Gossip    string // host:port; default: the advertised host, and the port after the interconnect's
	Roles     cairn.Roles
	Name      string
	Zone      string
	Rack      string
	Join      string // address of a node of the cluster; empty: make a cluster
	Token     string
}

// DefaultPort is where the interconnect listens when --advertise names no port.
const DefaultPort = "9002"

// Enlisted is a node that is a member, and listens.
type Enlisted struct {
	Listener net.Listener
	// Settings came with the answer of the cluster; nil unless the node joined just now.
	Settings *join.Settings
}

// Enlist makes the directory a member's: it founds a cluster (around a store of one process, if the directory holds one), or
// joins one, or takes up what an earlier start did. It says why not, and what to do.
func (d *Directory) Enlist(ctx context.Context, e Enlist) (*Enlisted, error) {
	refuse := func(err error) (*Enlisted, error) {
		return nil, &cairn.Error{Op: "server.enlist", Subject: d.Path, Err: err}
	}
	token, err := e.check(d.State)
	if err != nil {
		return refuse(err)
	}
	state, err := e.settle(d.State, token)
	if err != nil {
		return nil, err
	}
	l, err := e.listen(state.Member)
	if err != nil {
		return refuse(err)
	}
	out := &Enlisted{Listener: l}
	switch {
	case state.Member.Joined:
		err = d.Save(state)
	case e.Join == "":
		err = d.found(state)
	default:
		out.Settings, err = d.join(ctx, state, e, token, l)
	}
	if err != nil {
		return refuse(errors.Join(err, l.Close()))
	}
	return out, nil
}

// check refuses what contradicts the directory's past.
func (e Enlist) check(old *State) (token join.Token, err error) {
	if e.Join != "" {
		if e.Token == "" {
			return token, fmt.Errorf("--join needs --token: make one with `cairn token create` where the cluster runs: %w", cairn.ErrInvalid)
		}
		if token, err = join.ParseToken(e.Token); err != nil {
			return token, err
		}
	}
	switch {
	case old == nil:
		return token, nil
	case old.Member == nil && e.Join != "":
		return token, fmt.Errorf("it holds a store of its own (cluster %s), which joins no other: give an empty directory: %w", old.Cluster, cairn.ErrInvalid)
	case old.Member == nil || !old.Member.Joined:
		return token, nil
	case e.Join != "" && token.Cluster != old.Cluster:
		return token, fmt.Errorf("it belongs to node %s of cluster %s, and the token is of cluster %s: give an empty directory: %w",
			old.Node, old.Cluster, token.Cluster, cairn.ErrInvalid)
	case e.Roles != 0 && e.Roles != old.Member.Roles:
		return token, fmt.Errorf("the node has the roles %s, which do not change: for %s make another node: %w", old.Member.Roles, e.Roles, cairn.ErrInvalid)
	}
	return token, nil
}

// settle is Settle for a member.
func (e Enlist) settle(old *State, token join.Token) (State, error) {
	m := Member{Roles: e.Roles}
	if old != nil && old.Member != nil {
		m = *old.Member
		if !m.Joined && e.Roles != 0 {
			m.Roles = e.Roles
		}
	}
	if m.Roles == 0 {
		m.Roles = cairn.AllRoles
	}
	w := e.Drives
	if old == nil && w.Drives == 0 && len(w.Named) == 0 {
		w.Drives = 1 // nodes are the failure domains here
	}
	if old == nil && w.Profile.Width() == 0 {
		w.Profile = cairn.Profile{K: 4, M: 2}
	}
	s, err := settleDrives(old, w)
	if err != nil {
		return State{}, err
	}
	if !m.Roles.Has(cairn.RoleData) {
		s.Made, s.Named = nil, nil
	}
	if !m.Joined && e.Join != "" {
		s.Cluster = token.Cluster
	}
	if e.Name != "" {
		m.Name = e.Name
	}
	if m.Name == "" {
		m.Name = defaultName(s.Node)
	}
	m.Zone, m.Rack = orOld(e.Zone, m.Zone), orOld(e.Rack, m.Rack)
	if e.Advertise != "" {
		if m.Addr, err = advertised(e.Advertise); err != nil {
			return State{}, err
		}
	}
	if e.Gossip != "" {
		if m.Gossip, err = advertised(e.Gossip); err != nil {
			return State{}, err
		}
	}
	if m.Addr == "" {
		return State{}, &cairn.Error{Op: "server.enlist", Err: fmt.Errorf("--advertise is needed: the host, or host:port, at which the other nodes reach this one: %w", cairn.ErrInvalid)}
	}
	s.Version, s.Member = memberVersion, &m
	n := m.node(s.Node)
	return s, n.Validate()
}

func orOld(wish, old string) string {
	if wish != "" {
		return wish
	}
	return old
}

// advertised completes an address and refuses those that lead nowhere.
func advertised(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port = strings.Trim(addr, "[]"), DefaultPort
	}
	ip, _ := netip.ParseAddr(host)
	if host == "" || ip.IsValid() && (ip.IsUnspecified() || ip.IsMulticast()) {
		return "", &cairn.Error{Op: "server.enlist", Subject: "--advertise " + addr,
			Err: fmt.Errorf("other nodes cannot reach that: give this machine's own address: %w", cairn.ErrInvalid)}
	}
	return net.JoinHostPort(host, port), nil
}

func defaultName(id cairn.NodeID) string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "node"
	}
	host, _, _ = strings.Cut(host, ".")
	return host[:min(len(host), cairn.MaxNodeName-5)] + "-" + id.String()[:4]
}

// node is the record that the member asks for.
func (m Member) node(id cairn.NodeID) cairn.Node {
	return cairn.Node{ID: id, Name: m.Name, Addr: m.Addr, Roles: m.Roles, Zone: m.Zone, Rack: m.Rack, Gossip: m.Gossip, Format: cairn.FormatVersion}
}

// listen takes the interconnect's address. Port 0 becomes the one that was free.
func (e Enlist) listen(m *Member) (net.Listener, error) {
	addr := e.Listen
	if addr == "" {
		addr = m.Addr
	}
	l, err := rpc.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("%w; --interconnect-addr says where to listen, if that is not what --advertise says", err)
	}
	host, port, err := net.SplitHostPort(m.Addr)
	if err == nil && port == "0" {
		_, port, err = net.SplitHostPort(l.Addr().String())
		m.Addr = net.JoinHostPort(host, port)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// found makes the cluster's authority and the node's certificate. The state is written last: a crash before leaves nothing
// that counts.
func (d *Directory) found(s State) error {
	if !s.Member.Roles.Has(cairn.RoleMeta) {
		return fmt.Errorf("the first node makes the cluster, and needs the role meta; give --join and --token to add this one to a cluster: %w", cairn.ErrInvalid)
	}
	now := time.Now()
	authority, err := rpc.NewAuthority(s.Cluster, now)
	if err != nil {
		return err
	}
	authorityKey, err := authority.KeyPEM()
	if err != nil {
		return err
	}
	csr, key, err := rpc.NewRequest()
	if err != nil {
		return err
	}
	cert, err := authority.Sign(csr, rpc.Identity{Cluster: s.Cluster, Node: s.Node, Roles: s.Member.Roles}, now, rpc.NodeLife)
	if err != nil {
		return err
	}
	if err := d.papers().keep(authority.CertPEM(), authorityKey, cert, key); err != nil {
		return err
	}
	s.Member.GossipKey = make([]byte, 32)
	rand.Read(s.Member.GossipKey) // never fails since Go 1.24
	s.Member.Joined, s.Member.Founded = true, true
	return d.Save(s)
}

// join asks a node of the cluster to be let in. The identity is written down before, so that a node that did not get its
// answer asks again as the same.
func (d *Directory) join(ctx context.Context, s State, e Enlist, token join.Token, l net.Listener) (*join.Settings, error) {
	if err := d.Save(s); err != nil {
		return nil, err
	}
	key, err := d.papers().key()
	if err != nil {
		return nil, err
	}
	addr := e.Join
	if _, _, err := net.SplitHostPort(addr); err != nil {
		addr = net.JoinHostPort(strings.Trim(addr, "[]"), DefaultPort)
	}
	n := s.Member.node(s.Node)
	n.Version = Version()
	a, err := join.Ask{Addr: addr, Token: token, Node: n, KeyPEM: key, Listener: l}.Do(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.papers().saveNodes(a.Nodes); err != nil {
		return nil, err
	}
	if err := d.papers().keep(a.Authority, a.AuthorityKey, a.Cert, key); err != nil {
		return nil, err
	}
	for _, name := range []string{sealKeyName, keysName} {
		if b, ok := a.Settings.Files[name]; ok {
			if err := replaceFile(filepath.Join(d.Path, name), b); err != nil {
				return nil, err
			}
		}
	}
	s.Profile = a.Settings.Profile
	s.Member = new(Member)
	*s.Member = *d.State.Member
	s.Member.Joined, s.Member.GossipKey = true, slices.Clone(a.Settings.GossipKey)
	return &a.Settings, d.Save(s)
}
