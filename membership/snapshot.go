package membership

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"

	"cairn"
)

// snapshot is all that the hot calls read. It is immutable.
type snapshot struct {
	table    *table
	drives   map[cairn.DriveID]cairn.Drive
	nodes    []cairn.Node             // ordered by ID
	out      map[cairn.DriveID]string // drives that are gone with their node, which is out, and why
	away     map[cairn.DriveID]bool   // drives that are only as bad as their node
	writable []cairn.Drive            // ordered by ID
	load     map[cairn.DriveID]int    // slots of open volumes on each drive
	shelves  map[cairn.Profile]*shelf
	placer   func() *Placer // of the writable drives, made when it is first needed
}

// shelf holds the open volumes of one profile by what can be written to them now, ordered by ID.
type shelf struct {
	open    int            // volumes in all, sick ones included
	whole   []cairn.Volume // every slot is writable
	partial []cairn.Volume // a write quorum is, but not every slot
}

var emptyShelf = &shelf{}

func (s *snapshot) shelf(p cairn.Profile) *shelf {
	if sh, ok := s.shelves[p]; ok {
		return sh
	}
	return emptyShelf
}

func newSnapshot(volumes *table, drives map[cairn.DriveID]cairn.Drive, nodes []cairn.Node,
	self cairn.NodeID) *snapshot {
	s := &snapshot{table: volumes, drives: drives, nodes: nodes, load: map[cairn.DriveID]int{},
		shelves: map[cairn.Profile]*shelf{}}
	s.away, s.out = overlayNodes(drives, nodes, self)
	for _, d := range s.drives {
		if d.State.Writable() && !d.Retired && !d.Draining {
			s.writable = append(s.writable, d)
		}
	}
	slices.SortFunc(s.writable, func(a, b cairn.Drive) int { return slices.Compare(a.ID[:], b.ID[:]) })
	for _, v := range volumes.open {
		sh, ok := s.shelves[v.Profile]
		if !ok {
			sh = &shelf{}
			s.shelves[v.Profile] = sh
		}
		sh.open++
		for _, id := range v.Slots {
			s.load[id]++
		}
		switch n := s.writableSlots(v); {
		case n == v.Profile.Width():
			sh.whole = append(sh.whole, v)
		case n >= v.Profile.WriteQuorum():
			sh.partial = append(sh.partial, v)
		}
	}
	s.placer = sync.OnceValue(func() *Placer { return NewPlacer(s.writable, s.load) })
	for _, sh := range s.shelves {
		byID := func(a, b cairn.Volume) int { return int(int64(a.ID) - int64(b.ID)) }
		slices.SortFunc(sh.whole, byID)
		slices.SortFunc(sh.partial, byID)
	}
	return s
}

// without is the snapshot as it would be if nothing could be written to some drives.
func (s *snapshot) without(sick []cairn.DriveID, self cairn.NodeID) *snapshot {
	drives := maps.Clone(s.drives)
	for _, id := range sick {
		if d, ok := drives[id]; ok {
			d.State = max(d.State, cairn.DriveReadOnly)
			drives[id] = d
		}
	}
	return newSnapshot(s.table, drives, s.nodes, self)
}

func (s *snapshot) writableSlots(v cairn.Volume) (n int) {
	for _, id := range v.Slots {
		if d := s.drives[id]; d.ID == id && d.State.Writable() && !d.Retired {
			n++
		}
	}
	return n
}

// overlay puts what is measured now over the committed rows. A drive that is measured and not committed yet counts: the
// commit follows within a tick, and a placement on it is itself a commit. live are the drives of node; zero means of all.
func overlay(rows []cairn.Drive, live []cairn.DriveStatus, node cairn.NodeID) map[cairn.DriveID]cairn.Drive {
	drives := make(map[cairn.DriveID]cairn.Drive, len(rows)+len(live))
	for _, d := range rows {
		drives[d.ID] = d
	}
	for _, st := range live {
		for _, old := range st.Replaced {
			if d, ok := drives[old]; ok {
				d.Retired, d.State = true, cairn.DriveMissing
				drives[old] = d
			}
		}
	}
	for _, st := range live {
		if st.ID.IsZero() {
			for id, d := range drives {
				ours := node == (cairn.NodeID{}) || d.Node == node
				if ours && d.Path == st.Path && !d.Retired { // its directory cannot be seen now
					d.State = st.State
					drives[id] = d
				}
			}
			continue
		}
		if d, known := drives[st.ID]; known && elsewhere(d, node) {
			continue
		}
		d := drives[st.ID] // a retired drive that is seen again is a drive
		d.ID, d.Path, d.State, d.Reason = st.ID, st.Path, st.State, st.Reason
		d.TotalBytes, d.FreeBytes = st.TotalBytes, st.FreeBytes
		d.Retired = d.Retired && !st.State.Readable()
		drives[st.ID] = d
	}
	return drives
}

// overlayNodes puts the states of nodes over those of their drives: no new writes go to one that is suspect or drained, and
// reads go around one that is down. It returns the drives that are only as bad as their node, and those whose node is gone
// for good or for long. This process's own drives can be read whatever others think of it. Drives whose node has no row are what they are.
func overlayNodes(drives map[cairn.DriveID]cairn.Drive, nodes []cairn.Node, self cairn.NodeID) (
	away map[cairn.DriveID]bool, out map[cairn.DriveID]string) {
	byID := make(map[cairn.NodeID]*cairn.Node, len(nodes))
	for i := range nodes {
		if nodes[i].State != cairn.NodeUp {
			byID[nodes[i].ID] = &nodes[i]
		}
	}
	away, out = map[cairn.DriveID]bool{}, map[cairn.DriveID]string{}
	if len(byID) == 0 {
		return away, out
	}
	for id, d := range drives {
		n, ok := byID[d.Node]
		if !ok {
			continue
		}
		note := fmt.Sprintf("its node %s is %s: %s", cmp.Or(n.Name, n.ID.String()), n.State, n.Reason)
		state := cairn.DriveReadOnly
		switch n.State {
		case cairn.NodeOut, cairn.NodeRemoved:
			out[id], state = note, cairn.DriveMissing
		case cairn.NodeDown:
			state = cairn.DriveMissing
		}
		if d.Node == self {
			state = cairn.DriveReadOnly
		}
		if state > d.State {
			away[id] = true
			d.State, d.Reason, d.StateSince = state, note, n.StateSince
			drives[id] = d
		}
	}
	return away, out
}
