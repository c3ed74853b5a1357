package repair

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"cairn"
)

func driveID(n byte) (id cairn.DriveID) { id[0] = n; return id }

// testWorld has volume 1, 4+2 on drives 1 … 6, with 10 blobs, and as many spare drives as asked for, from 7 on.
func testWorld(spares int, states map[byte]cairn.Drive, rows ...cairn.Damage) world {
	v := cairn.Volume{ID: 1, Profile: cairn.Profile{K: 4, M: 2}, Unit: 64 << 10, Epoch: 3}
	w := world{rows: rows, volumes: map[cairn.VolumeID]cairn.Volume{}, drives: map[cairn.DriveID]cairn.Drive{},
		stats: map[cairn.VolumeID]stats{1: {blobs: 10, bytes: 1000}}, blocked: func(cairn.Damage) bool { return false }}
	for n := byte(1); n <= 6+byte(spares); n++ {
		d := states[n]
		d.ID, d.Path = driveID(n), fmt.Sprintf("d%d", n)
		w.drives[d.ID] = d
		if n <= 6 {
			v.Slots = append(v.Slots, d.ID)
		}
	}
	w.volumes[1] = v
	w.replace = func(v cairn.Volume, _ uint8) (cairn.DriveID, bool) {
		for n := byte(7); n <= 6+byte(spares); n++ {
			if !slices.Contains(v.Slots, driveID(n)) {
				return driveID(n), true
			}
		}
		return cairn.DriveID{}, false
	}
	return w
}

func slotRow(slot uint8, age int) cairn.Damage {
	return cairn.Damage{Shard: cairn.ShardID{Volume: 1, Slot: slot}, Kind: cairn.DamageSlot, Drive: driveID(slot + 1),
		Found: time.Unix(int64(1000-age), 0)}
}

func shardRow(blob cairn.BlobID, slot uint8, age int) cairn.Damage {
	return cairn.Damage{Shard: cairn.ShardID{Volume: 1, Blob: blob, Slot: slot}, Found: time.Unix(int64(1000-age), 0)}
}

func (j job) String() string {
	s := fmt.Sprintf("%s spare=%d slots=%v", [...]string{"swap", "mend", "fill", "move"}[j.do], j.spare, j.slots())
	if b := j.rows[0].Shard.Blob; b != 0 {
		s += " " + b.String()
	}
	if !j.to.IsZero() {
		s += fmt.Sprintf(" to=%d", j.to[0])
	}
	return s
}

func TestMakePlan(t *testing.T) {
	gone := cairn.Drive{Retired: true, State: cairn.DriveMissing}
	missing := cairn.Drive{State: cairn.DriveMissing}
	readOnly := cairn.Drive{State: cairn.DriveReadOnly}
	type states = map[byte]cairn.Drive
	for _, tt := range []struct {
		name    string
		w       world
		want    []string
		waiting int
		needs   int
	}{
		{name: "nothing", w: testWorld(0, nil)},
		{name: "a damaged shard", w: testWorld(0, nil, shardRow(7, 2, 0)), want: []string{"mend spare=1 slots=[2] b7"}},
		{name: "two damaged shards of a blob go together", w: testWorld(0, nil, shardRow(7, 2, 0), shardRow(7, 5, 0)),
			want: []string{"mend spare=0 slots=[2 5] b7"}},
		{name: "fewest spare first, then age", w: testWorld(0, nil, shardRow(1, 2, 5), shardRow(2, 2, 9), shardRow(3, 0, 1), shardRow(3, 1, 1)),
			want: []string{"mend spare=0 slots=[0 1] b3", "mend spare=1 slots=[2] b2", "mend spare=1 slots=[2] b1"}},
		{name: "a drive that is away takes one off every blob", w: testWorld(0, states{4: missing}, shardRow(7, 2, 0)),
			want: []string{"mend spare=0 slots=[2] b7"}},
		{name: "a shard on a drive that is away waits", w: testWorld(0, states{3: missing}, shardRow(7, 2, 0)), waiting: 1},
		{name: "a shard on a read-only drive waits", w: testWorld(0, states{3: readOnly}, shardRow(7, 2, 0)), waiting: 1},
		{name: "the drive is gone and another is there", w: testWorld(1, states{3: gone}, slotRow(2, 0)),
			want: []string{"swap spare=1 slots=[2] to=7"}},
		{name: "two are gone", w: testWorld(2, states{3: gone, 4: gone}, slotRow(2, 0), slotRow(3, 1)),
			want: []string{"swap spare=0 slots=[3] to=7", "swap spare=0 slots=[2] to=7"}},
		{name: "the drive is gone, no other is there", w: testWorld(0, states{3: gone}, slotRow(2, 0)), waiting: 1, needs: 1},
		{name: "two are gone, no other is there", w: testWorld(0, states{3: gone, 4: gone}, slotRow(2, 0), slotRow(3, 0)),
			waiting: 2, needs: 2},
		{name: "too few are left: gone drives keep their slots", w: testWorld(3, states{1: gone, 3: gone, 4: gone},
			slotRow(0, 0), slotRow(2, 0), slotRow(3, 0)), waiting: 3},
		{name: "slots on good drives are filled together", w: testWorld(0, nil, slotRow(2, 0), slotRow(4, 0)),
			want: []string{"fill spare=0 slots=[2 4]"}},
		{name: "findings in a slot that is filled wait", w: testWorld(0, nil, slotRow(2, 0), shardRow(7, 2, 0), shardRow(8, 3, 0)),
			want: []string{"mend spare=0 slots=[3] b8", "fill spare=1 slots=[2]"}, waiting: 1},
		{name: "a missing drive may hold data: move", w: testWorld(1, states{3: missing}, slotRow(2, 0)),
			want: []string{"move spare=1 slots=[2] to=7"}},
		{name: "a read-only drive is good to read: move without haste", w: testWorld(1, states{3: readOnly}, slotRow(2, 0)),
			want: []string{"move spare=2 slots=[2] to=7"}},
		{name: "swaps come before all else", w: testWorld(1, states{3: gone}, slotRow(2, 0), shardRow(7, 1, 99), shardRow(7, 5, 99)),
			want: []string{"swap spare=1 slots=[2] to=7", "mend spare=-1 slots=[1 5] b7"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := makePlan(tt.w)
			var got []string
			for _, j := range p.jobs {
				got = append(got, j.String())
			}
			waiting := 0
			for _, n := range p.waiting {
				waiting += n
			}
			if !slices.Equal(got, tt.want) || waiting != tt.waiting || p.needs != tt.needs {
				t.Errorf("got %q, %d waiting, needs %d\nwant %q, %d waiting, needs %d", got, waiting, p.needs, tt.want, tt.waiting, tt.needs)
			}
		})
	}
}

func TestMakePlanSpecialCases(t *testing.T) {
	gone := cairn.Drive{Retired: true, State: cairn.DriveMissing}
	three := map[byte]cairn.Drive{1: gone, 3: gone, 4: gone}

	w := testWorld(3, three, slotRow(0, 0), slotRow(2, 0), slotRow(3, 0))
	w.stats[1] = stats{}
	if p := makePlan(w); len(p.jobs) != 3 || p.jobs[0].do != swap {
		t.Errorf("an empty volume has nothing to lose, but its slots are not swapped: %v", p.jobs)
	}

	// Slot 0 was swapped from drive 7 to drive 1; then 1, 3 and 4 went, and 7 came back.
	row := slotRow(0, 0)
	row.Drive = driveID(7)
	w = testWorld(1, three, row)
	w.replace = func(cairn.Volume, uint8) (cairn.DriveID, bool) { return cairn.DriveID{}, false }
	if p := makePlan(w); len(p.jobs) != 1 || p.jobs[0].String() != "swap spare=-1 slots=[0] to=7" {
		t.Errorf("the former drive came back with what is needed, plan: %v", p.jobs)
	}

	w = testWorld(0, nil, shardRow(7, 2, 0), shardRow(8, 2, 0))
	w.blocked = func(r cairn.Damage) bool { return r.Shard.Blob == 7 }
	if p := makePlan(w); len(p.jobs) != 1 || p.jobs[0].rows[0].Shard.Blob != 8 {
		t.Errorf("plan with b7 set aside: %v", p.jobs)
	}

	w = testWorld(0, nil, shardRow(7, 9, 0), cairn.Damage{Shard: cairn.ShardID{Volume: 99, Blob: 1}})
	if p := makePlan(w); len(p.jobs) != 0 {
		t.Errorf("rows of a slot and a volume that do not exist were planned: %v", p.jobs)
	}
}

func TestAddSpare(t *testing.T) {
	missing := cairn.Drive{State: cairn.DriveMissing}
	readOnly := cairn.Drive{State: cairn.DriveReadOnly}
	type states = map[byte]cairn.Drive
	for _, tt := range []struct {
		name string
		w    world
		want map[int]int64
	}{
		{"sound", testWorld(0, nil), map[int]int64{2: 10}},
		{"a drive is missing", testWorld(0, states{3: missing}), map[int]int64{1: 10}},
		{"a drive is read-only", testWorld(0, states{3: readOnly}), map[int]int64{2: 10}},
		{"three are missing", testWorld(0, states{1: missing, 2: missing, 3: missing}), map[int]int64{-1: 10}},
		{"a slot is filled", testWorld(0, nil, slotRow(1, 0)), map[int]int64{1: 10}},
		{"shards are damaged", testWorld(0, nil, shardRow(1, 1, 0), shardRow(1, 2, 0), shardRow(2, 0, 0)), map[int]int64{0: 1, 1: 1, 2: 8}},
		{"damage on a missing drive counts once", testWorld(0, states{3: missing}, shardRow(1, 2, 0)), map[int]int64{1: 10}},
	} {
		got := map[int]int64{}
		addSpare(got, tt.w.volumes[1], 10, tt.w.rows, tt.w.drives)
		if !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// What a blob of a locally repairable volume may still lose depends on which shards it has lost.
func TestSpareOfALocalCode(t *testing.T) {
	for _, tt := range []struct {
		slots []uint8
		want  string
	}{
		{[]uint8{2}, "fill spare=2 slots=[2]"},
		{[]uint8{14}, "fill spare=2 slots=[14]"},
		{[]uint8{2, 7}, "fill spare=2 slots=[2 7]"}, // one in each group
		{[]uint8{2, 3}, "fill spare=1 slots=[2 3]"}, // two in one
		{[]uint8{0, 1, 6, 7}, "fill spare=0 slots=[0 1 6 7]"},
		{[]uint8{0, 1, 2, 3}, "fill spare=-1 slots=[0 1 2 3]"},
	} {
		v := cairn.Volume{ID: 1, Profile: cairn.Profile{K: 12, M: 4, Local: 2}, Unit: 64 << 10, Epoch: 3}
		w := testWorld(0, nil)
		for n := range v.Profile.Width() {
			d := cairn.Drive{ID: driveID(byte(n + 1))}
			w.drives[d.ID] = d
			v.Slots = append(v.Slots, d.ID)
		}
		w.volumes[1] = v
		for _, slot := range tt.slots {
			w.rows = append(w.rows, slotRow(slot, 0))
		}
		if p := makePlan(w); len(p.jobs) != 1 || p.jobs[0].String() != tt.want {
			t.Errorf("lost %v: %v, want %s", tt.slots, p.jobs, tt.want)
		}
		by := map[int]int64{}
		addSpare(by, v, 10, w.rows, w.drives)
		if spare := makePlan(w).jobs[0].spare; by[spare] != 10 {
			t.Errorf("lost %v: blobs by spare %v, want all at %d", tt.slots, by, spare)
		}
	}
}
