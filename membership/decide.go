package membership

import (
	"fmt"
	"slices"
	"time"

	"cairn"
)

// transitions compares the committed drives of one node with what the node measures and returns the rows to commit, and
// the drives that came back: to a writable state, or for the first time.
//
// A row's path decides who replaced whom: a drive is retired when the node says that its directory was made anew, or when
// a drive that was not known elsewhere sits at its path. A retired drive that is seen with its identity is taken back.
func transitions(now time.Time, node cairn.NodeID, domains []string, rows []cairn.Drive, seen []cairn.DriveStatus) (
	changed []cairn.Drive, returned []cairn.DriveID) {
	known := make(map[cairn.DriveID]cairn.Drive, len(rows))
	for _, d := range rows {
		known[d.ID] = d
	}
	byID := make(map[cairn.DriveID]cairn.DriveStatus, len(seen))
	for _, st := range seen {
		if st.ID.IsZero() {
			continue
		}
		byID[st.ID] = st
		old, ok := known[st.ID]
		if ok && elsewhere(old, node) {
			continue
		}
		d := measured(now, old, st)
		d.Node, d.Domains = node, domains
		if !ok || worthCommitting(old, d) {
			changed = append(changed, d)
		}
		if d.State.Writable() && (!ok || !old.State.Writable() || old.Retired) {
			returned = append(returned, d.ID)
		}
	}
	for _, d := range rows {
		if _, ok := byID[d.ID]; ok || d.Node != node {
			continue
		}
		if gone := unseen(now, d, known, seen); worthCommitting(d, gone) {
			changed = append(changed, gone)
		}
	}
	return changed, returned
}

// elsewhere tells that another node has a drive: what node sees is a copy, and the first claim stands. A node of zeros is
// the only one.
func elsewhere(d cairn.Drive, node cairn.NodeID) bool {
	return !node.IsZero() && !d.Node.IsZero() && d.Node != node && d.State != cairn.DriveMissing
}

// copies returns the rows of the drives that a node sees though another one has them.
func copies(node cairn.NodeID, rows []cairn.Drive, seen []cairn.DriveStatus) (list []cairn.Drive) {
	for _, d := range rows {
		at := slices.IndexFunc(seen, func(st cairn.DriveStatus) bool { return st.ID == d.ID })
		if at >= 0 && elsewhere(d, node) {
			d.Path = seen[at].Path
			list = append(list, d)
		}
	}
	return list
}

// measured is the row that a drive should have after the measurement.
func measured(now time.Time, d cairn.Drive, st cairn.DriveStatus) cairn.Drive {
	if d.ID.IsZero() || d.State != st.State {
		d.StateSince = st.Since
		if st.Since.IsZero() {
			d.StateSince = now
		}
	}
	d.ID, d.Path, d.State, d.Reason = st.ID, st.Path, st.State, st.Reason
	if st.State.Readable() {
		d.Retired = false
		d.TotalBytes, d.FreeBytes = st.TotalBytes, st.FreeBytes
	}
	return d
}

// unseen is the row of a drive whose identity is at none of the node's paths.
func unseen(now time.Time, d cairn.Drive, known map[cairn.DriveID]cairn.Drive, seen []cairn.DriveStatus) cairn.Drive {
	state, reason := cairn.DriveMissing, "no such path is configured"
	if d.Path == "" {
		reason = d.Reason // pulled: nobody sits where it was
	}
	for _, st := range seen {
		switch {
		case slices.Contains(st.Replaced, d.ID):
			d.Retired = true
			reason = fmt.Sprintf("its directory was made anew; drive %s is there now", st.ID)
		case st.Path != d.Path:
			continue
		case st.ID.IsZero():
			if st.State > cairn.DriveOK {
				state = st.State
			}
			reason = st.Reason
		default:
			if other, ok := known[st.ID]; ok && (other.Path != d.Path || other.Node != d.Node) {
				// A drive that we know moved here from another place: this one was pulled, not replaced.
				reason, d.Path = fmt.Sprintf("pulled; drive %s was moved to %s", st.ID, d.Path), ""
				break
			}
			d.Retired = true
			reason = fmt.Sprintf("replaced by drive %s", st.ID)
		}
		break
	}
	if d.Retired {
		state = cairn.DriveMissing
		if d.Reason != "" && d.State == cairn.DriveMissing {
			reason = d.Reason // the first reason stands: drives that follow at the path change nothing
		}
	}
	if d.State != state {
		d.StateSince = now
	}
	d.State, d.Reason = state, reason
	return d
}

// worthCommitting tells whether the change from old to d is to be written: free space alone only when it moved by 3%.
func worthCommitting(old, d cairn.Drive) bool {
	moved := d.FreeBytes - old.FreeBytes
	return old.ID != d.ID || old.Node != d.Node || !slices.Equal(old.Domains, d.Domains) || old.Path != d.Path || old.State != d.State || old.Reason != d.Reason ||
		old.Retired != d.Retired || old.TotalBytes != d.TotalBytes || max(moved, -moved) > d.TotalBytes/32
}

// slotDamage lists the slots that are to be rebuilt elsewhere: those on retired drives, those on drives of nodes that are
// out, and those on drives that could not be written for longer than after, each but the first only when a drive outside the
// volume is there to take it. A full drive keeps its slots, and so does one whose node is merely suspect, down or drained.
func slotDamage(now time.Time, after time.Duration, s *snapshot) []cairn.Damage {
	var found []cairn.Damage
	sick, some := s.table.marks(func(id cairn.DriveID) bool {
		d, known := s.drives[id]
		return known && (d.State > cairn.DriveFull || d.Retired)
	})
	if !some {
		return nil
	}
	for v := range s.table.on(sick) {
		for i, id := range v.Slots {
			note, ok := s.gone(now, after, v, i)
			if !ok {
				continue
			}
			found = append(found, cairn.Damage{Shard: cairn.ShardID{Volume: v.ID, Slot: uint8(i)}, Kind: cairn.DamageSlot,
				Drive: id, Found: now, By: "drive", Note: note})
		}
	}
	return found
}

// gone tells whether a slot is to be rebuilt elsewhere, and why.
func (s *snapshot) gone(now time.Time, after time.Duration, v cairn.Volume, slot int) (note string, ok bool) {
	d, known := s.drives[v.Slots[slot]]
	if !known || d.State <= cairn.DriveFull && !d.Retired {
		return "", false
	}
	if d.Retired {
		return "drive is gone: " + d.Reason, true
	}
	note, out := s.out[d.ID]
	if s.away[d.ID] && !out {
		return "", false // the drive is as good as its node, and that one may be back soon
	}
	if !out {
		if now.Sub(d.StateSince) < after {
			return "", false
		}
		note = fmt.Sprintf("drive is %s: %s", d.State, d.Reason)
	}
	return note, slices.ContainsFunc(s.writable, func(d cairn.Drive) bool { return !slices.Contains(v.Slots, d.ID) })
}
