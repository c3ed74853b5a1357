package server

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn"
	"cairn/meta"
)

// votersOn waits until the metadata has one voter on each of these nodes, by the word of every one of them.
func votersOn(t *testing.T, nodes ...*testNode) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		agree := 0
		var st meta.Status
		for _, n := range nodes {
			st = n.srv.parts.meta.Status()
			on := map[cairn.NodeID]bool{}
			for _, v := range st.Voters {
				on[v.Node] = v.State == meta.VoterUp
			}
			all := len(st.Voters) == len(nodes)
			for _, o := range nodes {
				all = all && on[o.srv.state.Node]
			}
			if all {
				agree++
			}
		}
		if agree == len(nodes) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("voters: %+v", st)
		}
	}
}

// A store of one process becomes a cluster of three: its metadata moves onto all of them by itself, and then its first
// node, which led, may go away.
func TestMetadataMovesToNodes(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Roles: cairn.AllRoles,
		Drives: Wish{Profile: cairn.Profile{K: 2, M: 1}}})
	if err := first.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	small := randomBytes(1, 100)
	put(t, first, "early", small)
	second, third := first.join("second", cairn.AllRoles), first.join("third", cairn.AllRoles)
	votersOn(t, first, second, third)
	second.waitReady()
	put(t, second, "late", small)
	first.stop()
	put(t, third, "without the first", small)
	for _, n := range []*testNode{second, third} {
		for _, key := range []string{"early", "late", "without the first"} {
			checkGet(t, n, key, small)
		}
	}
	again := mustStart(t, first.dir, Enlist{})
	again.waitReady()
	checkGet(t, again, "without the first", small)
	votersOn(t, again, second, third)
}

// A gateway that joined when one node had all the metadata finds the others, on which there are voters by now, when that one is
// gone.
func TestGatewayOutlivesItsFirstLeader(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Roles: cairn.AllRoles,
		Drives: Wish{Profile: cairn.Profile{K: 1}}})
	if err := first.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	gate := first.join("gate", cairn.RoleGateway)
	gate.waitReady()
	second, third := first.join("second", cairn.AllRoles), first.join("third", cairn.AllRoles)
	votersOn(t, first, second, third)
	for began := time.Now(); len(gate.srv.parts.site.metaNodes()) < 3; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatal("the gateway does not learn of the other nodes")
		}
	}
	first.stop()
	small := randomBytes(2, 100)
	put(t, gate, "without the first", small)
	checkGet(t, gate, "without the first", small)
	checkGet(t, second, "without the first", small)
}
