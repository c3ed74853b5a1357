package membership

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"cairn"
)

// Hint is what gossip thinks of a node. It speeds a verdict up or holds it back, and never makes one.
type Hint uint8

// The hints.
const (
	HintNone   Hint = iota // gossip does not know the node
	HintAlive              // other nodes hear it
	HintFailed             // other nodes do not
	HintLeft               // it said goodbye
)

// Patience says how long a node may be silent or slow before its state changes.
type Patience struct {
	// Suspect and Down are how long a node has not answered when it becomes suspect, and down; defaults 3 s and 6 s. When
	// gossip has lost the node too, it is suspect at once and down after half of Down.
	Suspect, Down time.Duration
	// Lone is what counts instead of Down while gossip hears a node that does not answer us: the fault may be ours, and
	// those that can reach it may go on. Default 60 s.
	Lone time.Duration
	// Out is how long a node is down before its shards are rebuilt elsewhere; default 10 min.
	Out time.Duration
	// Hold is how long a node that is back must answer before it takes new writes; it doubles with every time that the node
	// was away within Memory, up to MaxHold. Defaults 2 s, 30 min, 10 min.
	Hold, Memory, MaxHold time.Duration
	// Slow is how slow a node's answers must be, at the least, to make it suspect, and SlowFactor by how much they exceed
	// the median of all nodes; SlowFor is for how long. Defaults 500 ms, 10, 10 s.
	Slow, SlowFor time.Duration
	SlowFactor    int
}

func (p *Patience) setDefaults() error {
	setDefault(&p.Suspect, 3*time.Second)
	setDefault(&p.Down, 6*time.Second)
	setDefault(&p.Lone, time.Minute)
	setDefault(&p.Out, defaultOutDelay)
	setDefault(&p.Hold, 2*time.Second)
	setDefault(&p.Memory, 30*time.Minute)
	setDefault(&p.MaxHold, 10*time.Minute)
	setDefault(&p.Slow, 500*time.Millisecond)
	setDefault(&p.SlowFor, 10*time.Second)
	setDefault(&p.SlowFactor, 10)
	if p.Suspect < 0 || p.Down < p.Suspect || p.Lone < p.Down || p.Out < 0 || p.Hold < 0 || p.MaxHold < p.Hold || p.Memory < 0 ||
		p.Slow < 0 || p.SlowFor < 0 || p.SlowFactor < 1 {
		return &cairn.Error{Op: "membership.watcher", Err: fmt.Errorf("patience %+v: want 0 or more, rising: %w", *p, cairn.ErrInvalid)}
	}
	return nil
}

// frozenShare is the share of the data nodes, in percent, that must be away for automatic repair to stop: that many do not
// die by themselves, a switch or a room did.
const frozenShare = 20

// slowShare is the share of the nodes, in percent, that may be suspect for being slow; one may in any case.
const slowShare = 10

// sighting is what the direct probes have told of one node.
type sighting struct {
	answered time.Time     // the last answer; before the first, when we began to ask
	since    time.Time     // it answers without a break since then; zero while it does not
	why      string        // why the last probe failed
	refused  bool          // it failed since nobody listens there, though the machine is up
	latency  time.Duration // of its answers, smoothed; 0: unknown
	slow     time.Time     // it is slow since then; zero while it is not
	hint     Hint
}

func (s sighting) answers() bool { return !s.since.IsZero() }

// judge compares the nodes' committed rows with what was seen of them. It returns the rows to commit, and why automatic
// repair is frozen ("" if it is not). holds tells whether volumes have slots on a node's drives.
//
// The way down is up, suspect (no new writes), down (reads go around it), out (its slots are rebuilt); the way back is by
// suspect, where a node is held the longer the more often it was away. Only a node that is down without a break for long
// goes out, so one that comes and goes moves no byte. By itself only one failure domain is ever out with slots in it.
func judge(now time.Time, p Patience, rows []cairn.Node, seen map[cairn.NodeID]sighting, holds func(cairn.NodeID) bool) (
	changed []cairn.Node, frozen string) {
	frozen = freeze(rows, seen, p, now)
	domains := newDomainsOut(rows, holds)
	slow := slowAllowed(rows, seen)
	for _, n := range rows {
		s, ok := seen[n.ID]
		if !ok || n.State == cairn.NodeRemoved {
			continue
		}
		state, reason := next(now, p, n, s)
		if state == cairn.NodeDown && n.State == cairn.NodeDown {
			state, reason = outOrNot(now, p, n, frozen, domains)
		}
		if state == cairn.NodeSuspect && n.State == cairn.NodeUp && s.answers() {
			if slow--; slow < 0 {
				continue
			}
		}
		if state == n.State && (reason == n.Reason || state != cairn.NodeDown) {
			continue // a reason alone is news only while repair is held back for it
		}
		if state != n.State {
			n.State, n.StateSince = state, now
		}
		n.Reason = reason
		changed = append(changed, n)
	}
	return changed, frozen
}

// next is the state that a node's sighting calls for, out left aside.
func next(now time.Time, p Patience, n cairn.Node, s sighting) (cairn.NodeState, string) {
	if !s.answers() {
		return fading(now, p, n, s)
	}
	slow := !s.slow.IsZero() && now.Sub(s.slow) >= p.SlowFor
	switch n.State {
	case cairn.NodeJoining:
		return cairn.NodeUp, "it answers"
	case cairn.NodeUp:
		if slow {
			return cairn.NodeSuspect, fmt.Sprintf("slow: its answers take %v", s.latency.Round(time.Millisecond))
		}
	case cairn.NodeDown, cairn.NodeOut:
		return cairn.NodeSuspect, fmt.Sprintf("it answers again; it takes new writes when it has done so for %v", hold(now, p, n))
	case cairn.NodeSuspect:
		// The history has been waiting in this state since the node was away; the hold was fixed by what came before.
		if !slow && now.Sub(s.since) >= hold(now, p, n) {
			return serving(n), "it answers"
		}
	}
	return n.State, n.Reason
}

// fading is the state of a node that does not answer.
func fading(now time.Time, p Patience, n cairn.Node, s sighting) (cairn.NodeState, string) {
	silent := now.Sub(s.answered)
	suspect, down, note := p.Suspect, p.Down, ""
	switch s.hint {
	case HintFailed:
		suspect, down, note = 0, p.Down/2, "; gossip has lost it too"
	case HintLeft:
		suspect, down, note = 0, p.Down/2, "; it has left"
	case HintAlive:
		if !s.refused { // else gossip is only late: the process has ended
			down, note = p.Lone, "; gossip still hears it"
		}
	}
	// The moment is in the row's time: a reason that counted seconds would be another one at every look.
	reason := fmt.Sprintf("no answer: %s%s", s.why, note)
	switch n.State {
	case cairn.NodeUp, cairn.NodeDraining:
		if silent >= down {
			return cairn.NodeDown, reason
		}
		if silent >= suspect {
			return cairn.NodeSuspect, reason
		}
	case cairn.NodeSuspect:
		if silent >= down {
			return cairn.NodeDown, reason
		}
	}
	return n.State, n.Reason
}

// serving is the state to which a node comes back: up, unless it was being drained when it went.
func serving(n cairn.Node) cairn.NodeState {
	for _, c := range slices.Backward(n.History) {
		if c.State == cairn.NodeUp || c.State == cairn.NodeDraining {
			return c.State
		}
	}
	return cairn.NodeUp
}

// hold is how long a node must answer before it serves again, given how often it stopped serving lately.
func hold(now time.Time, p Patience, n cairn.Node) time.Duration {
	away, before := 0, cairn.NodeJoining
	for _, c := range n.History {
		served := before == cairn.NodeUp || before == cairn.NodeDraining
		if served && (c.State == cairn.NodeSuspect || c.State == cairn.NodeDown) && now.Sub(c.At) < p.Memory {
			away++
		}
		before = c.State
	}
	h := p.Hold
	for range away - 1 {
		h = min(2*h, p.MaxHold)
	}
	return h
}

// freeze says why automatic repair stops, if it does: too many data nodes are away, in more than one failure domain or not.
func freeze(rows []cairn.Node, seen map[cairn.NodeID]sighting, p Patience, now time.Time) string {
	away, all := 0, 0
	for _, n := range rows {
		if !n.Roles.Has(cairn.RoleData) || n.State == cairn.NodeRemoved || n.State == cairn.NodeOut {
			continue
		}
		all++
		s, ok := seen[n.ID]
		if n.State == cairn.NodeDown || ok && !s.answers() && now.Sub(s.answered) >= p.Suspect {
			away++
		}
	}
	if away < 2 || away*100 < all*frozenShare {
		return ""
	}
	return fmt.Sprintf("automatic repair is frozen: %d of %d data nodes are away at once", away, all)
}

// slowAllowed is how many more nodes may become suspect for being slow.
func slowAllowed(rows []cairn.Node, seen map[cairn.NodeID]sighting) int {
	all, slow := 0, 0
	for _, n := range rows {
		if n.State == cairn.NodeRemoved {
			continue
		}
		all++
		if s := seen[n.ID]; n.State == cairn.NodeSuspect && s.answers() && !s.slow.IsZero() {
			slow++
		}
	}
	return max(1, all*slowShare/100) - slow
}

// markSlow notes which nodes' answers are slow against the median of all that answer, and since when. A node that was slow
// is so until it takes less than half of what made it so.
func markSlow(now time.Time, p Patience, seen map[cairn.NodeID]sighting) {
	var all []time.Duration
	for _, s := range seen {
		if s.answers() && s.latency > 0 {
			all = append(all, s.latency)
		}
	}
	limit := p.Slow
	if len(all) > 0 {
		slices.Sort(all)
		limit = max(limit, all[(len(all)-1)/2]*time.Duration(p.SlowFactor))
	}
	for id, s := range seen {
		switch was := !s.slow.IsZero(); {
		case !was && s.answers() && s.latency > limit:
			s.slow = now
		case was && s.latency < limit/2:
			s.slow = time.Time{}
		}
		seen[id] = s
	}
}

// outOrNot decides whether a node that is down goes out.
func outOrNot(now time.Time, p Patience, n cairn.Node, frozen string, domains *domainsOut) (cairn.NodeState, string) {
	reason := cause(n) // without what was added to it while it was down
	switch {
	case !n.Roles.Has(cairn.RoleData):
		return cairn.NodeDown, reason
	case frozen != "":
		return cairn.NodeDown, reason + "; " + frozen
	case now.Sub(n.StateSince) < p.Out:
		return cairn.NodeDown, reason
	}
	if other := domains.other(n); other != "" {
		return cairn.NodeDown, reason + "; it does not go out by itself: " + other + " is out, and holds shards that are not rebuilt yet"
	}
	domains.add(n)
	return cairn.NodeOut, reason + fmt.Sprintf("; down for %v, so its shards are rebuilt elsewhere", p.Out)
}

// DeclareOut is the row of a node that an operator gives up: its shards are rebuilt elsewhere at once, whether automatic repair
// is frozen or not, and however many others are out. One that answers again is taken back like any other. Errors:
// ErrPrecondition if the node is not down.
func DeclareOut(now time.Time, n cairn.Node) (cairn.Node, error) {
	switch n.State {
	case cairn.NodeDown:
		n.State, n.StateSince = cairn.NodeOut, now
		n.Reason = cause(n) + "; an operator declared it to be out, so its shards are rebuilt elsewhere"
		return n, nil
	case cairn.NodeOut:
		return n, nil
	}
	return n, &cairn.Error{Op: "membership.out", Subject: n.Name, Err: fmt.Errorf(
		"the node is %s, and only one that is down can be given up; move data off a node that works by draining it: %w", n.State, cairn.ErrPrecondition)}
}

// cause is why the node's state became what it is.
func cause(n cairn.Node) string {
	if len(n.History) == 0 {
		return n.Reason
	}
	return n.History[len(n.History)-1].Reason
}

// domainsOut knows which failure domains are out and still have slots. The domain is the widest level in which the data
// nodes differ: zones where there are several, else racks, else nodes.
type domainsOut struct {
	level int
	out   []cairn.Node
}

func newDomainsOut(rows []cairn.Node, holds func(cairn.NodeID) bool) *domainsOut {
	d := &domainsOut{level: 2}
	for level := 1; level >= 0; level-- {
		names := map[string]bool{}
		for _, n := range rows {
			if n.Roles.Has(cairn.RoleData) && n.State != cairn.NodeRemoved {
				names[n.Domains()[level]] = true
			}
		}
		if len(names) > 1 {
			d.level = level
		}
	}
	for _, n := range rows {
		if n.State == cairn.NodeOut && n.Roles.Has(cairn.RoleData) && holds(n.ID) {
			d.add(n)
		}
	}
	return d
}

func (d *domainsOut) add(n cairn.Node) { d.out = append(d.out, n) }

// other names a node that is out in another failure domain, "" if there is none.
func (d *domainsOut) other(n cairn.Node) string {
	for _, o := range d.out {
		if !slices.Equal(o.Domains()[:d.level+1], n.Domains()[:d.level+1]) {
			return "node " + cmp.Or(o.Name, o.ID.String())
		}
	}
	return ""
}
