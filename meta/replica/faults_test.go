package replica

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// All nodes tell the same of the voters, those without one too.
func TestNodesStatus(t *testing.T) {
	c := firstNode(t, 4, 1, 3)
	c.nodes[3].homes = nil
	for _, n := range c.nodes[1:] {
		n.start()
	}
	c.votersOn(0, 1, 2)
	for _, n := range c.nodes {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			st := n.group().Status()
			up := make(map[cairn.NodeID]bool)
			leaders := 0
			for _, v := range st.Voters {
				if v.State == VoterUp && !v.Drive.IsZero() {
					up[v.Node] = true
				}
				if v.Leader {
					leaders++
				}
			}
			if len(up) == 3 && leaders == 1 && st.Wanted == 3 && len(st.Voters) == 3 {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("node %d: %+v", n.index, st)
			}
		}
	}
}

// A leader whose disk hangs hands its leadership on to another node, and commits go on.
func TestNodeLeaderStalls(t *testing.T) {
	c := newCluster(t, 4, 1)
	for _, n := range c.nodes {
		n.cfg.StallLimit = 300 * time.Millisecond
	}
	c.layVoters(3)
	c.startAll()
	put(t, c.nodes[3].group(), "a", "1")
	node := c.leader()
	lead, _ := node.group().leaderNow()
	defer hangLog(lead)()
	put(t, c.nodes[3].group(), "a", "2")
	if now := c.leader(); now == node {
		t.Error("the hung voter still leads")
	}
	if got, _ := mustGet(t, c.nodes[3].group(), "a"); got != "2" {
		t.Errorf("a = %q, want 2", got)
	}
}

// After a power cut that left every log in doubt the nodes find the longest together; while one is away they do not guess.
func TestNodesInDoubt(t *testing.T) {
	c := threeVoters(t, 3)
	put(t, c.nodes[1].group(), "k", "v")
	for _, n := range c.nodes {
		n.stop()
		dir := filepath.Join(n.homes[0].Dir, voterDir)
		var f voterFile
		if err := readJSON(vfs.Default, dir, voterJSON, &f); err != nil {
			t.Fatal(err)
		}
		f.Doubtful = true
		if err := writeJSON(vfs.Default, dir, voterJSON, f); err != nil {
			t.Fatal(err)
		}
	}
	c.nodes[0].start()
	c.nodes[1].start()
	for _, n := range c.nodes[:2] {
		n.group().letDoubtfulVote()
		for _, v := range *n.group().voters.Load() {
			if v.voteFor.Load() != 0 {
				t.Errorf("node %d would vote though a log has not been seen", n.index)
			}
		}
	}
	c.nodes[2].start()
	ctx := t.Context()
	for {
		w, err := c.nodes[2].group().View(ctx)
		if err != nil {
			continue // no quorum for longer than a read waits; the test's own limit ends it
		}
		row, _, err := w.Get([]byte("k"), nil)
		w.Close()
		if err != nil || string(row) != "v" {
			t.Fatalf("read %q, %v", row, err)
		}
		break
	}
	put(t, c.nodes[0].group(), "k", "w")
	for _, n := range c.nodes {
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			v := n.group().follower()
			if v != nil && !v.doubtful.Load() {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("node %d is in doubt for good", n.index)
			}
		}
	}
}

// Power comes back on all nodes, one after the other: what was acknowledged is there, and the voters are the same.
func TestAllNodesRestart(t *testing.T) {
	c := firstNode(t, 3, 2, 3)
	c.nodes[1].start()
	c.nodes[2].start()
	c.votersOn(0, 1, 2)
	for i := range 30 {
		put(t, c.nodes[i%3].group(), fmt.Sprint("k", i), "v")
	}
	before := make(map[uint64]bool)
	for _, n := range c.nodes {
		for id := range *n.group().voters.Load() {
			before[id] = true
		}
		n.stop()
	}
	for _, i := range []int{2, 0, 1} {
		c.nodes[i].start()
	}
	for i := range 30 {
		if got, _ := mustGet(t, c.nodes[(i+1)%3].group(), fmt.Sprint("k", i)); got != "v" {
			t.Errorf("k%d = %q", i, got)
		}
	}
	c.votersOn(0, 1, 2)
	for _, n := range c.nodes {
		for id := range *n.group().voters.Load() {
			if !before[id] {
				t.Errorf("node %d has a new voter", n.index)
			}
		}
	}
}
