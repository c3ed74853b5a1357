package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cairn"
	"cairn/admin"
	"cairn/health"
)

// What is done about a drive that wears out, by itself.
const (
	WearingTell  = "tell"  // it is said, once a day, and nothing is done
	WearingDrain = "drain" // it is emptied, one drive a day at most
)

const (
	wearEvery   = time.Minute
	wearTimeout = 10 * time.Second
	wearRow     = "health.last" // wearNote
)

// wearNote is what was done last about a drive that wears out.
type wearNote struct {
	At    time.Time     `json:"at"`
	Drive cairn.DriveID `json:"drive"`
}

// drainer begins to empty a drive. *facts is one.
type drainer interface {
	DrainDrive(ctx context.Context, name string, dry bool) (admin.Drain, error)
}

// wearing watches the health of all drives, beside the metadata's leader.
type wearing struct {
	parts    *parts
	mode     string
	measured func(context.Context) []measured
	drain    drainer

	mu       sync.Mutex
	window   health.Window
	verdicts []health.Verdict
}

// Run samples and decides until ctx ends.
func (w *wearing) Run(ctx context.Context) error {
	t := time.NewTicker(wearEvery)
	defer t.Stop()
	for {
		w.sample(time.Now(), w.measured(ctx))
		try, cancel := context.WithTimeout(ctx, wearTimeout)
		if err := w.decide(try, time.Now()); err != nil && ctx.Err() == nil {
			w.parts.logger.Warn("a drive that wears out could not be seen to", "err", err)
		}
		cancel()
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

func (w *wearing) sample(now time.Time, all []measured) {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[cairn.DriveID]bool{}
	for _, d := range all {
		if !d.ID.IsZero() {
			there[d.ID] = true
			w.window.Add(d.ID, health.SampleOf(now, d.DriveStatus))
		}
	}
	w.window.Forget(func(id cairn.DriveID) bool { return there[id] })
	w.verdicts = w.window.Judge(now)
}

// Verdicts are those of the last sample.
func (w *wearing) Verdicts() []health.Verdict {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.verdicts)
}

// decide tells of the worst drive, or empties it, if one is to be seen to now. What was done is committed first: rather a day
// late than two drives a day.
func (w *wearing) decide(ctx context.Context, now time.Time) error {
	verdicts := w.Verdicts()
	if !slices.ContainsFunc(verdicts, func(v health.Verdict) bool { return v.Wearing }) {
		return nil
	}
	var last wearNote
	b, err := w.parts.meta.Config(ctx, wearRow)
	if err == nil {
		err = json.Unmarshal(b, &last)
	}
	if err != nil && !errors.Is(err, cairn.ErrNotFound) {
		return err
	}
	v, why := health.Choose(now, last.At, verdicts, w.parts.view.Drives())
	if why != "" {
		return nil
	}
	if b, err = json.Marshal(wearNote{now, v.Drive}); err != nil {
		return err
	}
	if err := w.parts.meta.PutConfig(ctx, wearRow, b); err != nil {
		return err
	}
	return w.act(ctx, now, v)
}

func (w *wearing) act(ctx context.Context, now time.Time, v health.Verdict) error {
	note := "it wears out (" + explain(v) + "): "
	var err error
	if w.mode == WearingDrain {
		var d admin.Drain
		if d, err = w.drain.DrainDrive(ctx, v.Drive.String(), false); err == nil {
			note += fmt.Sprintf("job %s empties it", d.Job.ID)
		} else {
			note += "it could not be emptied: " + err.Error()
		}
	} else {
		note += "empty it with `cairn drive drain`, or start the server with --failing-drives drain"
	}
	w.parts.logger.Warn("a drive wears out", "drive", v.Drive, "score", v.Score, "note", note)
	return errors.Join(err, w.parts.meta.AddFindings(ctx, []cairn.Finding{{Found: now, Resolved: now, Kind: cairn.FindingDrive, Drive: v.Drive,
		By: "health", Note: note, Outcome: cairn.OutcomeNoted}}))
}

func explain(v health.Verdict) string {
	texts := make([]string, len(v.Signals))
	for i, s := range v.Signals {
		texts[i] = s.Text
	}
	return fmt.Sprintf("score %d: %s", v.Score, strings.Join(texts, "; "))
}

// healthOf is a drive's verdict among many; nil if there is none.
func healthOf(all []health.Verdict, id cairn.DriveID) *health.Verdict {
	for _, v := range all {
		if v.Drive == id {
			return &v
		}
	}
	return nil
}
