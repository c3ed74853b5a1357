package membership_test

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cairn"
	"cairn/membership"
)

// agent is one node's part in the gossip, in this process.
type agent struct {
	*membership.Serf
	id   cairn.NodeID
	stop func()
}

func startAgent(t *testing.T, cluster cairn.ClusterID, key byte, id cairn.NodeID, snapshot string, peers ...string) *agent {
	t.Helper()
	s, err := membership.OpenSerf(membership.SerfConfig{Cluster: cluster, Key: []byte(strings.Repeat(string(rune(key)), 32)),
		Self: cairn.Node{ID: id, Name: "n", Roles: cairn.AllRoles, Addr: "127.0.0.1:1", Format: 1}, Bind: "127.0.0.1:0",
		Peers: func() []string { return peers }, Snapshot: snapshot})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	a := &agent{Serf: s, id: id}
	a.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return a
}

// hears waits until an agent thinks so of a node.
func (a *agent) hears(t *testing.T, id cairn.NodeID, want membership.Hint) {
	t.Helper()
	for start := time.Now(); a.Hint(id) != want; {
		if time.Since(start) > time.Minute {
			t.Fatalf("the hint is %d after a minute, want %d", a.Hint(id), want)
		}
		select {
		case <-a.Changed():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// noLeak checks that every goroutine has ended. A probe of memberlist's that is under way at its shutdown ends with the
// probe's own time limit (1 s, and 10 s for its TCP attempt), which is longer than goleak waits by itself.
func noLeak(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for range 60 {
		if err = goleak.Find(before); err == nil {
			return
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Error(err)
}

// Three real agents on loopback hear of each other, of one that dies, of one that leaves, and of none of another cluster.
func TestSerfAgents(t *testing.T) {
	defer noLeak(t, goleak.IgnoreCurrent())
	cluster := cairn.ClusterID(cairn.NewID())
	dir := t.TempDir()
	var all []*agent
	first := ""
	for i := range 3 {
		var peers []string
		if i > 0 {
			peers = []string{first}
		}
		a := startAgent(t, cluster, 'k', cairn.NewID(), filepath.Join(dir, fmt.Sprint(i)), peers...)
		if i == 0 {
			first = a.Addr()
		}
		all = append(all, a)
	}
	for _, a := range all {
		for _, b := range all {
			a.hears(t, b.id, membership.HintAlive)
		}
	}
	stranger := startAgent(t, cairn.NewID(), 'k', cairn.NewID(), "", first)
	thief := startAgent(t, cluster, 'x', cairn.NewID(), "", first)
	all[2].stop() // says goodbye
	all[0].hears(t, all[2].id, membership.HintLeft)
	must(t, all[1].Close()) // as if it had died; Run ends with an error, which nobody waits for here
	all[0].hears(t, all[1].id, membership.HintFailed)
	for _, other := range []*agent{stranger, thief} {
		if all[0].Hint(other.id) != membership.HintNone || other.Hint(all[0].id) != membership.HintNone {
			t.Error("a node of another cluster, or with another key, is heard")
		}
		other.stop()
	}
	back := startAgent(t, cluster, 'k', all[2].id, filepath.Join(dir, "2")) // the snapshot alone knows the others
	back.hears(t, all[0].id, membership.HintAlive)
	all[0].hears(t, back.id, membership.HintAlive)
	back.stop()
	all[0].stop()
}

func TestSerfIsRefused(t *testing.T) {
	good := membership.SerfConfig{Cluster: cairn.NewID(), Self: cairn.Node{ID: cairn.NewID()}, Key: make([]byte, 32), Bind: "127.0.0.1:0"}
	for name, spoil := range map[string]func(*membership.SerfConfig){
		"key":        func(c *membership.SerfConfig) { c.Key = c.Key[:16] },
		"cluster":    func(c *membership.SerfConfig) { c.Cluster = cairn.ClusterID{} },
		"tags":       func(c *membership.SerfConfig) { c.Self.Addr = strings.Repeat("x", 500) },
		"everywhere": func(c *membership.SerfConfig) { c.Bind = "0.0.0.0:0" },
		"address":    func(c *membership.SerfConfig) { c.Bind = "nowhere" },
	} {
		c := good
		spoil(&c)
		if s, err := membership.OpenSerf(c); cairn.Kind(err) != cairn.ErrInvalid {
			t.Errorf("%s: got %v, %v, want ErrInvalid", name, s, err)
		}
	}
}
