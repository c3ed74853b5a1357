package server

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/admin"

	"github.com/minio/minio-go/v7"
)

func (n *testNode) facts() *facts { return &facts{server: n.srv, parts: n.srv.parts} }

// waitJob waits for a job's end.
func (n *testNode) waitJob(j *cairn.Job) cairn.Job {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for {
		all, err := n.facts().Jobs(ctx)
		if err != nil {
			n.t.Fatal(err)
		}
		for _, have := range all {
			if have.ID != j.ID {
				continue
			}
			if have.Ended() {
				return have
			}
			if ctx.Err() != nil {
				n.t.Fatalf("job %+v has not ended", have)
			}
		}
		time.Sleep(50 * time.Millisecond) // a poll: jobs run beside the leader, wherever that is
	}
}

// slotsOn counts the slots on a node's drives by the committed rows.
func (n *testNode) slotsOn(id cairn.NodeID) (slots int) {
	n.t.Helper()
	drives, err := n.srv.parts.meta.Drives(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	on := map[cairn.DriveID]bool{}
	for _, d := range drives {
		on[d.ID] = d.Node == id
	}
	for _, v := range volumesOf(n.t, n) {
		for _, d := range v.Slots {
			if on[d] {
				slots++
			}
		}
	}
	return slots
}

// A node is emptied, taken back, emptied again and removed; another is added and gets its share. Nothing is lost on the way,
// and what would leave too little is refused.
func TestFleetShrinksAndGrows(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Roles: cairn.RoleMeta | cairn.RoleGateway,
		Drives: Wish{Profile: cairn.Profile{K: 2, M: 1}}})
	stores := map[string]*testNode{}
	for _, name := range []string{"d1", "d2", "d3", "d4"} {
		stores[name] = first.join(name, cairn.RoleData)
	}
	first.waitReady()
	checkDrives(t, first, map[string]bool{"d1": true, "d2": true, "d3": true, "d4": true})
	if err := first.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	bodies := map[string][]byte{}
	write := func(key string, size int) {
		bodies[key] = randomBytes(uint64(len(bodies)), size)
		put(t, first, key, bodies[key])
	}
	write("a", 5<<20)
	write("b", 200_000)
	f := first.facts()
	leaving, other := "d1", "d2" // a volume may have been made before the last node was up
	if first.slotsOn(stores["d1"].srv.state.Node) == 0 {
		leaving, other = other, leaving
	}
	d1 := stores[leaving].srv.state.Node
	refused := func(what string, err error, kind error, text string) {
		t.Helper()
		if !errors.Is(err, kind) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: got %v, want %v with %q", what, err, kind, text)
		}
	}
	_, err := f.RemoveNode(t.Context(), d1, false)
	refused("removing a node with slots", err, cairn.ErrPrecondition, "cairn node drain")
	_, err = f.RemoveNode(t.Context(), first.srv.state.Node, false)
	refused("removing the last voter's node", err, cairn.ErrPrecondition, "metadata voter")
	_, err = f.DrainNode(t.Context(), first.srv.state.Node, false)
	refused("draining the last voter's node", err, cairn.ErrPrecondition, "let two more nodes join")
	_, err = f.UndrainNode(t.Context(), d1)
	refused("undraining a node that is not drained", err, cairn.ErrPrecondition, "not being drained")
	_, err = f.DrainNode(t.Context(), cairn.NewID(), false)
	refused("draining nobody", err, cairn.ErrNotFound, "no such node")

	plan, err := first.drain(d1, true)
	if err != nil || plan.Job != nil || plan.Slots != first.slotsOn(d1) || plan.Slots == 0 || plan.Bytes == 0 {
		t.Errorf("dry run: %+v, %v; %d slots are there", plan, err, first.slotsOn(d1))
	}
	first.emptyNode(d1)
	write("c", 3<<20)
	if n := first.slotsOn(d1); n != 0 {
		t.Errorf("%d slots came to a node that is drained", n)
	}
	_, err = f.DrainNode(t.Context(), stores[other].srv.state.Node, false)
	refused("draining one too many", err, cairn.ErrPrecondition, "2+1 needs 3")
	if n, err := f.UndrainNode(t.Context(), d1); err != nil || n.State != cairn.NodeUp {
		t.Errorf("undrained: %+v, %v", n, err)
	}

	first.emptyNode(d1)
	if n, err := f.RemoveNode(t.Context(), d1, true); err != nil || n.State != cairn.NodeDraining {
		t.Errorf("dry run of the removal: %+v, %v", n, err)
	}
	if n, err := f.RemoveNode(t.Context(), d1, false); err != nil || n.State != cairn.NodeRemoved {
		t.Errorf("removed: %+v, %v", n, err)
	}
	_, err = f.RemoveNode(t.Context(), d1, false)
	refused("removing it again", err, cairn.ErrPrecondition, "was removed")
	for _, d := range f.parts.view.Drives() {
		if d.Node == d1 && !d.Retired {
			t.Errorf("drive of a removed node: %+v", d)
		}
	}
	stores[leaving].stop()

	late := first.join("d5", cairn.RoleData)
	checkDrives(t, first, map[string]bool{other: true, "d3": true, "d4": true, "d5": true})
	dry := first.uneven()
	b, err := f.Rebalance(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if j := first.waitJob(b.Job); j.State != cairn.JobDone || j.DoneBytes == 0 || j.DoneBytes != j.TotalBytes {
		t.Errorf("rebalance: %+v", j)
	}
	after, err := f.Rebalance(t.Context(), true)
	if err != nil || after.Spread >= dry.Spread || first.slotsOn(late.srv.state.Node) == 0 {
		t.Errorf("after the rebalance: %+v, %v, %d slots on the new node; before %+v", after, err, first.slotsOn(late.srv.state.Node), dry)
	}
	for key, body := range bodies {
		checkGet(t, first, key, body)
	}
}

// uneven waits until a rebalance has something to do: a node that has just joined takes slots once it was heard.
func (n *testNode) uneven() admin.Balance {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for {
		b, err := n.facts().Rebalance(ctx, true)
		if err == nil && b.Slots > 0 {
			return b
		}
		if ctx.Err() != nil {
			n.t.Fatalf("nothing is to be moved: %+v, %v", b, err)
		}
		time.Sleep(50 * time.Millisecond) // a poll, as above
	}
}

// drain asks for a drain until no other node's drives are out of use for the moment, as a slow machine makes them.
func (n *testNode) drain(id cairn.NodeID, dry bool) (admin.NodeDrain, error) {
	n.t.Helper()
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		d, err := n.facts().DrainNode(n.t.Context(), id, dry)
		if err == nil || !strings.Contains(err.Error(), "would be left") || time.Since(began) > patience {
			return d, err
		}
	}
}

// emptyNode drains a node and checks that it is empty.
func (n *testNode) emptyNode(id cairn.NodeID) {
	n.t.Helper()
	d, err := n.drain(id, false)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.facts().DrainNode(n.t.Context(), id, false); !errors.Is(err, cairn.ErrExists) {
		n.t.Errorf("a second drain at once: got %v", err)
	}
	if j := n.waitJob(d.Job); j.State != cairn.JobDone || j.DoneBytes != j.TotalBytes {
		n.t.Errorf("drain: %+v", j)
	}
	if left := n.slotsOn(id); left != 0 {
		n.t.Errorf("%d slots are left on the drained node", left)
	}
}

// A store of one process has no other node to go to.
func TestFleetOfOneProcess(t *testing.T) {
	d, err := OpenDirectory(filepath.Join(t.TempDir(), "d"))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := Settle(nil, Wish{Drives: 1})
	if err := errors.Join(err, d.Save(s)); err != nil {
		t.Fatal(err)
	}
	srv, err := Open(Config{Directory: d, S3Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", AccessKey: testAccess, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.close()
	f := &facts{server: srv, parts: srv.parts}
	if d, err := f.DrainNode(t.Context(), s.Node, true); !errors.Is(err, cairn.ErrPrecondition) || d != (admin.NodeDrain{}) {
		t.Errorf("got %+v, %v", d, err)
	}
}
