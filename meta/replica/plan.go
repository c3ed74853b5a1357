package replica

import (
	"cmp"
	"maps"
	"slices"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
)

// layout is what the leader knows when it decides who shall vote. plan is a pure function of it.
type layout struct {
	self   cairn.NodeID
	asked  int // voters that are wanted, if there are places for them
	homes  int // usable homes of this node
	voters []uint64
	lead   uint64
	nodeOf map[uint64]cairn.NodeID // of voters and of those who would become voters
	dead   []uint64                // voters to be replaced
	gone   []uint64                // learners that do not run
	ready  []uint64                // learners that have caught up
	coming []cairn.NodeID          // where others are on their way: learners, and voters being made
	new    []uint64                // voters that were made and are no members yet
	barred map[cairn.NodeID]bool
	live   map[cairn.NodeID]bool // nodes with homes that are there now, this one among them
}

// decision is one step: a change of members (none if empty), or nodes on which a voter is to be made.
type decision struct {
	changes []*pb.ConfChangeSingle
	seeds   []cairn.NodeID
}

func (d *decision) step(t pb.ConfChangeType, id uint64) {
	d.changes = append(d.changes, &pb.ConfChangeSingle{Type: t.Enum(), NodeId: new(id)})
}

// change is the change of members as raft wants it.
func (d *decision) change() *pb.ConfChangeV2 {
	return &pb.ConfChangeV2{Transition: pb.ConfChangeTransitionAuto.Enum(), Changes: d.changes}
}

// nodes lists those that may carry voters: live ones, and those that carry one.
func (l *layout) nodes() map[cairn.NodeID]bool {
	set := make(map[cairn.NodeID]bool)
	for n := range l.live {
		set[n] = !l.barred[n]
	}
	for _, id := range l.voters {
		if n, ok := l.nodeOf[id]; ok {
			set[n] = !l.barred[n]
		}
	}
	maps.DeleteFunc(set, func(_ cairn.NodeID, may bool) bool { return !may })
	return set
}

// spread tells whether voters live on different nodes: with three nodes, losing one must not matter. With fewer it always
// would, and voters stay on different drives.
func (l *layout) spread() bool { return l.asked >= 3 && len(l.nodes()) >= 3 }

// want is how many voters there shall be, an odd number.
func (l *layout) want() int {
	n := min(l.asked, l.homes)
	if l.spread() {
		n = min(l.asked, len(l.nodes()))
	}
	if n%2 == 0 {
		n--
	}
	return max(n, 1)
}

// plan decides on the next step. Every step is committed by a majority, keeps the number of voters odd, and takes a voter
// away only together with its successor, or when others on the same node remain.
func (l *layout) plan() (d decision) {
	for _, id := range l.new {
		d.step(pb.ConfChangeAddLearnerNode, id)
	}
	for _, id := range l.gone {
		d.step(pb.ConfChangeRemoveNode, id)
	}
	if len(d.changes) > 0 {
		return d
	}
	if l.spread() {
		l.planNodes(&d)
	} else {
		l.planDrives(&d)
	}
	return d
}

// planDrives keeps voters on drives of this node.
func (l *layout) planDrives(d *decision) {
	ready := l.ready
	for _, gone := range l.dead {
		if len(ready) == 0 {
			break
		}
		d.step(pb.ConfChangeAddNode, ready[0])
		d.step(pb.ConfChangeRemoveNode, gone)
		ready = ready[1:]
	}
	// An even number of voters tolerates no more losses than one fewer: grow to odd numbers only.
	grow := max(0, l.want()-len(l.voters))
	n := min(grow, len(ready))
	if (len(l.voters)+n)%2 == 0 {
		n--
	}
	for i := range n {
		d.step(pb.ConfChangeAddNode, ready[i])
	}
	if len(d.changes) > 0 {
		return
	}
	for range len(l.dead) + grow - len(l.coming) {
		d.seeds = append(d.seeds, l.self)
	}
}

// planNodes keeps one voter on each of want nodes.
func (l *layout) planNodes(d *decision) {
	kept, surplus := l.sort()
	covered := make(map[cairn.NodeID]bool)
	for _, id := range kept {
		covered[l.nodeOf[id]] = true
	}
	var ready []uint64
	for _, id := range l.ready {
		if n := l.nodeOf[id]; !covered[n] && !l.barred[n] && len(kept)+len(ready) < l.want() {
			covered[n] = true
			ready = append(ready, id)
		}
	}
	out := slices.Concat(l.dead, surplus)
	n := len(ready)
	if added := n - len(out); added > 0 && (len(l.voters)+added)%2 == 0 {
		n-- // grow to odd numbers only
	}
	for i := range n {
		d.step(pb.ConfChangeAddNode, ready[i])
		if i < len(out) {
			d.step(pb.ConfChangeRemoveNode, out[i])
		}
	}
	if n > 0 {
		return
	}
	need := l.want() - len(kept) - len(ready)
	if extra := len(l.voters) - l.want(); need == 0 && extra > 0 && extra <= len(out) {
		for _, id := range out[:extra] {
			d.step(pb.ConfChangeRemoveNode, id)
		}
		return
	}
	for _, n := range l.coming {
		if !covered[n] {
			covered[n] = true
			need--
		}
	}
	for _, n := range slices.SortedFunc(maps.Keys(l.live), compareNodes) {
		if need > 0 && !covered[n] && !l.barred[n] {
			d.seeds = append(d.seeds, n)
			need--
		}
	}
}

// sort parts the voters that live into those that stay, one for each node, and those that are too many.
func (l *layout) sort() (kept, surplus []uint64) {
	alive := slices.DeleteFunc(slices.Clone(l.voters), func(id uint64) bool { return slices.Contains(l.dead, id) })
	slices.SortFunc(alive, func(a, b uint64) int {
		if (a == l.lead) != (b == l.lead) {
			return cmp.Compare(b2i(b == l.lead), b2i(a == l.lead))
		}
		return cmp.Compare(a, b)
	})
	taken := make(map[cairn.NodeID]bool)
	for _, id := range alive {
		if n := l.nodeOf[id]; taken[n] || l.barred[n] {
			surplus = append(surplus, id)
		} else {
			taken[n] = true
			kept = append(kept, id)
		}
	}
	return kept, surplus
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func compareNodes(a, b cairn.NodeID) int { return slices.Compare(a[:], b[:]) }
