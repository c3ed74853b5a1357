package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"cairn"
)

// jobList is a Jobs of one paused job.
type jobList struct {
	job     cairn.Job
	drained string
}

func (l *jobList) Jobs(context.Context) ([]cairn.Job, error) { return []cairn.Job{l.job}, nil }

func (l *jobList) WishJob(_ context.Context, id cairn.JobID, wish cairn.JobWish) (cairn.Job, error) {
	if id != l.job.ID {
		return cairn.Job{}, fmt.Errorf("no such job: %w", cairn.ErrNotFound)
	}
	if wish == cairn.WishCancel {
		return cairn.Job{}, fmt.Errorf("pause it instead: %w", cairn.ErrPrecondition)
	}
	l.job.Wish = wish
	return l.job, nil
}

func (l *jobList) DrainDrive(_ context.Context, drive string, dry bool) (Drain, error) {
	l.drained = fmt.Sprintf("%s %v", drive, dry)
	return Drain{Slots: 3}, nil
}

func (l *jobList) UndrainDrive(context.Context, string) (cairn.Drive, error) {
	return cairn.Drive{}, nil
}

func TestJobRoutes(t *testing.T) {
	c := &cluster{}
	l := &jobList{job: cairn.Job{ID: 4, Kind: cairn.JobDrain, Subject: "d", Wish: cairn.WishPause,
		Progress: cairn.Progress{State: cairn.JobPaused, DoneBytes: 7, TotalBytes: 9}}}
	s := newServer(t, c)
	with := s.cfg
	with.Jobs = l
	s, err := New(with)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, target, as string
		code               int
		has                string
	}{
		{"GET", "/api/v1/jobs", "", 401, ""},
		{"POST", "/api/v1/jobs/4/resume", "", 401, ""},
		{"POST", "/api/v1/drains?drive=x", "", 401, ""},
		{"GET", "/api/v1/jobs", "root:secret", 200, `"done_bytes": 7`},
		{"GET", "/api/v1/jobs/4", "root:secret", 200, `"wish": "pause"`},
		{"GET", "/api/v1/jobs/5", "root:secret", 404, "no such job"},
		{"GET", "/api/v1/jobs/x", "root:secret", 400, "want a number"},
		{"POST", "/api/v1/jobs/4/resume", "root:secret", 200, `"wish": "run"`},
		{"POST", "/api/v1/jobs/4/cancel", "root:secret", 409, "pause it instead"},
		{"POST", "/api/v1/drains?drive=%2Fmnt%2Fa&dry-run=1", "root:secret", 200, `"slots": 3`},
		{"DELETE", "/api/v1/drains?drive=x", "root:secret", 200, ""},
	} {
		w := ask(s, tt.method, tt.target, tt.as, loopback)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.has) {
			t.Errorf("%s %s: %d %s, want %d and %s", tt.method, tt.target, w.Code, w.Body, tt.code, tt.has)
		}
	}
	if l.drained != "/mnt/a true" {
		t.Errorf("asked to drain %q", l.drained)
	}
	// The metrics tell the numbers of the very record.
	c.status.Jobs = []cairn.Job{l.job}
	body := ask(s, "GET", "/metrics", "", loopback).Body.String()
	for _, want := range []string{`cairn_jobs_done_bytes{job="4",kind="drain",subject="d"} 7`, `cairn_jobs_state{job="4",kind="drain",state="paused",subject="d"} 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if b, err := json.Marshal(l.job); err != nil || !strings.Contains(string(b), `"state":"paused"`) {
		t.Errorf("%s, %v", b, err)
	}
}
