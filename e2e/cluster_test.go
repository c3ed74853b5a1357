//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn"
	"cairn/admin"
	"cairn/internal/process"
)

const clusterPatience = 2 * time.Minute

// member is one node of a cluster of real processes on loopback.
type member struct {
	t                     *testing.T
	name, dir             string
	s3Addr, adminAddr     string
	addr                  string   // of the interconnect
	args                  []string // behind --data
	env                   []string
	server                *process.Server
	serves, carriesVoters bool
}

// clusterOf starts a cluster of n nodes: n1 makes it, the others join. Nodes n1 to n3 have all roles, the rest store.
func clusterOf(t *testing.T, n int, profile string) []*member { return fleetOf(t, n, 3, profile) }

// fleetOf is clusterOf with so many nodes of all roles.
func fleetOf(t *testing.T, n, serving int, profile string) []*member {
	t.Helper()
	root := t.TempDir()
	var all []*member
	for i := range n {
		m := &member{t: t, name: fmt.Sprintf("n%d", i+1), serves: i < serving, carriesVoters: i < serving, addr: freeAddr(t), s3Addr: freeAddr(t), adminAddr: freeAddr(t)}
		m.dir = filepath.Join(root, m.name)
		roles := "data"
		if m.serves {
			roles = "meta,data,gateway"
		}
		m.args = []string{"--advertise", m.addr, "--name", m.name, "--zone", "zone-" + m.name, "--roles", roles}
		all = append(all, m)
	}
	first := all[0]
	first.args = append(first.args, "--profile", profile)
	// The first node takes no writes before the others are there, so all are started side by side.
	var wg sync.WaitGroup
	wg.Go(first.start)
	for _, m := range all[1:] {
		m.args = append(m.args, "--join", first.addr)
		m.env = []string{"CAIRN_TOKEN=" + first.token()}
	}
	for _, m := range all[1:] {
		wg.Go(m.start)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	if err := first.client().MakeBucket(t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		t.Fatal(err)
	}
	return all
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs the node and waits until it is ready. It may run on any goroutine.
func (m *member) start() {
	args := append([]string{"--data", m.dir, "--admin-addr", m.adminAddr, "--s3-addr", m.s3Addr}, m.args...)
	p, err := process.Start(m.t.Context(), process.Options{Binary: program(m.t), Args: args, Env: m.env})
	if err != nil {
		m.t.Errorf("%s: %v", m.name, err)
		return
	}
	m.server = p
	m.t.Cleanup(func() {
		select {
		case <-p.Exited():
			return
		default:
		}
		if m.t.Failed() {
			m.t.Logf("%s's log:\n%s", m.name, p.Log())
		}
		if err := p.Stop(); err != nil {
			m.t.Error(err)
		}
	})
}

// restart starts the node again without any flag but its directory's: what it is, it knows.
func (m *member) restart() {
	m.t.Helper()
	m.args, m.env = nil, nil
	m.start()
	if m.t.Failed() {
		m.t.FailNow()
	}
}

func (m *member) ask(method, path string, v any) error {
	req, err := http.NewRequestWithContext(m.t.Context(), method, "http://"+m.adminAddr+path, nil)
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
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	if err == nil {
		err = json.Unmarshal(b, v)
	}
	return err
}

// until asks again and again, until ok accepts the answer.
func until[T any](m *member, what, path string, ok func(T) bool) T {
	m.t.Helper()
	began := time.Now()
	for {
		var v T
		err := m.ask("GET", path, &v)
		if err == nil && ok(v) {
			m.t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
			return v
		}
		if time.Since(began) > clusterPatience {
			b, _ := json.MarshalIndent(v, "", " ")
			m.t.Fatalf("not %s: %v, %s", what, err, b)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *member) token() string {
	m.t.Helper()
	began := time.Now()
	for {
		var k admin.NewToken
		err := m.ask("POST", "/api/v1/tokens?expires=1h&roles=meta,data,gateway", &k)
		if err == nil {
			return k.Token
		}
		if time.Since(began) > clusterPatience {
			m.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *member) client() *minio.Client {
	m.t.Helper()
	c, err := minio.New(m.s3Addr, &minio.Options{Creds: credentials.NewStaticV4(process.AccessKey, process.SecretKey, "")})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// fleetLoad writes objects through gateways, reads them back through others, and compares.
type fleetLoad struct {
	t      *testing.T
	stop   context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	sums   map[string][sha256.Size]byte
	ops    int
	failed []error
	worst  time.Duration
}

func startLoad(t *testing.T, name string, gateways ...*member) *fleetLoad {
	ctx, cancel := context.WithCancel(t.Context())
	l := &fleetLoad{t: t, stop: cancel, sums: map[string][sha256.Size]byte{}}
	for w := range 3 {
		put, get := gateways[w%len(gateways)].client(), gateways[(w+1)%len(gateways)].client()
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("%s/%d/%d", name, w, i)
				body := content(uint64(w)<<32|uint64(i), []int{100, 70_000, 3_000_000}[i%3])
				l.op(key, func() error { return putOne(t, put, key, body) })
				l.mu.Lock()
				l.sums[key] = sha256.Sum256(body)
				l.mu.Unlock()
				l.op(key, func() error { return getOne(t, get, key, sha256.Sum256(body)) })
			}
		})
	}
	return l
}

// op runs one operation to its end: only the test's end interrupts it. The client repeats what is answered with 503.
func (l *fleetLoad) op(key string, f func() error) {
	began := time.Now()
	err := f()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops++
	l.worst = max(l.worst, time.Since(began))
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s: %w", key, err))
	}
}

// more waits for n more operations.
func (l *fleetLoad) more(n int) {
	l.t.Helper()
	l.mu.Lock()
	want := l.ops + n
	l.mu.Unlock()
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		ops := l.ops
		l.mu.Unlock()
		if ops >= want {
			return
		}
		if time.Since(began) > clusterPatience {
			l.t.Fatalf("the load stands at %d operations, want %d", ops, want)
		}
	}
}

// end stops the load and judges it.
func (l *fleetLoad) end(what string) {
	l.t.Helper()
	l.stop()
	l.wg.Wait()
	l.t.Logf("%s: %d operations, %d failed, the longest took %v", what, l.ops, len(l.failed), l.worst.Round(time.Millisecond))
	if len(l.failed) > 0 {
		l.t.Errorf("%s: %v", what, errors.Join(l.failed[:min(5, len(l.failed))]...))
	}
}

func putOne(t *testing.T, c *minio.Client, key string, body []byte) error {
	_, err := c.PutObject(t.Context(), bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{})
	return err
}

func getOne(t *testing.T, c *minio.Client, key string, want [sha256.Size]byte) error {
	o, err := c.GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return err
	}
	defer o.Close()
	h := sha256.New()
	if _, err := io.Copy(h, o); err != nil {
		return err
	}
	if got := [sha256.Size]byte(h.Sum(nil)); got != want {
		return errors.New("WRONG BYTES")
	}
	return nil
}

// checkAll reads everything that was acknowledged.
func (l *fleetLoad) checkAll(m *member) {
	l.t.Helper()
	c := m.client()
	for key, sum := range l.sums {
		if err := getOne(l.t, c, key, sum); err != nil {
			l.t.Errorf("at %s: %s: %v", m.name, key, err)
		}
	}
}

func stateOf(nodes []cairn.Node, name string) cairn.NodeState {
	for _, n := range nodes {
		if n.Name == name {
			return n.State
		}
	}
	return cairn.NodeRemoved
}

// Seven processes, 4+2 over seven nodes, voters on three of them: a data node and then the metadata's leader are killed with
// SIGKILL under load. No client sees an error, every byte that was acknowledged reads back through every gateway, and the
// cluster is whole again when they return.
func TestClusterLosesNodes(t *testing.T) {
	all := clusterOf(t, 7, "4+2")
	first := all[0]
	until(first, "voters on three nodes", "/api/v1/status", func(st admin.Status) bool {
		on := map[string]bool{}
		for _, v := range st.Voters {
			if v.State == admin.VoterUp {
				on[v.Node] = true
			}
		}
		return len(on) == 3
	})
	until(first, "healthy", "/api/v1/status", func(st admin.Status) bool { return st.Health == admin.HealthOK && len(st.Drives) == 7 })

	load := startLoad(t, "data", all[:3]...)
	load.more(60)
	all[5].server.Kill()
	load.more(30)
	until(first, "n6 is down", "/api/v1/nodes", func(nodes []cairn.Node) bool { return stateOf(nodes, "n6") == cairn.NodeDown })
	load.more(60)
	all[5].restart()
	until(first, "n6 is up", "/api/v1/nodes", func(nodes []cairn.Node) bool { return stateOf(nodes, "n6") == cairn.NodeUp })
	load.more(30)
	load.end("with a data node killed")
	until(first, "healthy again", "/api/v1/status", func(st admin.Status) bool { return st.Health == admin.HealthOK })
	load.checkAll(all[1])

	leader, others := leaderOf(t, all)
	load = startLoad(t, "leader", others...)
	load.more(60)
	leader.server.Kill()
	load.more(90)
	leader.restart()
	load.more(30)
	load.end("with the metadata's leader killed")
	until(others[0], "healthy again", "/api/v1/status", func(st admin.Status) bool { return st.Health == admin.HealthOK })
	for _, m := range all[:3] {
		load.checkAll(m)
	}
}

// leaderOf finds the member beside which the metadata's leader lives, and the other gateways.
func leaderOf(t *testing.T, all []*member) (leader *member, others []*member) {
	t.Helper()
	st := until(all[0], "a leader", "/api/v1/status", func(st admin.Status) bool {
		for _, v := range st.Voters {
			if v.Leader {
				return true
			}
		}
		return false
	})
	var nodes []cairn.Node
	if err := all[0].ask("GET", "/api/v1/nodes", &nodes); err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, v := range st.Voters {
		for _, n := range nodes {
			if v.Leader && n.ID.String() == v.Node {
				name = n.Name
			}
		}
	}
	for _, m := range all {
		if !m.serves {
			continue
		}
		if m.name == name {
			leader = m
		} else {
			others = append(others, m)
		}
	}
	if leader == nil {
		t.Fatalf("the leader is on %q: %+v", name, st.Voters)
	}
	return leader, others
}

// What a person gets wrong when adding a node is refused with what, why, and what to do.
func TestNodeRefusals(t *testing.T) {
	root := t.TempDir()
	first := &member{t: t, name: "first", dir: filepath.Join(root, "first"), s3Addr: freeAddr(t), adminAddr: freeAddr(t)}
	first.args = []string{"--advertise", freeAddr(t), "--profile", "1+0"}
	first.start()
	addr := first.args[1]
	used := first.token()
	second := &member{t: t, name: "second", dir: filepath.Join(root, "second"), s3Addr: freeAddr(t), adminAddr: freeAddr(t), env: []string{"CAIRN_TOKEN=" + used}}
	second.args = []string{"--advertise", freeAddr(t), "--join", addr, "--roles", "data"}
	second.start()
	if t.Failed() {
		t.FailNow()
	}
	for _, tt := range []struct {
		name, token, want string
		args              []string
	}{
		{"a used token", used, "works once", nil},
		{"a damaged token", used[:len(used)-2], "copy the whole line", nil},
		{"no token", "", "cairn token create", nil},
		{"an address of nobody", first.token(), "check --join", []string{"--join", freeAddr(t)}},
		{"an address that the cluster cannot reach", first.token(), "check --advertise", []string{"--advertise", freeAddr(t), "--interconnect-addr", freeAddr(t)}},
	} {
		args := append([]string{"--data", filepath.Join(root, strings.ReplaceAll(tt.name, " ", "-")), "--advertise", freeAddr(t), "--join", addr, "--roles", "data"}, tt.args...)
		p, err := process.Start(t.Context(), process.Options{Binary: program(t), Args: args, Env: []string{"CAIRN_TOKEN=" + tt.token}})
		if err == nil {
			p.Kill()
			t.Errorf("%s: it started", tt.name)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := os.Stat(filepath.Join(second.dir, "tls", "node.key")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a joined node keeps the key that waited: %v", err)
	}
}
