package server

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/membership"
)

// hears waits until a node's gossip thinks so of another.
func (n *testNode) hears(id cairn.NodeID, want membership.Hint) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for n.srv.parts.site.gossip.Hint(id) != want {
		select {
		case <-ctx.Done():
			n.t.Fatalf("%s thinks %d of %s, want %d", filepath.Base(n.dir), n.srv.parts.site.gossip.Hint(id), id, want)
		case <-time.After(20 * time.Millisecond): // Changed belongs to the watcher
		}
	}
}

// Every member gossips with the cluster's key, at an address that the others learn from its row and that it keeps over a
// restart. One that leaves is known to have left at once.
func TestMembersGossip(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Drives: Wish{Profile: cairn.Profile{K: 1}}})
	second := first.join("second", cairn.RoleData)
	third := first.join("third", cairn.RoleGateway)
	for _, a := range []*testNode{first, second, third} {
		for _, b := range []*testNode{first, second, third} {
			a.hears(b.srv.state.Node, membership.HintAlive)
		}
	}
	at := second.srv.Member().Gossip
	host, port, err := net.SplitHostPort(at)
	if err != nil || host != "127.0.0.1" || port == "0" {
		t.Errorf("gossips at %q", at)
	}
	second.stop()
	first.hears(second.srv.state.Node, membership.HintLeft)
	again := mustStart(t, second.dir, Enlist{})
	first.hears(second.srv.state.Node, membership.HintAlive)
	if again.srv.Member().Gossip != at {
		t.Errorf("it gossips at %s, before the restart at %s", again.srv.Member().Gossip, at)
	}
	if _, err := os.Stat(filepath.Join(second.dir, gossipName)); err != nil {
		t.Errorf("no members are remembered: %v", err)
	}
	nodes, err := first.facts().Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nodes {
		if n.Gossip == "" {
			t.Errorf("nobody learns where %s gossips", n.Name)
		}
	}
}

// A port that is taken does not keep a node from starting: it gossips at another one, which the others learn.
func TestGossipPortTaken(t *testing.T) {
	root := t.TempDir()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Gossip: taken.Addr().String(), Drives: Wish{Profile: cairn.Profile{K: 1}}})
	if got := first.srv.Member().Gossip; got == taken.Addr().String() || !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("it gossips at %s", got)
	}
	second := first.join("second", cairn.RoleGateway)
	second.hears(first.srv.state.Node, membership.HintAlive)
	if _, err := startNode(t, filepath.Join(root, "bad"), Enlist{Gossip: "0.0.0.0:1"}); err == nil || !strings.Contains(err.Error(), "cannot reach that") {
		t.Errorf("gossip at an address of nobody: %v", err)
	}
}

func TestAfterPort(t *testing.T) {
	for in, want := range map[string]string{"10.0.0.1:9002": "10.0.0.1:9003", "h:0": "h:0", "h:65535": "h:0", "[::1]:9": "[::1]:10"} {
		if got, err := afterPort(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", in, got, err, want)
		}
	}
	if got, err := afterPort("nowhere"); err == nil {
		t.Errorf("got %s", got)
	}
}
