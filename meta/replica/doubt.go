package replica

import (
	"context"
	"encoding/json"
	"slices"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
)

// standing is how far a voter's log goes.
type standing struct {
	Voter    uint64 `json:"voter"`
	Index    uint64 `json:"index"`
	Term     uint64 `json:"term"`
	Doubtful bool   `json:"doubtful"`
}

// before orders by what a log holds; equal ones by their voter, so that every node finds the same one.
func (s standing) before(o standing) bool {
	switch {
	case s.Term != o.Term:
		return s.Term < o.Term
	case s.Index != o.Index:
		return s.Index < o.Index
	}
	return s.Voter < o.Voter
}

// ownStandings lists the voters of this process.
func (g *Group) ownStandings() (list []standing) {
	for id, v := range *g.voters.Load() {
		if !v.failed() {
			index, term := v.log.last()
			list = append(list, standing{id, index, term, v.doubtful.Load()})
		}
	}
	return list
}

func (g *Group) serveStandings(context.Context, cairn.NodeID, []byte) ([]byte, error) {
	return json.Marshal(g.ownStandings())
}

// letDoubtfulVote is for the start after a power cut that tore the last record of many logs: nearly always those records
// were never acknowledged. Doubtful voters then vote, but for the longest log alone, so that what any log holds stays. With
// voters on other nodes all of them must be heard first: a log that is not seen may be the one that holds more.
func (g *Group) letDoubtfulVote() {
	list := g.ownStandings()
	if g.links != nil {
		list = g.allStandings(list)
	}
	if len(list) == 0 {
		return
	}
	best := slices.MaxFunc(list, func(a, b standing) int {
		if a.before(b) {
			return -1
		}
		return 1
	}).Voter
	helped := false
	for _, v := range *g.voters.Load() {
		helped = v.doubtful.Load() && v.voteFor.Swap(best) != best || helped
	}
	if helped {
		g.cfg.Logger.Warn("meta: no quorum of voters with whole logs; damaged ones vote for the longest log", "voter", voterName(best))
	}
	if v := g.voter(best); v != nil {
		g.campaign(v)
	}
}

// allStandings adds the voters of other nodes; none if there is a member whose log is not known, or if no log here is in
// doubt.
func (g *Group) allStandings(list []standing) []standing {
	if !slices.ContainsFunc(list, func(s standing) bool { return s.Doubtful }) {
		return nil
	}
	var conf *pb.ConfState
	for _, v := range *g.voters.Load() {
		if c := v.conf.Load(); conf == nil || len(c.GetVoters()) > 0 {
			conf = c
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	for _, n := range g.others() {
		var far []standing
		if reply, err := g.call(ctx, n, votersPart+"standings", nil); err == nil && json.Unmarshal(reply, &far) == nil {
			list = append(list, far...)
		}
	}
	for _, id := range slices.Concat(conf.GetVoters(), conf.GetVotersOutgoing()) {
		if !slices.ContainsFunc(list, func(s standing) bool { return s.Voter == id }) {
			return nil
		}
	}
	return slices.DeleteFunc(list, func(s standing) bool {
		return !slices.Contains(conf.GetVoters(), s.Voter) && !slices.Contains(conf.GetVotersOutgoing(), s.Voter)
	})
}
