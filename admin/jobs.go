package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"cairn"
)

// Jobs shows long work and takes wishes for it. Safe for concurrent use.
type Jobs interface {
	// Jobs returns all jobs that are remembered, oldest first.
	Jobs(ctx context.Context) ([]cairn.Job, error)
	// WishJob says what a job should do from now on. Errors: ErrNotFound, ErrPrecondition.
	WishJob(ctx context.Context, id cairn.JobID, wish cairn.JobWish) (cairn.Job, error)
	// DrainDrive begins to empty the drive of that ID, beginning of an ID, or path; with dry set it only says what that
	// would take. Errors: ErrNotFound, ErrExists, ErrPrecondition if a slot has no other place.
	DrainDrive(ctx context.Context, drive string, dry bool) (Drain, error)
	// UndrainDrive ends that, and lets the drive take new slots again.
	UndrainDrive(ctx context.Context, drive string) (cairn.Drive, error)
	// Throttle bounds the bytes per second that repair writes, from now on and after a restart. Errors: ErrInvalid.
	Throttle(ctx context.Context, bytesPerSec int64) error
}

// Throttle is the bound of what repair writes.
type Throttle struct {
	BytesPerSecond int64 `json:"bytes_per_second"`
}

// Drain is what emptying a drive takes, and the job that does it.
type Drain struct {
	Drive cairn.DriveID `json:"drive"`
	Path  string        `json:"path"`
	Slots int           `json:"slots"`
	Blobs int64         `json:"blobs"`
	Bytes int64         `json:"bytes"`
	Job   *cairn.Job    `json:"job,omitempty"` // none of a dry run
}

func (s *Server) jobRoutes(api func(string, func(http.ResponseWriter, *http.Request) (any, error))) {
	j := s.cfg.Jobs
	api("GET /api/v1/jobs", func(_ http.ResponseWriter, r *http.Request) (any, error) { return j.Jobs(r.Context()) })
	api("GET /api/v1/jobs/{id}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		id, err := cairn.ParseJobID(r.PathValue("id"))
		if err != nil {
			return nil, err
		}
		all, err := j.Jobs(r.Context())
		if err != nil {
			return nil, err
		}
		for _, job := range all {
			if job.ID == id {
				return job, nil
			}
		}
		return nil, &cairn.Error{Op: "admin.job", Subject: id.String(), Err: fmt.Errorf("no such job: %w", cairn.ErrNotFound)}
	})
	for action, wish := range map[string]cairn.JobWish{"pause": cairn.WishPause, "resume": cairn.WishRun, "cancel": cairn.WishCancel} {
		api("POST /api/v1/jobs/{id}/"+action, func(_ http.ResponseWriter, r *http.Request) (any, error) {
			id, err := cairn.ParseJobID(r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			return j.WishJob(r.Context(), id, wish)
		})
	}
	api("POST /api/v1/repair/throttle", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		n, err := strconv.ParseInt(r.URL.Query().Get("bytes-per-second"), 10, 64)
		if err != nil {
			return nil, &cairn.Error{Op: "admin.throttle", Err: fmt.Errorf("want a number of bytes per second: %w", cairn.ErrInvalid)}
		}
		return Throttle{BytesPerSecond: n}, j.Throttle(r.Context(), n)
	})
	// The drive is a parameter, since it may be named by its path.
	api("POST /api/v1/drains", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		q := r.URL.Query()
		return j.DrainDrive(r.Context(), q.Get("drive"), q.Get("dry-run") != "")
	})
	api("DELETE /api/v1/drains", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return j.UndrainDrive(r.Context(), r.URL.Query().Get("drive"))
	})
}
