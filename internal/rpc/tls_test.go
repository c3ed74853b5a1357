package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/internal/rpc"
)

// site is a cluster's authority in a test.
type site struct {
	t         *testing.T
	cluster   cairn.ClusterID
	authority *rpc.Authority
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, cluster: cairn.NewID()}
	a, err := rpc.NewAuthority(s.cluster, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	key, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	if s.authority, err = rpc.LoadAuthority(a.CertPEM(), key); err != nil {
		t.Fatal(err)
	}
	return s
}

// issue makes a node's certificate as if the time were at.
func (s *site) issue(id rpc.Identity, at time.Time, life time.Duration) (cert, key []byte) {
	s.t.Helper()
	request, key, err := rpc.NewRequest()
	if err == nil {
		cert, err = s.authority.Sign(request, id, at, life)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return cert, key
}

func (s *site) node(roles cairn.Roles) *rpc.Credentials {
	return s.nodeAt(roles, time.Now())
}

func (s *site) nodeAt(roles cairn.Roles, at time.Time) *rpc.Credentials {
	s.t.Helper()
	cert, key := s.issue(rpc.Identity{Cluster: s.cluster, Node: cairn.NewID(), Roles: roles}, at, rpc.NodeLife)
	c, err := rpc.NewCredentials(s.authority.CertPEM(), cert, key)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// serve runs a Server with a handler that prints its caller, for data nodes below /data/ and anybody at /join.
func serve(t *testing.T, creds *rpc.Credentials) (addr string) {
	t.Helper()
	s := rpc.NewServer(creds, nil)
	s.Mount("/data/", cairn.RoleGateway, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := rpc.Caller(r)
		fmt.Fprint(w, id.Node, err)
	}))
	s.MountPublic("/join", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := rpc.Caller(r)
		fmt.Fprint(w, err)
	}))
	l, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, l)
}

// serveOn runs a Server until the test ends.
func serveOn(t *testing.T, s *rpc.Server, l net.Listener) (addr string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ask calls a node through a Dialer.
func ask(t *testing.T, from *rpc.Credentials, to cairn.NodeID, addr, path string) (string, error) {
	t.Helper()
	d := rpc.NewDialer(from)
	defer d.Close()
	d.SetNodes([]cairn.Node{{ID: to, Addr: addr}})
	return get(d, to, path)
}

func get(d *rpc.Dialer, to cairn.NodeID, path string) (string, error) {
	client, base, err := d.Peer(to)
	if err != nil {
		return "", err
	}
	r, err := client.Get(base + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	if err := rpc.ReadError(r); err != nil {
		return "", err
	}
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func TestNodesReachEachOther(t *testing.T) {
	s := newSite(t)
	server, gateway := s.node(cairn.RoleData), s.node(cairn.RoleGateway|cairn.RoleMeta)
	addr := serve(t, server)
	got, err := ask(t, gateway, server.Identity().Node, addr, "/data/x")
	if want := gateway.Identity().Node.String() + " <nil>"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := ask(t, gateway, server.Identity().Node, addr, "/elsewhere"); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a path that nobody serves: got %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s, other := newSite(t), newSite(t)
	server := s.node(cairn.RoleData)
	addr, id := serve(t, server), server.Identity().Node
	hour := time.Hour
	for _, tt := range []struct {
		name string
		from *rpc.Credentials
		to   cairn.NodeID
		want string
	}{
		{"another cluster", other.node(cairn.RoleGateway), id, "another cluster"},
		{"the wrong role", s.node(cairn.RoleData), id, "is for gateway"},
		{"another node at the address", s.node(cairn.RoleGateway), cairn.NewID(), "answers where node"},
		// The server refuses these in the handshake; the client sees that much.
		{"issued by a clock an hour ahead", s.nodeAt(cairn.RoleGateway, time.Now().Add(hour)), id, "certificate"},
		{"expired", s.nodeAt(cairn.RoleGateway, time.Now().Add(-rpc.NodeLife-hour)), id, "certificate"},
	} {
		got, err := ask(t, tt.from, tt.to, addr, "/data/x")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %q, %v, want an error with %q", tt.name, got, err, tt.want)
		}
	}
}

// The node whose clock is wrong learns it from its own check of the others' certificates.
func TestClockErrorsSayWhatToDo(t *testing.T) {
	s := newSite(t)
	for _, at := range []time.Time{time.Now().Add(time.Hour), time.Now().Add(-rpc.NodeLife - time.Hour)} {
		server := s.nodeAt(cairn.RoleData, at)
		_, err := ask(t, s.node(cairn.RoleGateway), server.Identity().Node, serve(t, server), "/data/x")
		if err == nil || !strings.Contains(err.Error(), "set the clocks") || !errors.Is(err, cairn.ErrForbidden) {
			t.Errorf("certificate of %v: got %v", at, err)
		}
	}
}

func TestStrangersGetNoFurtherThanJoin(t *testing.T) {
	s := newSite(t)
	addr := serve(t, s.node(cairn.AllRoles))
	bare := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer bare.CloseIdleConnections()
	for path, want := range map[string]error{"/join": nil, "/data/x": cairn.ErrForbidden, "/join/x": cairn.ErrForbidden, "/": cairn.ErrForbidden} {
		r, err := bare.Get("https://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := rpc.ReadError(r); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", path, err, want)
		}
		r.Body.Close()
	}
	if r, err := http.Get("http://" + addr + "/join"); err == nil {
		r.Body.Close()
		if r.StatusCode == http.StatusOK {
			t.Error("answered without TLS")
		}
	}
}

func TestRemovedNodeIsRefusedOnItsOpenConnection(t *testing.T) {
	s := newSite(t)
	server, gateway := s.node(cairn.RoleData), s.node(cairn.RoleGateway)
	addr := serve(t, server)
	d := rpc.NewDialer(gateway)
	defer d.Close()
	d.SetNodes([]cairn.Node{{ID: server.Identity().Node, Addr: addr}})
	if _, err := get(d, server.Identity().Node, "/data/x"); err != nil {
		t.Fatal(err)
	}
	rpc.NewDialer(server).SetNodes([]cairn.Node{{ID: gateway.Identity().Node, Addr: "x:1", State: cairn.NodeRemoved}})
	if _, err := get(d, server.Identity().Node, "/data/x"); !errors.Is(err, cairn.ErrForbidden) || !strings.Contains(err.Error(), "was removed") {
		t.Errorf("on the open connection: got %v", err)
	}
	if _, err := ask(t, gateway, server.Identity().Node, addr, "/data/x"); err == nil {
		t.Error("a new connection was accepted")
	}
	d.SetNodes([]cairn.Node{{ID: server.Identity().Node, Addr: addr, State: cairn.NodeRemoved}})
	if _, _, err := d.Peer(server.Identity().Node); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a removed node's client: got %v", err)
	}
}

func TestCertificatesRotateInUse(t *testing.T) {
	s := newSite(t)
	start := time.Now()
	server, gateway := s.node(cairn.RoleData), s.node(cairn.RoleGateway)
	if at, want := server.RenewAt(), start.Add(rpc.NodeLife*2/3); at.Sub(want).Abs() > time.Hour {
		t.Errorf("renewed at %v, want %v", at, want)
	}
	addr := serve(t, server)
	serial := func() string {
		c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if err := server.Replace(s.issue(server.Identity(), time.Now(), 2*rpc.NodeLife)); err != nil {
		t.Fatal(err)
	}
	if serial() == first {
		t.Error("new connections still get the first certificate")
	}
	if _, err := ask(t, gateway, server.Identity().Node, addr, "/data/x"); err != nil {
		t.Error(err)
	}
	stranger := newSite(t)
	if err := server.Replace(stranger.issue(server.Identity(), time.Now(), rpc.NodeLife)); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("a certificate of another authority: got %v", err)
	}
}

// A peer that accepts connections and says nothing holds no one for long; many of them hold no goroutine after Serve.
func TestSilentConnectionsEnd(t *testing.T) {
	s := newSite(t)
	l, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- rpc.NewServer(s.node(cairn.RoleData), nil).Serve(ctx, l) }()
	for range 8 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAddressesMove(t *testing.T) {
	s := newSite(t)
	server, gateway := s.node(cairn.RoleData), s.node(cairn.RoleGateway)
	id := server.Identity().Node
	d := rpc.NewDialer(gateway)
	defer d.Close()
	if _, _, err := d.Peer(id); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("before any node is known: got %v", err)
	}
	for range 2 { // each time at another port
		d.SetNodes([]cairn.Node{{ID: id, Addr: serve(t, server)}})
		if _, err := get(d, id, "/data/x"); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	good, _, err := rpc.NewRequest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := rpc.ParseRequest(b); err != nil && !errors.Is(err, cairn.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	})
}
