package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
)

// roster is what a round of care knows of the group's members, by the leader's word.
type roster struct {
	lead    *voter
	term    uint64
	last    uint64 // the leader's last log index
	first   uint64 // the first index that its log still has
	tidings *tidings
	voters  []uint64
	running map[uint64]*voter
	hellos  hellos
	far     map[uint64]helloHome // voters that run on other nodes
	farNode map[uint64]cairn.NodeID
}

// maxLag is how many entries a learner may lag when it is made a voter.
const maxLag = 256

// caughtUp tells whether a learner may vote: the leader has heard from it, and holds all that it lacks. The majority that
// ends a change of members may need it; one that can never catch up would hold the group up for good.
func (r *roster) caughtUp(id uint64) bool {
	m := r.tidings.Match[id]
	return m > 0 && m+1 >= r.first && m+maxLag >= r.last
}

// takeRoster asks the leader; nil when it is not here, or when members are changing.
func (g *Group) takeRoster() *roster {
	lead, term := g.leaderNow()
	if lead == nil || !g.confirm(lead, term) && (g.links == nil || lead.readIndex(context.Background(), readPatience) != nil) {
		return nil
	}
	conf := lead.conf.Load()
	if len(conf.GetVotersOutgoing()) > 0 {
		return nil
	}
	r := &roster{lead: lead, term: term, voters: conf.GetVoters(), running: *g.voters.Load(), hellos: g.heardHellos(),
		far: make(map[uint64]helloHome), farNode: make(map[uint64]cairn.NodeID)}
	_, r.first = lead.log.Size()
	r.last, _ = lead.log.last()
	if r.tidings = lead.tell(); r.tidings == nil {
		return nil
	}
	for n, h := range r.hellos {
		for _, home := range h.Homes {
			if home.Voter != 0 {
				r.far[home.Voter], r.farNode[home.Voter] = home, n
			}
		}
	}
	return r
}

// runs tells whether a voter is there, on this node or, by its hello, on another.
func (r *roster) runs(id uint64) bool {
	_, far := r.far[id]
	return far || r.running[id] != nil
}

// replaceable tells whether a member that does not run is to be replaced now.
func (g *Group) replaceable(r *roster, id uint64) bool {
	n, known := g.nodeOf(id)
	if h := r.hellos[n]; h != nil && n != g.cfg.Node && h.lacks(g.table.Load().Voters[voterName(id)].Drive) {
		return g.deadFor(id, 0) >= replaceLost
	}
	if !known || n == g.cfg.Node || r.hellos[n] != nil {
		return g.deadFor(id, replaceUnseen) >= replaceLost
	}
	return g.awayFor(id, n)
}

// awayFor tells whether a member on a node that is away has been so for long enough to be replaced: a voter that is gone for
// good costs as much safety as a shard, so whoever judges that the node is out judges that too.
func (g *Group) awayFor(id uint64, n cairn.NodeID) bool {
	away := g.deadFor(id, 0)
	return away >= g.cfg.ReplaceAfter || away >= replaceLost && g.cfg.Gone(n)
}

// deadFor tells how long a member does not run. One that was never seen to stop has grace first.
func (g *Group) deadFor(id uint64, grace time.Duration) time.Duration {
	since, seen := g.keeping.deadSince[id]
	if !seen {
		since = time.Now()
		if grace > 0 {
			since = since.Add(grace - replaceLost)
		}
		g.keeping.deadSince[id] = since
	}
	return time.Since(since)
}

// layout sums the roster up for plan.
func (g *Group) layout(r *roster, homes []Home) *layout {
	l := &layout{self: g.cfg.Node, asked: g.asked(), voters: r.voters, lead: r.lead.id,
		nodeOf: make(map[uint64]cairn.NodeID), barred: make(map[cairn.NodeID]bool), live: map[cairn.NodeID]bool{g.cfg.Node: true}}
	for _, h := range homes {
		if h.Usable {
			l.homes++
		}
	}
	if m := g.table.Load(); m != nil {
		for _, n := range m.Barred {
			l.barred[n] = true
		}
	}
	for n, h := range r.hellos {
		if slices.ContainsFunc(h.Homes, func(hh helloHome) bool { return hh.Usable }) {
			l.live[n] = true
		}
	}
	for _, id := range slices.Concat(r.tidings.Voters, r.tidings.Learners, slices.Collect(maps.Keys(r.running)), slices.Collect(maps.Keys(r.far))) {
		if n, known := g.nodeOf(id); known {
			l.nodeOf[id] = n
		}
	}
	for _, id := range r.voters {
		if r.runs(id) {
			delete(g.keeping.deadSince, id)
		} else if g.replaceable(r, id) {
			l.dead = append(l.dead, id)
		}
	}
	g.newcomers(r, l)
	return l
}

// asked is how many voters are asked for. Several nodes with homes are reason enough for three: each node's configuration
// knows its own drives alone.
func (g *Group) asked() int {
	if g.links != nil {
		return max(g.cfg.Voters, 3)
	}
	return g.cfg.Voters
}

// newcomers fills in those who are no voters yet.
func (g *Group) newcomers(r *roster, l *layout) {
	for _, id := range r.tidings.Learners {
		switch {
		case !r.runs(id):
			if n, known := g.nodeOf(id); !known || n == g.cfg.Node || r.hellos[n] != nil || g.awayFor(id, n) {
				l.gone = append(l.gone, id)
			}
		case r.caughtUp(id):
			l.ready = append(l.ready, id)
			fallthrough
		default:
			l.coming = append(l.coming, l.nodeOf[id])
			delete(g.keeping.deadSince, id)
		}
	}
	for id := range r.running {
		if r.tidings.has(id) {
			delete(g.keeping.seeded, id)
		} else if g.keeping.seeded[id] {
			l.new = append(l.new, id)
		}
	}
	for id, home := range r.far {
		if home.Seeded && !r.tidings.has(id) {
			l.new = append(l.new, id)
		}
	}
	for _, n := range g.keeping.seeding {
		l.coming = append(l.coming, n)
	}
	for n, h := range r.hellos {
		if slices.ContainsFunc(h.Homes, func(hh helloHome) bool { return hh.Busy }) {
			l.coming = append(l.coming, n) // seeded by an earlier leader, perhaps
		}
	}
	slices.Sort(l.new) // of maps
}

// reconfigure takes the next step towards the wanted set of voters. Every step is a committed change of configuration, so
// it happens only while a majority works, and never makes a majority harder to reach.
func (g *Group) reconfigure(homes []Home) error {
	r := g.takeRoster()
	if r == nil {
		if td := g.tidings.Swap(nil); td != nil && time.Since(td.at) < helloFresh {
			return g.heed(td)
		}
		return nil
	}
	if err := g.dismiss(r.tidings, r.lead); err != nil {
		return err
	}
	g.endDoubts(r.tidings)
	l := g.layout(r, homes)
	if changed, err := g.settle(r, l); changed || err != nil {
		return err
	}
	g.wanted.Store(int64(max(l.want(), len(l.voters))))
	d := l.plan()
	if len(d.changes) > 0 {
		var err error
		if g.hold.Load() != 0 {
			g.holdAt.Store(time.Now().UnixNano())
		}
		r.lead.call(func(rn *raft.RawNode) { err = rn.ProposeConfChange(d.change()) })
		if err != nil {
			g.cfg.Logger.Debug("meta members", "err", err) // refused while another change is under way
		}
		return nil
	}
	for _, n := range d.seeds {
		g.seedOn(r, homes, n)
	}
	return nil
}

// settle writes down where voters live, before anybody has to find them there.
func (g *Group) settle(r *roster, l *layout) (changed bool, err error) {
	if g.links == nil {
		return false, nil
	}
	index := r.lead.applied.Load()
	old := g.table.Load()
	m := old.clone()
	for id, v := range r.running {
		m.Voters[voterName(id)] = place{g.cfg.Node, v.home.Drive}
	}
	for id, home := range r.far {
		m.Voters[voterName(id)] = place{r.farNode[id], home.Drive}
	}
	maps.DeleteFunc(m.Voters, func(name string, _ place) bool {
		var id uint64
		_, err := fmt.Sscanf(name, "%x", &id)
		return err != nil || !r.tidings.has(id) && !slices.Contains(l.new, id)
	})
	if old != nil && maps.Equal(old.Voters, m.Voters) {
		return false, nil
	}
	return true, g.writeMembers(r.lead, index, m)
}

// writeMembers commits the row of members, unless somebody else has changed it: index is what the leader had applied
// before the old row was looked at.
func (g *Group) writeMembers(lead *voter, index uint64, m *members) error {
	b := &Batch{ReadIndex: index, RequestID: newVoterID()}
	b.Check(membersKey)
	b.Put(membersKey, m.encode())
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	_, err := lead.commit(ctx, b)
	if errors.Is(err, ErrConflict) || errors.Is(err, errNotLeader) || errors.Is(err, errUnknown) {
		return nil // another round looks again
	}
	return err
}

// dismiss ends voters that cannot take part: those that the group has removed while they were away, and those that lag
// behind what the leader's log still has. Their homes become spare.
func (g *Group) dismiss(td *tidings, lead *voter) error {
	for id, v := range *g.voters.Load() {
		switch {
		case !td.has(id) && !g.keeping.seeded[id]:
			g.removeVoter(id)
			_ = v.close(closePatience) // its files go anyway
			if err := g.cfg.FS.RemoveAll(v.dir); err != nil {
				return &cairn.Error{Op: "meta.voter", Subject: v.dir, Err: err}
			}
			g.cfg.Logger.Info("meta voter is no member any more", "voter", voterName(id), "dir", v.dir)
		case td.has(id) && v != lead:
			if last, _ := v.log.last(); last+1 < td.First && td.Match[id]+1 < td.First {
				v.fail(fmt.Errorf("log ends at %d, the leader's begins at %d: %w", last, td.First, cairn.ErrUnavailable))
			}
		}
	}
	return nil
}

// endDoubts lets doubtful voters vote again once they have all that the leader had committed.
func (g *Group) endDoubts(td *tidings) {
	for id, v := range *g.voters.Load() {
		if v.doubtful.Load() && !v.failed() && td.has(id) && td.Match[id] >= td.Applied {
			if err := v.trust(); err != nil {
				v.fail(err)
			}
		}
	}
}
