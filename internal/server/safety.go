package server

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/durability"
)

const (
	historyRow   = "durability.history" // JSON of durability.History
	historyEvery = time.Minute
	historyRows  = 65536 // rows of damage that are looked at
)

// keepHistory looks at the drives once a minute, beside the metadata's leader, and keeps what it saw.
func (p *parts) keepHistory(ctx context.Context) error {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for {
		if err := p.observe(ctx, time.Now()); err != nil && ctx.Err() == nil {
			p.logger.Debug("drives' history was not kept", "err", err) // the gap is not counted
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *parts) history(ctx context.Context) (h durability.History, err error) {
	b, err := p.meta.Config(ctx, historyRow)
	if errors.Is(err, cairn.ErrNotFound) {
		return h, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	return h, err
}

func (p *parts) observe(ctx context.Context, now time.Time) error {
	h, err := p.history(ctx)
	if err != nil {
		return err
	}
	rows, err := p.meta.Damage(ctx, historyRows)
	if err != nil {
		return err
	}
	waits := map[cairn.DriveID]bool{}
	for _, row := range rows {
		if row.Kind == cairn.DamageSlot {
			waits[row.Drive] = true
		}
	}
	h = h.Observe(now.UTC(), p.view.Drives(), func(id cairn.DriveID) bool { return waits[id] })
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return p.meta.PutConfig(ctx, historyRow, b)
}

// safety tells how far the data is from loss. What metadata cannot tell is left out.
func (f *facts) safety(ctx context.Context, st *admin.Status) {
	s := &st.Safety
	s.Classes, s.Outlook = []durability.Measured{}, []durability.Outlook{}
	h, err := f.parts.history(ctx)
	if err != nil {
		return
	}
	all, classes := h.Measured()
	s.Since = h.Since
	s.Classes = append(s.Classes, classes...)
	profiles := []cairn.Profile{st.Profile}
	for _, row := range st.Volumes.ByProfile {
		if !slices.Contains(profiles, row.Profile) {
			profiles = append(profiles, row.Profile)
		}
	}
	slices.SortFunc(profiles[1:], func(a, b cairn.Profile) int { return strings.Compare(a.String(), b.String()) })
	for _, p := range profiles {
		if o, err := durability.Look(p, all); err == nil {
			s.Outlook = append(s.Outlook, o)
		}
	}
	if n := len(st.Voters); n > 0 {
		up := durability.Availability(all.UsedLambda, all.UsedMTTR.Hours()/(365.25*24))
		s.Metadata = durability.KOfN(n/2+1, n, up)
	}
}

// repairRecord puts the committed record of the repair job in the place of what the repairer itself says, so that status,
// metrics and `cairn job` show the same numbers.
func repairRecord(st *admin.Status, all []cairn.Job) {
	for _, j := range all {
		if j.Kind == cairn.JobRepair {
			st.Repair.Progress = j.Progress
		}
	}
}
