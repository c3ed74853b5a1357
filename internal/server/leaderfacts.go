package server

import (
	"context"
	"encoding/json"
	"net/http"

	"cairn/admin"
	"cairn/health"
	"cairn/internal/rpc"
)

// leaderFacts are what only the process beside the metadata's leader knows.
type leaderFacts struct {
	Voters []admin.Voter    `json:"voters"`
	Scrub  admin.Scrub      `json:"scrub"`
	Repair admin.Repair     `json:"repair"`
	Health []health.Verdict `json:"health,omitempty"`
	Frozen string           `json:"frozen,omitempty"` // why automatic repair of nodes is frozen
	Wanted int              `json:"wanted"`           // voters, as far as there are nodes or drives for them
}

const (
	leaderPath     = "/node/leader"
	maxLeaderFacts = 1 << 20
)

func (f *facts) ownLeaderFacts() leaderFacts {
	l := leaderFacts{Scrub: f.scrub(), Repair: f.repair(), Health: f.parts.wearing.Verdicts()}
	if f.parts.watcher != nil {
		l.Frozen = f.parts.watcher.Frozen()
	}
	st := f.parts.meta.Status()
	l.Wanted = st.Wanted
	for _, v := range st.Voters {
		row := admin.Voter{ID: v.ID, Drive: v.Drive.String(), Path: v.Path, State: v.State, Leader: v.Leader}
		if !v.Node.IsZero() {
			row.Node = v.Node.String()
		}
		l.Voters = append(l.Voters, row)
	}
	return l
}

// leaderFacts asks the leader's process, if that is another one. What does not answer is shown as this process knows it.
func (f *facts) leaderFacts(ctx context.Context) leaderFacts {
	if f.parts.site == nil || f.parts.meta.Leads() {
		return f.ownLeaderFacts()
	}
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	var l leaderFacts
	leader, _ := f.parts.meta.Leader()
	client, base, err := f.parts.site.dialer.Peer(leader)
	if err != nil || rpc.GetJSON(ctx, client, base+leaderPath, maxLeaderFacts, &l) != nil {
		return f.ownLeaderFacts()
	}
	return l
}

// serveLeaderFacts answers other processes.
func (f *facts) serveLeaderFacts(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(f.ownLeaderFacts()) // who is gone needs no answer
}
