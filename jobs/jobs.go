// Package jobs runs long work that an operator can watch, pause, resume and cancel: it keeps each job's one record
// (cairn.Job), starts what is to run, stops what is not, and goes on with what a process before it had begun.
//
// The record is committed in metadata, wishes included, so any process may ask and the one beside the metadata's leader
// acts. A Manager decides nothing about the work itself: a Runner for each kind does it, and can be stopped and called again
// at any point.
//
// Invariants: a job's runner runs once at a time in a process; wishes are changed by operators alone, progress by the
// Manager alone; a failure that may pass is tried again with a pause, one that cannot ends the job.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cairn"
)

// Rows keeps the records. *meta.Store is one.
type Rows interface {
	CreateJob(ctx context.Context, kind cairn.JobKind, subject string) (cairn.Job, error)
	Jobs(ctx context.Context) ([]cairn.Job, error)
	ReportJob(ctx context.Context, id cairn.JobID, p cairn.Progress) error
}

// Runner does the work of a kind.
type Runner interface {
	// Run works until the job is done (nil), cannot be done, or ctx ends; then it leaves a state from which a later Run
	// goes on. report takes what is done and to do, or for a standing job its whole progress; it may be called often.
	Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error
	// Cancel undoes what a job has left behind for later. Run is not under way.
	Cancel(ctx context.Context, j cairn.Job) error
}

// Config configures a Manager.
type Config struct {
	Rows  Rows
	Kinds map[cairn.JobKind]Runner
	// Every is how often wishes are looked at; default 500 ms.
	Every time.Duration
	// SaveEvery is how often the progress of a running job is committed; default 2 s.
	SaveEvery time.Duration
	Logger    *slog.Logger // default: discard
}

const (
	defaultEvery     = 500 * time.Millisecond
	defaultSaveEvery = 2 * time.Second
	maxRunning       = 8               // jobs at once; more are queued
	retryAfter       = 5 * time.Second // after a failure that may pass
)

// Manager runs jobs. One Run for a cluster at a time is enough; a second one for a moment does no harm.
type Manager struct {
	cfg Config
	// active belongs to Run.
	active map[cairn.JobID]*run
}

// run is a job under way.
type run struct {
	stop context.CancelFunc
	done chan struct{}
	err  error // set before done is closed

	mu    sync.Mutex
	p     cairn.Progress
	meter Meter
}

// New returns a Manager.
func New(cfg Config) (*Manager, error) {
	if cfg.Rows == nil || len(cfg.Kinds) == 0 {
		return nil, &cairn.Error{Op: "jobs.new", Err: fmt.Errorf("rows and kinds are needed: %w", cairn.ErrInvalid)}
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.SaveEvery == 0 {
		cfg.SaveEvery = defaultSaveEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{cfg: cfg, active: map[cairn.JobID]*run{}}, nil
}

// Run works until ctx ends; runners are then stopped, and their jobs go on where Run is called next.
func (m *Manager) Run(ctx context.Context) error {
	defer func() {
		for id, r := range m.active {
			r.stop()
			<-r.done
			delete(m.active, id)
		}
	}()
	tick := time.NewTicker(m.cfg.Every)
	defer tick.Stop()
	var saved time.Time
	retry := map[cairn.JobID]time.Time{}
	for {
		if err := m.round(ctx, retry, &saved); err != nil && ctx.Err() == nil {
			m.cfg.Logger.Debug("jobs could not be looked after for now", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round brings what runs in line with what is wished.
func (m *Manager) round(ctx context.Context, retry map[cairn.JobID]time.Time, saved *time.Time) error {
	all, err := m.cfg.Rows.Jobs(ctx)
	if err != nil {
		return err
	}
	save := time.Since(*saved) >= m.cfg.SaveEvery
	if save {
		*saved = time.Now()
	}
	standing := map[cairn.JobKind]bool{}
	for _, j := range all {
		standing[j.Kind] = standing[j.Kind] || j.Kind.Standing()
		runner := m.cfg.Kinds[j.Kind]
		if j.Ended() || runner == nil {
			continue
		}
		err = errors.Join(err, m.tend(ctx, j, runner, retry, save))
	}
	for kind := range m.cfg.Kinds {
		if kind.Standing() && !standing[kind] {
			if _, cerr := m.cfg.Rows.CreateJob(ctx, kind, ""); cerr != nil && !errors.Is(cerr, cairn.ErrExists) {
				err = errors.Join(err, cerr)
			}
		}
	}
	return err
}

// tend looks after one job that has not ended.
func (m *Manager) tend(ctx context.Context, j cairn.Job, runner Runner, retry map[cairn.JobID]time.Time, save bool) error {
	r := m.active[j.ID]
	if r != nil {
		select {
		case <-r.done:
			delete(m.active, j.ID)
			return m.ended(ctx, j, r, retry)
		default:
		}
	}
	switch {
	case j.Wish != cairn.WishRun:
		if r != nil {
			r.stop()
			<-r.done
			delete(m.active, j.ID)
			j.Progress = r.progress()
		}
		return m.rest(ctx, j, runner)
	case r == nil && len(m.active) < maxRunning && !time.Now().Before(retry[j.ID]):
		delete(retry, j.ID)
		return m.start(ctx, j, runner)
	case r != nil && save:
		return m.cfg.Rows.ReportJob(ctx, j.ID, r.progress())
	}
	return nil
}

// rest commits that a job is paused, or cancels it.
func (m *Manager) rest(ctx context.Context, j cairn.Job, runner Runner) error {
	p := j.Progress
	p.RateBytesPerSec, p.ETA = 0, 0
	if j.Wish == cairn.WishCancel {
		if err := runner.Cancel(ctx, j); err != nil {
			return err
		}
		p.State, p.Finished = cairn.JobCanceled, time.Now().UTC()
		m.cfg.Logger.Info("job canceled", "job", j.ID, "kind", j.Kind, "subject", j.Subject)
		return m.cfg.Rows.ReportJob(ctx, j.ID, p)
	}
	if j.State == cairn.JobPaused {
		return nil
	}
	p.State = cairn.JobPaused
	if err := runner.Cancel(ctx, j); err != nil { // what it has queued elsewhere must not go on either
		return err
	}
	return m.cfg.Rows.ReportJob(ctx, j.ID, p)
}

func (m *Manager) start(ctx context.Context, j cairn.Job, runner Runner) error {
	if j.Started.IsZero() {
		j.Started = time.Now().UTC()
	}
	j.State, j.Reason = cairn.JobRunning, ""
	if err := m.cfg.Rows.ReportJob(ctx, j.ID, j.Progress); err != nil {
		return err
	}
	inner, stop := context.WithCancel(ctx)
	r := &run{stop: stop, done: make(chan struct{}), p: j.Progress}
	m.active[j.ID] = r
	go func() { // waited for by tend, and by Run's end
		defer close(r.done)
		defer stop()
		r.err = runner.Run(inner, j, r.report(j.Kind))
	}()
	m.cfg.Logger.Info("job runs", "job", j.ID, "kind", j.Kind, "subject", j.Subject)
	return nil
}

// ended commits how a runner ended by itself.
func (m *Manager) ended(ctx context.Context, j cairn.Job, r *run, retry map[cairn.JobID]time.Time) error {
	p := r.progress()
	p.RateBytesPerSec, p.ETA = 0, 0
	switch {
	case r.err == nil:
		p.State, p.Finished = cairn.JobDone, time.Now().UTC()
		m.cfg.Logger.Info("job done", "job", j.ID, "kind", j.Kind, "subject", j.Subject, "bytes", p.DoneBytes)
	case errors.Is(r.err, cairn.ErrNotFound), errors.Is(r.err, cairn.ErrInvalid), errors.Is(r.err, cairn.ErrPrecondition):
		p.State, p.Finished, p.LastError = cairn.JobFailed, time.Now().UTC(), r.err.Error()
		m.cfg.Logger.Warn("job failed", "job", j.ID, "kind", j.Kind, "subject", j.Subject, "err", r.err)
	default:
		p.State, p.LastError = cairn.JobWaiting, r.err.Error()
		retry[j.ID] = time.Now().Add(retryAfter)
	}
	return m.cfg.Rows.ReportJob(ctx, j.ID, p)
}

// report returns what a runner calls. Rate and ETA are made here, the same way for every kind that does not bring its own.
func (r *run) report(kind cairn.JobKind) func(cairn.Progress) {
	return func(p cairn.Progress) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if kind.Standing() {
			r.p = p
			return
		}
		r.p.DoneBytes, r.p.TotalBytes, r.p.DoneBlobs, r.p.TotalBlobs = p.DoneBytes, p.TotalBytes, p.DoneBlobs, p.TotalBlobs
		r.p.Reason, r.p.Found, r.p.Unchecked = p.Reason, p.Found, p.Unchecked
		r.meter.Set(time.Now(), p.DoneBytes)
	}
}

func (r *run) progress() cairn.Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.p
	if rate := r.meter.Rate(time.Now()); rate > 0 {
		p.RateBytesPerSec = rate
		p.ETA = ETA(p, rate)
	}
	return p
}

// ETA is the time that the rest takes at a rate in bytes per second; 0 if nothing is left or nothing moves.
func ETA(p cairn.Progress, rate float64) time.Duration {
	left := p.TotalBytes - p.DoneBytes
	if left <= 0 || rate <= 0 {
		return 0
	}
	return time.Duration(float64(left) / rate * float64(time.Second))
}
