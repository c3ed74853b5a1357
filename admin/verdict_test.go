package admin

import (
	"errors"
	"testing"

	"cairn"
)

func TestJudge(t *testing.T) {
	healthy := Evidence{
		Profile: cairn.Profile{K: 4, M: 2}, BlobsBySpare: map[int]int64{2: 100},
		DrivesTotal: 6, DrivesOK: 6, VotersWanted: 5, VotersOK: 5,
	}
	tests := []struct {
		name   string
		change func(*Evidence)
		want   Health
		needs  string
	}{
		{"all well", func(*Evidence) {}, HealthOK, ""},
		{"nothing stored", func(e *Evidence) { e.BlobsBySpare = nil }, HealthOK, ""},
		{"one spare gone", func(e *Evidence) { e.BlobsBySpare[1], e.Degraded = 3, 3 }, HealthHealing, ""},
		{"both spares gone", func(e *Evidence) { e.BlobsBySpare[0], e.Degraded = 3, 3 }, HealthAtRisk, ""},
		{"no parity wanted", func(e *Evidence) {
			e.Profile = cairn.Profile{K: 1}
			e.BlobsBySpare = map[int]int64{0: 7}
			e.DrivesOK, e.DrivesTotal = 1, 1
		}, HealthOK, ""},
		{"a blob beyond repair", func(e *Evidence) { e.BlobsBySpare[-1], e.Degraded = 1, 1 }, HealthLost, ""},
		{"findings only", func(e *Evidence) { e.Queued = 2 }, HealthHealing, ""},
		{"two of six drives gone", func(e *Evidence) { e.DrivesOK, e.DrivesBad = 4, []string{"/a", "/b"} }, HealthAtRisk, "2 more drives"},
		{"a bad drive beside enough good ones", func(e *Evidence) { e.DrivesTotal, e.DrivesBad = 7, []string{"/g"} }, HealthHealing, ""},
		{"a full drive", func(e *Evidence) { e.DrivesOK, e.DrivesFull = 5, 1 }, HealthAtRisk, "more space"},
		{"a voter down", func(e *Evidence) { e.VotersOK = 4 }, HealthHealing, ""},
		{"repair of nodes frozen", func(e *Evidence) { e.Frozen = "automatic repair is frozen: 2 of 7 data nodes are away at once" }, HealthAtRisk, ""},
		{"no quorum", func(e *Evidence) { e.BlobsUnknown = errors.New("no quorum") }, HealthAtRisk, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := healthy
			e.BlobsBySpare = map[int]int64{2: 100}
			tt.change(&e)
			got, reasons, needs := Judge(e)
			if got != tt.want || needs != tt.needs {
				t.Errorf("got %s, needs %q, want %s, needs %q (%q)", got, needs, tt.want, tt.needs, reasons)
			}
			if (len(reasons) == 0) != (got == HealthOK) {
				t.Errorf("health %s with reasons %q", got, reasons)
			}
		})
	}
}
