package meta_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/events"
	"cairn/lifecycle"
	"cairn/meta"
)

// tellAll has a bucket tell a target of everything under in/.
func tellAll(t *testing.T, s *meta.Store, bucket string) {
	t.Helper()
	if err := s.PutEventTarget(t.Context(), events.Target{Name: "hook", URL: "https://hook.invalid/"}); err != nil {
		t.Fatal(err)
	}
	rules, err := json.Marshal(events.Config{Rules: []events.Rule{{ID: "all", Target: "hook", Prefix: "in/", Events: []string{"s3:ObjectCreated:*",
		"s3:ObjectRemoved:*", "s3:ObjectTagging:*", "s3:ObjectAcl:Put", "s3:LifecycleExpiration:*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	config(t, s, bucket, meta.NotificationConfig, string(rules))
}

func config(t *testing.T, s *meta.Store, bucket, name, value string) {
	t.Helper()
	if _, err := s.UpdateBucket(t.Context(), bucket, func(b *cairn.Bucket) error {
		configs := cairn.Configs{name: value}
		for k, v := range b.Configs {
			if k != name {
				configs[k] = v
			}
		}
		b.Configs = configs
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// told takes what is queued out of the queue: kinds and keys.
func told(t *testing.T, s *meta.Store) (list []string, queued []events.Queued) {
	t.Helper()
	queued, err := s.QueuedEvents(t.Context(), "hook", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queued {
		list = append(list, strings.TrimPrefix(string(q.Event.Kind), "s3:")+" "+q.Event.Key)
	}
	if err := s.DoneEvents(t.Context(), "hook", queued); err != nil {
		t.Fatal(err)
	}
	return list, queued
}

func wantTold(t *testing.T, s *meta.Store, what string, want ...string) []events.Queued {
	t.Helper()
	got, queued := told(t, s)
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
	return queued
}

func TestEventsAreOfTheCommit(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	mustPut(t, s, "b", "in/before", "x")
	tellAll(t, s, "b")
	wantTold(t, s, "what happened before the rules")
	ctx := cairn.WithCaller(t.Context(), cairn.Caller{Account: "who", Address: "1.2.3.4"})
	v, err := s.PutVersion(ctx, inlinePut("b", "in/k", "body"))
	if err != nil {
		t.Fatal(err)
	}
	q := wantTold(t, s, "a put", "ObjectCreated:Put in/k")
	if e := q[0].Event; e.Size != 4 || e.ETag != v.ETag || e.Version != "" || e.Account != "who" || e.Address != "1.2.3.4" || e.Bucket != "b" ||
		e.Rule != "all" || e.Sequencer == "" || e.Time.IsZero() {
		t.Errorf("got %+v", e)
	}
	mustPut(t, s, "b", "out/k", "x")
	wantTold(t, s, "a put elsewhere")
	failing := inlinePut("b", "in/k", "other")
	failing.If.IfNoneMatch = []string{"*"}
	if _, err := s.PutVersion(t.Context(), failing); !errors.Is(err, cairn.ErrPrecondition) {
		t.Fatal(err)
	}
	wantTold(t, s, "a put that failed")
	copied := inlinePut("b", "in/copy", "body")
	copied.Source = &meta.VersionRef{Bucket: "b", Key: "in/k"}
	if _, err := s.PutVersion(t.Context(), copied); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutVersion(cairn.WithCaller(t.Context(), cairn.Caller{Form: true}), inlinePut("b", "in/form", "x")); err != nil {
		t.Fatal(err)
	}
	wantTold(t, s, "a copy and a form", "ObjectCreated:Copy in/copy", "ObjectCreated:Post in/form")
	if _, err := s.Rename(t.Context(), meta.Rename{Bucket: "b", From: "in/copy", To: "in/new", Check: func(cairn.Version, *cairn.Version) error { return nil }}); err != nil {
		t.Fatal(err)
	}
	if got, _ := told(t, s); len(got) != 2 {
		t.Errorf("a rename: got %q", got)
	}
	_, errs := s.DeleteVersions(t.Context(), []meta.DeleteVersion{{Ref: meta.VersionRef{Bucket: "b", Key: "in/k"}}, {Ref: meta.VersionRef{Bucket: "b", Key: "in/absent"}},
		{Ref: meta.VersionRef{Bucket: "b", Key: "out/k"}}})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	wantTold(t, s, "deletions", "ObjectRemoved:Delete in/k")
	change := func(f func(v *cairn.Version)) {
		t.Helper()
		if _, err := s.UpdateVersion(t.Context(), meta.UpdateVersion{Ref: meta.VersionRef{Bucket: "b", Key: "in/form"},
			Change: func(_ cairn.Bucket, v *cairn.Version) error { f(v); return nil }}); err != nil {
			t.Fatal(err)
		}
	}
	change(func(v *cairn.Version) { v.Tags = map[string]string{"a": "1"} })
	wantTold(t, s, "tags", "ObjectTagging:Put in/form")
	change(func(v *cairn.Version) {})
	wantTold(t, s, "nothing new")
	change(func(v *cairn.Version) { v.Tags = nil })
	change(func(v *cairn.Version) { v.ACL = `{"owner":"me"}` })
	wantTold(t, s, "no tags and a list", "ObjectTagging:Delete in/form", "ObjectAcl:Put in/form")
}

func TestEventsOfVersions(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	tellAll(t, s, "b")
	v := mustPut(t, s, "b", "in/k", "1")
	d, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "in/k"}})
	if err != nil {
		t.Fatal(err)
	}
	q := wantTold(t, s, "hidden", "ObjectCreated:Put in/k", "ObjectRemoved:DeleteMarkerCreated in/k")
	if q[0].Event.Version != v.ID.String() || q[1].Event.Version != d.ID.String() || q[0].Event.Sequencer >= q[1].Event.Sequencer {
		t.Errorf("got %+v", q)
	}
	if _, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "in/k", ID: v.ID}}); err != nil {
		t.Fatal(err)
	}
	q = wantTold(t, s, "a version", "ObjectRemoved:Delete in/k")
	if q[0].Event.Version != v.ID.String() {
		t.Errorf("got %+v", q)
	}
	u, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "in/up"})
	if err != nil {
		t.Fatal(err)
	}
	part := cairn.Part{Number: 1, Size: 1, ETag: "e", Layout: cairn.Layout{Inline: []byte("x")}}
	if _, err := s.PutPart(t.Context(), meta.PutPart{Bucket: "b", Key: "in/up", Upload: u.ID, Part: part}); err != nil {
		t.Fatal(err)
	}
	complete := meta.CompleteUpload{Bucket: "b", Key: "in/up", Upload: u.ID, Parts: []meta.CompletePart{{Number: 1, ETag: "e"}},
		Build: func(cairn.Upload, []cairn.Part) (cairn.Version, error) { return cairn.Version{ETag: "whole-1"}, nil }}
	for range 2 { // the second time it is answered again, and nothing happens
		if _, err := s.CompleteUpload(t.Context(), complete); err != nil {
			t.Fatal(err)
		}
	}
	wantTold(t, s, "an upload", "ObjectCreated:CompleteMultipartUpload in/up")
	rules, err := json.Marshal(lifecycle.Config{Rules: []lifecycle.Rule{{ID: "r", Days: 1, Filter: lifecycle.Filter{Prefix: "in/old"}}}})
	if err != nil {
		t.Fatal(err)
	}
	config(t, s, "b", meta.LifecycleConfig, string(rules))
	mustPut(t, s, "b", "in/old", "1")
	wantTold(t, s, "what will expire", "ObjectCreated:Put in/old")
	if _, err := s.ExpireDue(t.Context(), time.Now().Add(72*time.Hour), 100); err != nil {
		t.Fatal(err)
	}
	wantTold(t, s, "expiry", "LifecycleExpiration:DeleteMarkerCreated in/old")
}

func TestEventQueues(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	tellAll(t, s, "b")
	mustPut(t, s, "b", "in/1", "x")
	mustPut(t, s, "b", "in/2", "x")
	queue := func() meta.EventQueue {
		t.Helper()
		list, err := s.EventQueues(t.Context())
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0]
	}
	if err := s.SetTargetTrouble(t.Context(), "hook", "no answer"); err != nil {
		t.Fatal(err)
	}
	if q := queue(); q.Queued != 2 || q.Lost != 0 || q.Oldest.IsZero() || q.Trouble != "no answer" {
		t.Errorf("got %+v", q)
	}
	_, queued := told(t, s)
	if err := s.DoneEvents(t.Context(), "hook", queued); err != nil { // by a second deliverer
		t.Fatal(err)
	}
	if q := queue(); q.Queued != 0 || !q.Oldest.IsZero() {
		t.Errorf("after delivery: got %+v", q)
	}
	if err := s.FillEventQueueForTest(t.Context(), "hook"); err != nil {
		t.Fatal(err)
	}
	mustPut(t, s, "b", "in/3", "x")
	wantTold(t, s, "while the queue is full")
	if q := queue(); q.Lost != 1 {
		t.Errorf("got %+v, want one lost", q)
	}
	if err := s.DeleteEventTarget(t.Context(), "hook"); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("a target that a bucket names: %v", err)
	}
	config(t, s, "b", meta.NotificationConfig, "")
	if err := s.DeleteEventTarget(t.Context(), "hook"); err != nil {
		t.Error(err)
	}
	if err := s.DeleteEventTarget(t.Context(), "hook"); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("twice: %v", err)
	}
	if list, err := s.EventTargets(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("got %v, %v", list, err)
	}
}
