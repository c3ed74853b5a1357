package meta_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"cairn"
)

func sampleNode(name string) cairn.Node {
	return cairn.Node{ID: cairn.NewID(), Name: name, Addr: "10.0.0.1:9002", Roles: cairn.RoleData, Zone: "a", Rack: "r1",
		State: cairn.NodeJoining, StateSince: time.Unix(7, 0).UTC(), Reason: "why", JoinedAt: time.Unix(5, 0).UTC(), Version: "v1", Format: 1}
}

func TestNodes(t *testing.T) {
	s := newStore(t, 1)
	want := sampleNode("n1")
	put, err := s.PutNode(t.Context(), want)
	want.Epoch = 1
	want.History = []cairn.NodeChange{{State: want.State, At: want.StateSince, Reason: want.Reason}}
	if err != nil || !reflect.DeepEqual(put, want) {
		t.Fatalf("got %+v, %v, want %+v", put, err, want)
	}
	if list, err := s.Nodes(t.Context()); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], want) {
		t.Fatalf("got %+v, %v, want %+v", list, err, want)
	}
	check := func(what string, n cairn.Node, kind error) {
		t.Helper()
		if got, err := s.PutNode(t.Context(), n); cairn.Kind(err) != kind {
			t.Errorf("%s: got %+v, %v, want %v", what, got, err, kind)
		}
	}
	stale := want
	stale.Epoch = 0
	check("a node that is there already", stale, cairn.ErrPrecondition)
	check("another node of the same name", sampleNode("n1"), cairn.ErrExists)
	check("no role", cairn.Node{ID: cairn.NewID()}, cairn.ErrInvalid)
	renamed := want
	renamed.Name = "n2"
	check("a new name", renamed, nil)
	check("the name that was given up", sampleNode("n1"), nil)
	check("the name in use", sampleNode("n2"), cairn.ErrExists)
}

// Every change of the state is remembered, the oldest are let go.
func TestNodeHistory(t *testing.T) {
	s := newStore(t, 1)
	n, err := s.PutNode(t.Context(), sampleNode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	const changes = cairn.MaxNodeHistory + 5
	for i := range changes {
		n.State, n.StateSince, n.Reason = cairn.NodeUp, time.Unix(int64(100+i), 0).UTC(), "answers"
		if i%2 == 0 {
			n.State, n.Reason = cairn.NodeSuspect, "silent"
		}
		n.History = nil // a writer who does not know it loses nothing
		if n, err = s.PutNode(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		n.Reason = "for longer"
		if n, err = s.PutNode(t.Context(), n); err != nil { // no change of state
			t.Fatal(err)
		}
	}
	list, err := s.Nodes(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %v, %v", list, err)
	}
	got := list[0].History
	if len(got) != cairn.MaxNodeHistory {
		t.Fatalf("%d changes are remembered, want %d", len(got), cairn.MaxNodeHistory)
	}
	want := cairn.NodeChange{State: cairn.NodeSuspect, At: time.Unix(100+changes-1, 0).UTC(), Reason: "silent"}
	if last := got[len(got)-1]; last != want {
		t.Errorf("the last is %+v, want %+v", last, want)
	}
	if first := got[0].At; !first.Equal(time.Unix(100+changes-cairn.MaxNodeHistory, 0)) {
		t.Errorf("the first is of %v", first)
	}
}

func TestRemovedNodeStaysRemoved(t *testing.T) {
	s := newStore(t, 1)
	n, err := s.PutNode(t.Context(), sampleNode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.RemoveNode(t.Context(), n.ID, n.Epoch+1, "x"); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("at another epoch: got %v", err)
	}
	if _, err := s.RemoveNode(t.Context(), cairn.NewID(), 0, "x"); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("an unknown node: got %v", err)
	}
	gone, err := s.RemoveNode(t.Context(), n.ID, n.Epoch, "retired")
	if err != nil || gone.State != cairn.NodeRemoved || gone.Reason != "retired" || gone.Name != "n1" {
		t.Fatalf("got %+v, %v", gone, err)
	}
	gone.State = cairn.NodeUp
	if _, err := s.PutNode(t.Context(), gone); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("brought back: got %v", err)
	}
	if _, err := s.PutNode(t.Context(), sampleNode("n1")); err != nil {
		t.Errorf("its name is not free: %v", err)
	}
	if list, err := s.Nodes(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("got %+v, %v, want the removed node's row, too", list, err)
	}
}

// Of many that change one epoch of a node, one succeeds.
func TestNodeEpochFences(t *testing.T) {
	s := newStore(t, 1)
	n, err := s.PutNode(t.Context(), sampleNode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 8 {
		wg.Go(func() {
			_, err := s.PutNode(t.Context(), n)
			if err != nil && !errors.Is(err, cairn.ErrPrecondition) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d changes of one epoch succeeded, want 1", won)
	}
}
