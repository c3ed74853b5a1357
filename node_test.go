package cairn_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"cairn"
)

func TestRoles(t *testing.T) {
	for _, tt := range []struct {
		text string
		want cairn.Roles
		bad  bool
	}{
		{text: "meta", want: cairn.RoleMeta},
		{text: "gateway,data", want: cairn.RoleGateway | cairn.RoleData},
		{text: "meta, data,gateway", want: cairn.AllRoles},
		{text: "", bad: true},
		{text: "meta,", bad: true},
		{text: "Meta", bad: true},
	} {
		got, err := cairn.ParseRoles(tt.text)
		if tt.bad {
			if !errors.Is(err, cairn.ErrInvalid) {
				t.Errorf("%q: got %v, %v, want a refusal", tt.text, got, err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("%q: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
		if again, err := cairn.ParseRoles(got.String()); err != nil || again != got {
			t.Errorf("%q prints as %q, which reads as %v, %v", tt.text, got, again, err)
		}
	}
}

func TestNodeText(t *testing.T) {
	for state := cairn.NodeJoining; state <= cairn.NodeRemoved; state++ {
		want := cairn.Node{ID: cairn.NewID(), Name: "n1", Addr: "10.0.0.1:9002", Roles: cairn.RoleData | cairn.RoleMeta, Zone: "a", Rack: "r1",
			Epoch: 3, State: state, StateSince: time.Unix(5, 0).UTC(), Reason: "because", JoinedAt: time.Unix(4, 0).UTC(), Version: "v", Format: 1}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		var got cairn.Node
		if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s reads as %+v, %v, want %+v", b, got, err, want)
		}
	}
	var s cairn.NodeState
	if err := s.UnmarshalText([]byte("elsewhere")); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("an unknown state: got %v", err)
	}
}

func TestNodeValidate(t *testing.T) {
	good := cairn.Node{ID: cairn.NewID(), Name: "n1", Roles: cairn.RoleData}
	for _, tt := range []struct {
		name   string
		change func(*cairn.Node)
		ok     bool
	}{
		{"good", func(*cairn.Node) {}, true},
		{"no ID", func(n *cairn.Node) { n.ID = cairn.NodeID{} }, false},
		{"no role", func(n *cairn.Node) { n.Roles = 0 }, false},
		{"an unknown role", func(n *cairn.Node) { n.Roles = 1 << 7 }, false},
		{"an unknown state", func(n *cairn.Node) { n.State = 99 }, false},
		{"a space in a name", func(n *cairn.Node) { n.Name = "my node" }, false},
		{"a slash in a zone", func(n *cairn.Node) { n.Zone = "a/b" }, false},
		{"a long rack", func(n *cairn.Node) { n.Rack = strings.Repeat("r", cairn.MaxNodeName+1) }, false},
		{"the longest rack", func(n *cairn.Node) { n.Rack = strings.Repeat("r", cairn.MaxNodeName) }, true},
	} {
		n := good
		tt.change(&n)
		if err := n.Validate(); (err == nil) != tt.ok || err != nil && !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("%s: got %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}
