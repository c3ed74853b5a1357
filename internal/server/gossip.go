package server

import (
	"errors"
	"net"
	"path/filepath"
	"strconv"

	"cairn"
	"cairn/membership"
)

// gossipName is the file in the process's directory in which the gossip's members are remembered over a restart.
const gossipName = "gossip"

// openGossip takes part in the gossip, at the address of the last start, or at the port after the interconnect's. Where that is
// taken any free port does, since the address is committed with the node's row; gossip gives hints only, so a node must not
// stay down for it.
func (s *site) openGossip(d *Directory) (err error) {
	m := d.State.Member
	if len(m.GossipKey) == 0 {
		return nil
	}
	want := m.Gossip
	if want == "" {
		if want, err = afterPort(m.Addr); err != nil {
			return err
		}
	}
	if s.gossip, err = s.gossipAt(d, want); errors.Is(err, cairn.ErrUnavailable) {
		host, _, serr := net.SplitHostPort(want)
		if serr != nil {
			return err
		}
		s.logger.Warn("gossip takes another port: others must reach it", "wanted", want, "err", err)
		s.gossip, err = s.gossipAt(d, net.JoinHostPort(host, "0"))
	}
	if err != nil {
		return err
	}
	host, _, err := net.SplitHostPort(want)
	if err != nil {
		return err
	}
	_, port, err := net.SplitHostPort(s.gossip.Addr())
	if err != nil {
		return err
	}
	if at := net.JoinHostPort(host, port); at != m.Gossip {
		m.Gossip = at
		if err := d.Save(*d.State); err != nil {
			return err
		}
	}
	s.member = *m
	return nil
}

// afterPort is the address with the next port.
func afterPort(addr string) (string, error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(text)
	if err != nil || port == 0 || port == 65535 {
		return net.JoinHostPort(host, "0"), err
	}
	return net.JoinHostPort(host, strconv.Itoa(port+1)), nil
}

// gossipAt listens where the interconnect does, at the port of addr, and is known to others by addr.
func (s *site) gossipAt(d *Directory, addr string) (*membership.Serf, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	local, _, err := net.SplitHostPort(s.listener.Addr().String())
	if err != nil {
		return nil, err
	}
	return membership.OpenSerf(membership.SerfConfig{Cluster: d.State.Cluster, Self: s.member.node(s.id), Key: s.member.GossipKey,
		Bind: net.JoinHostPort(local, port), Advertise: addr, Peers: s.gossipers, Snapshot: filepath.Join(d.Path, gossipName),
		Logger: s.logger.With("part", "gossip")})
}

// gossipers are where the other nodes gossip.
func (s *site) gossipers() (addrs []string) {
	for _, n := range s.known() {
		if n.ID != s.id && n.Gossip != "" {
			addrs = append(addrs, n.Gossip)
		}
	}
	return addrs
}
