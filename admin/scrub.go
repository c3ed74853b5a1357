package admin

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"cairn"
)

// Scrub tells what the scrubber does and has found. Its Progress is that of the check that was asked for last.
type Scrub struct {
	cairn.Progress
	Passes   int64 `json:"passes"`   // checks of everything since the start of the process
	Findings int64 `json:"findings"` // damage reported since the start of the process
	Orphans  int64 `json:"orphans"`  // orphan shards found since the start of the process
	// DeepCycles counts how often the slow scrub has come around on a drive since the start of the process; LastDeep is
	// when it read last, Compared when all slots were compared last with what they should hold.
	DeepCycles  int64     `json:"deep_cycles"`
	LastDeep    time.Time `json:"last_deep,omitzero"`
	Compared    time.Time `json:"last_comparison,omitzero"`
	LastTrouble string    `json:"last_trouble,omitempty"` // of the scrubs that go on by themselves
}

// ScrubScope says what to check: one object, one bucket, one drive, or with all empty everything.
type ScrubScope struct {
	Bucket string
	Key    string // of an object in Bucket
	Drive  string // ID, beginning of an ID, or path
}

// Scrubbing is the answer to POST /api/v1/scrub.
type Scrubbing struct {
	Scrub
	Job cairn.Job `json:"job"`
}

// Scrubs checks shards on demand, and knows what was found. Safe for concurrent use.
type Scrubs interface {
	// StartScrub begins a check, or joins the one of the same scope that has not ended. Errors: ErrNotFound, ErrInvalid,
	// ErrPrecondition if the drive cannot be read.
	StartScrub(ctx context.Context, scope ScrubScope) (cairn.Job, error)
	// Findings returns up to max findings, the open ones first, then the resolved ones, the latest first.
	Findings(ctx context.Context, max int) ([]cairn.Finding, error)
}

// scrubRoutes adds what is asked of Scrubs.
func (s *Server) scrubRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/scrub", Action: "cairn:GetStatus", CLI: "scrub status", What: "Show what the scrubber does and has found.",
		Gives: Scrub{}}, s.scrub)
	api(Route{Pattern: "POST /api/v1/scrub", Action: "cairn:StartScrub", CLI: "scrub start", Gives: Scrubbing{},
		What:  "Begin to check everything, a bucket, an object or a drive, or join the check of the same that is under way.",
		Query: []Parameter{{"bucket", "only this bucket"}, {"key", "only this object of the bucket"}, {"drive", "only this drive: ID, beginning of one, or path"}}}, s.startScrub)
	api(Route{Pattern: "GET /api/v1/findings", Action: "cairn:GetStatus", CLI: "scrub findings", Gives: []cairn.Finding{},
		What:  "List what was found wrong, and what became of it: what is open, then what is resolved, the latest first.",
		Query: []Parameter{{"max", "how many at most"}}}, s.findings)
}

func (s *Server) scrub(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.cfg.Cluster.Status(r.Context())
	return st.Scrub, err
}

func (s *Server) startScrub(w http.ResponseWriter, r *http.Request) (any, error) {
	q := r.URL.Query()
	scope := ScrubScope{Bucket: q.Get("bucket"), Key: q.Get("key"), Drive: q.Get("drive")}
	if scope.Key != "" && scope.Bucket == "" || scope.Drive != "" && scope.Bucket != "" {
		return nil, &cairn.Error{Op: "admin.scrub", Err: fmt.Errorf("want a bucket, a bucket and a key, or a drive: %w", cairn.ErrInvalid)}
	}
	job, err := s.cfg.Cluster.StartScrub(r.Context(), scope)
	if err != nil {
		return nil, err
	}
	st, err := s.cfg.Cluster.Status(r.Context())
	if err != nil {
		return nil, err
	}
	w.WriteHeader(http.StatusAccepted)
	return Scrubbing{Scrub: st.Scrub, Job: job}, nil
}

func (s *Server) findings(_ http.ResponseWriter, r *http.Request) (any, error) {
	most := cairn.MaxFindings
	if text := r.URL.Query().Get("max"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > cairn.MaxFindings {
			return nil, &cairn.Error{Op: "admin.findings", Err: &FieldError{"max", fmt.Sprintf("want 1 to %d", cairn.MaxFindings)}}
		}
		most = n
	}
	list, err := s.cfg.Cluster.Findings(r.Context(), most)
	if list == nil {
		list = []cairn.Finding{}
	}
	return list, err
}
