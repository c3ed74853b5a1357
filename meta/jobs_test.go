package meta_test

import (
	"errors"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

func TestJobs(t *testing.T) {
	s := openStore(t, meta.Config{Homes: makeHomes(t, 1), Voters: 1})
	ctx := t.Context()
	j, err := s.CreateJob(ctx, cairn.JobDrain, "d1")
	if err != nil || j.ID == 0 || j.State != cairn.JobQueued {
		t.Fatalf("created %+v, %v", j, err)
	}
	if _, err := s.CreateJob(ctx, cairn.JobDrain, "d1"); !errors.Is(err, cairn.ErrExists) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := s.WishJob(ctx, j.ID, cairn.WishPause); err != nil {
		t.Error(err)
	}
	if err := s.ReportJob(ctx, j.ID, cairn.Progress{State: cairn.JobPaused, DoneBytes: 3}); err != nil {
		t.Error(err)
	}
	if all, err := s.Jobs(ctx); err != nil || len(all) != 1 || all[0].Wish != cairn.WishPause || all[0].DoneBytes != 3 {
		t.Errorf("jobs = %+v, %v", all, err)
	}
	if err := s.ReportJob(ctx, j.ID, cairn.Progress{State: cairn.JobDone, Finished: time.Now()}); err != nil {
		t.Error(err)
	}
	if _, err := s.WishJob(ctx, j.ID, cairn.WishCancel); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("cancel of a job that is done: %v", err)
	}
	if _, err := s.WishJob(ctx, 99, cairn.WishRun); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("no such job: %v", err)
	}
	standing, err := s.CreateJob(ctx, cairn.JobRepair, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WishJob(ctx, standing.ID, cairn.WishCancel); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("cancel of a standing job: %v", err)
	}
	for range 103 {
		j, err := s.CreateJob(ctx, cairn.JobDrain, "d2")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.ReportJob(ctx, j.ID, cairn.Progress{State: cairn.JobCanceled}); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := s.Jobs(ctx); err != nil || len(all) != 101 {
		t.Errorf("%d jobs are remembered, %v", len(all), err)
	}
}
