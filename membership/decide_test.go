package membership

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cairn"
)

func TestTransitions(t *testing.T) {
	node, other := cairn.NodeID{1}, cairn.NodeID{2}
	a, b, c := cairn.DriveID{10}, cairn.DriveID{11}, cairn.DriveID{12}
	now, before := time.Unix(1000, 0), time.Unix(900, 0)
	row := func(id cairn.DriveID, path string, state cairn.DriveState) cairn.Drive {
		return cairn.Drive{ID: id, Node: node, Path: path, State: state, StateSince: before, Domains: []string{"n"},
			TotalBytes: 1000, FreeBytes: 500}
	}
	seen := func(id cairn.DriveID, path string, state cairn.DriveState) cairn.DriveStatus {
		return cairn.DriveStatus{ID: id, Path: path, State: state, Since: now, TotalBytes: 1000, FreeBytes: 500}
	}
	with := func(st cairn.DriveStatus, f func(*cairn.DriveStatus)) cairn.DriveStatus { f(&st); return st }
	type want struct {
		id      cairn.DriveID
		state   cairn.DriveState
		retired bool
		path    string
	}
	for _, tt := range []struct {
		name     string
		rows     []cairn.Drive
		seen     []cairn.DriveStatus
		want     []want
		returned []cairn.DriveID
	}{
		{name: "nothing changes", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)}, seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)}},
		{name: "a new drive", seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)},
			want: []want{{a, cairn.DriveOK, false, "p"}}, returned: []cairn.DriveID{a}},
		{name: "a drive fails", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)}, seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveFailing)},
			want: []want{{a, cairn.DriveFailing, false, "p"}}},
		{name: "a drive comes back", rows: []cairn.Drive{row(a, "p", cairn.DriveMissing)}, seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)},
			want: []want{{a, cairn.DriveOK, false, "p"}}, returned: []cairn.DriveID{a}},
		{name: "its directory is away", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)},
			seen: []cairn.DriveStatus{seen(cairn.DriveID{}, "p", cairn.DriveMissing)}, want: []want{{a, cairn.DriveMissing, false, "p"}}},
		{name: "its path is not configured", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)}, want: []want{{a, cairn.DriveMissing, false, "p"}}},
		{name: "another node's drive is none of ours", rows: []cairn.Drive{{ID: a, Node: other, Path: "p"}}},
		{name: "another node has it: the copy is not taken", rows: []cairn.Drive{{ID: a, Node: other, Path: "p"}},
			seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)}},
		{name: "it was moved here from another node", rows: []cairn.Drive{{ID: a, Node: other, Path: "p", State: cairn.DriveMissing}},
			seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)}, want: []want{{a, cairn.DriveOK, false, "p"}}, returned: []cairn.DriveID{a}},
		{name: "another node's drive was put in its place: pulled, not replaced",
			rows: []cairn.Drive{row(a, "p", cairn.DriveOK), {ID: b, Node: other, Path: "p", State: cairn.DriveMissing}},
			seen: []cairn.DriveStatus{seen(b, "p", cairn.DriveOK)},
			want: []want{{b, cairn.DriveOK, false, "p"}, {a, cairn.DriveMissing, false, ""}}, returned: []cairn.DriveID{b}},
		{name: "the node was moved to another rack", rows: []cairn.Drive{moved(row(a, "p", cairn.DriveOK), "r2")},
			seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK)}, want: []want{{a, cairn.DriveOK, false, "p"}}},
		{name: "made anew", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)},
			seen: []cairn.DriveStatus{with(seen(b, "p", cairn.DriveOK), func(s *cairn.DriveStatus) { s.Replaced = []cairn.DriveID{a} })},
			want: []want{{b, cairn.DriveOK, false, "p"}, {a, cairn.DriveMissing, true, "p"}}, returned: []cairn.DriveID{b}},
		{name: "an unknown drive sits at its path", rows: []cairn.Drive{row(a, "p", cairn.DriveMissing)},
			seen: []cairn.DriveStatus{seen(b, "p", cairn.DriveOK)},
			want: []want{{b, cairn.DriveOK, false, "p"}, {a, cairn.DriveMissing, true, "p"}}, returned: []cairn.DriveID{b}},
		{name: "and stays there", rows: []cairn.Drive{func() cairn.Drive {
			d := row(a, "p", cairn.DriveMissing)
			d.Retired, d.Reason = true, "replaced"
			return d
		}(), row(b, "p", cairn.DriveOK)}, seen: []cairn.DriveStatus{seen(b, "p", cairn.DriveOK)}},
		{name: "a known drive was moved to its path: pulled, not replaced",
			rows: []cairn.Drive{row(a, "p", cairn.DriveOK), row(b, "q", cairn.DriveOK)},
			seen: []cairn.DriveStatus{seen(b, "p", cairn.DriveOK), seen(cairn.DriveID{}, "q", cairn.DriveMissing)},
			want: []want{{b, cairn.DriveOK, false, "p"}, {a, cairn.DriveMissing, false, ""}}},
		{name: "two drives changed places", rows: []cairn.Drive{row(a, "p", cairn.DriveOK), row(b, "q", cairn.DriveOK)},
			seen: []cairn.DriveStatus{seen(b, "p", cairn.DriveOK), seen(a, "q", cairn.DriveOK)},
			want: []want{{b, cairn.DriveOK, false, "p"}, {a, cairn.DriveOK, false, "q"}}},
		{name: "a retired drive is taken back", rows: []cairn.Drive{func() cairn.Drive {
			d := row(a, "p", cairn.DriveMissing)
			d.Retired = true
			return d
		}(), row(c, "q", cairn.DriveOK)}, seen: []cairn.DriveStatus{seen(a, "p", cairn.DriveOK), seen(c, "q", cairn.DriveOK)},
			want: []want{{a, cairn.DriveOK, false, "p"}}, returned: []cairn.DriveID{a}},
		{name: "a little less space is not news", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)},
			seen: []cairn.DriveStatus{with(seen(a, "p", cairn.DriveOK), func(s *cairn.DriveStatus) { s.FreeBytes = 490 })}},
		{name: "much less is", rows: []cairn.Drive{row(a, "p", cairn.DriveOK)},
			seen: []cairn.DriveStatus{with(seen(a, "p", cairn.DriveOK), func(s *cairn.DriveStatus) { s.FreeBytes = 400 })},
			want: []want{{a, cairn.DriveOK, false, "p"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changed, returned := transitions(now, node, []string{"n"}, tt.rows, tt.seen)
			var got []want
			for _, d := range changed {
				got = append(got, want{d.ID, d.State, d.Retired, d.Path})
				if d.Node != node {
					t.Errorf("%v has node %v", d.ID, d.Node)
				}
			}
			if !slices.Equal(got, tt.want) || !slices.Equal(returned, tt.returned) {
				t.Errorf("changed %v, returned %v\nwant %v, %v", got, returned, tt.want, tt.returned)
			}
			// What was committed is what the next look expects.
			rows := map[cairn.DriveID]cairn.Drive{}
			for _, d := range append(slices.Clone(tt.rows), changed...) {
				rows[d.ID] = d
			}
			var all []cairn.Drive
			for _, d := range rows {
				all = append(all, d)
			}
			if again, back := transitions(now, node, []string{"n"}, all, tt.seen); len(again) != 0 || len(back) != 0 {
				t.Errorf("a second look changes %v, returns %v", again, back)
			}
		})
	}
}

// moved returns the row in other failure domains.
func moved(d cairn.Drive, domains ...string) cairn.Drive { d.Domains = domains; return d }

// What a node measures of a copy says nothing about the drive that another node has.
func TestOverlayOfCopies(t *testing.T) {
	self, other, id := cairn.NodeID{1}, cairn.NodeID{2}, cairn.DriveID{10}
	live := []cairn.DriveStatus{{ID: id, Path: "copy", State: cairn.DriveOK, TotalBytes: 7}}
	for _, tt := range []struct {
		name string
		row  cairn.Drive
		want string // path
	}{
		{"its node has it", cairn.Drive{ID: id, Node: other, Path: "p", State: cairn.DriveFull}, "p"},
		{"its node has lost it", cairn.Drive{ID: id, Node: other, Path: "p", State: cairn.DriveMissing}, "copy"},
		{"it is ours", cairn.Drive{ID: id, Node: self, Path: "p"}, "copy"},
	} {
		if got := overlay([]cairn.Drive{tt.row}, live, self)[id]; got.Path != tt.want || got.Node != tt.row.Node {
			t.Errorf("%s: got %+v, want path %s", tt.name, got, tt.want)
		}
	}
}

func TestSlotDamage(t *testing.T) {
	now := time.Unix(10000, 0)
	drive := func(n int, state cairn.DriveState, age time.Duration, retired bool) cairn.Drive {
		d := testDrive(n, 1<<30)
		d.State, d.StateSince, d.Retired = state, now.Add(-age), retired
		return d
	}
	for _, tt := range []struct {
		name  string
		third cairn.Drive
		spare bool
		want  bool
	}{
		{"ok", drive(3, cairn.DriveOK, time.Hour, false), true, false},
		{"full", drive(3, cairn.DriveFull, time.Hour, false), true, false},
		{"missing for long, a spare is there", drive(3, cairn.DriveMissing, time.Hour, false), true, true},
		{"missing for long, no spare", drive(3, cairn.DriveMissing, time.Hour, false), false, false},
		{"missing since just now", drive(3, cairn.DriveMissing, time.Second, false), true, false},
		{"read-only for long, a spare is there", drive(3, cairn.DriveReadOnly, time.Hour, false), true, true},
		{"retired", drive(3, cairn.DriveMissing, 0, true), true, true},
		{"retired, no spare", drive(3, cairn.DriveMissing, 0, true), false, true},
	} {
		rows := []cairn.Drive{drive(1, cairn.DriveOK, 0, false), drive(2, cairn.DriveOK, 0, false), tt.third}
		if tt.spare {
			rows = append(rows, drive(4, cairn.DriveOK, 0, false))
		}
		v := cairn.Volume{ID: 1, Profile: cairn.Profile{K: 2, M: 1}, Slots: []cairn.DriveID{rows[0].ID, rows[1].ID, rows[2].ID}}
		found := slotDamage(now, time.Minute, newSnapshot(newTable().with([]cairn.Volume{v}), overlay(rows, nil, cairn.NodeID{}), nil, cairn.NodeID{}))
		want := 0
		if tt.want {
			want = 1
		}
		if len(found) != want || want == 1 && (found[0].Shard != cairn.ShardID{Volume: 1, Slot: 2} || found[0].Kind != cairn.DamageSlot) {
			t.Errorf("%s: found %v, want %d", tt.name, found, want)
		}
	}
}

// What a node's state does to its drives, and to the slots on them.
func TestNodeStatesCoverDrives(t *testing.T) {
	now := time.Unix(10000, 0)
	away := cairn.NodeID{7}
	for _, tt := range []struct {
		node   cairn.NodeState
		drive  cairn.DriveState
		self   bool
		want   cairn.DriveState
		damage bool
	}{
		{cairn.NodeUp, cairn.DriveOK, false, cairn.DriveOK, false},
		{cairn.NodeJoining, cairn.DriveOK, false, cairn.DriveReadOnly, false},
		{cairn.NodeSuspect, cairn.DriveOK, false, cairn.DriveReadOnly, false},
		{cairn.NodeSuspect, cairn.DriveHung, false, cairn.DriveHung, true},
		{cairn.NodeDraining, cairn.DriveFailing, false, cairn.DriveFailing, true},
		{cairn.NodeDraining, cairn.DriveFull, false, cairn.DriveReadOnly, false},
		{cairn.NodeDown, cairn.DriveOK, false, cairn.DriveMissing, false},
		{cairn.NodeDown, cairn.DriveOK, true, cairn.DriveReadOnly, false},
		{cairn.NodeOut, cairn.DriveOK, false, cairn.DriveMissing, true},
		{cairn.NodeRemoved, cairn.DriveOK, false, cairn.DriveMissing, true},
		{cairn.NodeUp, cairn.DriveFailing, false, cairn.DriveFailing, true},
	} {
		rows := []cairn.Drive{testDrive(1, 1<<30), testDrive(2, 1<<30), testDrive(3, 1<<30), testDrive(4, 1<<30)}
		for i := range rows {
			rows[i].StateSince = now.Add(-time.Hour)
		}
		rows[2].Node, rows[2].State = away, tt.drive
		var self cairn.NodeID
		if tt.self {
			self = away
		}
		v := cairn.Volume{ID: 1, Profile: cairn.Profile{K: 2, M: 1}, Slots: []cairn.DriveID{rows[0].ID, rows[1].ID, rows[2].ID}}
		nodes := []cairn.Node{{ID: away, Name: "n7", State: tt.node, StateSince: now.Add(-time.Hour), Reason: "because"}}
		s := newSnapshot(newTable().with([]cairn.Volume{v}), overlay(rows, nil, self), nodes, self)
		d := s.drives[rows[2].ID]
		if d.State != tt.want || d.State != tt.drive && !strings.Contains(d.Reason, "n7 is "+tt.node.String()) {
			t.Errorf("node %s, drive %s: the drive is %s (%s), want %s", tt.node, tt.drive, d.State, d.Reason, tt.want)
		}
		if found := slotDamage(now, time.Minute, s); (len(found) == 1) != tt.damage {
			t.Errorf("node %s, drive %s: found %v, want damage: %v", tt.node, tt.drive, found, tt.damage)
		}
	}
}
