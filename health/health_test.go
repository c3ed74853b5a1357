package health

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cairn"
)

var begun = time.Unix(1_000_000, 0)

func id(n byte) (d cairn.DriveID) { d[0] = n; return d }

// feed gives a window a day of samples of six drives; change alters those of drive 3, hour by hour.
func feed(change func(hour int, s *Sample)) *Window {
	w := &Window{}
	for minute := range 24 * 60 {
		for n := range byte(6) {
			s := Sample{At: begun.Add(time.Duration(minute) * time.Minute), Read: 5 * time.Millisecond, Sync: 2 * time.Millisecond, Errors: 7, Corrupt: 1}
			if n == 3 && change != nil {
				change(minute/60, &s)
			}
			w.Add(id(n), s)
		}
	}
	return w
}

func TestJudge(t *testing.T) {
	end := begun.Add(24*time.Hour - time.Minute)
	slow := func(_ int, s *Sample) { s.Read = 60 * time.Millisecond }
	for _, tt := range []struct {
		name    string
		change  func(int, *Sample)
		kinds   []Kind
		wearing bool
	}{
		{"all alike", nil, nil, false},
		{"counters that do not grow are nothing new", func(_ int, s *Sample) { s.Errors, s.Corrupt = 5000, 400 }, nil, false},
		{"slow alone", slow, []Kind{Slow}, false},
		{"slower, but fast", func(_ int, s *Sample) { s.Sync = 15 * time.Millisecond }, nil, false},
		{"errors alone, however many", func(h int, s *Sample) { s.Errors = int64(h) * 1000 }, []Kind{Errors}, false},
		{"reads and writes slow are one kind", func(h int, s *Sample) { slow(h, s); s.Sync = time.Second }, []Kind{Slow, Slow}, false},
		{"a few of two kinds", func(h int, s *Sample) { s.Errors, s.Corrupt = 7+int64(h/12), 1+int64(h/12) }, []Kind{Errors, Corrupt}, false},
		{"slow, and errors", func(h int, s *Sample) { slow(h, s); s.Errors = int64(h) }, []Kind{Slow, Errors}, true},
		{"a node that restarts hides nothing", func(h int, s *Sample) { slow(h, s); s.Errors = int64(h % 6 * 3) }, []Kind{Slow, Errors}, true},
		{"away now and then", func(h int, s *Sample) { s.Away = h == 3 || h == 9 }, nil, false},
		{"away again and again, and errors", func(h int, s *Sample) { s.Away = h%3 == 1; s.Errors = int64(h) }, []Kind{Errors, Flapping}, true},
	} {
		w := feed(tt.change)
		var kinds []Kind
		for _, v := range w.Judge(end) {
			if v.Drive != id(3) {
				if v.Score != 100 {
					t.Errorf("%s: drive %x scores %d", tt.name, v.Drive[0], v.Score)
				}
				continue
			}
			for _, s := range v.Signals {
				kinds = append(kinds, s.Kind)
				if s.Text == "" || s.Cost <= 0 {
					t.Errorf("%s: %+v", tt.name, s)
				}
			}
			if v.Wearing != tt.wearing || (v.Score == 100) != (len(tt.kinds) == 0) {
				t.Errorf("%s: %+v, want wearing %v", tt.name, v, tt.wearing)
			}
		}
		if !slices.Equal(kinds, tt.kinds) {
			t.Errorf("%s: signals %v, want %v", tt.name, kinds, tt.kinds)
		}
	}
}

// Errors of more than a day ago do not count, and a drive that nobody measures is not judged.
func TestWindowForgets(t *testing.T) {
	w := feed(func(h int, s *Sample) {
		if h >= 1 {
			s.Errors = 500
		}
	})
	worst := func(at time.Time) int { return w.Judge(at)[0].Score }
	if got := worst(begun.Add(24*time.Hour - time.Minute)); got == 100 {
		t.Error("errors of this day do not count")
	}
	for minute := range 120 {
		for n := range byte(6) {
			w.Add(id(n), Sample{At: begun.Add(24*time.Hour + time.Duration(minute)*time.Minute), Errors: map[bool]int64{true: 500, false: 7}[n == 3], Corrupt: 1})
		}
	}
	if got := worst(begun.Add(26*time.Hour - time.Minute)); got != 100 {
		t.Errorf("errors of the day before make a score of %d", got)
	}
	if got := w.Judge(begun.Add(27 * time.Hour)); len(got) != 0 {
		t.Errorf("judged without being measured: %v", got)
	}
	w.Forget(func(d cairn.DriveID) bool { return d == id(1) })
	if got := w.Judge(begun.Add(26 * time.Hour)); len(got) != 1 {
		t.Errorf("%d drives are known after all but one were forgotten", len(got))
	}
}

func TestChoose(t *testing.T) {
	drives := func(change func([]cairn.Drive)) []cairn.Drive {
		var list []cairn.Drive
		for n := range byte(4) {
			list = append(list, cairn.Drive{ID: id(n)})
		}
		change(list)
		return list
	}
	none := func([]cairn.Drive) {}
	bad := []Verdict{{Drive: id(9), Score: 3, Wearing: true}, {Drive: id(2), Score: 10, Wearing: true}, {Drive: id(1), Score: 20, Wearing: true}}
	for _, tt := range []struct {
		name     string
		last     time.Time
		verdicts []Verdict
		change   func([]cairn.Drive)
		want     byte // 0: none
		why      string
	}{
		{"the worst that is there", time.Time{}, bad, none, 2, ""},
		{"nobody wears out", time.Time{}, []Verdict{{Drive: id(2), Score: 10}}, none, 0, "no drive"},
		{"one a day", begun.Add(-23 * time.Hour), bad, none, 0, "within a day"},
		{"a day later", begun.Add(-25 * time.Hour), bad, none, 2, ""},
		{"another is away", time.Time{}, bad, func(l []cairn.Drive) { l[0].State = cairn.DriveMissing }, 0, "missing"},
		{"another is being emptied", time.Time{}, bad, func(l []cairn.Drive) { l[3].Draining = true }, 0, "emptied"},
		{"a retired one does not count", time.Time{}, bad, func(l []cairn.Drive) { l[2].Retired, l[0].State, l[0].Retired = true, cairn.DriveMissing, true }, 1, ""},
	} {
		got, why := Choose(begun, tt.last, tt.verdicts, drives(tt.change))
		if got.Drive[0] != tt.want || !strings.Contains(why, tt.why) || (why == "") != (tt.want != 0) {
			t.Errorf("%s: drive %x, %q; want %x, %q", tt.name, got.Drive[0], why, tt.want, tt.why)
		}
	}
}
