package s3api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/mux"
	"golang.org/x/sync/semaphore"

	"cairn/s3api/sigv4"
)

// Server answers S3 requests. It is an http.Handler; Serve also brings the HTTP server with the limits of Config. Safe for
// concurrent use.
type Server struct {
	cfg      Config
	router   *mux.Router
	verifier *sigv4.Verifier
	slots    chan struct{} // one for each request under way
	waiting  atomic.Int64
	memory   *semaphore.Weighted // bytes of XML bodies
	buffers  sync.Pool           // *[]byte for rendering
	hostID   []string            // x-amz-id-2 of this process
	started  uint64              // random: request ids of two processes differ
	requests atomic.Uint64
	accesses accessCache
}

// New returns a server.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	var seed [24]byte
	rand.Read(seed[:])
	s := &Server{
		cfg:      cfg,
		verifier: sigv4.NewVerifier(),
		slots:    make(chan struct{}, cfg.MaxRequests),
		memory:   semaphore.NewWeighted(cfg.BodyMemoryBytes),
		hostID:   []string{base64String(seed[8:])},
		started:  uint64(seed[0])<<56 | uint64(seed[1])<<48 | uint64(seed[2])<<40 | uint64(seed[3])<<32,
	}
	s.buffers.New = func() any { b := make([]byte, 0, 4096); return &b }
	s.router = s.newRouter()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.serve(&call{srv: s, w: w, r: r, start: time.Now()})
}

func (s *Server) serve(c *call) {
	s.nameRequest(c)
	defer s.finish(c)
	if err := c.read(); err != nil {
		c.fail(err)
		return
	}
	c.crossOrigin()
	if c.r.Method == http.MethodOptions {
		if err := c.preflight(); err != nil {
			c.fail(err)
		}
		return
	}
	s.router.ServeHTTP(c, c.r)
}

// nameRequest gives the request its ids, which every answer carries.
func (s *Server) nameRequest(c *call) {
	const digits = "0123456789ABCDEF"
	n := s.started + s.requests.Add(1)
	var id [16]byte
	for i := range id {
		id[15-i] = digits[n&15]
		n >>= 4
	}
	c.id[0] = string(id[:])
	h := c.w.Header()
	h["X-Amz-Request-Id"] = c.id[:]
	h["X-Amz-Id-2"] = s.hostID
	h["Server"] = serverName
}

var serverName = []string{"Cairn"}

// finish tells observer and log of the request. It runs while a panic unwinds, too: that is how an answer is broken off.
func (s *Server) finish(c *call) {
	if c.admitted {
		<-s.slots
	}
	o := Observation{Operation: c.opName(), Code: c.code, Status: c.status, BytesIn: c.in.n, BytesOut: c.out,
		Duration: time.Since(c.start)}
	s.cfg.Observer.Observe(o)
	if s.cfg.Logger.Enabled(c.r.Context(), slog.LevelDebug) {
		s.cfg.Logger.Debug("s3 request", "op", o.Operation, "method", c.r.Method, "bucket", c.bucket, "key", c.key,
			"status", o.Status, "code", o.Code, "in", o.BytesIn, "out", o.BytesOut, "took", o.Duration,
			"request_id", c.id[0], "access_key", c.auth.AccessKey, "remote", c.r.RemoteAddr)
	}
	if own, ok := c.r.Context().Value(connKey{}).(*conn); ok {
		own.forget()
	}
}

// admit takes a slot for a request, waiting a bounded time in a bounded queue.
func (s *Server) admit(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	if s.waiting.Add(1) > int64(s.cfg.MaxWaiting) {
		s.waiting.Add(-1)
		return errSlowDown
	}
	defer s.waiting.Add(-1)
	timer := time.NewTimer(s.cfg.QueueWait)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-timer.C:
		return errSlowDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Serve answers requests that come in on l until ctx ends, lets those under way finish for DrainTimeout, and closes l. It
// returns nil after an orderly end. Requests keep running with a context of their own after ctx has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.cfg.HeaderTimeout,
		IdleTimeout:       s.cfg.IdleTimeout,
		MaxHeaderBytes:    s.cfg.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug),
		ConnContext:       withConn,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	if s.cfg.TLS != nil {
		srv.TLSConfig = s.cfg.TLS.Clone()
		srv.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: maxStreams, MaxReceiveBufferPerConnection: maxStreamBuffers,
			MaxReceiveBufferPerStream: maxStreamBuffers / 4}
	}
	done := make(chan error, 1)
	go func() { done <- serveOn(srv, newListener(l, s.cfg.MaxConns)) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.DrainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	<-done
	return err
}

// What one HTTP/2 connection may hold: requests under way, and bytes of their bodies that no handler has read yet.
const (
	maxStreams       = 100
	maxStreamBuffers = 4 << 20
)

func serveOn(srv *http.Server, l net.Listener) error {
	if srv.TLSConfig != nil {
		return srv.ServeTLS(l, "", "")
	}
	return srv.Serve(l)
}

func hexString(b []byte) string { return hex.EncodeToString(b) }
