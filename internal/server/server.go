// Package server puts a whole process together: data node, metadata voters, volumes, blobs, objects, the S3 and admin
// frontends, scrub and repair. cmd/cairn runs one for `cairn server`, internal/testcluster runs one inside a test.
//
// It owns the order in which the parts are made, fed and stopped, and the small loops between them: which drives may carry
// metadata voters (homes.go), the readiness probe (probe.go), and the gathering of what the admin interface shows
// (status.go, shards.go). It decides nothing that a package below could decide.
//
// The process's directory holds cairn.json (identity, drives, profile), lock (one process at a time), credentials (made by
// cmd/cairn) and, unless disks are named, the drives' directories.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"cairn"
	"cairn/admin"
	"cairn/iam"
	"cairn/internal/join"
)

// Config of a Server. A directory with a state, both addresses and both keys are required.
type Config struct {
	Directory       *Directory // opened by the caller, who also closes it
	MetaVoters      int        // 0: 2m+1, as far as there are drives
	S3Addr          string
	S3Domains       []string       // host names below which buckets are hosts, beside localhost
	ObjectOwnership string         // of buckets without ownership controls; "": BucketOwnerEnforced
	TrustedProxies  []netip.Prefix // whose X-Forwarded-For is believed
	OIDC            iam.OIDCConfig // identity provider for AssumeRoleWithWebIdentity; zero: none
	AdminAddr       string
	AccessKey       string
	SecretKey       string
	Encryption      Encryption
	// TLSCert and TLSKey are the files that S3 is served with over TLS; both or neither. They may be replaced while it runs.
	TLSCert, TLSKey string
	Logger          *slog.Logger // default: none
	// Interconnect is what Directory.Enlist listens with, for a member of a cluster. Run closes it.
	Interconnect net.Listener
	// ScrubInterval is how long the deep scrub may take to read everything. Default 14 days.
	ScrubInterval time.Duration
	// FailingDrives is what is done about drives that wear out: WearingTell (the default) or WearingDrain.
	FailingDrives string
	// ReadyWithin bounds one readiness probe. Default 3 s.
	ReadyWithin time.Duration
	// Settle is what uploads have to commit before the slots of their volume move. Default: repair's.
	Settle time.Duration
}

func (c *Config) fill() error {
	if c.Directory == nil || c.Directory.State == nil || c.S3Addr == "" || c.AdminAddr == "" ||
		(c.AccessKey == "" || c.SecretKey == "") && knowsIdentities(c.Directory.State.Member) {
		return &cairn.Error{Op: "server.open", Err: fmt.Errorf("directory, addresses and keys are needed: %w", cairn.ErrInvalid)}
	}
	drives := len(c.Directory.State.Drives(c.Directory.Path))
	member := c.Directory.State.Member
	if drives == 0 && member == nil {
		return &cairn.Error{Op: "server.open", Err: fmt.Errorf("no drives: %w", cairn.ErrInvalid)}
	}
	if c.MetaVoters == 0 {
		c.MetaVoters = 2*c.Directory.State.Profile.Tolerance() + 1
	}
	if member == nil {
		c.MetaVoters = min(c.MetaVoters, drives)
	}
	c.MetaVoters = min(c.MetaVoters, maxVoters)
	if c.MetaVoters%2 == 0 {
		c.MetaVoters-- // an even number tolerates no more losses than one fewer
	}
	if c.MetaVoters < 1 {
		return &cairn.Error{Op: "server.open", Subject: "meta voters", Err: fmt.Errorf("want 1 or more: %w", cairn.ErrInvalid)}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.FailingDrives == "" {
		c.FailingDrives = WearingTell
	}
	if c.FailingDrives != WearingTell && c.FailingDrives != WearingDrain {
		return &cairn.Error{Op: "server.open", Subject: "failing drives " + c.FailingDrives, Err: fmt.Errorf("want tell or drain: %w", cairn.ErrInvalid)}
	}
	if c.ReadyWithin == 0 {
		c.ReadyWithin = 3 * time.Second
	}
	return nil
}

const (
	maxVoters         = 9
	adminDrainTimeout = 2 * time.Second
	adminHeaderTime   = 10 * time.Second
	readyPoll         = 50 * time.Millisecond
	complainEvery     = 5 * time.Second
)

// Server is one process's worth of Cairn.
type Server struct {
	cfg     Config
	state   State // as it was at Open
	started time.Time
	parts   *parts
	s3      net.Listener
	admin   net.Listener
	api     *admin.Server
	probe   *probe
}

// Open takes the addresses, opens the drives and the metadata voters that can be found, and makes all parts. Nothing is
// served before Run.
func Open(cfg Config) (s *Server, err error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	s = &Server{cfg: cfg, state: *cfg.Directory.State, started: time.Now()}
	opened := s // a return of nil must not keep it from being closed
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if s.serves(cairn.RoleGateway) {
		if s.s3, err = net.Listen("tcp", cfg.S3Addr); err != nil {
			return nil, &cairn.Error{Op: "server.open", Subject: "S3 address", Err: err}
		}
	}
	if s.admin, err = net.Listen("tcp", cfg.AdminAddr); err != nil {
		return nil, &cairn.Error{Op: "server.open", Subject: "admin address", Err: err}
	}
	if s.parts, err = openParts(cfg); err != nil {
		return nil, err
	}
	facts := &facts{server: s, parts: s.parts}
	s.parts.wearing = &wearing{parts: s.parts, mode: cfg.FailingDrives, measured: facts.measured, drain: facts}
	if s.parts.site != nil {
		s.parts.site.server.Mount(leaderPath, cairn.AllRoles, http.HandlerFunc(facts.serveLeaderFacts))
		s.parts.site.server.Mount(heldPath, cairn.RoleMeta, serveHeld(s.parts.objects))
		s.parts.site.mount(s.state, s.parts.meta, s.parts.node, s.settings)
	}
	s.probe = newProbe(s.parts, cfg.ReadyWithin, s.formatted)
	var root func(context.Context, string, string) bool
	if !s.state.KeepsRoot() {
		root = newRootKnower(s.parts.meta).root
	}
	s.api, err = admin.New(admin.Config{Cluster: facts, Topology: facts, Jobs: facts, Fleet: facts, Root: root, Throttling: facts, Metrics: s.parts.metrics, AccessKey: cfg.AccessKey,
		SecretKey: cfg.SecretKey, Identities: s.identities(), Buckets: s.buckets(), Objects: s.objects(), S3URL: s.s3URL(), Webhooks: s.parts.meta, Encryption: facts,
		Sessions: s.parts.meta, Journal: s.parts.meta, Logger: cfg.Logger, ReadyTimeout: cfg.ReadyWithin})
	if err != nil {
		return nil, err
	}
	return s, s.parts.metrics.Watch(facts)
}

// serves tells whether the process has a role.
func (s *Server) serves(role cairn.Roles) bool {
	return s.state.Member == nil || s.state.Member.Roles.Has(role)
}

// settings are what a joining node is given.
func (s *Server) settings() (join.Settings, error) {
	a := join.Settings{Profile: s.state.Profile, GossipKey: s.state.Member.GossipKey, AccessKey: s.cfg.AccessKey,
		SecretKey: s.cfg.SecretKey, Files: map[string][]byte{}}
	for name, path := range map[string]string{sealKeyName: filepath.Join(s.cfg.Directory.Path, sealKeyName), keysName: s.parts.keys.path} {
		b, err := os.ReadFile(path)
		if err != nil {
			return join.Settings{}, &cairn.Error{Op: "server.settings", Subject: path, Err: err}
		}
		a.Files[name] = b
	}
	return a, nil
}

// buckets are nil on a node that serves no clients.
func (s *Server) buckets() admin.Buckets {
	if s.parts.objects == nil {
		return nil
	}
	return s.parts.objects
}

// objects are nil on a node that serves no clients.
func (s *Server) objects() admin.Objects {
	if !s.serves(cairn.RoleGateway) {
		return nil
	}
	return s.parts.frontend
}

// s3URL is where clients find S3; "" on a node that serves none.
func (s *Server) s3URL() string {
	if s.s3 == nil {
		return ""
	}
	return s.S3Scheme() + "://" + s.S3Addr()
}

// identities are nil on a node that serves neither clients nor metadata: it is not given the key that opens them.
func (s *Server) identities() admin.Identities {
	if !knowsIdentities(s.state.Member) {
		return nil
	}
	return s.parts.identities
}

// KeepsRoot tells whether the process has the root credentials: one that only stores data has not.
func (s State) KeepsRoot() bool { return knowsIdentities(s.Member) }

func knowsIdentities(m *Member) bool {
	return m == nil || m.Roles&(cairn.RoleMeta|cairn.RoleGateway) != 0
}

// S3Scheme is "https" if S3 is served over TLS, else "http".
func (s *Server) S3Scheme() string {
	if s.cfg.TLSCert != "" {
		return "https"
	}
	return "http"
}

// S3Addr is the address that S3 is served at, host:port; empty if the process serves no clients.
func (s *Server) S3Addr() string {
	if s.s3 == nil {
		return ""
	}
	return s.s3.Addr().String()
}

// Member tells how the process takes part in a cluster; nil if it is the whole store.
func (s *Server) Member() *Member { return s.state.Member }

// AdminAddr is the address of the admin interface, host:port.
func (s *Server) AdminAddr() string { return s.admin.Addr().String() }

// Cluster is the ID of the cluster that the process belongs to, or is.
func (s *Server) Cluster() cairn.ClusterID { return s.state.Cluster }

// Profile is the profile of new volumes.
func (s *Server) Profile() cairn.Profile { return s.state.Profile }

// WaitReady returns when a write has succeeded, or ctx has ended.
func (s *Server) WaitReady(ctx context.Context) error {
	return s.waitReady(ctx, func(error) {})
}

// waitReady hands the reason of every failed try to why.
func (s *Server) waitReady(ctx context.Context, why func(error)) error {
	for {
		try, cancel := context.WithTimeout(ctx, s.cfg.ReadyWithin)
		err := s.probe.ready(try)
		cancel()
		if err == nil {
			return nil
		}
		why(err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(readyPoll):
		}
	}
}

// formatted notes, after the first write that ever succeeded, that metadata exists: a later start with empty drives must
// not begin anew as if nothing had been stored.
func (s *Server) formatted() error {
	state := s.state
	if state.Formatted {
		return nil
	}
	state.Formatted = true
	return s.cfg.Directory.Save(state)
}

// Run serves until ctx ends, and then stops in order: readiness first, then the frontends (requests under way may finish),
// then what works in the background, then metadata and drives. It returns nil after an orderly end.
func (s *Server) Run(ctx context.Context) error {
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBackground()
	inner, innerCtx := errgroup.WithContext(background)
	for _, part := range s.parts.loops(s.state) {
		inner.Go(func() error {
			err := part.run(innerCtx)
			if err != nil && innerCtx.Err() == nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
			return nil
		})
	}
	// A part that fails for good ends the process rather than leave it half alive.
	front, frontCtx := errgroup.WithContext(ctx)
	if s.s3 != nil {
		front.Go(func() error { return s.parts.frontend.Serve(frontCtx, s.s3) })
	}
	front.Go(func() error { return s.serveAdmin(frontCtx) })
	front.Go(func() error { return s.api.Run(frontCtx) })
	front.Go(func() error {
		last := s.started
		err := s.waitReady(frontCtx, func(why error) {
			if time.Since(last) > complainEvery { // a person waits for the greeting, and must learn why there is none
				last = time.Now()
				s.cfg.Logger.Warn("not ready yet", "err", why)
			}
		})
		if err == nil {
			s.cfg.Logger.Info("ready", "s3", s.S3Addr(), "admin", s.AdminAddr())
		}
		return nil // it was asked to stop before it was ready
	})
	front.Go(func() error {
		select {
		case <-frontCtx.Done():
			s.probe.stop()
			return nil
		case <-innerCtx.Done():
			return context.Cause(innerCtx)
		}
	})
	err := front.Wait()
	stopBackground()
	return errors.Join(err, inner.Wait(), s.close())
}

// serveAdmin keeps answering (not ready) until the S3 frontend may have drained.
func (s *Server) serveAdmin(ctx context.Context) error {
	srv := &http.Server{Handler: s.api, ReadHeaderTimeout: adminHeaderTime, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug)}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(s.admin) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDrainTimeout)
	defer cancel()
	err := srv.Shutdown(drain)
	if err != nil {
		err = srv.Close()
	}
	<-done
	return err
}

// close lets go of what Open took, in the reverse order.
func (s *Server) close() error {
	var errs []error
	if s.parts != nil {
		errs = append(errs, s.parts.close())
	}
	for _, l := range []net.Listener{s.s3, s.admin, s.cfg.Interconnect} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
