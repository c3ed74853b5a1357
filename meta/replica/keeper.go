package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// keeper is what Run remembers between its rounds. Guarded by Group.keep.
type keeper struct {
	groupID   string
	marked    map[Home]bool // homes that carry the group's mark
	deadSince map[uint64]time.Time
	lastErr   map[string]string       // per home, so that a lasting error is logged once
	seeding   map[string]cairn.NodeID // homes on which a voter is being made
	seedAfter map[string]time.Time    // homes on which that failed
	condemned map[uint64]bool         // voters that failed while they ran: not to be started again, unless there is no quorum without
	openAfter map[string]time.Time    // homes whose voter did not start
	seeded    map[uint64]bool         // voters made by this process
	headless  time.Time               // since when there is no leader; zero while there is one
}

const (
	keepEvery = 200 * time.Millisecond
	// A member that does not run is replaced after this long: at once when its home was lost, later when its home was
	// never seen, as after a start on which a drive is slow to come.
	replaceLost   = 300 * time.Millisecond
	replaceUnseen = 10 * time.Second
	// openPause is how long a voter that does not start is left alone.
	openPause = time.Second
)

// SetHomes tells which directories may carry voters now. It returns at once; Run acts on it.
func (g *Group) SetHomes(homes []Home) {
	g.mu.Lock()
	g.homes = slices.Clone(homes)
	g.mu.Unlock()
	g.changed()
}

func (g *Group) homesNow() []Home {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.homes
}

// Run keeps the voters until ctx ends: it opens those that appear, stops those whose home is lost, and seeds successors.
func (g *Group) Run(ctx context.Context) error {
	var others sync.WaitGroup
	defer others.Wait()
	if g.links != nil {
		others.Go(func() { g.sayHello(ctx) })
	}
	t := newTicker(keepEvery)
	defer t.Stop()
	for {
		news := g.nextNews()
		if err := g.keepOnce(); err != nil && !errors.Is(err, errClosed) {
			g.cfg.Logger.Warn("meta voters", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-news:
			select { // news come in bursts
			case <-ctx.Done():
				return nil
			case <-time.After(keepEvery / 10):
			}
		}
	}
}

// keepOnce is one round of care.
func (g *Group) keepOnce() error {
	g.keep.Lock()
	defer g.keep.Unlock()
	if g.isClosed() {
		return errClosed
	}
	homes := g.homesNow()
	before := len(*g.voters.Load())
	g.stopLost(homes)
	if err := g.openFound(homes); err != nil {
		return err
	}
	if len(*g.voters.Load()) == 0 {
		if err := g.bootstrap(homes); err != nil {
			return err
		}
	}
	g.headless(len(*g.voters.Load()) != before)
	g.endHold()
	return g.reconfigure(homes)
}

// headless sees to it that there is a leader soon: a start, or the loss of the leader's home, is known here at once, and
// nobody has to wait for a timeout.
func (g *Group) headless(changed bool) {
	k := &g.keeping
	if v, _ := g.leaderNow(); v != nil || g.links != nil && g.follower() != nil {
		k.headless = time.Time{}
		return
	}
	if k.headless.IsZero() {
		k.headless = time.Now()
	}
	if changed {
		g.nominate()
	}
	if time.Since(k.headless) > doubtPatience {
		clear(k.condemned)
		g.letDoubtfulVote()
	}
}

// doubtPatience is how long voters with a whole log may try alone before doubtful ones help to elect the longest log.
const doubtPatience = 5 * time.Second

// endHold lets the log go on when nobody is being seeded or catching up. While a change of members is under way the new
// ones still have to take part in its end, and may need the log for that.
func (g *Group) endHold() {
	lead, conf := g.members()
	if lead != nil && len(g.keeping.seeding) == 0 && len(conf.GetLearners()) == 0 && len(conf.GetVotersOutgoing()) == 0 && g.hold.Load() != 0 {
		for id := range *g.voters.Load() {
			if !slices.Contains(conf.GetVoters(), id) {
				return
			}
		}
		for _, h := range g.heardHellos() {
			if slices.ContainsFunc(h.Homes, func(hh helloHome) bool { return hh.Seeded || hh.Busy }) {
				return
			}
		}
		g.hold.Store(0)
	}
}

// nominate lets the voter with the longest log stand for election at once, when there is no leader: after a start nobody
// has to wait for a timeout.
func (g *Group) nominate() {
	if v, _ := g.leaderNow(); v != nil {
		return
	}
	if best := g.longest(); best != nil {
		g.campaign(best)
	}
}

// longest returns the running voter with the longest log that is not in doubt.
func (g *Group) longest() (best *voter) {
	var at position
	for _, v := range *g.voters.Load() {
		index, term := v.log.last()
		if !v.failed() && !v.doubtful.Load() && (best == nil || term > at.term || term == at.term && index > at.index) {
			best, at = v, position{index, term}
		}
	}
	return best
}

// campaign makes v stand for election; the others are told that their leader, if they think they have one, is gone.
func (g *Group) campaign(v *voter) {
	for _, o := range *g.voters.Load() {
		o.call(func(rn *raft.RawNode) {
			if id := rn.BasicStatus().Lead; id != raft.None && g.lostHere(id) {
				_ = rn.ForgetLeader() // always accepted from a follower
			}
		})
	}
	v.call(func(rn *raft.RawNode) {
		if rn.BasicStatus().Lead == raft.None {
			_ = rn.Campaign() // refused when it is no member (yet): then another's timeout decides
		}
	})
}

// lostHere tells that a voter does not run, as far as this process can tell: one on another node may.
func (g *Group) lostHere(id uint64) bool {
	n, known := g.nodeOf(id)
	return g.voter(id) == nil && (!known || n == g.cfg.Node)
}

// stopLost ends voters that failed, and those whose home is gone or is another directory now.
func (g *Group) stopLost(homes []Home) {
	for id, v := range *g.voters.Load() {
		if v.failed() {
			g.keeping.condemned[id] = true // what failed once, on a home that is there, is made anew rather than tried again
		} else if err := g.checkHome(v, homes); err != nil {
			v.fail(err)
		}
		if v.failed() {
			g.removeVoter(id)
			if err := v.close(closePatience); err != nil {
				g.cfg.Logger.Warn("meta voter abandoned", "dir", v.dir, "err", err)
			}
			g.keeping.deadSince[id] = time.Now()
		}
	}
}

func (g *Group) checkHome(v *voter, homes []Home) error {
	i := slices.IndexFunc(homes, func(h Home) bool { return h.Dir == v.home.Dir })
	if i < 0 || !homes[i].Usable || homes[i].Drive != v.home.Drive {
		return fmt.Errorf("home %s is not usable: %w", v.home.Dir, cairn.ErrUnavailable)
	}
	var f voterFile
	if err := readJSON(g.cfg.FS, v.dir, voterJSON, &f); err != nil {
		return fmt.Errorf("home lost: %w", err)
	}
	if f.Voter != voterName(v.id) {
		return fmt.Errorf("home now holds voter %s: %w", f.Voter, cairn.ErrUnavailable)
	}
	return nil
}

func (g *Group) runsAt(dir string) bool {
	for _, v := range *g.voters.Load() {
		if v.home.Dir == dir {
			return true
		}
	}
	return false
}

// openFound starts the voters of usable homes that do not run. One that cannot be started is left as it is: its successor
// takes the place when a quorum is there to seed it.
func (g *Group) openFound(homes []Home) error {
	if err := g.findGroup(homes); err != nil || g.keeping.groupID == "" {
		return err
	}
	for _, h := range homes {
		if !h.Usable || g.runsAt(h.Dir) || g.beingSeeded(h.Dir) || time.Now().Before(g.keeping.openAfter[h.Dir]) {
			continue
		}
		found, err := exists(g.cfg.FS, g.cfg.FS.PathJoin(h.Dir, voterDir, voterJSON))
		if err != nil || !found {
			continue
		}
		v, err := g.openVoter(h)
		if errors.Is(err, errCondemned) {
			continue
		}
		if errors.Is(err, cairn.ErrInvalid) {
			return err
		}
		if err != nil {
			g.logOnce(h.Dir, err)
			g.noteBroken(h)
			g.keeping.openAfter[h.Dir] = time.Now().Add(openPause)
			continue
		}
		if v.groupID != g.keeping.groupID {
			v.close(closePatience)
			g.logOnce(h.Dir, fmt.Errorf("voter is of another group: %w", cairn.ErrInvalid))
			continue
		}
		delete(g.keeping.lastErr, h.Dir)
		g.addVoter(v)
	}
	return nil
}

// noteBroken lets a voter that is here and cannot be started be replaced without waiting for it.
func (g *Group) noteBroken(h Home) {
	var f voterFile
	var id uint64
	if err := readJSON(g.cfg.FS, g.cfg.FS.PathJoin(h.Dir, voterDir), voterJSON, &f); err != nil {
		return // not even its name is known
	}
	if _, err := fmt.Sscanf(f.Voter, "%x", &id); err != nil {
		return
	}
	if at, seen := g.keeping.deadSince[id]; !seen || at.After(time.Now()) {
		g.keeping.deadSince[id] = time.Now()
	}
}

// findGroup learns the group from the marks on the homes, and marks homes that have none.
func (g *Group) findGroup(homes []Home) error {
	for _, h := range homes {
		if !h.Usable || g.keeping.marked[h] {
			continue
		}
		var f groupFile
		err := readJSON(g.cfg.FS, h.Dir, groupName, &f)
		switch {
		case isNotExist(err):
			continue
		case err != nil:
			g.logOnce(h.Dir, err)
			continue
		case f.Cluster != g.cfg.Cluster || g.keeping.groupID != "" && g.keeping.groupID != f.Group:
			return &cairn.Error{Op: "meta.open", Subject: h.Dir, Err: fmt.Errorf("holds metadata of another cluster: %w", cairn.ErrInvalid)}
		}
		g.keeping.groupID = f.Group
		g.keeping.marked[h] = true
	}
	if g.keeping.groupID == "" {
		return nil
	}
	g.id.Store(new(g.keeping.groupID))
	for _, h := range homes {
		if !h.Usable || g.keeping.marked[h] {
			continue
		}
		f := groupFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: g.keeping.groupID}
		if err := writeJSON(g.cfg.FS, h.Dir, groupName, f); err != nil {
			g.logOnce(h.Dir, err)
			continue
		}
		g.keeping.marked[h] = true
	}
	return nil
}

func (g *Group) logOnce(dir string, err error) {
	if g.keeping.lastErr[dir] != err.Error() {
		g.keeping.lastErr[dir] = err.Error()
		g.cfg.Logger.Warn("meta voter does not start", "dir", dir, "err", err)
	}
}

// newVoterID draws an ID that was never used: random, and short enough for JSON's numbers.
func newVoterID() uint64 { return draw()>>11 | 1 }

// bootstrap begins a new group, if nothing says that there is one. Voters count only once a home carries the group's mark:
// a crash before the first mark leaves nothing that matters, and after it all voters are there.
func (g *Group) bootstrap(homes []Home) error {
	usable := slices.DeleteFunc(slices.Clone(homes), func(h Home) bool { return !h.Usable })
	if g.cfg.MustExist || len(g.cfg.Seeds) > 0 || len(usable) == 0 || len(usable) < len(homes) {
		return nil
	}
	if g.keeping.groupID != "" {
		return nil
	}
	n := min(g.cfg.Voters, len(usable))
	if n%2 == 0 {
		n--
	}
	groupID := cairn.ClusterID(cairn.NewID()).String()
	ids := make([]uint64, n)
	for i := range ids {
		ids[i] = newVoterID()
	}
	var table *members
	if !g.cfg.Node.IsZero() {
		table = (*members)(nil).clone()
		for i, id := range ids {
			table.Voters[voterName(id)] = place{g.cfg.Node, usable[i].Drive}
		}
	}
	for i, id := range ids {
		f := voterFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: groupID, Voter: voterName(id)}
		err := g.makeVoter(usable[i], f, firstPosition, func(dir string) error {
			return createState(&g.cfg, g.shared, dir, firstPosition, votersConf(ids), table)
		})
		if err != nil {
			return &cairn.Error{Op: "meta.bootstrap", Subject: usable[i].Dir, Err: err}
		}
	}
	f := groupFile{Format: fileFormat, Cluster: g.cfg.Cluster, Group: groupID}
	if err := writeJSON(g.cfg.FS, usable[0].Dir, groupName, f); err != nil {
		return &cairn.Error{Op: "meta.bootstrap", Subject: usable[0].Dir, Err: err}
	}
	return g.openFound(homes)
}

// members returns the leader's configuration.
func (g *Group) members() (*voter, *pb.ConfState) {
	v, _ := g.leaderNow()
	if v == nil {
		return nil, nil
	}
	return v, v.conf.Load()
}
