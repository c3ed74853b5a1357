//go:build e2e

package drill

import (
	"context"
	"crypto/md5"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/minio/minio-go/v7"
)

const (
	linearClients = 16
	linearKeys    = 6
	checkLimit    = 2 * time.Minute
)

// action is what a client asks of one key. A list of all keys is a read of each.
type action struct {
	kind opKind
	key  int
	etag string // of the body that is put
	// onlyIf is the condition of a put: "" none, "*" that there is no object, else the ETag that it must have.
	onlyIf string
}

// answer is what it was told: for reads the ETag ("" for absence), for conditional puts whether the condition held. unknown: the
// outcome was not told; it may have happened, at any later time.
type answer struct {
	etag    string
	refused bool
	unknown bool
}

// objects is the specification: each key holds one ETag, or none. (That a listing shows all keys at one moment is more than S3
// promises, and is not asked for.)
var objects = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make([][]porcupine.Operation, linearKeys)
		for _, op := range history {
			k := op.Input.(action).key
			byKey[k] = append(byKey[k], op)
		}
		return byKey
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(string), input.(action), output.(answer)
		switch in.kind {
		case opPut:
			holds := in.onlyIf == "" || in.onlyIf == "*" && now == "" || in.onlyIf != "*" && in.onlyIf == now
			switch {
			case out.unknown && !holds:
				return true, now // it was refused, and nobody heard of it
			case out.refused:
				return !holds, now
			}
			return holds, in.etag
		case opDelete:
			return true, ""
		}
		return out.etag == now, now
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// history collects what clients ask and are told.
type history struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.began)) }

// add notes one finished action. One without an outcome may still take effect when all else has ended.
func (h *history) add(client int, in action, out answer, call int64) {
	ret := h.now()
	if out.unknown {
		if in.kind == opGet || in.kind == opList {
			return // a read that was not answered says nothing
		}
		ret = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: call, Return: ret})
}

func (h *history) len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// prune leaves out the puts of unknown outcome whose body nobody ever saw: that they did not happen is one of the things that
// may have been. What is not linearizable with them may only then be called so if it is not with all, so check asks again.
func (h *history) prune() (kept []porcupine.Operation) {
	seen := map[string]bool{}
	for _, op := range h.ops {
		seen[op.Output.(answer).etag] = true
		seen[op.Input.(action).onlyIf] = true
	}
	for _, op := range h.ops {
		if op.Output.(answer).unknown && op.Input.(action).kind == opPut && !seen[op.Input.(action).etag] {
			continue
		}
		kept = append(kept, op)
	}
	return kept
}

// check returns porcupine's verdict; on a bad one it leaves a picture in dir.
func (h *history) check(t *testing.T, dir string) porcupine.CheckResult {
	t.Helper()
	pruned := h.prune()
	res, info := porcupine.CheckOperationsVerbose(objects, pruned, checkLimit)
	if res != porcupine.Ok && len(pruned) < len(h.ops) {
		res, info = porcupine.CheckOperationsVerbose(objects, h.ops, checkLimit)
	}
	t.Logf("history of %d operations, %d of them without an outcome that mattered: %v", len(h.ops), len(h.ops)-len(pruned), res)
	if res == porcupine.Illegal && dir != "" {
		path := filepath.Join(dir, "cairn-history.html")
		if err := porcupine.VisualizePath(objects, info, path); err == nil {
			t.Logf("the history is drawn in %s", path)
		}
	}
	return res
}

// linearClient is one of the clients; it makes single attempts, since a put that is tried again may take effect twice.
type linearClient struct {
	id      int
	rng     *rand.Rand
	s3      []*minio.Core
	h       *history
	prefix  string             // of the keys
	seen    [linearKeys]string // the last ETag that it was told of each key
	counter int
	stale   *staleReads // nil: it tells the truth
}

func (c *linearClient) key(k int) string { return fmt.Sprintf("%s/%d", c.prefix, k) }

// staleReads plants a bug: one read of a key in staleEvery is answered with what the key held that many reads before. Safe for
// concurrent use.
type staleReads struct {
	mu     sync.Mutex
	told   [linearKeys][]string
	served int
}

const staleEvery = 30

func (s *staleReads) twist(key int, etag string) string {
	if s == nil {
		return etag
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[key] = append(s.told[key], etag)
	if n := len(s.told[key]); n%staleEvery == 0 && s.told[key][n-staleEvery] != etag {
		s.served++
		return s.told[key][n-staleEvery]
	}
	return etag
}

// step does one thing to one key, or lists all.
func (c *linearClient) step(ctx context.Context) {
	s3, key := c.s3[c.rng.IntN(len(c.s3))], c.rng.IntN(linearKeys)
	switch p := c.rng.IntN(100); {
	case p < 40:
		c.get(ctx, s3, key)
	case p < 65:
		c.put(ctx, s3, key, "")
	case p < 75:
		c.put(ctx, s3, key, "*")
	case p < 85:
		if c.seen[key] != "" {
			c.put(ctx, s3, key, c.seen[key])
		}
	case p < 93:
		call := c.h.now()
		err := s3.RemoveObject(ctx, bucket, c.key(key), minio.RemoveObjectOptions{})
		c.h.add(c.id, action{kind: opDelete, key: key}, answer{unknown: err != nil}, call)
	default:
		c.list(s3)
	}
}

func (c *linearClient) get(ctx context.Context, s3 *minio.Core, key int) {
	call := c.h.now()
	sum, err := md5Of(ctx, s3, c.key(key))
	if isAbsent(err) {
		sum, err = "", nil
	}
	if err == nil {
		c.seen[key] = sum
	}
	c.h.add(c.id, action{kind: opGet, key: key}, answer{etag: c.stale.twist(key, sum), unknown: err != nil}, call)
}

// put sends a body that nobody sent before. Every third is large enough to have shards.
func (c *linearClient) put(ctx context.Context, s3 *minio.Core, key int, onlyIf string) {
	c.counter++
	size := 64
	if c.counter%3 == 0 {
		size = 40 << 10
	}
	body := content(uint64(c.id+1)<<40|uint64(c.counter), size)
	etag := fmt.Sprintf("%x", md5.Sum(body))
	var o minio.PutObjectOptions
	switch onlyIf {
	case "":
	case "*":
		o.SetMatchETagExcept("*")
	default:
		o.SetMatchETag(onlyIf)
	}
	call := c.h.now()
	err := putWith(ctx, s3, c.key(key), body, o)
	out := answer{refused: refused(err, onlyIf)}
	out.unknown = err != nil && !out.refused
	if err == nil {
		c.seen[key] = etag
	}
	c.h.add(c.id, action{kind: opPut, key: key, etag: etag, onlyIf: onlyIf}, out, call)
}

// refused tells whether the answer was that the condition does not hold: 412, or 404 where an ETag was asked for of no object.
func refused(err error, onlyIf string) bool {
	code := minio.ToErrorResponse(err).StatusCode
	return err != nil && (code == http.StatusPreconditionFailed || code == http.StatusNotFound && onlyIf != "" && onlyIf != "*")
}

func (c *linearClient) list(s3 *minio.Core) {
	call := c.h.now()
	found, err := listETags(s3, c.prefix+"/")
	for k := range linearKeys {
		c.h.add(c.id, action{kind: opList, key: k}, answer{etag: found[c.key(k)], unknown: err != nil}, call)
	}
}

// hammer runs the clients on the keys below a prefix while during runs, and waits for them.
func (c *cluster) hammer(t *testing.T, prefix string, h *history, stale *staleReads, during func()) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for id := range linearClients {
		lc := &linearClient{id: id, rng: rand.New(rand.NewPCG(uint64(id), 11)), h: h, prefix: prefix, stale: stale}
		for _, g := range c.gateways {
			lc.s3 = append(lc.s3, g.client(t))
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				try, done := context.WithTimeout(t.Context(), opTimeout)
				lc.step(try)
				done()
				time.Sleep(time.Duration(lc.rng.IntN(10)) * time.Millisecond) // so that 16 clients leave two cores some room
			}
		})
	}
	during()
	cancel()
	wg.Wait()
}

// TestLinearizable (I3): the history of 16 clients on few keys through both gateways is linearizable while nodes are stopped, killed
// and cut off. With CAIRN_SOAK set there are rounds, each with other faults on keys of its own, until there were 200,000 operations.
func TestLinearizable(t *testing.T) {
	c := newCluster(t, shape{meta: 3, data: 4, gateways: 2, profile: "2+1"}, nil)
	c.makeBucket()
	want, total := 1, 0
	if os.Getenv("CAIRN_SOAK") != "" {
		want = 200_000
	}
	for round := 0; total < want && !t.Failed(); round++ {
		h := &history{began: time.Now()}
		c.hammer(t, fmt.Sprint("linear", round), h, nil, func() { c.linearRound(t, h, round) })
		if res := h.check(t, os.TempDir()); res != porcupine.Ok {
			t.Errorf("round %d, the history of %d operations: %v", round, len(h.ops), res)
		}
		total += len(h.ops)
	}
	t.Logf("%d operations", total)
	// The test of the test: the same clients, told now and then what was true a moment ago, are seen through.
	planted, stale := &history{began: time.Now()}, &staleReads{}
	c.hammer(t, "planted", planted, stale, func() { more(t, planted, 1500) })
	if stale.served == 0 {
		t.Fatal("no stale answer was given")
	}
	if res := planted.check(t, ""); res != porcupine.Illegal {
		t.Errorf("%d stale answers in %d operations: %v", stale.served, len(planted.ops), res)
	}
}

const (
	faultOps       = 700 // operations that a fault lasts, and that follow it
	faultsPerRound = 3
)

// linearRound makes three faults, the same three in the first round.
func (c *cluster) linearRound(t *testing.T, h *history, round int) {
	leader, err := c.leader()
	if err != nil {
		t.Error(err)
		return
	}
	data := c.data[round%len(c.data)]
	cut := func(n *node, out, in way) [2]func() {
		return [2]func(){func() { c.net.setAll(n.port, out, in) }, func() { c.net.setAll(n.port, wayOpen, wayOpen) }}
	}
	stop := func(n *node) [2]func() {
		return [2]func(){func() { n.signal(syscall.SIGSTOP) }, func() { n.signal(syscall.SIGCONT) }}
	}
	kill := func(n *node) [2]func() { return [2]func(){n.kill, n.restart} }
	list := [][2]func(){
		stop(data), kill(leader), cut(c.meta[0], wayCut, wayOpen), // it hears the others, and they do not hear it
		kill(data), cut(leader, wayCut, wayCut), cut(c.meta[1], wayLossy, wayLossy),
		stop(leader), cut(data, wayReset, wayReset), cut(c.meta[2], wayOpen, wayCut),
		cut(leader, wayReset, wayReset), cut(data, wayLossy, wayLossy), stop(c.meta[round%len(c.meta)]),
	}
	for i := range faultsPerRound {
		f := list[(round*faultsPerRound+i)%len(list)]
		more(t, h, faultOps)
		f[0]()
		more(t, h, faultOps)
		f[1]()
	}
	more(t, h, faultOps)
}

// more waits for n more operations.
func more(t *testing.T, h *history, n int) {
	t.Helper()
	want := h.len() + n
	for began := time.Now(); h.len() < want; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > patience {
			t.Errorf("the clients stand at %d operations, want %d", h.len(), want)
			return
		}
	}
}
