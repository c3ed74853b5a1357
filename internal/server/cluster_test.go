package server

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn"
)

const (
	testAccess = "cluster-root"
	testSecret = "cluster-secret"
	patience   = 60 * time.Second
)

// testNode is a node of a cluster in this process; the interconnect between nodes is the real one.
type testNode struct {
	t    *testing.T
	dir  string
	srv  *Server
	stop func()
}

// startNode starts what dir is, or what wish makes of it, and does not wait until it is ready.
func startNode(t *testing.T, dir string, wish Enlist) (*testNode, error) {
	t.Helper()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	if wish.Advertise == "" && d.State == nil {
		wish.Advertise = "127.0.0.1:0"
	}
	e, err := d.Enlist(t.Context(), wish)
	if err != nil {
		d.Close()
		return nil, err
	}
	cfg := Config{Directory: d, S3Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0", AccessKey: testAccess, SecretKey: testSecret, Interconnect: e.Listener,
		Settle: time.Second}
	if !d.State.KeepsRoot() {
		cfg.AccessKey, cfg.SecretKey = "", ""
	}
	if os.Getenv("CAIRN_TEST_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", filepath.Base(dir))
	}
	n := &testNode{t: t, dir: dir}
	if n.srv, err = Open(cfg); err != nil {
		d.Close()
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.srv.Run(ctx) }()
	stopped := false
	n.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s ended badly: %v", filepath.Base(dir), err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { n.stop() })
	return n, nil
}

func mustStart(t *testing.T, dir string, wish Enlist) *testNode {
	t.Helper()
	n, err := startNode(t, dir, wish)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *testNode) waitReady() *testNode {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	var last error
	if err := n.srv.waitReady(ctx, func(err error) { last = err }); err != nil {
		n.t.Fatalf("%s is not ready: %v", filepath.Base(n.dir), last)
	}
	return n
}

// token makes one, as soon as the node's metadata can be written.
func (n *testNode) token(roles cairn.Roles) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	f := &facts{server: n.srv, parts: n.srv.parts}
	for {
		k, err := f.CreateToken(ctx, roles, time.Hour)
		if err == nil {
			return k.Token
		}
		if ctx.Err() != nil {
			n.t.Fatal(err)
		}
	}
}

// join adds a node to n's cluster.
func (n *testNode) join(name string, roles cairn.Roles) *testNode {
	n.t.Helper()
	wish := Enlist{Name: name, Roles: roles, Zone: "z-" + name, Join: n.addr(), Token: n.token(roles)}
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	for {
		m, err := startNode(n.t, filepath.Join(filepath.Dir(n.dir), name), wish)
		if err == nil {
			return m
		}
		if !errors.Is(err, cairn.ErrUnavailable) || ctx.Err() != nil { // it is refused until the first node's row is there
			n.t.Fatal(err)
		}
	}
}

func (n *testNode) addr() string { return n.srv.Member().Addr }

func (n *testNode) s3() *minio.Client {
	n.t.Helper()
	c, err := minio.New(n.srv.S3Addr(), &minio.Options{Creds: credentials.NewStaticV4(testAccess, testSecret, "")})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func put(t *testing.T, n *testNode, key string, body []byte) {
	t.Helper()
	if _, err := n.s3().PutObject(t.Context(), "bucket", key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{}); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func checkGet(t *testing.T, n *testNode, key string, want []byte) {
	t.Helper()
	o, err := n.s3().GetObject(t.Context(), "bucket", key, minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if got, err := io.ReadAll(o); err != nil || !bytes.Equal(got, want) {
		t.Errorf("get %s at %s: %d bytes, %v, want %d", key, filepath.Base(n.dir), len(got), err, len(want))
	}
}

func randomBytes(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	rand.NewChaCha8(key).Read(b)
	return b
}

// One node with metadata, three that store, one that only serves clients: any of the two gateways answers with what was
// written through the other, every blob lies on three nodes, and losing one of them loses nothing.
func TestClusterOfRoles(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Roles: cairn.RoleMeta | cairn.RoleGateway,
		Drives: Wish{Profile: cairn.Profile{K: 2, M: 1}}})
	var stores []*testNode
	for _, name := range []string{"d1", "d2", "d3"} {
		stores = append(stores, first.join(name, cairn.RoleData))
	}
	gateway := first.join("gateway", cairn.RoleGateway)
	first.waitReady()
	gateway.waitReady()
	if err := first.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	small, large := randomBytes(1, 100), randomBytes(2, 9<<20)
	put(t, first, "small", small)
	put(t, gateway, "large", large)
	for _, n := range []*testNode{first, gateway} {
		checkGet(t, n, "small", small)
		checkGet(t, n, "large", large)
	}
	on := map[cairn.NodeID]bool{}
	for _, v := range volumesOf(t, first) {
		if v.Profile != (cairn.Profile{K: 2, M: 1}) {
			continue
		}
		for _, d := range v.Slots {
			node, _ := first.srv.parts.view.Owner(d)
			on[node] = true
		}
	}
	if len(on) != 3 {
		t.Errorf("volumes lie on %d nodes, want 3", len(on))
	}
	for _, n := range []*testNode{first, gateway} {
		checkDrives(t, n, map[string]bool{"d1": true, "d2": true, "d3": true})
	}
	f := &facts{server: first.srv, parts: first.srv.parts}
	if err := f.RemoveVoter(t.Context(), first.srv.state.Node); !errors.Is(err, cairn.ErrPrecondition) {
		t.Errorf("the last voter's removal: got %v, want a refusal", err)
	}
	stores[1].stop()
	checkDrives(t, first, map[string]bool{"d1": true, "d2": false, "d3": true})
	checkGet(t, first, "large", large)
	checkGet(t, gateway, "large", large)
	put(t, gateway, "later", large) // k+1 of a narrower volume, or a quorum of this one
	checkGet(t, first, "later", large)
	again := mustStart(t, stores[1].dir, Enlist{}) // no flags: what it is, it knows
	if again.addr() != stores[1].addr() || again.srv.Member().Name != "d2" {
		t.Errorf("restarted as %+v", again.srv.Member())
	}
	again.waitReady()
}

// checkDrives waits until a node's status shows each data node's drive, and whether it can be written.
func checkDrives(t *testing.T, n *testNode, want map[string]bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	f := &facts{server: n.srv, parts: n.srv.parts}
	for {
		st, err := f.Status(ctx)
		got := map[string]bool{}
		for _, d := range st.Drives {
			got[d.Node] = d.State.Writable()
		}
		if err == nil && maps.Equal(got, want) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("%s shows %v, %v, want %v", filepath.Base(n.dir), got, err, want)
		}
		time.Sleep(50 * time.Millisecond) // a poll: there is nothing to wait on across nodes
	}
}

func volumesOf(t *testing.T, n *testNode) []cairn.Volume {
	t.Helper()
	list, err := n.srv.parts.meta.Volumes(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A store of one process becomes the first node of a cluster by a restart, with what it holds.
func TestStoreBecomesCluster(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "first")
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Settle(nil, Wish{Drives: 4})
	if err == nil {
		err = errors.Join(d.Save(s), d.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	first := mustStart(t, dir, Enlist{Advertise: "127.0.0.1:0"})
	if got := first.srv.state; got.Cluster != s.Cluster || got.Node != s.Node || len(got.Made) != 4 || got.Profile != s.Profile {
		t.Errorf("became %+v, was %+v", got, s)
	}
	first.waitReady()
	gateway := first.join("gateway", cairn.RoleGateway).waitReady()
	if err := gateway.s3().MakeBucket(t.Context(), "bucket", minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	body := randomBytes(3, 1<<20)
	put(t, gateway, "k", body)
	checkGet(t, first, "k", body)
}

func TestEnlistRefusals(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Drives: Wish{Profile: cairn.Profile{K: 1}}})
	member := first.join("member", cairn.RoleData)
	member.stop()
	store := filepath.Join(root, "store")
	d, err := OpenDirectory(store)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Settle(nil, Wish{})
	if err := errors.Join(err, d.Save(s), d.Close()); err != nil {
		t.Fatal(err)
	}
	other := mustStart(t, filepath.Join(root, "other"), Enlist{Drives: Wish{Profile: cairn.Profile{K: 1}}})
	fresh := func() string { return filepath.Join(root, cairn.NodeID(cairn.NewID()).String()) }
	for _, tt := range []struct {
		name string
		dir  string
		wish Enlist
		want string
	}{
		{"no token", fresh(), Enlist{Join: first.addr()}, "--join needs --token"},
		{"a broken token", fresh(), Enlist{Join: first.addr(), Token: "cairn-join-1-x"}, "copy the whole line"},
		{"a store of its own", store, Enlist{Join: first.addr(), Token: first.token(cairn.RoleData)}, "joins no other"},
		{"a member of another cluster", member.dir, Enlist{Join: other.addr(), Token: other.token(cairn.RoleData)}, "give an empty directory"},
		{"another cluster's token", fresh(), Enlist{Join: first.addr(), Token: other.token(cairn.AllRoles)}, "not of the token's cluster"},
		{"other roles", member.dir, Enlist{Roles: cairn.RoleGateway}, "do not change"},
		{"a first node without metadata", fresh(), Enlist{Roles: cairn.RoleData}, "needs the role meta"},
		{"an address of nobody", fresh(), Enlist{Advertise: "0.0.0.0"}, "cannot reach that"},
		{"a name with a space", fresh(), Enlist{Name: "my node"}, "without spaces"},
		{"an address in use", fresh(), Enlist{Advertise: first.addr()}, "--interconnect-addr"},
	} {
		n, err := startNode(t, tt.dir, tt.wish)
		if err == nil {
			n.stop()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	// With its old flags a member restarts: the unit file need not change.
	again := mustStart(t, member.dir, Enlist{Join: first.addr(), Token: first.token(cairn.RoleData), Roles: cairn.RoleData})
	if again.srv.state.Node != member.srv.state.Node {
		t.Error("it became another node")
	}
}
