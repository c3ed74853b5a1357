package main

import (
	"bytes"
	"strings"
	"testing"

	"cairn"
	"cairn/admin"
)

func TestNodeAndRebalanceCommands(t *testing.T) {
	t.Setenv(envAccessKey, "root")
	t.Setenv(envSecretKey, "secret")
	n := cairn.Node{ID: cairn.NodeID{0x12, 0x34}, Name: "alpha", Roles: cairn.AllRoles, State: cairn.NodeDown, Reason: "it does not answer"}
	job := cairn.Job{ID: 9, Kind: cairn.JobNodeDrain, Progress: cairn.Progress{State: cairn.JobDone, DoneBytes: 1 << 20, TotalBytes: 1 << 20}}
	at := "/api/v1/nodes/" + n.ID.String()
	plan := admin.NodeDrain{Node: n.ID, Name: n.Name, Voters: 1, Slots: 3, Bytes: 1 << 20}
	begun := plan
	begun.Job = &job
	url := clusterServer(t, map[string]any{
		"GET /api/v1/nodes": []cairn.Node{n}, "POST " + at + "/drain?dry-run=1": plan, "POST " + at + "/drain": begun,
		"DELETE " + at + "/drain": n, "DELETE " + at + "?dry-run=1": n, "DELETE " + at: n,
		"GET /api/v1/jobs/9": job, "POST /api/v1/jobs/9/pause": job,
		"POST /api/v1/rebalance?dry-run=1": admin.Balance{Spread: 0.25, Slots: 4, Bytes: 1 << 30},
		"POST /api/v1/rebalance":           admin.Balance{Job: &job}, "GET /api/v1/rebalance": admin.Balance{Job: &job},
	})
	empty := clusterServer(t, map[string]any{"GET /api/v1/rebalance": admin.Balance{}})
	for _, tt := range []struct {
		args, in, url string
		code          int
		want          string // on stdout, or on stderr if it fails
	}{
		{"node drain alpha --dry-run", "", url, 0, "1 voters, 3 slots, about 1 MiB; nothing was begun"},
		{"node drain alpha", "", url, 0, "job 9: done"},
		{"node drain 1234 --watch -o json", "", url, 0, `"slots": 3`},
		{"node drain nobody", "", url, 1, "no node is"},
		{"node drain", "", url, 2, "--help"},
		{"node undrain alpha", "", url, 0, "takes new slots and voters again"},
		{"node remove alpha --dry-run", "", url, 0, "may be removed; nothing was done"},
		{"node remove alpha", "", url, 1, "nothing was removed"},
		{"node remove alpha", "n\n", url, 1, "nothing was removed"},
		{"node remove alpha", "y\n", url, 0, "is removed"},
		{"node remove alpha --yes", "", url, 0, "is removed"},
		{"rebalance start --dry-run", "", url, 0, "spread 25.0% of the mean"},
		{"rebalance start --watch", "", url, 0, "job 9: done"},
		{"rebalance status", "", url, 0, "job 9: done"},
		{"rebalance pause", "", url, 0, "node-drain"},
		{"rebalance cancel", "", url, 1, "nothing at"},
		{"rebalance pause", "", empty, 1, "there was no rebalance yet"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(strings.Fields(tt.args), "--admin", tt.url), strings.NewReader(tt.in), &out, &errs)
		text := out.String()
		if tt.code != 0 {
			text = errs.String()
		}
		if code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s: exit code %d, %q, want %d with %q; %s", tt.args, code, text, tt.code, tt.want, errs.String())
		}
	}
}
