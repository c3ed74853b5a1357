//go:build e2e

package drill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn"
	"cairn/admin"
	"cairn/internal/process"
)

const (
	s3Port    = "9000"
	adminPort = "9001"
	nodePort  = "9002"

	startWithin = 2 * time.Minute // the whole cluster, on two cores
	patience    = 2 * time.Minute // for anything else that is waited for
	askTimeout  = 5 * time.Second
	pollEvery   = 100 * time.Millisecond
)

// shape is how many nodes of each kind a cluster has. A node has one role.
type shape struct {
	meta, data, gateways int
	profile              string
}

// node is one process in its own namespace.
type node struct {
	c     *cluster
	name  string
	port  int // of the fabric
	ns    string
	dir   string // its own
	drive string // its drive's directory; "" without the data role
	args  []string
	env   []string

	mu     sync.Mutex
	server *process.Server
}

// cluster is all nodes, on their fabric.
type cluster struct {
	t        *testing.T
	net      *fabric
	binary   string
	meta     []*node
	data     []*node
	gateways []*node
}

func (c *cluster) all() []*node {
	return append(append(append([]*node(nil), c.meta...), c.data...), c.gateways...)
}

// program is the program under test.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("CAIRN_BINARY")
	if path == "" {
		t.Fatal("CAIRN_BINARY does not name the binary: run make drill")
	}
	return path
}

// newCluster starts a cluster and waits until it is whole. disks names the drives of data nodes that do not live below the
// node's own directory, by the node's index.
func newCluster(t *testing.T, s shape, disks map[int]string) *cluster {
	t.Helper()
	c := &cluster{t: t, binary: program(t), net: newFabric(t)}
	root := t.TempDir()
	port := 0
	add := func(role string, n int) (list []*node) {
		for i := range n {
			port++
			m := &node{c: c, name: fmt.Sprintf("%s%d", role, i+1), port: port, ns: c.net.join(port)}
			m.dir = filepath.Join(root, m.name)
			m.args = []string{"--advertise", m.addr(nodePort), "--name", m.name, "--roles", role}
			if role == "data" {
				m.drive = filepath.Join(m.dir, "drive1")
				if d := disks[i]; d != "" {
					m.drive = d
					m.args = append(m.args, "--drive", d)
				}
			}
			list = append(list, m)
		}
		return list
	}
	c.meta, c.data, c.gateways = add("meta", s.meta), add("data", s.data), add("gateway", s.gateways)
	c.startAll(s)
	return c
}

// startAll starts the founder and the others side by side: it takes no writes before there are drives.
func (c *cluster) startAll(s shape) {
	c.t.Helper()
	first := c.meta[0]
	first.args = append(first.args, "--profile", s.profile)
	var wg sync.WaitGroup
	wg.Go(first.start)
	for _, n := range c.all()[1:] {
		n.args = append(n.args, "--join", first.addr(nodePort))
		n.env = []string{"CAIRN_TOKEN=" + first.token()}
		wg.Go(n.start)
	}
	wg.Wait()
	if c.t.Failed() {
		c.t.FailNow()
	}
	began := time.Now()
	c.await("a voter on every meta node, all drives ok", func(ctx context.Context) error {
		var st admin.Status
		if err := c.ask(ctx, "GET", "/api/v1/status", &st); err != nil {
			return err
		}
		up := map[string]bool{}
		for _, v := range st.Voters {
			if v.State == admin.VoterUp {
				up[v.Node] = true
			}
		}
		if len(up) < s.meta || len(st.Drives) < s.data || st.Health != admin.HealthOK {
			return fmt.Errorf("%d nodes with voters, %d drives, %s %q", len(up), len(st.Drives), st.Health, st.Reasons)
		}
		return nil
	})
	c.t.Logf("%d nodes are started, and whole after %v more", len(c.all()), time.Since(began).Round(pollEvery))
}

func (c *cluster) makeBucket() {
	c.t.Helper()
	s3 := c.gateways[0].client(c.t)
	c.await("bucket", func(ctx context.Context) error { return s3.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}) })
}

func (n *node) addr(port string) string { return n.c.net.addr(n.port) + ":" + port }

// start runs the node and waits until it is ready. It may run on any goroutine.
func (n *node) start() {
	args := append([]string{"--data", n.dir, "--admin-addr", n.addr(adminPort), "--s3-addr", n.addr(s3Port)}, n.args...)
	p, err := process.Start(n.c.t.Context(), process.Options{Binary: n.c.binary, Args: args, Env: n.env,
		Prefix: []string{"nsenter", "--net=/run/netns/" + n.ns}, Within: startWithin}) // ip netns exec would hide later mounts from it
	if err != nil {
		n.c.t.Errorf("%s: %v", n.name, err)
		return
	}
	n.mu.Lock()
	n.server = p
	n.mu.Unlock()
	n.c.t.Cleanup(func() {
		select {
		case <-p.Exited():
			return
		default:
		}
		if n.c.t.Failed() {
			n.c.t.Logf("%s's log:\n%s", n.name, p.Log())
		}
		p.Kill() // an orderly end is for other tests; the nodes go in any order here
	})
}

// restart starts a node that was killed with no flags but its directory's: what it is, it knows.
func (n *node) restart() {
	n.args, n.env = nil, nil
	n.start()
}

func (n *node) kill() { n.server.Kill() }

func (n *node) signal(s syscall.Signal) {
	if err := syscall.Kill(n.server.PID(), s); err != nil {
		n.c.t.Errorf("%s: signal %v: %v", n.name, s, err)
	}
}

// ask calls the admin interface of the first node that answers; nodes that are under a fault do not.
func (c *cluster) ask(ctx context.Context, method, path string, v any) error {
	var errs []error
	for _, n := range append(append([]*node(nil), c.gateways...), c.meta...) {
		err := n.ask(ctx, method, path, v)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", n.name, err))
	}
	return errors.Join(errs...)
}

func (n *node) ask(ctx context.Context, method, path string, v any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.addr(adminPort)+path, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(process.AccessKey, process.SecretKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, strings.TrimSpace(string(b)))
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	return err
}

func (n *node) token() string {
	n.c.t.Helper()
	var k admin.NewToken
	n.c.await("a token", func(ctx context.Context) error {
		return n.ask(ctx, "POST", "/api/v1/tokens?expires=1h&roles=meta,data,gateway", &k)
	})
	return k.Token
}

// await tries until it works, for as long as patience lasts.
func (c *cluster) await(what string, try func(context.Context) error) {
	c.t.Helper()
	if err := c.tryFor(patience, try); err != nil {
		c.t.Fatalf("no %s: %v", what, err)
	}
}

// tryFor tries until it works, or returns the last error.
func (c *cluster) tryFor(d time.Duration, try func(context.Context) error) error {
	return c.tryEvery(pollEvery, d, try)
}

func (c *cluster) tryEvery(every, d time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(every):
		}
	}
}

// nodeStates are the committed states by name.
func (c *cluster) nodeStates(ctx context.Context) (map[string]cairn.Node, error) {
	var nodes []cairn.Node
	if err := c.ask(ctx, "GET", "/api/v1/nodes", &nodes); err != nil {
		return nil, err
	}
	byName := map[string]cairn.Node{}
	for _, n := range nodes {
		byName[n.Name] = n
	}
	return byName, nil
}

// leader is the meta node beside which the metadata's leader lives.
func (c *cluster) leader() (found *node, err error) {
	err = c.tryFor(patience, func(ctx context.Context) error {
		found, err = c.leaderNow(ctx)
		return err
	})
	return found, err
}

func (c *cluster) leaderNow(ctx context.Context) (*node, error) {
	var st admin.Status
	if err := c.ask(ctx, "GET", "/api/v1/status", &st); err != nil {
		return nil, err
	}
	nodes, err := c.nodeStates(ctx)
	if err != nil {
		return nil, err
	}
	for _, v := range st.Voters {
		for _, m := range c.meta {
			if v.Leader && nodes[m.name].ID.String() == v.Node {
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("no leader among the voters %+v", st.Voters)
}

// whole returns nil when every node is up, every drive ok and no damage is known.
func (c *cluster) whole(ctx context.Context) error {
	nodes, err := c.nodeStates(ctx)
	if err != nil {
		return err
	}
	for name, n := range nodes {
		if n.State != cairn.NodeUp {
			return fmt.Errorf("%s is %s: %s", name, n.State, n.Reason)
		}
	}
	var st admin.Status
	if err := c.ask(ctx, "GET", "/api/v1/status", &st); err != nil {
		return err
	}
	if st.Health != admin.HealthOK {
		return fmt.Errorf("%s: %q", st.Health, st.Reasons)
	}
	return nil
}

// driveState is the committed state of a node's only drive.
func (c *cluster) driveState(ctx context.Context, n *node) (cairn.DriveState, string, error) {
	var drives []cairn.Drive
	if err := c.ask(ctx, "GET", "/api/v1/drives", &drives); err != nil {
		return 0, "", err
	}
	for _, d := range drives {
		if d.Path == n.drive && !d.Retired {
			return d.State, d.Reason, nil
		}
	}
	return 0, "", fmt.Errorf("%s's drive is not listed", n.name)
}
