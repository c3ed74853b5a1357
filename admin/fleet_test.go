package admin

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"cairn"
)

// fleet refuses everything that is no dry run.
type fleet struct{ asked []string }

func (f *fleet) note(what string, id cairn.NodeID, dry bool) error {
	f.asked = append(f.asked, fmt.Sprintf("%s %x %v", what, id[:1], dry))
	if !dry {
		return fmt.Errorf("add a node first: %w", cairn.ErrPrecondition)
	}
	return nil
}

func (f *fleet) DrainNode(_ context.Context, id cairn.NodeID, dry bool) (NodeDrain, error) {
	return NodeDrain{Node: id, Slots: 5}, f.note("drain", id, dry)
}

func (f *fleet) UndrainNode(_ context.Context, id cairn.NodeID) (cairn.Node, error) {
	return cairn.Node{ID: id, Name: "taken back"}, f.note("undrain", id, true)
}

func (f *fleet) RemoveNode(_ context.Context, id cairn.NodeID, dry bool) (cairn.Node, error) {
	return cairn.Node{ID: id}, f.note("remove", id, dry)
}

func (f *fleet) Rebalance(_ context.Context, dry bool) (Balance, error) {
	return Balance{Spread: 0.5, Slots: 7}, f.note("rebalance", cairn.NodeID{}, dry)
}

func TestFleetRoutes(t *testing.T) {
	f := &fleet{}
	with := newServer(t, &cluster{}).cfg
	with.Fleet, with.Jobs = f, &jobList{job: cairn.Job{ID: 4, Kind: cairn.JobRebalance}}
	s, err := New(with)
	if err != nil {
		t.Fatal(err)
	}
	node := "/api/v1/nodes/" + cairn.NodeID{0xab}.String()
	for _, tt := range []struct {
		method, target, as string
		code               int
		has                string
	}{
		{"POST", node + "/drain", "", 401, ""},
		{"POST", node + "/drain?dry-run=1", "root:secret", 200, `"slots": 5`},
		{"POST", node + "/drain", "root:secret", 409, "add a node first"},
		{"DELETE", node + "/drain", "root:secret", 200, "taken back"},
		{"DELETE", node, "", 401, ""},
		{"DELETE", node + "?dry-run=1", "root:secret", 200, ""},
		{"DELETE", node, "root:secret", 409, "add a node first"},
		{"DELETE", "/api/v1/nodes/x", "root:secret", 400, ""},
		{"GET", "/api/v1/rebalance", "", 401, ""},
		{"GET", "/api/v1/rebalance", "root:secret", 200, `"kind": "rebalance"`},
		{"POST", "/api/v1/rebalance?dry-run=1", "root:secret", 200, `"spread": 0.5`},
		{"POST", "/api/v1/rebalance", "root:secret", 409, "add a node first"},
	} {
		w := ask(s, tt.method, tt.target, tt.as, loopback)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.has) {
			t.Errorf("%s %s: %d %s, want %d and %s", tt.method, tt.target, w.Code, w.Body, tt.code, tt.has)
		}
	}
	want := "drain ab true,drain ab false,undrain ab true,remove ab true,remove ab false,rebalance 00 true,rebalance 00 true,rebalance 00 false"
	if got := strings.Join(f.asked, ","); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}
