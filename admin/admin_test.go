package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// cluster answers from fields.
type cluster struct {
	mu     sync.Mutex // of what a test changes while it is asked
	status Status
	err    error
	ready  error
	asked  meta.VersionRef
	scopes []ScrubScope
}

func (c *cluster) Status(context.Context) (Status, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.err
}
func (c *cluster) Object(_ context.Context, ref meta.VersionRef, _ bool) (Object, error) {
	c.asked = ref
	return Object{Version: cairn.Version{Bucket: ref.Bucket, Key: ref.Key}}, c.err
}
func (c *cluster) StartScrub(_ context.Context, scope ScrubScope) (cairn.Job, error) {
	c.scopes = append(c.scopes, scope)
	return cairn.Job{ID: 7, Kind: cairn.JobScrub}, c.err
}
func (c *cluster) Findings(_ context.Context, max int) ([]cairn.Finding, error) {
	return []cairn.Finding{{Kind: "missing", Count: int64(max), Outcome: cairn.OutcomeRepaired}}, c.err
}
func (c *cluster) Ready(context.Context) error { return c.ready }

func (c *cluster) Nodes(context.Context) ([]cairn.Node, error) {
	return []cairn.Node{{Name: "n1"}}, c.err
}
func (c *cluster) Drives(context.Context) ([]cairn.Drive, error) {
	return []cairn.Drive{{Path: "/d"}}, c.err
}
func (c *cluster) Volumes(_ context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error) {
	return []cairn.Volume{{ID: after + 1, Unit: int64(max)}}, c.err
}
func (c *cluster) Volume(_ context.Context, id cairn.VolumeID) (VolumeDetail, error) {
	return VolumeDetail{Volume: cairn.Volume{ID: id}}, c.err
}
func (c *cluster) CreateToken(_ context.Context, roles cairn.Roles, life time.Duration) (NewToken, error) {
	return NewToken{Token: "secret", Roles: roles, Expires: time.Unix(0, 0).Add(life)}, c.err
}
func (c *cluster) AddVoter(context.Context, cairn.NodeID) error { return c.err }
func (c *cluster) NodeOut(_ context.Context, id cairn.NodeID) (cairn.Node, error) {
	if id[15] != 1 {
		return cairn.Node{}, cairn.ErrPrecondition
	}
	return cairn.Node{ID: id, State: cairn.NodeOut}, c.err
}
func (c *cluster) RemoveVoter(context.Context, cairn.NodeID) error { return cairn.ErrPrecondition }
func (c *cluster) Tokens(context.Context) ([]Token, error)         { return []Token{{ID: "k1"}}, c.err }

func newServer(t *testing.T, c *cluster) *Server {
	t.Helper()
	m := NewMetrics()
	s, err := New(Config{Cluster: c, Topology: c, Metrics: m, AccessKey: "root", SecretKey: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Watch(c); err != nil {
		t.Fatal(err)
	}
	return s
}

// ask makes one request; credentials are "user:password", "" for none.
func ask(s *Server, method, target, credentials, from string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, nil)
	r.RemoteAddr = from
	if user, password, ok := strings.Cut(credentials, ":"); ok {
		r.SetBasicAuth(user, password)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

const (
	loopback = "127.0.0.1:40000"
	outside  = "192.0.2.7:40000"
)

func TestWhoMayCallWhat(t *testing.T) {
	c := &cluster{}
	s := newServer(t, c)
	tests := []struct {
		method, target, credentials, from string
		want                              int
	}{
		{"GET", "/healthz/live", "", outside, 200},
		{"GET", "/healthz/ready", "", outside, 200},
		{"GET", "/metrics", "", loopback, 200},
		{"GET", "/metrics", "", outside, 401},
		{"GET", "/metrics", "root:secret", outside, 200},
		{"GET", "/api/v1/status", "", loopback, 401},
		{"GET", "/api/v1/status", "root:wrong", loopback, 401},
		{"GET", "/api/v1/status", "other:secret", loopback, 401},
		{"GET", "/api/v1/status", ":", loopback, 401},
		{"GET", "/api/v1/status", "root:secret", loopback, 200},
		{"GET", "/api/v1/scrub", "", loopback, 401},
		{"POST", "/api/v1/scrub", "", loopback, 401},
		{"POST", "/api/v1/scrub", "root:secret", loopback, 202},
		{"POST", "/api/v1/scrub?bucket=b&key=k", "root:secret", loopback, 202},
		{"POST", "/api/v1/scrub?key=k", "root:secret", loopback, 400},
		{"POST", "/api/v1/scrub?bucket=b&drive=d", "root:secret", loopback, 400},
		{"GET", "/api/v1/findings", "", loopback, 401},
		{"GET", "/api/v1/findings?max=3", "root:secret", loopback, 200},
		{"GET", "/api/v1/findings?max=0", "root:secret", loopback, 400},
		{"GET", "/api/v1/repair", "", loopback, 401},
		{"GET", "/api/v1/repair", "root:secret", loopback, 200},
		{"GET", "/api/v1/objects/b/k/shards", "", loopback, 401},
		{"GET", "/api/v1/objects/b/k/shards", "root:secret", loopback, 200},
		{"GET", "/debug/pprof/", "", loopback, 401},
		{"GET", "/debug/pprof/", "root:secret", loopback, 200},
		{"DELETE", "/api/v1/status", "root:secret", loopback, 405},
		{"GET", "/", "root:secret", loopback, 404},
	}
	for _, tt := range tests {
		if got := ask(s, tt.method, tt.target, tt.credentials, tt.from).Code; got != tt.want {
			t.Errorf("%s %s as %q from %s: got %d, want %d", tt.method, tt.target, tt.credentials, tt.from, got, tt.want)
		}
	}
	if len(c.scopes) != 2 {
		t.Errorf("scrubs were started of %+v, want 2", c.scopes)
	}
}

func TestObjectKeysArriveAsTheyAre(t *testing.T) {
	c := &cluster{}
	s := newServer(t, c)
	for target, want := range map[string]meta.VersionRef{
		"/api/v1/objects/b/a/../b//c/shards":                   {Bucket: "b", Key: "a/../b//c"},
		"/api/v1/objects/b/shards/shards":                      {Bucket: "b", Key: "shards"},
		"/api/v1/objects/b/a%2Fb%3Fc/shards":                   {Bucket: "b", Key: "a/b?c"},
		"/api/v1/objects/b/k/shards?version=null":              {Bucket: "b", Key: "k", Null: true},
		"/api/v1/objects/b/k/shards?version=00000000000000ff":  {Bucket: "b", Key: "k", ID: 255},
		"/api/v1/objects/b/%C3%A4%20%2B/shards?verify=1&x=%20": {Bucket: "b", Key: "ä +"},
	} {
		if w := ask(s, "GET", target, "root:secret", loopback); w.Code != 200 || c.asked != want {
			t.Errorf("%s: got %d, %+v, want %+v", target, w.Code, c.asked, want)
		}
	}
	for _, target := range []string{"/api/v1/objects/b/k", "/api/v1/objects/b/shards", "/api/v1/objects//k/shards",
		"/api/v1/objects/b/k/shards?version=x"} {
		if w := ask(s, "GET", target, "root:secret", loopback); w.Code != 400 {
			t.Errorf("%s: got %d, want 400", target, w.Code)
		}
	}
}

func TestErrorsHaveStatusAndText(t *testing.T) {
	c := &cluster{}
	s := newServer(t, c)
	for err, want := range map[error]int{cairn.ErrNotFound: 404, cairn.ErrInvalid: 400, cairn.ErrUnavailable: 503, cairn.ErrCorrupt: 500} {
		c.err = fmt.Errorf("the reason: %w", err)
		w := ask(s, "GET", "/api/v1/status", "root:secret", loopback)
		var p Problem
		if jerr := json.Unmarshal(w.Body.Bytes(), &p); jerr != nil || w.Code != want || p.Status != want || !strings.Contains(p.Detail, "the reason") ||
			p.Title == "" || p.RequestID == "" || p.RequestID != w.Header().Get(requestIDHeader) || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%v: got %d %s, want a problem document %d with the reason", err, w.Code, w.Body, want)
		}
	}
}

func TestReadiness(t *testing.T) {
	c := &cluster{ready: cairn.ErrQuorum}
	s := newServer(t, c)
	if w := ask(s, "GET", "/healthz/ready", "", outside); w.Code != 503 || strings.Contains(w.Body.String(), "quorum") {
		t.Errorf("got %d %q, want 503 and no inside news for strangers", w.Code, w.Body)
	}
	c.ready = nil
	if w := ask(s, "GET", "/healthz/ready", "", outside); w.Code != http.StatusOK {
		t.Errorf("got %d, want 200", w.Code)
	}
}

func TestMetricsTellTheStatus(t *testing.T) {
	c := &cluster{status: Status{Health: HealthAtRisk, BlobsBySpare: map[int]int64{0: 3, 2: 7},
		Drives: []Drive{{Path: "/d1", ID: "id1", State: cairn.DriveFailing, FreeBytes: 5}},
		Voters: []Voter{{ID: 9, Path: "/d1/meta", State: VoterUp, Leader: true}}}}
	s := newServer(t, c)
	s.cfg.Metrics.Observe("GetObject", "NoSuchKey", 0, 10, 0)
	body := ask(s, "GET", "/metrics", "", loopback).Body.String()
	for _, want := range []string{
		`cairn_admin_health_state{health="at-risk"} 1`, `cairn_admin_health_state{health="ok"} 0`,
		`cairn_repair_blobs_by_spare{spare="0"} 3`, `cairn_datanode_drive_state{drive="id1",path="/d1",state="failing"} 1`,
		`cairn_datanode_drive_free_bytes{drive="id1",path="/d1"} 5`, `cairn_meta_voter_leader_state{path="/d1/meta",voter="9"} 1`,
		`cairn_s3api_requests_total{code="NoSuchKey",operation="GetObject"} 1`, `cairn_s3api_sent_bytes_total 10`,
		`process_resident_memory_bytes`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	c.err = cairn.ErrQuorum
	if body := ask(s, "GET", "/metrics", "", loopback).Body.String(); !strings.Contains(body, "cairn_admin_status_errors 1") {
		t.Error("a status that cannot be had does not show")
	}
}
