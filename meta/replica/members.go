package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// roster is what a round of care knows of the group's members, by the leader's word.
type roster struct {
	lead     *voter
	conf     *pb.ConfState
	last     uint64            // the leader's last log index
	applied  uint64            // what the leader had applied before match was read
	first    uint64            // the first index that the leader's log still has
	match    map[uint64]uint64 // what the leader knows each member to have
	running  map[uint64]*voter
	dead     []uint64 // voting members to be replaced
	deadTeam []uint64 // learners that do not run
	ready    []uint64 // learners that have caught up
	joining  int      // learners, and voters being seeded, that are on their way
}

// maxLag is how many entries a learner may lag when it is made a voter.
const maxLag = 256

// caughtUp tells whether a learner may vote: the leader has heard from it, and holds all that it lacks. The majority that
// ends a change of members may need it; one that can never catch up would hold the group up for good.
func (r *roster) caughtUp(id uint64) bool {
	m := r.match[id]
	return m > 0 && m+1 >= r.first && m+maxLag >= r.last
}

// takeRoster asks the leader; nil when there is none, or when members are changing.
func (g *Group) takeRoster() *roster {
	lead, term := g.leaderNow()
	if lead == nil || !g.confirm(lead, term) && (g.links == nil || lead.readIndex(context.Background(), readPatience) != nil) {
		return nil
	}
	r := &roster{lead: lead, conf: lead.conf.Load(), applied: lead.applied.Load(), match: make(map[uint64]uint64), running: *g.voters.Load()}
	_, r.first = lead.log.Size()
	r.last, _ = lead.log.last()
	if len(r.conf.GetVotersOutgoing()) > 0 {
		return nil
	}
	if !lead.call(func(rn *raft.RawNode) {
		for id, p := range rn.Status().Progress {
			r.match[id] = p.Match
		}
	}) {
		return nil
	}
	for _, id := range r.conf.GetVoters() {
		if v := r.running[id]; v == nil {
			if g.lostHere(id) && g.deadLongEnough(id) {
				r.dead = append(r.dead, id)
			}
		} else {
			delete(g.keeping.deadSince, id)
		}
	}
	for _, id := range r.conf.GetLearners() {
		switch v := r.running[id]; {
		case v == nil && g.lostHere(id):
			r.deadTeam = append(r.deadTeam, id)
		case r.caughtUp(id):
			r.ready = append(r.ready, id)
			r.joining++
		default:
			r.joining++
		}
	}
	r.joining += len(g.keeping.seeding)
	return r
}

// deadLongEnough tells whether a member that does not run is to be replaced now.
func (g *Group) deadLongEnough(id uint64) bool {
	since, seen := g.keeping.deadSince[id]
	if !seen {
		g.keeping.deadSince[id] = time.Now().Add(replaceUnseen - replaceLost)
		return false
	}
	return time.Since(since) >= replaceLost
}

// reconfigure takes the next step towards the wanted set of voters. Every step is a committed change of configuration, so
// it happens only while a majority works, and never makes a majority harder to reach.
func (g *Group) reconfigure(homes []Home) error {
	r := g.takeRoster()
	if r == nil {
		return nil
	}
	if err := g.dismiss(r); err != nil {
		return err
	}
	g.endDoubts(r)
	grow := max(0, wantedVoters(g.cfg.Voters, homes)-len(r.conf.GetVoters()))
	if change := r.nextChange(grow); change != nil {
		var err error
		if g.hold.Load() != 0 {
			g.holdAt.Store(time.Now().UnixNano())
		}
		r.lead.call(func(rn *raft.RawNode) { err = rn.ProposeConfChange(change) })
		if err != nil {
			g.cfg.Logger.Debug("meta members", "err", err) // refused while another change is under way
		}
		return nil
	}
	if need := len(r.dead) + grow - r.joining; need > 0 {
		g.seedSpares(r, homes, need)
	}
	return nil
}

// wantedVoters is the largest odd number that is asked for and finds a home each.
func wantedVoters(asked int, homes []Home) int {
	usable := 0
	for _, h := range homes {
		if h.Usable {
			usable++
		}
	}
	n := min(asked, usable)
	if n%2 == 0 {
		n--
	}
	return max(n, 1)
}

// nextChange decides on one change of configuration; nil for none. It is pure.
func (r *roster) nextChange(grow int) *pb.ConfChangeV2 {
	var steps []*pb.ConfChangeSingle
	step := func(t pb.ConfChangeType, id uint64) {
		steps = append(steps, &pb.ConfChangeSingle{Type: t.Enum(), NodeId: new(id)})
	}
	for id := range r.running {
		if !slices.Contains(r.conf.GetVoters(), id) && !slices.Contains(r.conf.GetLearners(), id) {
			step(pb.ConfChangeAddLearnerNode, id)
		}
	}
	for _, id := range r.deadTeam {
		step(pb.ConfChangeRemoveNode, id)
	}
	if len(steps) == 0 {
		ready := r.ready
		for _, gone := range r.dead {
			if len(ready) == 0 {
				break
			}
			step(pb.ConfChangeAddNode, ready[0])
			step(pb.ConfChangeRemoveNode, gone)
			ready = ready[1:]
		}
		// An even number of voters tolerates no more losses than one fewer: grow to odd numbers only.
		n := min(grow, len(ready))
		if (len(r.conf.GetVoters())+n)%2 == 0 {
			n--
		}
		for i := range n {
			step(pb.ConfChangeAddNode, ready[i])
		}
	}
	if len(steps) == 0 {
		return nil
	}
	return &pb.ConfChangeV2{Transition: pb.ConfChangeTransitionAuto.Enum(), Changes: steps}
}

// dismiss ends voters that cannot take part: those that the group has removed while they were away, and those that lag
// behind what the leader's log still has. Their homes become spare.
func (g *Group) dismiss(r *roster) error {
	for id, v := range r.running {
		member := slices.Contains(r.conf.GetVoters(), id)
		learner := slices.Contains(r.conf.GetLearners(), id)
		switch {
		case !member && !learner && !g.keeping.seeded[id]:
			g.removeVoter(id)
			_ = v.close(closePatience) // its files go anyway
			if err := g.cfg.FS.RemoveAll(v.dir); err != nil {
				return &cairn.Error{Op: "meta.voter", Subject: v.dir, Err: err}
			}
			g.cfg.Logger.Info("meta voter was replaced while it was away", "voter", voterName(id), "dir", v.dir)
			return nil
		case (member || learner) && v != r.lead:
			if last, _ := v.log.last(); last+1 < r.first && r.match[id]+1 < r.first {
				v.fail(fmt.Errorf("log ends at %d, the leader's begins at %d: %w", last, r.first, cairn.ErrUnavailable))
			}
		}
	}
	return nil
}

// endDoubts lets doubtful voters vote again once they have all that the leader had committed.
func (g *Group) endDoubts(r *roster) {
	for id, v := range r.running {
		if v.doubtful.Load() && !v.failed() && r.match[id] >= r.applied {
			if err := v.trust(); err != nil {
				v.fail(err)
			}
		}
	}
}
