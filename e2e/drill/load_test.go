//go:build e2e

package drill

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	loadWorkers = 8
	thinkTime   = 200 * time.Millisecond // at the most, between two operations of a worker
	groupKeys   = 40                     // keys that share the prefix that is listed
	// fullBytes is the size from which an object has shards of its own, and is counted on the drives.
	fullBytes = 128 << 10
)

// value is what a key may hold: the hash of a body, or nothing.
type value struct {
	sum    [sha256.Size]byte
	size   int
	mark   mark
	absent bool
}

// entry is a key of the ledger: after an acknowledged write there is one possible value; one whose outcome is unknown adds
// another.
type entry struct {
	may   []value
	acked time.Time
}

func (e entry) certain() (value, bool) { return e.may[0], len(e.may) == 1 }

func (e entry) allows(v value) bool {
	return slices.ContainsFunc(e.may, func(m value) bool { return m.absent && v.absent || !m.absent && !v.absent && m.sum == v.sum })
}

type opKind int

const (
	opPut opKind = iota
	opGet
	opDelete
	opList
)

var opNames = [...]string{"put", "get", "delete", "list"}

// sample is one operation, its retries included.
type sample struct {
	kind opKind
	tries
}

// load is the constant mixed load of the clients, and the ledger of what they were told.
type load struct {
	t       *testing.T
	clients []*minio.Core // one for each gateway
	stop    context.CancelFunc
	wg      sync.WaitGroup
	ops     [loadWorkers]atomic.Int64 // finished, by worker

	mu      sync.Mutex
	ledger  map[string]entry
	samples []sample
	wrong   []error // lost or wrong: each fails the drill
}

// startLoad begins the load; it ends with the test, or by end.
func startLoad(t *testing.T, gateways []*node) *load {
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{t: t, stop: cancel, ledger: map[string]entry{}}
	for _, g := range gateways {
		l.clients = append(l.clients, g.client(t))
	}
	for w := range loadWorkers {
		l.wg.Go(func() { l.work(ctx, w) })
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

// work is one client. No two touch the same key, so each knows what its keys may hold.
func (l *load) work(ctx context.Context, w int) {
	rng := rand.New(rand.NewPCG(uint64(w), 7))
	var keys []string
	for i := 0; ctx.Err() == nil; i++ {
		c := l.clients[rng.IntN(len(l.clients))]
		switch p := rng.IntN(100); {
		case p < 35 || len(keys) == 0:
			key := fmt.Sprintf("w%d/%04d/%d", w, len(keys)/groupKeys, len(keys))
			if len(keys) > 0 && rng.IntN(5) == 0 {
				key = keys[rng.IntN(len(keys))]
			} else {
				keys = append(keys, key)
			}
			l.put(c, key, content(uint64(w)<<32|uint64(i), sizeOf(rng)))
		case p < 80:
			l.get(c, keys[rng.IntN(len(keys))])
		case p < 90:
			l.delete(c, keys[rng.IntN(len(keys))])
		default:
			l.list(c, keys[rng.IntN(len(keys))])
		}
		l.ops[w].Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(rng.Int64N(int64(thinkTime)))):
		}
	}
}

// sizeOf draws a size: many small, a few large.
func sizeOf(rng *rand.Rand) int {
	switch p := rng.IntN(100); {
	case p < 40:
		return 2 << 10
	case p < 80:
		return fullBytes
	case p < 95:
		return 512 << 10
	}
	return 2<<20 + 17
}

// note keeps a sample. Operations are run to their end whatever becomes of the test's phases.
func (l *load) note(kind opKind, r tries) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.samples = append(l.samples, sample{kind, r})
}

// write runs a put or a delete and enters what the key may hold from then on.
func (l *load) write(kind opKind, key string, v value, attempt func(context.Context) error) {
	r := retry(l.t.Context(), attempt)
	l.note(kind, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	e, known := l.ledger[key]
	switch {
	case r.err == nil:
		e = entry{may: []value{v}, acked: time.Now()}
	case known:
		e.may = append(slices.Clone(e.may), v)
	default:
		e = entry{may: []value{v, {absent: true}}}
	}
	l.ledger[key] = e
}

func (l *load) put(c *minio.Core, key string, body []byte) {
	l.write(opPut, key, value{sum: sha256.Sum256(body), size: len(body), mark: mark(body)}, func(ctx context.Context) error { return putObject(ctx, c, key, body) })
}

func (l *load) delete(c *minio.Core, key string) {
	l.write(opDelete, key, value{absent: true}, func(ctx context.Context) error {
		return c.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
	})
}

func (l *load) entry(key string) entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger[key]
}

func (l *load) get(c *minio.Core, key string) {
	var got value
	r := retry(l.t.Context(), func(ctx context.Context) error {
		sum, err := getObject(ctx, c, key)
		got = value{sum: sum}
		if isAbsent(err) {
			got, err = value{absent: true}, nil
		}
		return err
	})
	l.note(opGet, r)
	if r.err == nil && !l.entry(key).allows(got) {
		l.fail(key, got)
	}
}

func (l *load) fail(key string, got value) {
	what := "WRONG BYTES"
	if got.absent {
		what = "LOST"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Errorf("%s: %s at %v; it may hold %d values", what, key, time.Now().Format(time.TimeOnly), len(l.ledger[key].may)))
}

// list lists the keys that share a prefix, and compares those that are certain.
func (l *load) list(c *minio.Core, key string) {
	prefix := key[:strings.LastIndexByte(key, '/')+1]
	var got map[string]string
	r := retry(l.t.Context(), func(context.Context) (err error) {
		got, err = listETags(c, prefix)
		return err
	})
	l.note(opList, r)
	if r.err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, e := range l.ledger {
		v, certain := e.certain()
		if !certain || !strings.HasPrefix(key, prefix) {
			continue
		}
		if _, listed := got[key]; listed == v.absent {
			l.wrong = append(l.wrong, fmt.Errorf("LISTING: %s listed %v, absent %v", key, listed, v.absent))
		}
	}
}

// settle returns when every worker has finished an operation that began after the call: what stalled before has ended.
func (l *load) settle() {
	var was [loadWorkers]int64
	for w := range was {
		was[w] = l.ops[w].Load()
	}
	for began := time.Now(); time.Since(began) < 3*opTimeout; time.Sleep(20 * time.Millisecond) {
		done := true
		for w := range was {
			done = done && l.ops[w].Load() >= was[w]+2
		}
		if done {
			return
		}
	}
	l.t.Error("the load stands still")
}

// between returns the operations that were under way or began within a span.
func (l *load) between(from, to time.Time) []sample {
	l.mu.Lock()
	defer l.mu.Unlock()
	var in []sample
	for _, s := range l.samples {
		if s.ended.After(from) && s.began.Before(to) {
			in = append(in, s)
		}
	}
	return in
}

// certainKeys are the keys with shards of their own that were acknowledged before a moment, and what they hold.
func (l *load) certainKeys(before time.Time) map[string]value {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := map[string]value{}
	for key, e := range l.ledger {
		if v, ok := e.certain(); ok && !v.absent && v.size >= fullBytes && e.acked.Before(before) {
			keys[key] = v
		}
	}
	return keys
}

// verdicts are what was found wrong so far.
func (l *load) verdicts() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.wrong[:min(10, len(l.wrong))]...)
}

// checkAll reads every key of the ledger, half of them through each gateway, and returns what could not be read.
func (l *load) checkAll() (checked int, unread []error) {
	began := time.Now()
	keys := make(chan string)
	var wg sync.WaitGroup
	for w := range 2 * len(l.clients) {
		wg.Go(func() {
			for key := range keys {
				l.get(l.clients[w%len(l.clients)], key)
			}
		})
	}
	l.mu.Lock()
	all := slices.Collect(maps.Keys(l.ledger))
	l.mu.Unlock()
	for _, key := range all {
		keys <- key
	}
	close(keys)
	wg.Wait()
	for _, s := range l.between(began, time.Now()) {
		if s.err != nil {
			unread = append(unread, s.err)
		}
	}
	return len(all), unread
}
