package datanode

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// TestConcurrentUse has writers, readers and deleters work while segments are compacted, recycled and reused all the
// time; every read must return the bytes of its shard, and a reopened store must hold what the writers know.
func TestConcurrentUse(t *testing.T) {
	w := newWorld(t)
	cfg := w.cfg
	cfg.FS, cfg.janitorEvery, cfg.CheckpointEvery = vfs.OS{}, time.Millisecond, 20*time.Millisecond
	cfg.SegmentBytes = 1 << 20
	dir := t.TempDir()
	open := func() *store {
		s, err := openStore(cfg, dir, testFormat, false, &counters{}, newLimits(cfg))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := open()
	const workers = 6
	known := make([]map[key]string, workers)
	var wg sync.WaitGroup
	end := time.Now().Add(1500 * time.Millisecond)
	for i := range workers {
		known[i] = map[key]string{}
		wg.Go(func() {
			if err := work(s, uint64(i), known[i], end); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	s.mu.RLock()
	last := s.lastSegment
	reused := uint32(0)
	for _, g := range s.segs {
		if !g.recycling { // then the janitor writes it, and nobody else may look
			reused = max(reused, g.generation)
		}
	}
	s.mu.RUnlock()
	if last < 3 || reused < 2 {
		t.Errorf("only %d segments, none reused more than %d times: the test is too weak", last, reused)
	}
	if err := s.close(time.Minute, false); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.close(time.Minute, true)
	total := int64(0)
	for _, m := range known {
		total += int64(len(m))
		for k, want := range m {
			if err := compare(s, k, want); err != nil {
				t.Error(err)
			}
		}
	}
	if s.index.shards != total {
		t.Errorf("%d shards, want %d", s.index.shards, total)
	}
}

func compare(s *store, k key, want string) error {
	p := make([]byte, len(want))
	if err := s.readAt(context.Background(), k, p, 0); err != nil {
		return fmt.Errorf("%v: %w", k.id(), err)
	}
	if string(p) != want {
		return fmt.Errorf("%v: wrong bytes", k.id())
	}
	return nil
}

// work does random things to shards of its own.
func work(s *store, seed uint64, known map[key]string, end time.Time) error {
	rng := rand.New(rand.NewPCG(seed, 5))
	for version := uint64(1); time.Now().Before(end); version++ {
		k := key{volume: cairn.VolumeID(seed + 1), blob: cairn.BlobID(rng.IntN(40) + 1)}
		var err error
		switch rng.IntN(5) {
		case 0, 1:
			c := content(k, version, rng.IntN(200_000)) // above and below largeAppend
			result := make(chan error, 1)
			s.append(context.Background(), testHeader(k), []byte(c), func(err error) { result <- err })
			err = <-result
			known[k] = c
		case 2:
			err = s.delete(context.Background(), []key{k})
			delete(known, k)
		default:
			if want, ok := known[k]; ok {
				err = compare(s, k, want)
			} else if _, err = s.stat(k); errors.Is(err, cairn.ErrNotFound) {
				err = nil
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A store on a file system that takes no writes recovers what it can see, and refuses the rest.
func TestReadOnlyRecovery(t *testing.T) {
	w := newWorld(t)
	if err := errors.Join(w.open(nil), w.append(1, 1, 100), w.stream(2, 1, 90_000), w.delete(1), w.append(3, 1, 5)); err != nil {
		t.Fatal(err)
	}
	after := w.crash(vfs.LoseAll, 0)
	w.close(false)
	cfg := after.cfg
	cfg.FS = vfs.WithFault(after.disk, func(op vfs.Op) error {
		if op.Changes() {
			return errInjected
		}
		return nil
	})
	var err error
	if after.store, err = openStore(cfg, "/d", testFormat, true, &counters{}, newLimits(cfg)); err != nil {
		t.Fatal(err)
	}
	defer after.close(true)
	if err := after.wrong(true); err != nil {
		t.Error(err)
	}
	if err := after.append(4, 1, 10); !errors.Is(err, cairn.ErrReadOnly) {
		t.Errorf("append: got %v, want read-only", err)
	}
}
