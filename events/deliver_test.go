package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a queue in memory.
type memory struct {
	mu      sync.Mutex
	targets []Target
	queues  map[string][]Queued
	trouble map[string]string
	empty   chan struct{} // told when a queue has become empty
	noted   chan string   // troubles
}

func newMemory(targets ...Target) *memory {
	return &memory{targets: targets, queues: map[string][]Queued{}, trouble: map[string]string{}, empty: make(chan struct{}, 100), noted: make(chan string, 100)}
}

func (m *memory) add(target, key string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := Event{Kind: CreatedPut, Bucket: "b", Key: key, Sequencer: fmt.Sprintf("%016X", n)}
	m.queues[target] = append(m.queues[target], Queued{Row: fmt.Sprint(target, n), Event: e})
}

func (m *memory) EventTargets(context.Context) ([]Target, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.targets), nil
}

func (m *memory) QueuedEvents(_ context.Context, target string, max int) ([]Queued, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queues[target]
	return slices.Clone(q[:min(max, len(q))]), nil
}

func (m *memory) DoneEvents(_ context.Context, target string, done []Queued) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queues[target] = slices.DeleteFunc(m.queues[target], func(q Queued) bool {
		return slices.ContainsFunc(done, func(d Queued) bool { return d.Row == q.Row })
	})
	if len(m.queues[target]) == 0 {
		m.empty <- struct{}{}
	}
	return nil
}

func (m *memory) SetTargetTrouble(_ context.Context, target, why string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trouble[target] = why
	m.noted <- why
	return nil
}

// start runs a deliverer until the test ends.
func start(t *testing.T, m *memory) {
	t.Helper()
	d, err := NewDeliverer(DelivererConfig{Queue: m, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Run(ctx) })
	t.Cleanup(func() { stop(); wg.Wait() })
}

func TestDeliversInOrderOfKeys(t *testing.T) {
	var mu sync.Mutex
	got := map[string][]string{}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var doc struct{ Records []record }
		if err := json.Unmarshal(body, &doc); err != nil || r.Method != "POST" || r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("%s %v %s", r.Method, err, r.Header)
		}
		o := doc.Records[0].S3.Object
		mu.Lock()
		got[o.Key] = append(got[o.Key], o.Sequencer)
		mu.Unlock()
	}))
	defer hook.Close()
	m := newMemory(Target{Name: "hook", URL: hook.URL, Token: "secret", Private: true})
	for n := range 300 {
		m.add("hook", fmt.Sprint("k", n%7), n)
	}
	start(t, m)
	<-m.empty
	mu.Lock()
	defer mu.Unlock()
	total := 0
	for key, seqs := range got {
		total += len(seqs)
		if !slices.IsSorted(seqs) {
			t.Errorf("%s: out of order: %v", key, seqs)
		}
	}
	if total != 300 {
		t.Errorf("%d events arrived, want 300", total)
	}
}

func TestTriesUntilTheTargetTakesIt(t *testing.T) {
	var tries atomic.Int32
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if tries.Add(1) == 1 {
			http.Error(w, "not now", http.StatusInternalServerError)
		}
	}))
	defer hook.Close()
	m := newMemory(Target{Name: "hook", URL: hook.URL, Private: true})
	m.add("hook", "k", 1)
	start(t, m)
	if why := <-m.noted; !strings.Contains(why, "500") {
		t.Errorf("the trouble is %q, want the target's answer", why)
	}
	<-m.empty
	if why := <-m.noted; why != "" {
		t.Errorf("the trouble is %q after all went well", why)
	}
	if n := tries.Load(); n != 2 {
		t.Errorf("%d tries, want 2", n)
	}
}

func TestADeadTargetHoldsUpNoOther(t *testing.T) {
	hang := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-hang }))
	alive := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	m := newMemory(Target{Name: "dead", URL: dead.URL, Private: true}, Target{Name: "alive", URL: alive.URL, Private: true})
	m.add("dead", "k", 1)
	m.add("alive", "k", 1)
	t.Cleanup(func() { close(hang); dead.Close(); alive.Close() })
	start(t, m)
	<-m.empty
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queues["dead"]) != 1 {
		t.Error("what the dead target never got is gone from its queue")
	}
}

func TestGoesNowhereInside(t *testing.T) {
	var called atomic.Bool
	hook := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer hook.Close()
	for _, url := range []string{hook.URL, strings.Replace(hook.URL, "127.0.0.1", "localhost", 1), strings.Replace(hook.URL, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
		m := newMemory(Target{Name: "hook", URL: url})
		m.add("hook", "k", 1)
		d, err := NewDeliverer(DelivererConfig{Queue: m})
		if err != nil {
			t.Fatal(err)
		}
		client := newClient(false)
		if n, err := d.pass(t.Context(), client, &m.targets[0]); n != 0 || !errors.Is(err, errInside) {
			t.Errorf("%s: got %d, %v", url, n, err)
		}
		client.CloseIdleConnections()
	}
	if called.Load() {
		t.Error("an address inside was called")
	}
}

func TestFollowsNoRedirect(t *testing.T) {
	var called atomic.Bool
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Store(true) }))
	defer inner.Close()
	hook := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	defer hook.Close()
	m := newMemory(Target{Name: "hook", URL: hook.URL, Private: true})
	m.add("hook", "k", 1)
	d, err := NewDeliverer(DelivererConfig{Queue: m})
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(true)
	defer client.CloseIdleConnections()
	if n, err := d.pass(t.Context(), client, &m.targets[0]); n != 0 || err == nil || called.Load() {
		t.Errorf("got %d, %v, called %t", n, err, called.Load())
	}
}
