package server

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	pebblevfs "github.com/cockroachdb/pebble/v2/vfs"

	"cairn"
	"cairn/admin"
	"cairn/membership"
	"cairn/meta"
)

// drains remembers what was to be emptied.
type drains []string

func (d *drains) DrainDrive(_ context.Context, name string, dry bool) (admin.Drain, error) {
	*d = append(*d, name)
	return admin.Drain{Job: &cairn.Job{ID: 5}}, nil
}

// A drive that wears out is told of, or emptied, once a day, and each time it is said why.
func TestWearingDrive(t *testing.T) {
	for _, mode := range []string{WearingTell, WearingDrain} {
		t.Run(mode, func(t *testing.T) {
			m, err := meta.Open(meta.Config{Cluster: cairn.NewID(), FS: pebblevfs.NewMem(), Homes: []meta.Home{{Drive: cairn.NewID(), Dir: "/meta", Usable: true}}})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			if err := m.Ready(ctx); err != nil {
				t.Fatal(err)
			}
			var rows []cairn.Drive
			var all []measured
			for range 6 {
				id := cairn.DriveID(cairn.NewID())
				rows = append(rows, cairn.Drive{ID: id, Node: cairn.NewID(), Path: "/" + id.String()})
				all = append(all, measured{DriveStatus: cairn.DriveStatus{ID: id, ReadLatency: 5 * time.Millisecond}})
			}
			if err := m.PutDrives(ctx, rows); err != nil {
				t.Fatal(err)
			}
			view, err := membership.New(membership.Config{Meta: m})
			if err != nil {
				t.Fatal(err)
			}
			if err := view.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
			var drained drains
			w := &wearing{parts: &parts{meta: m, view: view, logger: slog.New(slog.DiscardHandler)}, mode: mode, drain: &drained}
			now := time.Now()
			step := func(d time.Duration) {
				t.Helper()
				now = now.Add(d)
				w.sample(now, all)
				if err := w.decide(ctx, now); err != nil {
					t.Fatal(err)
				}
			}
			told := func() (n int) {
				list, err := m.Findings(ctx, 100)
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range list {
					if f.By == "health" && f.Drive == rows[2].ID && strings.Contains(f.Note, "reads take") && strings.Contains(f.Note, "failed within") {
						n++
					}
				}
				return n
			}
			step(0)
			all[2].ReadLatency = 200 * time.Millisecond
			step(time.Minute)
			if told() != 0 {
				t.Error("one signal was enough")
			}
			all[2].ReadErrors = 30
			for range 5 {
				step(time.Minute)
			}
			if told() != 1 {
				t.Errorf("told %d times, want once", told())
			}
			if v := healthOf(w.Verdicts(), rows[2].ID); v == nil || !v.Wearing || v.Score >= 50 {
				t.Errorf("verdict %+v", v)
			}
			all[2].ReadErrors = 90
			step(24 * time.Hour)
			if told() != 2 {
				t.Errorf("told %d times after a day, want twice", told())
			}
			if want := map[string]int{WearingTell: 0, WearingDrain: 2}[mode]; len(drained) != want {
				t.Errorf("%d drives were to be emptied, want %d", len(drained), want)
			}
		})
	}
}
