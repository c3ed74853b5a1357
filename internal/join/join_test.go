package join_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cairn"
	"cairn/internal/join"
	"cairn/internal/rpc"
	"cairn/meta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is one node of the meta role that lets others in.
type cluster struct {
	t         *testing.T
	id        cairn.ClusterID
	authority *rpc.Authority
	creds     *rpc.Credentials
	meta      *meta.Store
	addr      string
}

var settings = join.Settings{Profile: cairn.Profile{K: 2, M: 1}, GossipKey: []byte("gossip"), AccessKey: "root", SecretKey: "secret",
	Files: map[string][]byte{"identity.key": []byte("seal")}}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, id: cairn.NewID(), meta: newMeta(t)}
	var err error
	if c.authority, err = rpc.NewAuthority(c.id, time.Now()); err != nil {
		t.Fatal(err)
	}
	csr, key, err := rpc.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	own := cairn.Node{ID: cairn.NewID(), Name: "first", Addr: "127.0.0.1:1", Roles: cairn.AllRoles}
	cert, err := c.authority.Sign(csr, rpc.Identity{Cluster: c.id, Node: own.ID, Roles: own.Roles}, time.Now(), rpc.NodeLife)
	if err != nil {
		t.Fatal(err)
	}
	if c.creds, err = rpc.NewCredentials(c.authority.CertPEM(), cert, key); err != nil {
		t.Fatal(err)
	}
	if _, err := c.meta.PutNode(t.Context(), own); err != nil {
		t.Fatal(err)
	}
	s := rpc.NewServer(c.creds, nil)
	s.MountPublic(join.Path, join.NewDoor(join.DoorConfig{Cluster: c.id, Authority: c.authority, Rows: c.meta, Settings: func() (join.Settings, error) { return settings, nil }}))
	s.Mount(join.RenewPath, cairn.AllRoles, &join.Renewals{Cluster: c.id, Authority: c.authority, Rows: c.meta})
	l := listen(t)
	c.addr = l.Addr().String()
	run(t, func(ctx context.Context) error { return s.Serve(ctx, l) })
	return c
}

func newMeta(t *testing.T) *meta.Store {
	t.Helper()
	home := filepath.Join(t.TempDir(), "drive")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := meta.Open(meta.Config{Homes: []meta.Home{{Drive: cairn.NewID(), Dir: home, Usable: true}}, Voters: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	run(t, m.Run)
	if err := m.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// run runs f until the test ends.
func run(t *testing.T, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := rpc.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// token makes one that was created age ago and lives for an hour.
func (c *cluster) token(roles cairn.Roles, age time.Duration) join.Token {
	c.t.Helper()
	k := join.NewToken(c.id, c.authority.Fingerprint())
	created := time.Now().Add(-age)
	err := c.meta.CreateToken(c.t.Context(), meta.Token{Hash: join.SecretHash(k.Secret[:]), Roles: roles, Created: created, Expires: created.Add(time.Hour)})
	if err != nil {
		c.t.Fatal(err)
	}
	return k
}

// ask is a good request of a new node.
func (c *cluster) ask(k join.Token, roles cairn.Roles) join.Ask {
	c.t.Helper()
	_, key, err := rpc.NewRequest()
	if err != nil {
		c.t.Fatal(err)
	}
	l := listen(c.t)
	return join.Ask{Addr: c.addr, Token: k, KeyPEM: key, Listener: l,
		Node: cairn.Node{ID: cairn.NewID(), Addr: l.Addr().String(), Roles: roles, Format: cairn.FormatVersion}}
}

func TestJoin(t *testing.T) {
	c := newCluster(t)
	for _, tt := range []struct {
		roles       cairn.Roles
		lets, knows bool // others in; the root credentials
	}{
		{cairn.RoleData, false, false},
		{cairn.RoleGateway, false, true},
		{cairn.RoleMeta | cairn.RoleData, true, true},
	} {
		q := c.ask(c.token(cairn.AllRoles, 0), tt.roles)
		a, err := q.Do(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		creds, err := rpc.NewCredentials(a.Authority, a.Cert, q.KeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		if want := (rpc.Identity{Cluster: c.id, Node: q.Node.ID, Roles: tt.roles}); creds.Identity() != want {
			t.Errorf("%s: got %v, want %v", tt.roles, creds.Identity(), want)
		}
		if a.Settings.Profile != settings.Profile || string(a.Settings.GossipKey) != "gossip" || (a.Settings.SecretKey == "secret") != tt.knows || (len(a.Settings.Files) == 1) != tt.knows {
			t.Errorf("%s: settings %+v", tt.roles, a.Settings)
		}
		if (len(a.AuthorityKey) > 0) != tt.lets {
			t.Errorf("%s: the authority's key: %d bytes", tt.roles, len(a.AuthorityKey))
		}
		if a.Node.State != cairn.NodeJoining || a.Node.Epoch != 1 || len(a.Nodes) < 2 {
			t.Errorf("%s: node %+v among %d", tt.roles, a.Node, len(a.Nodes))
		}
		if again, err := q.Do(t.Context()); err != nil || again.Node.ID != a.Node.ID {
			t.Errorf("%s: asked again, as if the answer had been lost: %+v, %v", tt.roles, again.Node, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	c, other := newCluster(t), newCluster(t)
	used := c.token(cairn.RoleData, 0)
	if _, err := c.ask(used, cairn.RoleData).Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := func() join.Ask { return c.ask(c.token(cairn.RoleData, 0), cairn.RoleData) }
	with := func(change func(*join.Ask)) join.Ask { q := fresh(); change(&q); return q }
	for _, tt := range []struct {
		name string
		ask  join.Ask
		kind error
		want string // what, and what to do
	}{
		{"a wrong secret", with(func(q *join.Ask) { q.Token.Secret[3] ^= 1 }), cairn.ErrForbidden, "make a new one"},
		{"an expired token", c.ask(c.token(cairn.RoleData, 2*time.Hour), cairn.RoleData), cairn.ErrForbidden, "expired at"},
		{"a used token", c.ask(used, cairn.RoleData), cairn.ErrForbidden, "works once"},
		{"a role beyond the token", c.ask(c.token(cairn.RoleData, 0), cairn.RoleMeta), cairn.ErrForbidden, "is for the roles data"},
		{"another cluster's token", c.ask(other.token(cairn.RoleData, 0), cairn.RoleData), cairn.ErrForbidden, "not of the token's cluster"},
		{"another cluster's name with this authority", with(func(q *join.Ask) { q.Token.Cluster[0] ^= 1 }), cairn.ErrForbidden, "the token of"},
		{"a clock an hour ahead", with(func(q *join.Ask) { q.Now = func() time.Time { return time.Now().Add(time.Hour) } }), cairn.ErrInvalid, "1h0m0s ahead of"},
		{"a clock four minutes behind", with(func(q *join.Ask) { q.Now = func() time.Time { return time.Now().Add(-4 * time.Minute) } }), cairn.ErrInvalid, "4m0s behind"},
		{"a clock an hour behind", with(func(q *join.Ask) { q.Now = func() time.Time { return time.Now().Add(-time.Hour) } }), cairn.ErrForbidden, "set the clocks"},
		{"nobody at the advertised address", with(func(q *join.Ask) { q.Node.Addr = deadAddr(t) }), cairn.ErrUnavailable, "check --advertise"},
		{"somebody else at the advertised address", with(func(q *join.Ask) { q.Node.Addr = other.addr }), cairn.ErrUnavailable, "somebody else answers"},
		{"an address without a port", with(func(q *join.Ask) { q.Node.Addr = "localhost" }), cairn.ErrInvalid, "advertised address"},
		{"a later format", with(func(q *join.Ask) { q.Node.Format = cairn.FormatVersion + 1 }), cairn.ErrInvalid, "same release"},
		{"a name in use", with(func(q *join.Ask) { q.Node.Name = "first" }), cairn.ErrExists, "first"},
		{"nobody at --join", with(func(q *join.Ask) { q.Addr = deadAddr(t) }), cairn.ErrUnavailable, "check --join"},
		{"no key", with(func(q *join.Ask) { q.KeyPEM = []byte("x") }), cairn.ErrCorrupt, "no key"},
	} {
		before, err := c.meta.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = tt.ask.Do(t.Context())
		if cairn.Kind(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %v with %q", tt.name, err, tt.kind, tt.want)
		}
		if after, err := c.meta.Nodes(t.Context()); err != nil || len(after) != len(before) {
			t.Errorf("%s: %d rows became %d, %v", tt.name, len(before), len(after), err)
		}
	}
	// What was refused for another reason than its token can be put right, and joins with the same token.
	q := with(func(q *join.Ask) { q.Node.Addr = deadAddr(t) })
	if _, err := q.Do(t.Context()); !errors.Is(err, cairn.ErrUnavailable) {
		t.Fatal(err)
	}
	q.Node.Addr = q.Listener.Addr().String()
	if _, err := q.Do(t.Context()); err != nil {
		t.Errorf("after --advertise was put right: %v", err)
	}
}

// deadAddr is an address at which nobody listens.
func deadAddr(t *testing.T) string {
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func TestOneTokenAdmitsOneOfMany(t *testing.T) {
	c := newCluster(t)
	k := c.token(cairn.RoleData, 0)
	var wg sync.WaitGroup
	errs := make(chan error, 6)
	for range cap(errs) {
		q := c.ask(k, cairn.RoleData)
		wg.Go(func() {
			_, err := q.Do(t.Context())
			errs <- err
		})
	}
	wg.Wait()
	close(errs)
	won := 0
	for err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, cairn.ErrForbidden) {
			t.Errorf("got %v", err)
		}
	}
	if won != 1 {
		t.Errorf("%d joined, want 1", won)
	}
}

func TestGuessingIsSlow(t *testing.T) {
	c := newCluster(t)
	for range 100 {
		q := c.ask(join.NewToken(c.id, c.authority.Fingerprint()), cairn.RoleData)
		_, err := q.Do(t.Context())
		if errors.Is(err, cairn.ErrOverloaded) {
			return
		}
		if !errors.Is(err, cairn.ErrForbidden) {
			t.Fatal(err)
		}
	}
	t.Error("a hundred guesses in a row were answered")
}

func TestRenewal(t *testing.T) {
	c := newCluster(t)
	q := c.ask(c.token(cairn.RoleData, 0), cairn.RoleData)
	a, err := q.Do(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	creds, err := rpc.NewCredentials(a.Authority, a.Cert, q.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	d := rpc.NewDialer(creds)
	defer d.Close()
	first := c.creds.Identity().Node
	d.SetNodes([]cairn.Node{{ID: first, Addr: c.addr}})
	csr, key, err := rpc.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := join.SignAt(t.Context(), d, []cairn.NodeID{cairn.NewID(), first}, csr) // the first of them is not there
	if err != nil {
		t.Fatal(err)
	}
	if err := creds.Replace(cert, key); err != nil || creds.Identity().Node != q.Node.ID || creds.Identity().Roles != cairn.RoleData {
		t.Errorf("got %v, %v", creds.Identity(), err)
	}
	if _, err := c.meta.RemoveNode(t.Context(), q.Node.ID, a.Node.Epoch, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := join.SignAt(t.Context(), d, []cairn.NodeID{first}, csr); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("a removed node's renewal: got %v", err)
	}
}
