//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

const (
	killCycles  = 50
	killWriters = 8
	killKeys    = 12 // of each writer: overwritten and deleted again and again
)

// content makes a body from a seed: any two differ, and a mixture of two is neither.
func content(seed uint64, size int) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	b := make([]byte, size)
	rand.NewChaCha8(key).Read(b)
	return b
}

// expectation is what a key may read as: the acknowledged state, or one of those whose answer never came.
type expectation struct {
	acked   [sha256.Size]byte // zero: absent
	unknown [][sha256.Size]byte
}

func (e *expectation) allows(sum [sha256.Size]byte) bool {
	for _, u := range e.unknown {
		if u == sum {
			return true
		}
	}
	return e.acked == sum
}

// writer is one client that keeps a model of its own keys.
type writer struct {
	s    *store
	name string
	rng  *rand.Rand
	seed uint64
	keys map[string]*expectation
	acks int
}

var killSizes = [...]int{0, 1, 1000, 5 << 10, 70 << 10, 300 << 10, 1<<20 + 1, 3 << 20}

// once puts or deletes one key, and records what that did to the model.
func (w *writer) once(ctx context.Context) error {
	key := w.name + "/" + strconv.Itoa(w.rng.IntN(killKeys))
	e := w.keys[key]
	if e == nil {
		e = &expectation{}
		w.keys[key] = e
	}
	var sum [sha256.Size]byte
	var err error
	if w.rng.IntN(8) == 0 {
		err = w.s.s3.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
	} else {
		w.seed++
		size := killSizes[w.rng.IntN(len(killSizes))]
		if w.rng.IntN(40) == 0 {
			size = 24 << 20 // a multipart upload
		}
		b := content(w.seed, size)
		sum = sha256.Sum256(b)
		_, err = w.s.s3.PutObject(ctx, bucket, key, bytes.NewReader(b), int64(size), minio.PutObjectOptions{})
	}
	if err != nil {
		e.unknown = append(e.unknown, sum)
		return err
	}
	e.acked, e.unknown = sum, nil
	w.acks++
	return nil
}

// settle compares every key with the model, and takes what it reads as the acknowledged state from here on.
func (w *writer) settle(ctx context.Context) error {
	for key, e := range w.keys {
		sum, err := w.s.sum(ctx, key)
		if err != nil {
			return err
		}
		if !e.allows(sum) {
			return fmt.Errorf("%s reads as %x, want %x or one of %x (zero: absent)", key, sum[:4], e.acked[:4], e.unknown)
		}
		e.acked, e.unknown = sum, nil
	}
	return nil
}

// sum reads a key's hash, zero if it is absent.
func (s *store) sum(ctx context.Context, key string) (sum [sha256.Size]byte, err error) {
	o, err := s.s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return sum, err
	}
	defer o.Close()
	h := sha256.New()
	if _, err := io.Copy(h, o); err != nil {
		var r minio.ErrorResponse
		if errors.As(err, &r) && r.Code == "NoSuchKey" {
			return sum, nil
		}
		return sum, fmt.Errorf("get %s: %w", key, err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// TestKillUnderLoad (I1, I5): the process is killed with SIGKILL again and again under load. What was acknowledged is
// whole; what was not is whole or absent, and never a mixture.
func TestKillUnderLoad(t *testing.T) {
	cycles := killCycles
	if os.Getenv("CAIRN_SOAK") != "" {
		cycles *= 10
	}
	s := start(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	writers := make([]*writer, killWriters)
	for i := range writers {
		writers[i] = &writer{s: s, name: "w" + strconv.Itoa(i), seed: uint64(i+1) << 32, keys: map[string]*expectation{},
			rng: rand.New(rand.NewPCG(seed, uint64(i)))}
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	for cycle := range cycles {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, w := range writers {
			wg.Go(func() {
				for ctx.Err() == nil && w.once(ctx) == nil {
				}
			})
		}
		time.Sleep(100*time.Millisecond + time.Duration(rng.IntN(500))*time.Millisecond)
		s.server.Kill()
		cancel() // stop the clients' retries: the server will not be there
		wg.Wait()
		s.run()
		s.settle(cycle, writers)
	}
	acks := 0
	for _, w := range writers {
		acks += w.acks
	}
	t.Logf("%d acknowledged changes over %d kills", acks, cycles)
	if acks < cycles*killWriters {
		t.Errorf("only %d acknowledged changes: the load was too light to prove anything", acks)
	}
	s.waitHealthy(healWithin)
	if found := s.scrub(); found.Findings != 0 {
		t.Errorf("scrub found %d damaged shards of acknowledged objects after kills alone", found.Findings)
	}
}

// settle checks all writers' models at once.
func (s *store) settle(cycle int, writers []*writer) {
	s.t.Helper()
	errs := make([]error, len(writers))
	var wg sync.WaitGroup
	for i, w := range writers {
		wg.Go(func() { errs[i] = w.settle(s.t.Context()) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		s.t.Fatalf("after kill %d: %v", cycle+1, err)
	}
}
