package replica

import (
	"cmp"
	"slices"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
)

// The states of a voter.
const (
	VoterUp      = "up"      // takes part
	VoterJoining = "joining" // is being brought up to date, does not vote yet
	VoterDown    = "down"    // belongs to the group and does not run
	VoterAway    = "away"    // lives on another node, and only the leader's node knows how it is
)

// VoterStatus describes one member of the group.
type VoterStatus struct {
	ID      uint64        `json:"id"`
	Node    cairn.NodeID  `json:"node"`  // zero in a store of one process
	Drive   cairn.DriveID `json:"drive"` // zero while that is not known
	Path    string        `json:"path"`
	State   string        `json:"state"`
	Leader  bool          `json:"leader"`
	Applied uint64        `json:"applied"`          // log index that its state holds
	Durable uint64        `json:"durable"`          // log index that its flushed state holds
	Match   uint64        `json:"match"`            // log index that the leader knows it to have
	Log     int64         `json:"log_bytes"`        // of log segments that are full
	Doubt   bool          `json:"doubtful"`         // votes again once it is up to date (its log was damaged at the end)
	Term    uint64        `json:"term"`             // Raft's
	Reason  string        `json:"reason,omitempty"` // why it does not run
}

// Status describes the group.
type Status struct {
	Voters  []VoterStatus `json:"voters"`
	Wanted  int           `json:"wanted"`  // voters asked for, as far as there are nodes or drives for them
	Leader  uint64        `json:"leader"`  // ID, 0 if there is none
	Commits uint64        `json:"commits"` // log index of the leader's state
}

// Status describes the group as far as this process knows it, from memory: on several nodes by what the leader said last.
func (g *Group) Status() Status {
	st := Status{Wanted: g.cfg.Voters}
	lead, _ := g.leaderNow()
	if td := g.told.Load(); lead == nil && td != nil && td.Status != nil && time.Since(td.at) < 2*askEvery {
		return *td.Status
	}
	if n := int(g.wanted.Load()); n > 0 && g.links != nil {
		st.Wanted = n
	}
	if f := g.follower(); lead == nil && f != nil {
		st.Leader, st.Commits = f.leader.Load(), f.applied.Load()
	}
	match := map[uint64]uint64{}
	if lead != nil {
		st.Leader, st.Commits = lead.id, lead.applied.Load()
		lead.call(func(rn *raft.RawNode) {
			for id, p := range rn.Status().Progress {
				match[id] = p.Match
			}
		})
	}
	running := *g.voters.Load()
	members := g.memberIDs(lead)
	for _, v := range running {
		if _, known := members[v.id]; !known {
			members[v.id] = VoterJoining
		}
	}
	for id, role := range members {
		s := VoterStatus{ID: id, State: role, Match: match[id]}
		s.Node, _ = g.nodeOf(id)
		s.Leader = id == st.Leader
		if v := running[id]; v != nil {
			s.Drive, s.Path = v.home.Drive, v.dir
			s.Applied, s.Durable, s.Term, s.Doubt = v.applied.Load(), v.durable.Load(), v.term.Load(), v.doubtful.Load()
			s.Log, _ = v.log.Size()
			if e := v.failure.Load(); e != nil {
				s.State, s.Reason = VoterDown, (*e).Error()
			}
		} else {
			s.State = VoterDown
			g.farStatus(&s, role, lead)
		}
		st.Voters = append(st.Voters, s)
	}
	slices.SortFunc(st.Voters, func(a, b VoterStatus) int { return cmp.Compare(a.ID, b.ID) })
	return st
}

// farStatus fills in what is known of a voter that does not run here.
func (g *Group) farStatus(s *VoterStatus, role string, lead *voter) {
	if g.links == nil || s.Node == g.cfg.Node || s.Node.IsZero() {
		return
	}
	if m := g.table.Load(); m != nil {
		s.Drive = m.Voters[voterName(s.ID)].Drive
	}
	if lead == nil {
		s.State = VoterAway
		return
	}
	h := g.heardHellos()[s.Node]
	if h == nil {
		return
	}
	for _, hh := range h.Homes {
		if hh.Voter == s.ID {
			s.State, s.Path, s.Applied, s.Doubt = role, hh.Path, hh.Applied, hh.Doubt
		}
	}
}

// memberIDs returns the members' roles by the leader's configuration, or by any voter's if there is no leader.
func (g *Group) memberIDs(lead *voter) map[uint64]string {
	roles := make(map[uint64]string)
	if lead == nil {
		for _, v := range *g.voters.Load() {
			lead = v
		}
	}
	if lead == nil {
		return roles
	}
	conf := lead.conf.Load()
	for _, id := range conf.GetLearners() {
		roles[id] = VoterJoining
	}
	for _, id := range slices.Concat(conf.GetVoters(), conf.GetVotersOutgoing()) {
		roles[id] = VoterUp
	}
	return roles
}
