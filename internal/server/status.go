package server

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/erasure"
	"cairn/health"
)

const volumePage = 1000

// facts gathers what the admin interface shows. Safe for concurrent use.
type facts struct {
	server *Server
	parts  *parts

	mu      sync.Mutex
	devices map[cairn.DriveID]uint64 // the file system's device that a drive was on when it was first seen well
}

// Ready returns nil if a write succeeds.
func (f *facts) Ready(ctx context.Context) error { return f.server.probe.ready(ctx) }

// Status gathers everything. What metadata cannot tell for want of a quorum is left out, and the verdict says so.
func (f *facts) Status(ctx context.Context) (admin.Status, error) {
	state, now := f.server.state, time.Now()
	leader := f.leaderFacts(ctx)
	st := admin.Status{Cluster: state.Cluster, Node: state.Node, Profile: state.Profile,
		Started: f.server.started, Now: now, BlobsBySpare: map[int]int64{}, Reasons: []string{},
		Voters: leader.Voters, Scrub: leader.Scrub, Repair: leader.Repair, Frozen: leader.Frozen}
	evidence := admin.Evidence{Profile: state.Profile, VotersWanted: leader.Wanted, Frozen: leader.Frozen, Queued: st.Repair.Queued}
	f.drives(ctx, &st, &evidence, leader.Health)
	for _, v := range st.Voters {
		if v.State == admin.VoterUp {
			evidence.VotersOK++
		}
	}
	spares, err := f.parts.repairer.BlobsBySpare(ctx)
	var volumes []cairn.Volume
	if err == nil {
		volumes, err = f.volumes(ctx)
	}
	if err != nil {
		evidence.BlobsUnknown = err
	} else {
		st.BlobsBySpare = spares
		f.countVolumes(&st, volumes)
	}
	st.Jobs = []cairn.Job{}
	if all, jerr := f.parts.meta.Jobs(ctx); jerr == nil {
		st.Scrub.Progress = lastScrub(all)
		repairRecord(&st, all)
		st.Jobs = slices.DeleteFunc(all, cairn.Job.Ended)
	}
	f.safety(ctx, &st)
	evidence.BlobsBySpare = st.BlobsBySpare
	evidence.Degraded = degraded(spares, volumes)
	st.Health, st.Reasons, st.Needs = admin.Judge(evidence)
	return st, nil
}

// degraded counts blobs with fewer spares than the parity of the profiles in use.
func degraded(spares map[int]int64, volumes []cairn.Volume) (n int64) {
	least := -1
	for _, v := range volumes {
		if n := v.Profile.Tolerance(); least < 0 || n < least {
			least = n
		}
	}
	for spare, count := range spares {
		if spare < least {
			n += count
		}
	}
	return n
}

func (f *facts) drives(ctx context.Context, st *admin.Status, e *admin.Evidence, verdicts []health.Verdict) {
	seen := map[uint64]bool{}
	for _, d := range f.measured(ctx) {
		row := admin.Drive{Node: d.node, Path: d.Path, State: d.State, Since: d.Since, Reason: d.Reason, TotalBytes: d.TotalBytes,
			FreeBytes: d.FreeBytes, LiveBytes: d.LiveBytes, DeadBytes: d.DeadBytes, Shards: d.Shards,
			Errors: d.ReadErrors + d.WriteErrors + d.Corruptions}
		if !d.ID.IsZero() {
			row.ID = d.ID.String()
			row.Health = healthOf(verdicts, d.ID)
		}
		st.Drives = append(st.Drives, row)
		e.DrivesTotal++
		switch d.State {
		case cairn.DriveOK:
			e.DrivesOK++
		case cairn.DriveFull:
			e.DrivesFull++
		default:
			e.DrivesBad = append(e.DrivesBad, fmt.Sprintf("%s (%s)", d.name(), d.State))
		}
		if d.State.Readable() {
			st.Capacity.UsedBytes += d.LiveBytes
			if dev := f.device(d); !seen[dev] {
				seen[dev] = true
				st.Capacity.TotalBytes += d.TotalBytes
				st.Capacity.FreeBytes += d.FreeBytes
			}
		}
	}
	p := st.Profile
	st.Capacity.UsableBytes = st.Capacity.FreeBytes / int64(p.Width()) * int64(p.K)
}

// device tells which file system a readable drive is on. It asks the system once for each drive, since a disk that hangs
// later must not hang the status.
func (f *facts) device(d measured) uint64 {
	if !d.local {
		return binary.LittleEndian.Uint64(d.ID[:]) // what it shares with others its own node knows
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	dev, ok := f.devices[d.ID]
	if ok {
		return dev
	}
	var st syscall.Stat_t
	if syscall.Stat(d.Path, &st) != nil {
		return binary.LittleEndian.Uint64(d.ID[:]) // as if alone on it; asked again next time
	}
	if f.devices == nil {
		f.devices = map[cairn.DriveID]uint64{}
	}
	f.devices[d.ID] = st.Dev
	return st.Dev
}

// volumes reads all volume rows.
func (f *facts) volumes(ctx context.Context) (all []cairn.Volume, err error) {
	for after := cairn.VolumeID(0); ; {
		page, err := f.parts.meta.Volumes(ctx, after, volumePage)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < volumePage {
			return all, nil
		}
		after = page[len(page)-1].ID
	}
}

func (f *facts) countVolumes(st *admin.Status, volumes []cairn.Volume) {
	c := admin.VolumeCounts{BySpare: map[int]int64{}, ByProfile: []admin.ProfileRow{}}
	for _, v := range volumes {
		if v.State == cairn.VolumeOpen {
			c.Open++
		} else {
			c.Sealed++
		}
		var away uint64
		for i, d := range v.Slots {
			if !f.parts.view.DriveState(d).Readable() {
				away |= 1 << i
			}
		}
		c.BySpare[erasure.Scheme(v.Profile).Spare(away)]++
		i := slices.IndexFunc(c.ByProfile, func(r admin.ProfileRow) bool { return r.Profile == v.Profile })
		if i < 0 {
			i = len(c.ByProfile)
			c.ByProfile = append(c.ByProfile, admin.ProfileRow{Profile: v.Profile})
		}
		c.ByProfile[i].Volumes++
	}
	slices.SortFunc(c.ByProfile, func(a, b admin.ProfileRow) int { return strings.Compare(a.Profile.String(), b.Profile.String()) })
	st.Volumes = c
}

func (f *facts) scrub() admin.Scrub {
	s := f.parts.scrubber.Status()
	n := s.Findings
	return admin.Scrub{Passes: s.Checks, Findings: n.Corrupt + n.Missing + n.Slots, Orphans: n.Orphans + n.Stale,
		DeepCycles: s.Cycles, LastDeep: s.LastDeep, Compared: s.Reconciled, LastTrouble: s.LastError}
}

// lastScrub is the progress of the check that was asked for last.
func lastScrub(all []cairn.Job) (p cairn.Progress) {
	p.State = "idle"
	for _, j := range all {
		if j.Kind == cairn.JobScrub {
			p = j.Progress
		}
	}
	return p
}

func (f *facts) repair() admin.Repair {
	s := f.parts.repairer.Status()
	r := admin.Repair{Progress: s.Progress, Queued: int64(s.Queued), Oldest: s.Oldest, SafeIn: s.SafeIn}
	if len(s.Waiting) > 0 {
		r.Waiting = s.Reason
	}
	return r
}

var _ admin.Cluster = (*facts)(nil)
