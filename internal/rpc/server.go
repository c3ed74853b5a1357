package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"cairn"
)

const (
	headerTimeout = 10 * time.Second // of a handshake, and of a request's header
	maxHeader     = 32 << 10
	// maxAccepted bounds a node's incoming connections: a hundred nodes with dozens each.
	maxAccepted  = 8192
	drainTimeout = 2 * time.Second
)

// Server serves a node's interconnect: handlers by the first segments of their paths, for nodes of this cluster alone.
type Server struct {
	creds  *Credentials
	logger *slog.Logger
	mounts []mount
}

type mount struct {
	prefix  string
	callers cairn.Roles // any of them may call; 0: anybody, without a certificate too
	handler http.Handler
}

// NewServer returns a Server without handlers. logger may be nil.
func NewServer(creds *Credentials, logger *slog.Logger) *Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Server{creds: creds, logger: logger}
}

// Mount serves paths that begin with prefix ("/data/") to nodes that have one of the roles. The handler sees whole paths.
// Not to be called after Serve.
func (s *Server) Mount(prefix string, callers cairn.Roles, h http.Handler) {
	s.mounts = append(s.mounts, mount{prefix, callers, h})
}

// MountPublic serves one exact path to anybody, also without a certificate: the handler must find out by itself whom it
// talks to.
func (s *Server) MountPublic(path string, h http.Handler) {
	s.mounts = append(s.mounts, mount{path, 0, h})
}

// ServeHTTP finds the handler. It is for requests whose connection Serve accepted.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, m := range s.mounts {
		if m.callers == 0 && r.URL.Path == m.prefix {
			m.handler.ServeHTTP(w, r)
			return
		}
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		WriteError(w, fmt.Errorf("the interconnect is for nodes of this cluster, with their certificates: %w", cairn.ErrForbidden))
		return
	}
	id, err := s.creds.stillGood(r.TLS.PeerCertificates[0], time.Now())
	if err != nil {
		WriteError(w, err)
		return
	}
	for _, m := range s.mounts {
		if m.callers == 0 || !strings.HasPrefix(r.URL.Path, m.prefix) {
			continue
		}
		if m.callers&id.Roles == 0 {
			WriteError(w, fmt.Errorf("node %s has the roles %s, and %s is for %s: %w", id.Node, id.Roles, m.prefix, m.callers, cairn.ErrForbidden))
			return
		}
		m.handler.ServeHTTP(w, r.WithContext(WithCaller(r.Context(), id)))
		return
	}
	WriteError(w, fmt.Errorf("nothing is served at %s: %w", r.URL.Path, cairn.ErrInvalid))
}

// Serve answers until ctx ends; requests under way get a moment to finish. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: headerTimeout, IdleTimeout: 2 * idleTimeout, MaxHeaderBytes: maxHeader, ConnContext: connContext,
		ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(tls.NewListener(newBounded(l, maxAccepted), s.creds.serverTLS())) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close() // streams between nodes never end by themselves
	}
	<-done
	return err
}

// Listen takes an address for a Server, with bounds on peers that are gone.
func Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: limitUnacked}
	l, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, &cairn.Error{Op: "rpc.listen", Subject: addr, Err: err}
	}
	return l, nil
}

// bounded is a listener that accepts no more connections than there are turns.
type bounded struct {
	net.Listener
	turns  chan struct{}
	once   sync.Once
	closed chan struct{}
}

func newBounded(l net.Listener, n int) *bounded {
	return &bounded{Listener: l, turns: make(chan struct{}, n), closed: make(chan struct{})}
}

// Accept waits for a turn, then for a connection.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.turns <- struct{}{}:
	case <-b.closed:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.turns
		return nil, err
	}
	w := newWire(c)
	return &turnConn{Conn: w, wire: w, end: func() { <-b.turns }}, nil
}

// Close ends Accept.
func (b *bounded) Close() (err error) {
	b.once.Do(func() {
		close(b.closed)
		err = b.Listener.Close()
	})
	return err
}

// turnConn gives its turn back when it is closed, once.
type turnConn struct {
	net.Conn
	wire *wire
	once sync.Once
	end  func()
}

// Close closes the connection.
func (c *turnConn) Close() error {
	defer c.once.Do(c.end)
	return c.Conn.Close()
}
