package durability

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"cairn"
)

// watched is a store of drives that are looked at every minute.
type watched struct {
	now    time.Time
	drives []cairn.Drive
	h      History
	waits  map[cairn.DriveID]bool
}

func watch(n int, bytes int64) *watched {
	w := &watched{now: time.Unix(1e9, 0), waits: map[cairn.DriveID]bool{}}
	for range n {
		w.drives = append(w.drives, cairn.Drive{ID: cairn.NewID(), TotalBytes: bytes, StateSince: w.now})
	}
	return w
}

// run looks for a while. The history goes through its text form every time, as between two processes.
func (w *watched) run(t *testing.T, d time.Duration) {
	t.Helper()
	for end := w.now.Add(d); w.now.Before(end); w.now = w.now.Add(time.Minute) {
		next := w.h.Observe(w.now, w.drives, func(id cairn.DriveID) bool { return w.waits[id] })
		b, err := json.Marshal(next)
		w.h = History{}
		if err != nil || json.Unmarshal(b, &w.h) != nil {
			t.Fatalf("%s: %v", b, err)
		}
	}
}

func (w *watched) set(i int, s cairn.DriveState, retired bool) {
	w.drives[i].State, w.drives[i].StateSince, w.drives[i].Retired = s, w.now, retired
}

func TestHistoryMeasuresLossesAndRepairs(t *testing.T) {
	w := watch(10, 4000<<30)
	w.drives[9].Retired = true // before anybody watched
	w.run(t, 100*time.Hour)
	all, classes := w.h.Measured()
	if len(classes) != 1 || classes[0].Class != "4 TiB" || all.Failures != 0 || all.Lambda != 0 || all.MTTR != 0 {
		t.Fatalf("without losses: %+v %+v", all, classes)
	}
	if hours := all.DriveYears * yearSeconds / 3600; math.Abs(hours-900) > 1 {
		t.Errorf("%.1f drive-hours, want 900: 9 drives for 100 hours", hours)
	}

	// One is replaced at once and rebuilt within two hours; one is unplugged for 30 minutes; one for 5, which is nothing;
	// one is drained and removed.
	w.waits[w.drives[0].ID] = true
	w.set(0, cairn.DriveMissing, true)
	w.set(1, cairn.DriveMissing, false)
	w.set(2, cairn.DriveMissing, false)
	w.drives[3].Draining = true
	w.set(3, cairn.DriveOK, true)
	w.waits[w.drives[1].ID] = true
	w.run(t, 5*time.Minute)
	w.set(2, cairn.DriveOK, false)
	w.run(t, 25*time.Minute)
	w.set(1, cairn.DriveOK, false)
	w.run(t, 90*time.Minute)
	w.waits[w.drives[0].ID] = false
	w.run(t, 10*time.Hour)
	all, _ = w.h.Measured()
	if all.Failures != 2 {
		t.Errorf("%d failures, want 2", all.Failures)
	}
	if want := (2*time.Hour + 30*time.Minute) / 2; (all.MTTR - want).Abs() > 3*time.Minute {
		t.Errorf("repair time %v, want %v", all.MTTR, want)
	}
	if want := 2 / all.DriveYears; all.Lambda != want {
		t.Errorf("λ = %v, want %v", all.Lambda, want)
	}
	if all.UsedLambda <= FailureRate(AssumedAFR) || all.UsedLambda > all.Lambda/10 {
		t.Errorf("two failures of nine drives in five days: λ = %v is used, measured %v", all.UsedLambda, all.Lambda)
	}

	// A process that was away for a week has seen nothing of it.
	before := all.DriveYears
	w.now = w.now.Add(7 * 24 * time.Hour)
	w.run(t, time.Minute)
	if all, _ = w.h.Measured(); all.DriveYears != before {
		t.Error("a week that nobody saw was counted")
	}
}

func TestMeasurementOutweighsTheAssumption(t *testing.T) {
	m := ClassHistory{DriveSeconds: 5000 * yearSeconds, Failures: 250, Repairs: 250, RepairSeconds: 250 * 3600}.measured("x")
	if math.Abs(m.UsedLambda-0.05) > 0.001 || (m.UsedMTTR-time.Hour).Abs() > 10*time.Minute {
		t.Errorf("after 5,000 drive-years: %+v", m)
	}
}

func TestClass(t *testing.T) {
	for bytes, want := range map[int64]string{0: "1 GiB", 1 << 30: "1 GiB", 20e9: "32 GiB", 4e12: "4 TiB", 16e12: "16 TiB", 1 << 40: "1 TiB"} {
		if got := Class(cairn.Drive{TotalBytes: bytes}); got != want {
			t.Errorf("%d bytes: %s, want %s", bytes, got, want)
		}
	}
}

func TestOutlook(t *testing.T) {
	m := Measured{UsedLambda: FailureRate(AssumedAFR), UsedMTTR: AssumedMTTR}
	for text, want := range map[string]float64{"4+2": 7.9e8, "8+4": 8.1e15, "12+2+2": 1.2e12} {
		p, err := cairn.ParseProfile(text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := Look(p, m)
		if err != nil || math.Abs(o.MTTDLYears/want-1) > 0.05 || o.Correlated >= o.MTTDLYears || o.Write > o.Read || o.Read >= 1+1e-15 {
			t.Errorf("%s: %+v, %v, want %v years", text, o, err, want)
		}
	}
	// Of a plain code any k shards decode; of a local one not.
	plain, _ := ParseCode("12+4")
	local, _ := ParseCode("12+2+2")
	if got, want := plain.Readable(0.9), KOfN(12, 16, 0.9); math.Abs(got-want) > 1e-12 {
		t.Errorf("12+4 is readable %v of the time, want %v", got, want)
	}
	want := KOfN(13, 16, 0.9) + 1568.0/1820*(KOfN(12, 16, 0.9)-KOfN(13, 16, 0.9))
	if got := local.Readable(0.9); math.Abs(got-want) > 1e-12 {
		t.Errorf("12+2+2 is readable %v of the time, want %v", got, want)
	}
}
