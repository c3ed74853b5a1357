package cairn

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// JobID numbers jobs in the order in which they were made.
type JobID uint64

func (id JobID) String() string { return strconv.FormatUint(uint64(id), 10) }

// ParseJobID reads what String printed.
func ParseJobID(s string) (JobID, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "j"), 10, 64)
	if err != nil || n == 0 {
		return 0, &Error{Op: "parse job", Subject: s, Err: fmt.Errorf("want a number as `cairn job ls` prints it: %w", ErrInvalid)}
	}
	return JobID(n), nil
}

// JobKind tells what a job does.
type JobKind string

// The kinds of jobs.
const (
	JobRepair JobKind = "repair" // always there: works on the queue of damage
	JobDrain  JobKind = "drain"  // empties the drive that is its subject
	JobRewrap JobKind = "rewrap" // wraps data keys anew under the newest version of the master key that is its subject
	JobScrub  JobKind = "scrub"  // checks what its subject names: "everything", "drive ID", "bucket NAME", "object BUCKET/KEY"

	JobNodeDrain JobKind = "node-drain" // empties the node that is its subject: its voters move away, then its slots
	JobRebalance JobKind = "rebalance"  // makes the drives equally full
)

// Standing tells that a job of this kind is always there: it never ends, and can only be paused.
func (k JobKind) Standing() bool { return k == JobRepair }

// JobWish is what an operator wants of a job.
type JobWish uint8

// The wishes.
const (
	WishRun JobWish = iota
	WishPause
	WishCancel
)

var jobWishNames = [...]string{"run", "pause", "cancel"}

// String prints the wish's name.
func (w JobWish) String() string {
	if int(w) < len(jobWishNames) {
		return jobWishNames[w]
	}
	return "unknown"
}

// MarshalText prints the wish's name for JSON.
func (w JobWish) MarshalText() ([]byte, error) { return []byte(w.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (w *JobWish) UnmarshalText(b []byte) error {
	for i, n := range jobWishNames {
		if n == string(b) {
			*w = JobWish(i)
			return nil
		}
	}
	return &Error{Op: "parse wish", Subject: string(b), Err: ErrInvalid}
}

// The states of a job, in Progress.State. A standing one is also "idle".
const (
	JobQueued   = "queued"
	JobRunning  = "running"
	JobWaiting  = "waiting" // it failed in a way that may pass, and is tried again
	JobPaused   = "paused"
	JobDone     = "done"
	JobFailed   = "failed"
	JobCanceled = "canceled"
)

// Job is the record of long work. It is committed, so that any process can show it and whoever does the work next goes on
// with it; command line, admin interface and metrics show this record and nothing else.
type Job struct {
	ID      JobID     `json:"id"`
	Kind    JobKind   `json:"kind"`
	Subject string    `json:"subject,omitempty"` // what it is done to, e.g. a drive
	Created time.Time `json:"created"`
	Wish    JobWish   `json:"wish"`
	Progress
}

// Ended tells that nothing will change any more.
func (j Job) Ended() bool {
	return j.State == JobDone || j.State == JobFailed || j.State == JobCanceled
}
