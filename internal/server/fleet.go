package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/meta"
	"cairn/repair"
)

const (
	nodeChangeTries = 5 // the watcher changes nodes' rows too
	voterPoll       = 500 * time.Millisecond
)

// nodeDrainRunner empties a node: its metadata voters move to other nodes, then its slots.
type nodeDrainRunner struct{ p *parts }

// Run returns when nothing is left on the node. It stays draining: whoever wants to use it again says so.
func (r nodeDrainRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	id, err := cairn.ParseID(j.Subject)
	if err != nil {
		return err
	}
	// First of all nothing new goes there. One that is away at the moment has that mark when it is back.
	n, err := r.p.changeNode(ctx, id, func(n *cairn.Node) error {
		switch n.State {
		case cairn.NodeRemoved:
			return fmt.Errorf("it was removed: %w", cairn.ErrPrecondition)
		case cairn.NodeUp, cairn.NodeJoining:
			n.State, n.Reason = cairn.NodeDraining, "an operator wants it empty"
		case cairn.NodeSuspect:
			return fmt.Errorf("it is suspect (%s): %w", n.Reason, cairn.ErrUnavailable)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := r.moveVoters(ctx, n, j.Progress, report); err != nil {
		return err
	}
	plan := func(ctx context.Context) ([]repair.Move, error) {
		moves, err := r.p.planEmptying(ctx, id)
		if err != nil {
			return nil, err
		}
		return r.p.counted(ctx, moves)
	}
	if err := r.p.repairer.Carry(ctx, repair.Moves{By: byJob(j), Plan: plan}, j.Progress, report); err != nil {
		return err
	}
	drives, _ := r.p.drivesOf(id)
	for _, d := range drives {
		r.p.scrubber.Reconcile(d) // removes what the drive holds of slots that have moved, once their new homes were read
	}
	return nil
}

// moveVoters waits until other nodes carry the node's voters.
func (r nodeDrainRunner) moveVoters(ctx context.Context, n cairn.Node, before cairn.Progress, report func(cairn.Progress)) error {
	if !n.Roles.Has(cairn.RoleMeta) {
		return nil
	}
	if err := r.p.meta.RemoveVoter(ctx, n.ID); err != nil {
		return err
	}
	before.Reason = "its metadata voter moves first"
	report(before)
	tick := time.NewTicker(voterPoll)
	defer tick.Stop()
	for slices.ContainsFunc(r.p.meta.Status().Voters, func(v meta.VoterStatus) bool { return v.Node == n.ID }) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Cancel takes the moves out of the queue and, unless the job is only paused, lets the node take new slots and voters again.
func (r nodeDrainRunner) Cancel(ctx context.Context, j cairn.Job) error {
	id, err := cairn.ParseID(j.Subject)
	if err != nil {
		return nil // then nothing was ever begun
	}
	if err := r.p.repairer.CancelMoves(ctx, byJob(j)); err != nil || j.Wish != cairn.WishCancel {
		return err
	}
	_, err = r.p.useAgain(ctx, id)
	return err
}

// useAgain lets a node take new slots and voters again.
func (p *parts) useAgain(ctx context.Context, id cairn.NodeID) (cairn.Node, error) {
	n, err := p.changeNode(ctx, id, func(n *cairn.Node) error {
		if n.State == cairn.NodeDraining {
			n.State, n.Reason = cairn.NodeUp, "the drain was called off"
		}
		return nil
	})
	if err != nil || !n.Roles.Has(cairn.RoleMeta) || n.State == cairn.NodeRemoved {
		return n, err
	}
	if err := p.meta.AddVoter(ctx, id); !errors.Is(err, cairn.ErrNotFound) { // a node that is away is asked nothing
		return n, err
	}
	return n, nil
}

// changeNode commits what change makes of a node's row; a state that differs is of now.
func (p *parts) changeNode(ctx context.Context, id cairn.NodeID, change func(*cairn.Node) error) (n cairn.Node, err error) {
	for range nodeChangeTries {
		if n, err = p.findNode(ctx, id); err != nil {
			return n, err
		}
		was := n.State
		if err := change(&n); err != nil {
			return n, &cairn.Error{Op: "server.node", Subject: nodeName(n), Err: err}
		}
		if n.State == was {
			return n, nil
		}
		n.StateSince = time.Now().UTC()
		if n, err = p.meta.PutNode(ctx, n); !errors.Is(err, cairn.ErrPrecondition) {
			return n, errors.Join(err, p.view.Refresh(ctx))
		}
	}
	return n, err
}

func (p *parts) findNode(ctx context.Context, id cairn.NodeID) (cairn.Node, error) {
	if p.site == nil {
		return cairn.Node{}, &cairn.Error{Op: "server.node", Subject: id.String(),
			Err: fmt.Errorf("this store is one process, and has no other node to go to: %w", cairn.ErrPrecondition)}
	}
	all, err := p.meta.Nodes(ctx)
	if err != nil {
		return cairn.Node{}, err
	}
	i := slices.IndexFunc(all, func(n cairn.Node) bool { return n.ID == id })
	if i < 0 {
		return cairn.Node{}, &cairn.Error{Op: "server.node", Subject: id.String(), Err: fmt.Errorf("no such node: %w", cairn.ErrNotFound)}
	}
	return all[i], nil
}

func nodeName(n cairn.Node) string { return cmp.Or(n.Name, n.ID.String()) }

// DrainNode begins to empty a node.
func (f *facts) DrainNode(ctx context.Context, id cairn.NodeID, dry bool) (d admin.NodeDrain, err error) {
	n, err := f.parts.findNode(ctx, id)
	if err != nil {
		return d, err
	}
	d = admin.NodeDrain{Node: n.ID, Name: n.Name}
	refuse := func(err error) (admin.NodeDrain, error) {
		return d, &cairn.Error{Op: "server.drain", Subject: nodeName(n), Err: err}
	}
	switch n.State {
	case cairn.NodeRemoved:
		return refuse(fmt.Errorf("it was removed: %w", cairn.ErrPrecondition))
	case cairn.NodeDown, cairn.NodeOut:
		return refuse(fmt.Errorf("it is %s, so nothing can be copied from it: bring it back, or rebuild its shards from the others' with `cairn node out`: %w",
			n.State, cairn.ErrPrecondition))
	}
	voters := f.leaderFacts(ctx).Voters
	for _, v := range voters {
		if v.Node == id.String() {
			d.Voters++
		}
	}
	if d.Voters > 0 {
		if err := f.parts.meta.MayRemoveVoter(ctx, id); err != nil {
			return refuse(err)
		}
	}
	if err := f.parts.view.Refresh(ctx); err != nil {
		return d, err
	}
	if err := f.widthWithout(id); err != nil {
		return refuse(err)
	}
	moves, err := f.parts.planEmptying(ctx, id)
	if err != nil {
		return refuse(err)
	}
	for _, m := range moves {
		d.Slots++
		d.Bytes += m.Bytes
	}
	if dry {
		return d, nil
	}
	j, err := f.parts.meta.CreateJob(ctx, cairn.JobNodeDrain, id.String())
	if err == nil {
		d.Job = &j
	}
	return d, err
}

// widthWithout refuses to lose a node's drives if new volumes would be narrower for it.
func (f *facts) widthWithout(id cairn.NodeID) error {
	left, lost := 0, 0
	for _, d := range f.parts.view.Drives() {
		switch {
		case d.Retired || d.Draining || !d.State.Writable():
		case d.Node == id:
			lost++
		default:
			left++
		}
	}
	width := f.server.state.Profile.Width()
	if lost == 0 || left >= width {
		return nil
	}
	return fmt.Errorf("%d drives that can be written would be left, and profile %s needs %d: add a drive or a node first: %w",
		left, f.server.state.Profile, width, cairn.ErrPrecondition)
}

// drainOf returns the job that empties a node, if one has not ended.
func (f *facts) drainOf(ctx context.Context, id cairn.NodeID) (*cairn.Job, error) {
	all, err := f.parts.meta.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	for _, j := range all {
		if j.Kind == cairn.JobNodeDrain && j.Subject == id.String() && !j.Ended() {
			return &j, nil
		}
	}
	return nil, nil
}

// UndrainNode cancels the job that empties a node, if there is one, and lets the node take new slots and voters again.
func (f *facts) UndrainNode(ctx context.Context, id cairn.NodeID) (cairn.Node, error) {
	n, err := f.parts.findNode(ctx, id)
	if err != nil {
		return n, err
	}
	j, err := f.drainOf(ctx, id)
	if err != nil {
		return n, err
	}
	if j != nil {
		_, err := f.parts.meta.WishJob(ctx, j.ID, cairn.WishCancel)
		return n, err // the job takes the mark away when it has stopped
	}
	if n.State != cairn.NodeDraining {
		return n, &cairn.Error{Op: "server.undrain", Subject: nodeName(n), Err: fmt.Errorf("it is %s, and not being drained: %w", n.State, cairn.ErrPrecondition)}
	}
	return f.parts.useAgain(ctx, id)
}

// RemoveNode ends a node's membership for good.
func (f *facts) RemoveNode(ctx context.Context, id cairn.NodeID, dry bool) (cairn.Node, error) {
	n, err := f.parts.findNode(ctx, id)
	if err != nil {
		return n, err
	}
	if err := f.mayRemove(ctx, n); err != nil {
		return n, &cairn.Error{Op: "server.remove", Subject: nodeName(n), Err: err}
	}
	if dry {
		return n, nil
	}
	drives, all := f.parts.drivesOf(id)
	// The epoch fences: a node whose state changed meanwhile is judged again.
	if n, err = f.parts.meta.RemoveNode(ctx, id, n.Epoch, "removed by an operator"); err != nil {
		return n, err
	}
	var retired []cairn.Drive
	for _, d := range all {
		if slices.Contains(drives, d.ID) {
			d.Retired, d.State, d.Reason, d.StateSince = true, cairn.DriveMissing, "its node was removed", n.StateSince
			retired = append(retired, d)
		}
	}
	if len(retired) > 0 {
		err = f.parts.meta.PutDrives(ctx, retired)
	}
	return n, errors.Join(err, f.parts.view.Refresh(ctx))
}

// mayRemove tells why a node must stay, and what to do about it; nil if it need not.
func (f *facts) mayRemove(ctx context.Context, n cairn.Node) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, cairn.ErrPrecondition)...)
	}
	if n.State == cairn.NodeRemoved {
		return refuse("it was removed at %s", n.StateSince.Format(time.RFC3339))
	}
	j, err := f.drainOf(ctx, n.ID)
	if err != nil {
		return err
	}
	if j != nil {
		return refuse("job %s empties it still: wait for its end (`cairn job show %s --watch`)", j.ID, j.ID)
	}
	for _, v := range f.leaderFacts(ctx).Voters {
		if v.Node == n.ID.String() {
			return refuse("it carries a metadata voter: move that with `cairn node drain` or `cairn meta remove`")
		}
	}
	if err := f.parts.view.Refresh(ctx); err != nil {
		return err
	}
	drives, _ := f.parts.drivesOf(n.ID)
	slots, holds := 0, holdsAny(drives)
	for v := range f.parts.view.Volumes() {
		if holds(v) {
			slots++
		}
	}
	dead := n.State == cairn.NodeDown || n.State == cairn.NodeOut
	switch {
	case slots > 0 && dead:
		return refuse("%d volumes have a slot on its drives: bring it back, or run `cairn node out` and wait until they are rebuilt elsewhere", slots)
	case slots > 0:
		return refuse("%d volumes have a slot on its drives: run `cairn node drain` first", slots)
	case len(drives) > 0 && n.State != cairn.NodeDraining && !dead:
		return refuse("it takes new slots at any moment: run `cairn node drain` first")
	}
	return nil
}

var _ admin.Fleet = (*facts)(nil)
