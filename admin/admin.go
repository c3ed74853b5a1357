// Package admin serves the operators' side of a process over HTTP: health probes, Prometheus metrics, and the JSON that the
// command line and the dashboard show.
//
// It owns the shapes of that JSON, the routes, their authentication, the verdict on the store's health (Judge, a pure
// function) and the metrics registry. It does not gather the facts: the Cluster that it is given does.
//
// Every request of the API is one line of a table (route.go): the action that the policies are asked about, the record that is
// left of a change, the OpenAPI document and the command line's form come from that line. Errors are problem documents.
//
// Who may call what: /healthz/* answers anybody, with one word. /metrics answers callers on the loopback interface. All else
// needs an access key and its secret key, as HTTP basic authentication or as a session's cookie: the root identity may do
// everything, a user what its policies allow of the actions cairn:*. Objects are served below /s3/ by the S3 frontend itself,
// as whoever asks, under the same policies. There is no TLS of its own, so the address belongs on loopback or behind a proxy;
// browsers keep the session's cookie only there.
package admin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cairn"
	"cairn/iam"
	"cairn/meta"
	"cairn/web"
)

// Cluster gathers what the admin interface shows. Safe for concurrent use. internal/server has the one of a process.
type Cluster interface {
	Status(ctx context.Context) (Status, error)
	// Object finds every shard of a version; with verify set it reads and checks each.
	Object(ctx context.Context, ref meta.VersionRef, verify bool) (Object, error)
	// Ready returns nil if a client's write would succeed now; it has tried one like it.
	Ready(ctx context.Context) error
	Scrubs
}

// Config is what New needs.
type Config struct {
	Cluster  Cluster
	Topology Topology
	Jobs     Jobs // nil: there are no jobs
	// Fleet is nil where neither nodes nor drives are managed; else Jobs is needed too.
	Fleet Fleet
	// Throttling bounds background work; nil where it cannot be bounded.
	Throttling Throttling
	Metrics    *Metrics
	AccessKey  string // of the root identity
	SecretKey  string
	// Root tells whether credentials are the root identity's, where the process has none itself (then both keys are empty).
	Root func(ctx context.Context, accessKey, secretKey string) bool
	// Identities knows further administrators and is managed here; nil for none.
	Identities Identities
	// Buckets shows buckets and sets their quotas; nil where the process keeps none.
	Buckets Buckets
	// Objects serves S3 requests for whoever is logged in; nil where the process serves no clients.
	Objects Objects
	// S3URL is where clients find S3, for people to copy.
	S3URL string
	// Encryption rotates master keys; nil where there are none.
	Encryption Encryption
	// Webhooks keeps the targets of buckets' events; nil for none.
	Webhooks Webhooks
	// Sessions keeps the dashboard's sessions, Journal the audit log; nil for none.
	Sessions Sessions
	Journal  Journal
	Logger   *slog.Logger
	// ReadyTimeout bounds a readiness probe. Default 3 s.
	ReadyTimeout time.Duration
}

// Server is an http.Handler. Its Run samples the history. Safe for concurrent use.
type Server struct {
	cfg     Config
	mux     *http.ServeMux
	table   []Route
	object  http.Handler // the line whose path holds a key
	page    http.Handler // the dashboard; nil where nobody can log in
	front   http.Handler // all behind the check of a request's origin
	openAPI json.RawMessage
	tries   tries
	watch   watch
	ring    ring
}

// New returns the handler of the admin interface.
func New(cfg Config) (*Server, error) {
	if cfg.Cluster == nil || cfg.Topology == nil || cfg.Metrics == nil || (cfg.AccessKey == "" || cfg.SecretKey == "") && cfg.Root == nil {
		return nil, &cairn.Error{Op: "admin.new", Err: fmt.Errorf("want a cluster, its topology, metrics and credentials: %w", cairn.ErrInvalid)}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReadyTimeout == 0 {
		cfg.ReadyTimeout = 3 * time.Second
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	s.table = s.routes(s.serves)
	document, err := openAPI(Routes())
	if err != nil {
		return nil, err
	}
	s.openAPI = document
	s.watch.init(s)
	s.handleAll()
	return s, nil
}

// handleAll fills the mux.
func (s *Server) handleAll() {
	s.mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	s.mux.HandleFunc("GET /healthz/ready", s.ready)
	metrics := promhttp.HandlerFor(s.cfg.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	s.mux.Handle("GET /metrics", s.loopbackOr("cairn:GetMetrics", metrics))
	s.mux.Handle("GET /debug/pprof/", s.guarded("cairn:Profile", http.HandlerFunc(pprof.Index)))
	s.mux.Handle("GET /debug/pprof/profile", s.guarded("cairn:Profile", http.HandlerFunc(pprof.Profile)))
	s.mux.Handle("GET /debug/pprof/trace", s.guarded("cairn:Profile", http.HandlerFunc(pprof.Trace)))
	for i := range s.table {
		if r := &s.table[i]; r.raw {
			s.object = s.serveRoute(r)
		} else {
			s.mux.Handle(r.Pattern, s.serveRoute(r))
		}
	}
	if s.cfg.Sessions != nil {
		s.mux.Handle("POST /login", answer(s.login))
		s.mux.Handle("POST /logout", answer(s.logout))
		s.mux.Handle("GET /session", answer(s.session))
		s.page = web.Handler()
	}
	s.front = http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.dispatch))
}

// objectRoute and s3Route are kept off the ServeMux, which would clean "//" and ".." out of keys.
const (
	objectRoute = "/api/v1/objects/"
	s3Route     = "/s3/"
)

const requestIDHeader = "X-Request-Id"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var id [8]byte
	rand.Read(id[:])
	h := w.Header()
	h.Set(requestIDHeader, hex.EncodeToString(id[:]))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	// Whatever is answered may not be framed; what is not the dashboard's own page may not run anything either.
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
	s.front.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, &request{id: h.Get(requestIDHeader)})))
}

// dispatch is behind the check that no page of another origin makes changes here with a browser's cookie.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.HasPrefix(path, s3Route):
		s.serveS3(w, r)
	case r.Method == http.MethodGet && strings.HasPrefix(path, objectRoute):
		s.object.ServeHTTP(w, r)
	case r.Method == http.MethodGet && s.page != nil && (path == "/" || strings.HasPrefix(path, "/assets/")):
		s.page.ServeHTTP(w, r)
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// request is what is known of a request under way.
type request struct {
	id     string
	caller iam.Identity
}

type requestKey struct{}

func requestID(r *http.Request) string {
	if q, ok := r.Context().Value(requestKey{}).(*request); ok {
		return q.id
	}
	return ""
}

// callerOf is who makes a request that a line of the API serves.
func callerOf(r *http.Request) iam.Identity {
	if q, ok := r.Context().Value(requestKey{}).(*request); ok {
		return q.caller
	}
	return iam.Identity{}
}

// serveRoute is who, whether, the work, and the record of a change.
func (s *Server) serveRoute(route *Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.identify(r)
		if err != nil {
			fail(w, r, err)
			return
		}
		if q, ok := r.Context().Value(requestKey{}).(*request); ok {
			q.caller = id
		}
		if err = s.mayDo(&id, route); err == nil {
			err = respond(w, r, route.handle)
		} else {
			fail(w, r, err)
		}
		if route.Changes() || denied(err) {
			s.audit(r, id, route.Action, subjectOf(r), err)
		}
	})
}

// subjectOf names what a request was about.
func subjectOf(r *http.Request) string {
	subject := r.Method + " " + r.URL.Path
	if q, err := url.QueryUnescape(r.URL.RawQuery); err == nil && q != "" {
		subject += "?" + q
	}
	return subject
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.ReadyTimeout)
	defer cancel()
	if err := s.cfg.Cluster.Ready(ctx); err != nil {
		s.cfg.Logger.Warn("not ready", "err", err)
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// statusRoutes adds what shows the store as a whole, and its objects.
func (s *Server) statusRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/status", Action: "cairn:GetStatus", CLI: "status", What: "Show the store's health and everything that it rests on.",
		Gives: Status{}}, s.status)
	api(Route{Pattern: "GET /api/v1/repair", Action: "cairn:GetStatus", CLI: "repair status", What: "Show what repair does and what waits for it.",
		Gives: Repair{}}, s.repair)
	api(Route{Pattern: "GET /api/v1/objects/{bucket}/{key}/shards", Action: "cairn:GetObjectShards", CLI: "object show bucket/key",
		What: "Show an object's blobs and where every shard is.", Gives: Object{}, raw: true,
		Query: []Parameter{{"version", "version ID; the current one without"}, {"verify", "1: read and check every shard"}}}, s.shards)
}

func (s *Server) status(_ http.ResponseWriter, r *http.Request) (any, error) {
	return s.cfg.Cluster.Status(r.Context())
}

func (s *Server) repair(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.cfg.Cluster.Status(r.Context())
	return st.Repair, err
}

// shards answers /api/v1/objects/BUCKET/KEY/shards?version=ID&verify=1; the key may hold any character, escaped or not.
func (s *Server) shards(_ http.ResponseWriter, r *http.Request) (any, error) {
	rest, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, objectRoute), "/shards")
	bucket, key, found := strings.Cut(rest, "/")
	if !ok || !found || bucket == "" || key == "" {
		return nil, &cairn.Error{Op: "admin.object", Subject: r.URL.Path,
			Err: fmt.Errorf("want /api/v1/objects/BUCKET/KEY/shards: %w", cairn.ErrInvalid)}
	}
	ref := meta.VersionRef{Bucket: bucket, Key: key}
	switch v := r.URL.Query().Get("version"); v {
	case "":
	case "null":
		ref.Null = true
	default:
		id, err := cairn.ParseVersionID(v)
		if err != nil {
			return nil, err
		}
		ref.ID = id
	}
	return s.cfg.Cluster.Object(r.Context(), ref, r.URL.Query().Get("verify") != "")
}

// answer makes a handler of h.
func answer(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { respond(w, r, h) })
}

// respond writes what h returns as JSON, or its error as a problem document. h may have answered already: then it returns nil.
func respond(w http.ResponseWriter, r *http.Request, h handler) error {
	w.Header().Set("Content-Type", "application/json")
	v, err := h(w, r)
	switch {
	case err != nil:
		fail(w, r, err)
		return err
	case v == nil:
		return nil
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		panic(http.ErrAbortHandler) // the client must not take a cut answer for a whole one
	}
	return nil
}
