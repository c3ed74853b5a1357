package s3api

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"cairn/events"
)

// TestEvents follows an event from a client's request to a webhook that refuses it first.
func TestEvents(t *testing.T) {
	type message struct {
		EventName, Key string
		Records        []struct {
			RequestParameters struct{ SourceIPAddress string }
			UserIdentity      struct{ PrincipalID string }
			S3                struct{ Object struct{ Size int64 } }
		}
	}
	got := make(chan message, 10)
	var refused sync.Once
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refused.Do(func() { w.WriteHeader(http.StatusServiceUnavailable) })
		body, _ := io.ReadAll(r.Body)
		var m message
		if err := json.Unmarshal(body, &m); err != nil {
			t.Error(err)
		}
		got <- m
	}))
	defer hook.Close()
	r := newRig(t, nil)
	r.srv.cfg.EventTargets = r.stack.Meta
	if err := r.stack.Meta.PutEventTarget(t.Context(), events.Target{Name: "hook", URL: hook.URL, Private: true}); err != nil {
		t.Fatal(err)
	}
	rules := `<NotificationConfiguration><QueueConfiguration><Queue>` + events.ARN("hook") +
		`</Queue><Event>s3:ObjectCreated:*</Event></QueueConfiguration></NotificationConfiguration>`
	for _, q := range []req{{method: "PUT", path: "/bucket?notification", body: rules}, {method: "PUT", path: "/bucket/k", body: "hello"}} {
		r.do(q).want(t, q.path, 200, "")
	}
	d, err := events.NewDeliverer(events.DelivererConfig{Queue: r.stack.Meta, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	defer wg.Wait()
	defer stop()
	for range 2 { // the one that was refused, and the same again
		m := <-got
		if m.EventName != "s3:ObjectCreated:Put" || m.Key != "bucket/k" || len(m.Records) != 1 || m.Records[0].S3.Object.Size != 5 ||
			m.Records[0].RequestParameters.SourceIPAddress != "127.0.0.1" || m.Records[0].UserIdentity.PrincipalID == "" {
			t.Errorf("got %+v", m)
		}
	}
}
