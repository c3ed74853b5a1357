// Package admin serves the operators' side of a process over HTTP: health probes, Prometheus metrics, and the JSON that the
// command line and the dashboard show.
//
// It owns the shapes of that JSON, the routes, their authentication, the verdict on the store's health (Judge, a pure
// function) and the metrics registry. It does not gather the facts: the Cluster that it is given does.
//
// Who may call what: /healthz/* answers anybody, with one word. /metrics answers callers on the loopback interface, and
// others with the root credentials. Everything under /api/ and the Go profiles under /debug/pprof/ need the root
// credentials or those of a user with the policy admin, as HTTP basic authentication; there is no TLS of its own, so the address belongs on loopback or behind a proxy.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"cairn"
	"cairn/iam"
	"cairn/meta"
)

// Cluster gathers what the admin interface shows. Safe for concurrent use. internal/server has the one of a process.
type Cluster interface {
	Status(ctx context.Context) (Status, error)
	// Object finds every shard of a version; with verify set it reads and checks each.
	Object(ctx context.Context, ref meta.VersionRef, verify bool) (Object, error)
	// StartScrub begins one full pass, or joins the one under way.
	StartScrub(ctx context.Context) error
	// Ready returns nil if a client's write would succeed now; it has tried one like it.
	Ready(ctx context.Context) error
}

// Config is what New needs.
type Config struct {
	Cluster   Cluster
	Topology  Topology
	Jobs      Jobs // nil: there are no jobs
	Metrics   *Metrics
	AccessKey string // of the root identity
	SecretKey string
	// Identities knows further administrators and is managed here; nil for none.
	Identities Identities
	// Buckets shows buckets and sets their quotas; nil where the process keeps none.
	Buckets Buckets
	Logger  *slog.Logger
	// ReadyTimeout bounds a readiness probe. Default 3 s.
	ReadyTimeout time.Duration
}

// Server is an http.Handler. Safe for concurrent use.
type Server struct {
	cfg Config
	mux *http.ServeMux
}

// New returns the handler of the admin interface.
func New(cfg Config) (*Server, error) {
	if cfg.Cluster == nil || cfg.Topology == nil || cfg.Metrics == nil || cfg.AccessKey == "" || cfg.SecretKey == "" {
		return nil, &cairn.Error{Op: "admin.new", Err: fmt.Errorf("want a cluster, its topology, metrics and credentials: %w", cairn.ErrInvalid)}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReadyTimeout == 0 {
		cfg.ReadyTimeout = 3 * time.Second
	}
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	s.mux.HandleFunc("GET /healthz/live", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "live") })
	s.mux.HandleFunc("GET /healthz/ready", s.ready)
	metrics := promhttp.HandlerFor(cfg.Metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	s.mux.Handle("GET /metrics", s.loopbackOrRoot(metrics))
	s.mux.Handle("GET /debug/pprof/", s.root(http.HandlerFunc(pprof.Index)))
	s.mux.Handle("GET /debug/pprof/profile", s.root(http.HandlerFunc(pprof.Profile)))
	s.mux.Handle("GET /debug/pprof/trace", s.root(http.HandlerFunc(pprof.Trace)))
	api := func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error)) {
		s.mux.Handle(pattern, s.root(answer(h)))
	}
	api("GET /api/v1/status", s.status)
	api("GET /api/v1/scrub", s.scrub)
	api("POST /api/v1/scrub", s.startScrub)
	api("GET /api/v1/repair", s.repair)
	if cfg.Identities != nil {
		s.identityRoutes(api)
	}
	if cfg.Buckets != nil {
		s.bucketRoutes(api)
	}
	s.clusterRoutes(api)
	if cfg.Jobs != nil {
		s.jobRoutes(api)
	}
	return s, nil
}

// objectRoute is kept off the ServeMux, which would clean "//" and ".." out of keys.
const objectRoute = "/api/v1/objects/"

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, objectRoute) {
		s.root(answer(s.object)).ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
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

func (s *Server) status(_ http.ResponseWriter, r *http.Request) (any, error) {
	return s.cfg.Cluster.Status(r.Context())
}

func (s *Server) scrub(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.cfg.Cluster.Status(r.Context())
	return st.Scrub, err
}

func (s *Server) startScrub(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := s.cfg.Cluster.StartScrub(r.Context()); err != nil {
		return nil, err
	}
	w.WriteHeader(http.StatusAccepted)
	return s.scrub(w, r)
}

func (s *Server) repair(_ http.ResponseWriter, r *http.Request) (any, error) {
	st, err := s.cfg.Cluster.Status(r.Context())
	return st.Repair, err
}

// object answers /api/v1/objects/BUCKET/KEY/shards?version=ID&verify=1; the key may hold any character, escaped or not.
func (s *Server) object(_ http.ResponseWriter, r *http.Request) (any, error) {
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

// answer writes what h returns as JSON.
func answer(h func(w http.ResponseWriter, r *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		v, err := h(w, r)
		if err != nil {
			w.WriteHeader(statusOf(err))
			v = Failure{Error: err.Error()}
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if err := e.Encode(v); err != nil {
			panic(http.ErrAbortHandler) // the client must not take a cut answer for a whole one
		}
	})
}

// Failure is the body of an answer other than 2xx.
type Failure struct {
	Error string `json:"error"`
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, cairn.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, cairn.ErrExists), errors.Is(err, cairn.ErrNotEmpty), errors.Is(err, cairn.ErrPrecondition):
		return http.StatusConflict
	case errors.Is(err, cairn.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, cairn.ErrUnavailable), errors.Is(err, cairn.ErrQuorum), errors.Is(err, cairn.ErrOverloaded):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// root lets only the root identity through.
func (s *Server) root(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.isRoot(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="cairn admin"`)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			json.NewEncoder(w).Encode(Failure{Error: "the root access key and secret key are needed"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) isRoot(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	// Hashes have one length, so the comparison's time tells nothing about the secret's.
	gotUser, gotPassword := sha256.Sum256([]byte(user)), sha256.Sum256([]byte(password))
	wantUser, wantPassword := sha256.Sum256([]byte(s.cfg.AccessKey)), sha256.Sum256([]byte(s.cfg.SecretKey))
	same := subtle.ConstantTimeCompare(gotUser[:], wantUser[:]) & subtle.ConstantTimeCompare(gotPassword[:], wantPassword[:])
	return ok && (same == 1 || s.isAdmin(user, password))
}

// isAdmin knows users that may do everything.
func (s *Server) isAdmin(user, password string) bool {
	if s.cfg.Identities == nil {
		return false
	}
	secret, id, err := s.cfg.Identities.Lookup(user, "")
	if err != nil || !id.Admin() || s.cfg.Identities.Authorize(&id, &iam.Request{Action: "admin:All"}) != nil {
		return false
	}
	got, want := sha256.Sum256([]byte(password)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

func (s *Server) loopbackOrRoot(next http.Handler) http.Handler {
	guarded := s.root(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}
