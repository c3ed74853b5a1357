package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/admin"
)

// clusterServer answers the admin API's paths with fixed values.
func clusterServer(t *testing.T, answers map[string]any) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "root" || password != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		v, ok := answers[r.Method+" "+r.URL.RequestURI()]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			v = admin.Problem{Detail: "nothing at " + r.URL.RequestURI()}
		}
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestClusterCommands(t *testing.T) {
	t.Setenv(envAccessKey, "root")
	t.Setenv(envSecretKey, "secret")
	one, two, drive := cairn.NodeID{0x12, 0x34, 0x56}, cairn.NodeID{0x12, 0x34, 0x99}, cairn.DriveID{0xab, 0xcd}
	nodes := []cairn.Node{
		{ID: one, Name: "alpha", Addr: "10.0.0.1:9002", Roles: cairn.AllRoles, State: cairn.NodeDown, Reason: "it does not answer",
			History: []cairn.NodeChange{{State: cairn.NodeUp, Reason: "founded the cluster"}, {State: cairn.NodeDown, Reason: "it does not answer"}}},
		{ID: two, Name: "beta", Addr: "10.0.0.2:9002", Roles: cairn.RoleData, Zone: "z2"},
	}
	drives := []cairn.Drive{{ID: drive, Node: one, Path: "/d1", State: cairn.DriveFull}, {ID: cairn.DriveID{9}, Path: "/d1", Retired: true}}
	volume := cairn.Volume{ID: 7, Profile: cairn.Profile{K: 1, M: 1}, Epoch: 3, Slots: []cairn.DriveID{drive, {9}}}
	url := clusterServer(t, map[string]any{
		"GET /api/v1/nodes": nodes, "GET /api/v1/drives": drives,
		"GET /api/v1/volumes?after=v0&max=1000": []cairn.Volume{volume},
		"GET /api/v1/volumes/v7":                admin.VolumeDetail{Volume: volume, Blobs: 5, Bytes: 1 << 20, Drives: drives},
		"GET /api/v1/status":                    admin.Status{Profile: cairn.Profile{K: 1}, Voters: []admin.Voter{{ID: 4, State: "up", Leader: true, Path: "/d1/meta"}}},
		"POST /api/v1/tokens?expires=30m0s&roles=data": admin.NewToken{Token: "cairn-join-1-x", Roles: cairn.RoleData, Join: "10.0.0.1:9002",
			Expires: time.Unix(1e9, 0)},
		"PUT /api/v1/voters/" + one.String(): struct{}{},
		"GET /api/v1/tokens":                 []admin.Token{{ID: "k1", Used: time.Unix(1e9, 0), Node: two}, {ID: "k2", Expires: time.Unix(1e9, 0)}},
	})
	for _, tt := range []struct {
		args string
		code int
		want []string // on stdout, or on stderr if it fails
	}{
		{"node ls", 0, []string{"alpha", "down", "beta", "z2", "10.0.0.2:9002"}},
		{"node ls -o json", 0, []string{`"roles": "meta,data,gateway"`}},
		{"node show alpha", 0, []string{"it does not answer", "founded the cluster"}},
		{"node show 123499", 0, []string{"beta"}},
		{"node show 1234", 1, []string{"2 nodes match"}},
		{"node show 12", 1, []string{"no node is"}},
		{"node show", 2, []string{"--help"}},
		{"drive ls", 0, []string{"full", "retired", "/d1"}},
		{"drive show /d1", 0, []string{drive.String()}},
		{"drive show abcd", 0, []string{"/d1"}},
		{"volume ls", 0, []string{"v7", "1+1", "abcd0000"}},
		{"volume show v7", 0, []string{"5 blobs, 1 MiB", "retired"}},
		{"volume show v8", 1, []string{"nothing at"}},
		{"meta ls", 0, []string{"leader", "/d1/meta"}},
		{"token create --roles data --expires 30m", 0, []string{"cairn-join-1-x"}},
		{"token create --roles king", 2, []string{"none of meta, data, gateway"}},
		{"meta add alpha", 0, nil},
		{"meta remove alpha", 1, []string{"nothing at"}},
		{"meta add nobody", 1, []string{"no node is"}},
		{"token ls", 0, []string{"used by node " + two.String(), "expired"}},
	} {
		var out, errs bytes.Buffer
		args := append(strings.Fields(tt.args), "--admin", url)
		code := run(t.Context(), args, nil, &out, &errs)
		text := out.String()
		if tt.code != 0 {
			text = errs.String()
		}
		if code != tt.code {
			t.Errorf("%s: exit code %d, want %d: %s", tt.args, code, tt.code, errs.String())
		}
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: got %q, want %q in it", tt.args, text, want)
			}
		}
	}
}
