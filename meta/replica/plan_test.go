package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
)

// lay builds a layout from words such as "A1 A2 B3*": node A has voters 1 and 2, node B has voter 3, which leads.
func lay(asked, homes int, voters string, live string) *layout {
	l := &layout{self: cairn.NodeID{'A'}, asked: asked, homes: homes, nodeOf: make(map[uint64]cairn.NodeID),
		barred: make(map[cairn.NodeID]bool), live: make(map[cairn.NodeID]bool)}
	for _, w := range strings.Fields(voters) {
		id := uint64(w[1] - '0')
		l.nodeOf[id] = cairn.NodeID{w[0]}
		l.voters = append(l.voters, id)
		if strings.HasSuffix(w, "*") {
			l.lead = id
		}
	}
	for _, n := range live {
		l.live[cairn.NodeID{byte(n)}] = true
	}
	return l
}

func (l *layout) at(id uint64, node byte) uint64 {
	l.nodeOf[id] = cairn.NodeID{node}
	return id
}

func (d decision) String() string {
	var words []string
	for _, c := range d.changes {
		sign := map[pb.ConfChangeType]string{pb.ConfChangeAddNode: "+", pb.ConfChangeRemoveNode: "-", pb.ConfChangeAddLearnerNode: "~"}[c.GetType()]
		words = append(words, fmt.Sprint(sign, c.GetNodeId()))
	}
	slices.Sort(words)
	for _, n := range d.seeds {
		words = append(words, "seed "+string(n[0]))
	}
	return strings.Join(words, " ")
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		name string
		l    *layout
		with func(l *layout)
		want string
	}{
		{"one drive", lay(1, 1, "A1*", "A"), nil, ""},
		{"more drives", lay(5, 6, "A1*", "A"), nil, "seed A seed A seed A seed A"},
		{"even drives", lay(5, 4, "A1*", "A"), nil, "seed A seed A"},
		{"one of two learners is ready", lay(3, 3, "A1*", "A"), func(l *layout) {
			l.ready, l.coming = []uint64{l.at(2, 'A')}, []cairn.NodeID{{'A'}, {'A'}}
		}, ""},
		{"both are ready", lay(3, 3, "A1*", "A"), func(l *layout) { l.ready = []uint64{l.at(2, 'A'), l.at(3, 'A')} }, "+2 +3"},
		{"a drive is lost", lay(3, 4, "A1* A2 A3", "A"), func(l *layout) { l.dead = []uint64{3} }, "seed A"},
		{"its successor is ready", lay(3, 4, "A1* A2 A3", "A"), func(l *layout) { l.dead, l.ready = []uint64{3}, []uint64{l.at(4, 'A')} }, "+4 -3"},
		{"two nodes change nothing", lay(5, 5, "A1* A2 A3 A4 A5", "AB"), nil, ""},
		{"three nodes", lay(5, 5, "A1* A2 A3 A4 A5", "ABC"), nil, "seed B seed C"},
		{"the first has come", lay(5, 5, "A1* A2 A3 A4 A5", "ABC"), func(l *layout) {
			l.ready, l.coming = []uint64{l.at(6, 'B')}, []cairn.NodeID{{'B'}, {'C'}}
		}, "+6 -2"},
		{"both have moved", lay(5, 5, "A1* A4 A5 B6 C7", "ABC"), nil, "-4 -5"},
		{"the leader stays", lay(5, 5, "A1 A4 A5* B6 C7", "ABC"), nil, "-1 -4"},
		{"one on each node", lay(5, 5, "A1* B6 C7", "ABC"), nil, ""},
		{"four nodes carry three", lay(5, 5, "A1* B6 C7", "ABCD"), nil, ""},
		{"five nodes carry five", lay(5, 5, "A1* B6 C7", "ABCDE"), nil, "seed D seed E"},
		{"one voter is all that is wanted", lay(1, 1, "A1*", "ABC"), nil, ""},
		{"growth from one", lay(3, 1, "A1*", "ABC"), nil, "seed B seed C"},
		{"growth waits for an odd number", lay(3, 1, "A1*", "ABC"), func(l *layout) {
			l.ready, l.coming = []uint64{l.at(2, 'B')}, []cairn.NodeID{{'B'}, {'C'}}
		}, ""},
		{"growth", lay(3, 1, "A1*", "ABC"), func(l *layout) { l.ready = []uint64{l.at(2, 'B'), l.at(3, 'C')} }, "+2 +3"},
		{"a node is away", lay(3, 1, "A1* B2 C3", "AB"), nil, ""},
		{"a node is lost, no spare", lay(3, 1, "A1* B2 C3", "AB"), func(l *layout) { l.dead = []uint64{3} }, ""},
		{"a node is lost, a spare", lay(3, 1, "A1* B2 C3", "ABD"), func(l *layout) { l.dead = []uint64{3} }, "seed D"},
		{"a drive of a node is lost", lay(3, 1, "A1* B2 C3", "ABC"), func(l *layout) { l.dead = []uint64{3} }, "seed C"},
		{"the spare is ready", lay(3, 1, "A1* B2 C3", "ABD"), func(l *layout) { l.dead, l.ready = []uint64{3}, []uint64{l.at(4, 'D')} }, "+4 -3"},
		{"barred", lay(3, 1, "A1* B2 C3", "ABCD"), func(l *layout) { l.barred[cairn.NodeID{'C'}] = true }, "seed D"},
		{"the barred one's successor is ready", lay(3, 1, "A1* B2 C3", "ABCD"), func(l *layout) {
			l.barred[cairn.NodeID{'C'}], l.ready = true, []uint64{l.at(4, 'D')}
		}, "+4 -3"},
		{"a barred leader", lay(3, 1, "A1* B2 C3", "ABCD"), func(l *layout) {
			l.barred[cairn.NodeID{'A'}], l.ready = true, []uint64{l.at(4, 'D')}
		}, "+4 -1"},
		{"a new voter first", lay(3, 1, "A1* B2 C3", "ABD"), func(l *layout) { l.dead, l.new = []uint64{3}, []uint64{l.at(4, 'D')} }, "~4"},
		{"a learner that went away", lay(3, 1, "A1* B2 C3", "ABC"), func(l *layout) { l.gone = []uint64{4} }, "-4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.with != nil {
				c.with(c.l)
			}
			if got := c.l.plan().String(); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
