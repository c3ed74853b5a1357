//go:build e2e

package e2e

import (
	"path/filepath"
	"testing"

	"cairn"
	"cairn/admin"
)

// do sends one request that must be taken.
func do[T any](m *member, method, path string) (v T) {
	m.t.Helper()
	if err := m.ask(method, path, &v); err != nil {
		m.t.Fatal(err)
	}
	return v
}

// follow waits for a job's end, wherever its leader is, and wants it done.
func (m *member) follow(j *cairn.Job) cairn.Job {
	m.t.Helper()
	ended := until(m, "job "+j.ID.String()+" ended", "/api/v1/jobs/"+j.ID.String(), cairn.Job.Ended)
	if ended.State != cairn.JobDone || ended.DoneBytes != ended.TotalBytes {
		m.t.Errorf("%s %s: %+v", j.Kind, j.Subject, ended)
	}
	return ended
}

// nodeNamed returns a node's row.
func (m *member) nodeNamed(name string) cairn.Node {
	m.t.Helper()
	for _, n := range do[[]cairn.Node](m, "GET", "/api/v1/nodes") {
		if n.Name == name {
			return n
		}
	}
	m.t.Fatalf("no node is called %s", name)
	return cairn.Node{}
}

// Four processes under load: the one beside the metadata's leader is emptied, while it is killed and restarted and the job is
// paused and resumed, and removed; then a fifth joins and the drives are levelled. No client sees an error, nothing is lost,
// and the new node carries its share.
func TestClusterShrinksAndGrows(t *testing.T) {
	all := fleetOf(t, 4, 4, "2+1")
	until(all[0], "voters on three nodes", "/api/v1/status", func(st admin.Status) bool { return st.Health == admin.HealthOK && len(votersByNode(st)) == 3 })
	leader, others := leaderOf(t, all)
	m := others[0]
	load := startLoad(t, "shrink", others...)
	load.more(60)
	node := m.nodeNamed(leader.name)
	d := do[admin.NodeDrain](m, "POST", "/api/v1/nodes/"+node.ID.String()+"/drain")
	if d.Voters != 1 || d.Slots == 0 || d.Job == nil {
		t.Errorf("drain: %+v", d)
	}
	until(m, "the voter has moved", "/api/v1/status", func(st admin.Status) bool {
		return votersByNode(st)[node.ID.String()] == 0 && len(votersByNode(st)) == 3
	})
	leader.server.Kill()
	leader.restart()
	do[cairn.Job](m, "POST", "/api/v1/jobs/"+d.Job.ID.String()+"/pause")
	until(m, "paused", "/api/v1/jobs/"+d.Job.ID.String(), func(j cairn.Job) bool { return j.State == cairn.JobPaused })
	do[cairn.Job](m, "POST", "/api/v1/jobs/"+d.Job.ID.String()+"/resume")
	m.follow(d.Job)
	until(m, "the node drains", "/api/v1/nodes", func(nodes []cairn.Node) bool { return stateOf(nodes, leader.name) == cairn.NodeDraining })
	do[cairn.Node](m, "DELETE", "/api/v1/nodes/"+node.ID.String())
	if err := leader.server.Stop(); err != nil {
		t.Error(err)
	}
	load.more(60)
	load.end("while a node was emptied and removed")
	load.checkAll(others[1])

	late := &member{t: t, name: "n5", dir: filepath.Join(filepath.Dir(m.dir), "n5"), s3Addr: freeAddr(t), adminAddr: freeAddr(t)}
	late.args = []string{"--advertise", freeAddr(t), "--name", "n5", "--zone", "zone-n5", "--join", m.addr, "--roles", "data"}
	late.env = []string{"CAIRN_TOKEN=" + m.token()}
	load = startLoad(t, "grow", others...)
	late.start()
	before := until(m, "uneven", "/api/v1/rebalance", func(b admin.Balance) bool { return b.Slots > 0 })
	b := do[admin.Balance](m, "POST", "/api/v1/rebalance")
	load.more(300)
	load.end("while a node was added and the drives were levelled")
	m.follow(b.Job) // without load: background work yields to clients, and this job would take as long as they like
	after := do[admin.Balance](m, "GET", "/api/v1/rebalance")
	if after.Spread >= before.Spread || after.Job == nil || after.Job.State != cairn.JobDone {
		t.Errorf("before the rebalance %+v, after it %+v", before, after)
	}
	t.Logf("spread of used bytes %.2f, before %.2f", after.Spread, before.Spread)
	load.checkAll(m)
	until(m, "healthy again", "/api/v1/status", func(st admin.Status) bool {
		for _, d := range st.Drives {
			if d.Node == "n5" && d.Shards == 0 {
				return false
			}
		}
		return st.Health == admin.HealthOK
	})
}

// votersByNode counts the voters that are up.
func votersByNode(st admin.Status) map[string]int {
	on := map[string]int{}
	for _, v := range st.Voters {
		if v.State == admin.VoterUp {
			on[v.Node]++
		}
	}
	return on
}
