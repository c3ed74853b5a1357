package admin

import (
	"context"
	"fmt"
	"net/http"

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

// jobRoutes adds what is asked of Jobs.
func (s *Server) jobRoutes(api register) {
	j := s.cfg.Jobs
	api(Route{Pattern: "GET /api/v1/jobs", Action: "cairn:ListJobs", CLI: "job ls", What: "List all jobs that are remembered, oldest first.", Gives: []cairn.Job{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return j.Jobs(r.Context()) })
	api(Route{Pattern: "GET /api/v1/jobs/{id}", Action: "cairn:ListJobs", CLI: "job show 1", What: "Show one job.", Gives: cairn.Job{}}, s.job)
	for _, w := range []struct {
		name string
		wish cairn.JobWish
		what string
	}{{"pause", cairn.WishPause, "Stop a job for now."}, {"resume", cairn.WishRun, "Let a paused job go on."}, {"cancel", cairn.WishCancel, "End a job before it is done."}} {
		api(Route{Pattern: "POST /api/v1/jobs/{id}/" + w.name, Action: "cairn:ChangeJob", CLI: "job " + w.name + " 1", What: w.what, Gives: cairn.Job{}},
			func(_ http.ResponseWriter, r *http.Request) (any, error) {
				id, err := cairn.ParseJobID(r.PathValue("id"))
				if err != nil {
					return nil, err
				}
				return j.WishJob(r.Context(), id, w.wish)
			})
	}
	// The drive is a parameter, since it may be named by its path.
	drive := Parameter{"drive", "ID of a drive, the beginning of one, or its path"}
	api(Route{Pattern: "POST /api/v1/drains", Action: "cairn:DrainDrive", CLI: "drive drain /d1", What: "Begin to empty a drive, or say what that would take.",
		Gives: Drain{}, Query: []Parameter{drive, {"dry-run", "1: only say what it would take"}}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			q := r.URL.Query()
			return j.DrainDrive(r.Context(), q.Get("drive"), q.Get("dry-run") != "")
		})
	api(Route{Pattern: "DELETE /api/v1/drains", Action: "cairn:DrainDrive", CLI: "drive undrain /d1", What: "Call a drain off, and use the drive again.",
		Gives: cairn.Drive{}, Query: []Parameter{drive}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return j.UndrainDrive(r.Context(), r.URL.Query().Get("drive"))
		})
}

func (s *Server) job(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := cairn.ParseJobID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	all, err := s.cfg.Jobs.Jobs(r.Context())
	if err != nil {
		return nil, err
	}
	for _, job := range all {
		if job.ID == id {
			return job, nil
		}
	}
	return nil, &cairn.Error{Op: "admin.job", Subject: id.String(), Err: fmt.Errorf("no such job: %w", cairn.ErrNotFound)}
}
