package lifecycle

import (
	"reflect"
	"testing"
	"time"

	"cairn"
)

const day = 24 * time.Hour

var (
	noon = time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	// mid is the midnight after noon.
	mid = time.Date(2026, 3, 11, 0, 0, 0, 0, time.UTC)
)

func one(r Rule) *Config { return &Config{Rules: []Rule{r}} }

func size(n int64) *int64 { return &n }

func TestExpiry(t *testing.T) {
	v := Version{Size: 100, Tags: map[string]string{"a": "1", "b": "2"}, Modified: noon}
	for _, tt := range []struct {
		name string
		c    *Config
		want time.Time
		rule string
	}{
		{"no rules", nil, time.Time{}, ""},
		{"days", one(Rule{ID: "r", Days: 3}), mid.Add(3 * day), "r"},
		{"date", one(Rule{ID: "r", Date: mid}), mid, "r"},
		{"disabled", one(Rule{ID: "r", Days: 3, Disabled: true}), time.Time{}, ""},
		{"prefix", one(Rule{ID: "r", Days: 3, Filter: Filter{Prefix: "k"}}), mid.Add(3 * day), "r"},
		{"other prefix", one(Rule{ID: "r", Days: 3, Filter: Filter{Prefix: "x"}}), time.Time{}, ""},
		{"tags", one(Rule{ID: "r", Days: 1, Filter: Filter{Tags: map[string]string{"a": "1", "b": "2"}}}), mid.Add(day), "r"},
		{"tag's other value", one(Rule{ID: "r", Days: 1, Filter: Filter{Tags: map[string]string{"a": "2"}}}), time.Time{}, ""},
		{"a tag it has not", one(Rule{ID: "r", Days: 1, Filter: Filter{Tags: map[string]string{"a": "1", "c": ""}}}), time.Time{}, ""},
		{"greater", one(Rule{ID: "r", Days: 1, Filter: Filter{GreaterThan: size(99)}}), mid.Add(day), "r"},
		{"not greater", one(Rule{ID: "r", Days: 1, Filter: Filter{GreaterThan: size(100)}}), time.Time{}, ""},
		{"less", one(Rule{ID: "r", Days: 1, Filter: Filter{LessThan: size(101)}}), mid.Add(day), "r"},
		{"not less", one(Rule{ID: "r", Days: 1, Filter: Filter{LessThan: size(100)}}), time.Time{}, ""},
		{"the earliest of two", &Config{Rules: []Rule{{ID: "late", Days: 9}, {ID: "soon", Days: 2}, {ID: "off", Days: 1, Disabled: true}}}, mid.Add(2 * day), "soon"},
	} {
		due, rule := tt.c.Expiry("key", &v)
		if !due.Equal(tt.want) || rule != tt.rule {
			t.Errorf("%s: got %v by %q, want %v by %q", tt.name, due, rule, tt.want, tt.rule)
		}
	}
	exact := Version{Modified: mid}
	if due, _ := one(Rule{Days: 1}).Expiry("key", &exact); !due.Equal(mid.Add(day)) {
		t.Errorf("midnight is not rounded up: %v", due)
	}
	if due, _ := one(Rule{Days: 1}).Expiry("key", &Version{Marker: true, Modified: noon}); !due.IsZero() {
		t.Errorf("a marker expired: %v", due)
	}
}

func TestPlan(t *testing.T) {
	at := func(days int) Version { return Version{Modified: noon.Add(time.Duration(-days) * day), Size: 1} }
	marker := func(days int) Version { return Version{Modified: noon.Add(time.Duration(-days) * day), Marker: true} }
	held := at(9)
	held.Lock.Hold = cairn.HoldOn
	retained := at(9)
	retained.Lock = cairn.Lock{Mode: cairn.LockCompliance, Until: mid.Add(day)}
	for _, tt := range []struct {
		name      string
		c         *Config
		versions  []Version
		versioned bool
		want      Plan
	}{
		{"nothing due", one(Rule{Days: 3}), []Version{at(1)}, true, Plan{Current: mid.Add(2 * day)}},
		{"expired, unversioned", one(Rule{Days: 3}), []Version{at(5)}, false, Plan{Remove: []int{0}}},
		{"expired, versioned", one(Rule{Days: 3}), []Version{at(5), at(9)}, true, Plan{Hide: true}},
		{"noncurrent since its successor came", one(Rule{NoncurrentDays: 3}), []Version{at(5), at(50), at(60)}, true, Plan{Remove: []int{1, 2}}},
		{"noncurrent, not yet", one(Rule{NoncurrentDays: 3}), []Version{at(1), at(50)}, true, Plan{Other: mid.Add(2 * day)}},
		{"noncurrent, some", one(Rule{NoncurrentDays: 3}), []Version{at(1), at(7), at(8)}, true, Plan{Remove: []int{2}, Other: mid.Add(2 * day)}},
		{"newer ones are kept", one(Rule{NoncurrentDays: 3, NewerNoncurrent: 2}), []Version{at(5), at(6), at(7), at(8), at(9)}, true, Plan{Remove: []int{3, 4}}},
		{"too few to remove any", one(Rule{NoncurrentDays: 3, NewerNoncurrent: 2}), []Version{at(5), at(6), at(7)}, true, Plan{}},
		{"a marker alone", one(Rule{ExpireMarkers: true}), []Version{marker(1)}, true, Plan{Remove: []int{0}}},
		{"a marker that hides", one(Rule{ExpireMarkers: true}), []Version{marker(1), at(2)}, true, Plan{}},
		{"a marker and all that it hid", &Config{Rules: []Rule{{ExpireMarkers: true}, {NoncurrentDays: 3}}}, []Version{marker(5), at(9)}, true, Plan{Remove: []int{1, 0}}},
		{"a marker by age", one(Rule{Days: 3}), []Version{marker(5)}, true, Plan{Remove: []int{0}}},
		{"a marker by age, not yet", one(Rule{Days: 3}), []Version{marker(1)}, true, Plan{Other: mid.Add(2 * day)}},
		{"a marker and a filter on size", one(Rule{Days: 3, Filter: Filter{LessThan: size(9)}}), []Version{marker(5)}, true, Plan{}},
		{"an older marker", one(Rule{NoncurrentDays: 3}), []Version{at(5), marker(6)}, true, Plan{Remove: []int{1}}},
		{"legal hold", one(Rule{NoncurrentDays: 3}), []Version{at(5), held}, true, Plan{}},
		{"retained", one(Rule{NoncurrentDays: 3}), []Version{at(5), retained}, true, Plan{Other: mid.Add(day)}},
		{"rules are gone", nil, []Version{at(50), at(60)}, true, Plan{}},
	} {
		if got := tt.c.Plan("key", tt.versions, tt.versioned, noon); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func TestAbortDue(t *testing.T) {
	if due, rule := one(Rule{ID: "r", AbortDays: 2}).AbortDue("key", noon); !due.Equal(mid.Add(2*day)) || rule != "r" {
		t.Errorf("got %v by %q", due, rule)
	}
	for name, r := range map[string]Rule{"other prefix": {AbortDays: 1, Filter: Filter{Prefix: "x"}}, "disabled": {AbortDays: 1, Disabled: true}, "no abort": {Days: 1}} {
		if due, _ := one(r).AbortDue("key", noon); !due.IsZero() {
			t.Errorf("%s: %v", name, due)
		}
	}
}
