package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/jobs"
)

// runners are what does the work of each kind of job.
func (p *parts) runners() map[cairn.JobKind]jobs.Runner {
	return map[cairn.JobKind]jobs.Runner{cairn.JobRepair: repairRunner{p}, cairn.JobDrain: drainRunner{p}, cairn.JobRewrap: rewrapRunner{p},
		cairn.JobScrub: scrubRunner{p}, cairn.JobNodeDrain: nodeDrainRunner{p}, cairn.JobRebalance: rebalanceRunner{p}}
}

// repairRunner lets the repairer work as long as its job runs.
type repairRunner struct{ p *parts }

// reportEvery is how often the repairer's progress becomes the job's.
const reportEvery = 500 * time.Millisecond

// Run returns when ctx ends.
func (r repairRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	r.p.repairer.Pause(false)
	defer r.p.repairer.Pause(true)
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		report(r.p.repairer.Status().Progress)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Cancel has nothing to undo: the queue stays.
func (r repairRunner) Cancel(context.Context, cairn.Job) error { return nil }

// drainRunner empties a drive.
type drainRunner struct{ p *parts }

// Run returns when no slot is left on the drive. The mark stays: whoever wants to use the drive again takes it away.
func (r drainRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	id, err := cairn.ParseID(j.Subject)
	if err != nil {
		return err
	}
	if err := r.p.meta.SetDraining(ctx, id, true); err != nil {
		return err
	}
	if err := r.p.view.Refresh(ctx); err != nil {
		return err
	}
	if err := r.p.repairer.Drain(ctx, id, j.Progress, report); err != nil {
		return err
	}
	r.p.scrubber.Reconcile(id) // removes what the drive holds of slots that have moved, once their new homes were read
	return nil
}

// Cancel takes the drive's moves out of the queue, and unless the job is only paused, lets it take new slots again.
func (r drainRunner) Cancel(ctx context.Context, j cairn.Job) error {
	id, err := cairn.ParseID(j.Subject)
	if err != nil {
		return nil // then nothing was ever begun
	}
	if err := r.p.repairer.CancelDrain(ctx, id); err != nil || j.Wish != cairn.WishCancel {
		return err
	}
	if err := r.p.meta.SetDraining(ctx, id, false); err != nil && !errors.Is(err, cairn.ErrNotFound) {
		return err
	}
	return nil
}

// Jobs returns all jobs.
func (f *facts) Jobs(ctx context.Context) ([]cairn.Job, error) { return f.parts.meta.Jobs(ctx) }

// WishJob commits a wish; the process beside the metadata's leader acts on it.
func (f *facts) WishJob(ctx context.Context, id cairn.JobID, wish cairn.JobWish) (cairn.Job, error) {
	return f.parts.meta.WishJob(ctx, id, wish)
}

// DrainDrive begins to empty a drive.
func (f *facts) DrainDrive(ctx context.Context, name string, dry bool) (d admin.Drain, err error) {
	drive, err := f.findDrive(name)
	if err != nil {
		return d, err
	}
	plan, err := f.parts.repairer.PlanDrain(ctx, drive.ID)
	if err != nil {
		return d, err
	}
	d = admin.Drain{Drive: drive.ID, Path: drive.Path, Slots: plan.Slots, Blobs: plan.Blobs, Bytes: plan.Bytes}
	if err := plan.Refusal(); err != nil || dry {
		return d, err
	}
	j, err := f.parts.meta.CreateJob(ctx, cairn.JobDrain, drive.ID.String())
	d.Job = &j
	return d, err
}

// UndrainDrive cancels the job that empties a drive, if there is one, and lets the drive take new slots again.
func (f *facts) UndrainDrive(ctx context.Context, name string) (cairn.Drive, error) {
	if err := f.parts.view.Refresh(ctx); err != nil { // the mark may be news
		return cairn.Drive{}, err
	}
	drive, err := f.findDrive(name)
	if err != nil {
		return drive, err
	}
	all, err := f.parts.meta.Jobs(ctx)
	if err != nil {
		return drive, err
	}
	for _, j := range all {
		if j.Kind == cairn.JobDrain && j.Subject == drive.ID.String() && !j.Ended() {
			_, err := f.parts.meta.WishJob(ctx, j.ID, cairn.WishCancel)
			return drive, err // the job takes the mark away when it has stopped
		}
	}
	if !drive.Draining {
		return drive, &cairn.Error{Op: "server.undrain", Subject: name, Err: fmt.Errorf("it is not being drained: %w", cairn.ErrPrecondition)}
	}
	drive.Draining = false
	return drive, f.parts.meta.SetDraining(ctx, drive.ID, false)
}

const leastPrefix = 4 // of a drive's ID

// findDrive looks a drive up by ID, by an unambiguous beginning of one, or by path.
func (f *facts) findDrive(name string) (found cairn.Drive, err error) {
	n := 0
	for _, d := range f.parts.view.Drives() {
		if d.Retired || d.Path != name && (len(name) < leastPrefix || !strings.HasPrefix(d.ID.String(), name)) {
			continue
		}
		found = d
		n++
	}
	if n == 1 {
		return found, nil
	}
	why := "no such drive; see the IDs and paths in `cairn status`"
	if n > 1 {
		why = "several drives are called so: name more of the ID"
	}
	return found, &cairn.Error{Op: "server.drive", Subject: name, Err: fmt.Errorf("%s: %w", why, cairn.ErrNotFound)}
}

var _ admin.Jobs = (*facts)(nil)
