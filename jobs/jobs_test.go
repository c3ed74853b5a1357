package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
)

// rows keeps records in memory.
type rows struct {
	mu   sync.Mutex
	list []cairn.Job
}

func (r *rows) CreateJob(_ context.Context, kind cairn.JobKind, subject string) (cairn.Job, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := cairn.Job{ID: cairn.JobID(len(r.list) + 1), Kind: kind, Subject: subject, Progress: cairn.Progress{State: cairn.JobQueued}}
	r.list = append(r.list, j)
	return j, nil
}

func (r *rows) Jobs(context.Context) ([]cairn.Job, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]cairn.Job(nil), r.list...), nil
}

func (r *rows) ReportJob(_ context.Context, id cairn.JobID, p cairn.Progress) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[id-1].Progress = p
	return nil
}

func (r *rows) wish(id cairn.JobID, w cairn.JobWish) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list[id-1].Wish = w
}

func (r *rows) job(id cairn.JobID) cairn.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.list[id-1]
}

// work copies total bytes at about rate a second, unevenly, and goes on from what is done.
type work struct {
	total, rate int64
	err         error
	running     int
	canceled    int
}

func (w *work) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	w.running++
	defer func() { w.running-- }()
	if w.running > 1 {
		return fmt.Errorf("runs twice: %w", cairn.ErrInvalid)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	p := j.Progress
	p.TotalBytes = w.total
	for p.DoneBytes < w.total {
		report(p)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second + time.Duration(rnd.IntN(1000))):
		}
		if w.err != nil {
			return w.err
		}
		p.DoneBytes = min(w.total, p.DoneBytes+w.rate/2+rnd.Int64N(w.rate))
	}
	report(p)
	return nil
}

func (w *work) Cancel(context.Context, cairn.Job) error { w.canceled++; return nil }

func start(t *testing.T, r *rows, w Runner) (stop func()) {
	m, err := New(Config{Rows: r, Kinds: map[cairn.JobKind]Runner{cairn.JobDrain: w}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { m.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// The time that a job of ten minutes says it still needs is within a quarter of the truth, from the first half minute on.
func TestETAOfTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rows{}
		defer start(t, r, &work{total: 600 << 20, rate: 1 << 20})()
		r.CreateJob(t.Context(), cairn.JobDrain, "d")
		begun := time.Now()
		type said struct{ at, eta time.Duration }
		var all []said
		for r.job(1).State != cairn.JobDone {
			time.Sleep(10*time.Second + 11*time.Nanosecond)
			if j := r.job(1); time.Since(begun) > 30*time.Second && j.ETA > 0 {
				all = append(all, said{time.Since(begun), j.ETA})
			}
			if time.Since(begun) > time.Hour {
				t.Fatalf("not done: %+v", r.job(1))
			}
		}
		total := r.job(1).Finished.Sub(begun)
		if len(all) < 40 {
			t.Errorf("%d estimates in %v", len(all), total)
		}
		for _, s := range all {
			if said := s.at + s.eta; said < total*3/4 || said > total*5/4 {
				t.Errorf("after %v the end was said to be at %v, it was at %v", s.at, said, total)
			}
		}
	})
}

func TestPauseResumeCancelAndRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := &rows{}, &work{total: 100 << 20, rate: 1 << 20}
		stop := start(t, r, w)
		r.CreateJob(t.Context(), cairn.JobDrain, "d")
		time.Sleep(20*time.Second + 7)
		if j := r.job(1); j.State != cairn.JobRunning || j.DoneBytes == 0 || j.RateBytesPerSec == 0 || j.ETA == 0 {
			t.Errorf("running: %+v", j)
		}
		r.wish(1, cairn.WishPause)
		time.Sleep(2*time.Second + 7)
		paused := r.job(1)
		if paused.State != cairn.JobPaused || paused.ETA != 0 || w.running != 0 || w.canceled != 1 {
			t.Errorf("paused: %+v, %d run", paused, w.running)
		}
		time.Sleep(time.Minute + 7)
		if j := r.job(1); j.DoneBytes != paused.DoneBytes {
			t.Errorf("it went on while paused: %+v", j)
		}
		r.wish(1, cairn.WishRun)
		time.Sleep(10*time.Second + 7)
		before := r.job(1)
		if before.DoneBytes <= paused.DoneBytes {
			t.Errorf("resumed: %+v", before)
		}
		stop()
		stop = start(t, r, w) // as after a crash: the record says running
		time.Sleep(10*time.Second + 7)
		if j := r.job(1); j.State != cairn.JobRunning || j.DoneBytes <= before.DoneBytes || !j.Started.Equal(before.Started) {
			t.Errorf("after a restart: %+v, before %+v", j, before)
		}
		r.wish(1, cairn.WishCancel)
		time.Sleep(2*time.Second + 7)
		if j := r.job(1); j.State != cairn.JobCanceled || j.Finished.IsZero() || w.running != 0 || w.canceled != 2 {
			t.Errorf("canceled: %+v", j)
		}
		stop()
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			err  error
			want string
		}{{cairn.ErrPrecondition, cairn.JobFailed}, {errors.New("a moment's trouble"), cairn.JobWaiting}} {
			r := &rows{}
			stop := start(t, r, &work{total: 1 << 20, rate: 1 << 10, err: tt.err})
			r.CreateJob(t.Context(), cairn.JobDrain, "d")
			time.Sleep(4*time.Second + 7)
			if j := r.job(1); j.State != tt.want || j.LastError == "" {
				t.Errorf("%v: %+v, want %s", tt.err, j, tt.want)
			}
			stop()
		}
	})
}
