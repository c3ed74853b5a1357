package meta_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"cairn"
	"cairn/lifecycle"
	"cairn/meta"
)

// A bucket's own rule decides when its uploads are aborted, be it later than the store's age for all others.
func TestStaleUploadsLeaveRuledOnes(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "plain", cairn.VersioningOff)
	mustBucket(t, s, "ruled", cairn.VersioningOff)
	rules, err := json.Marshal(lifecycle.Config{Rules: []lifecycle.Rule{{ID: "r", AbortDays: 30, Filter: lifecycle.Filter{Prefix: "in/"}},
		{ID: "off", AbortDays: 1, Disabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	config(t, s, "ruled", meta.LifecycleConfig, string(rules))
	for _, u := range [][2]string{{"plain", "in/k"}, {"ruled", "in/k"}, {"ruled", "out/k"}} {
		if _, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: u[0], Key: u[1]}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.StaleUploads(t.Context(), time.Now().Add(time.Hour), 10)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range list {
		got = append(got, u.Bucket+"/"+u.Key)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"plain/in/k", "ruled/out/k"}) {
		t.Errorf("got %q", got)
	}
}
