package datanode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"

	"cairn/internal/vfs"
	"golang.org/x/time/rate"
)

// step is one operation of a script.
type step func(*world) error

// everything touches every path that writes: appends, streams, deletes, fences, replacement, checkpoints, full segments,
// compaction, recycling and reuse.
func everything() []step {
	var steps []step
	add := func(s ...step) { steps = append(steps, s...) }
	put := func(blob int, version uint64, n int) step {
		return func(w *world) error { return w.append(blob, version, n) }
	}
	add(put(1, 1, 100), put(2, 1, 5000), put(3, 1, 0), put(4, 1, 70_000))
	add(func(w *world) error { return w.stream(5, 1, 90_000) })
	add(func(w *world) error { return w.abandon(50, 65_536) }, put(6, 1, 300))
	add(func(w *world) error { return w.fence(9, 4) })
	add(func(w *world) error { return w.delete(1, 4) }, put(2, 2, 5001), put(1, 2, 20))
	add(func(w *world) error { return w.store.saveIndex() })
	for i := range 6 {
		add(put(10+i, 1, 30_000), func(w *world) error { return w.stream(20+i, 1, 65_536+i) })
	}
	add(func(w *world) error { return w.delete(10, 11, 12, 13, 20, 21, 22, 23) })
	add((*world).tidy, put(10, 2, 40_000), put(30, 1, 100_000), put(31, 1, 100_000))
	add(func(w *world) error { return w.store.saveIndex() }, (*world).tidy)
	add(func(w *world) error { return w.delete(5, 14, 15, 30) }, (*world).tidy, put(32, 1, 90_000), put(33, 1, 90_000))
	// A segment of its own for a large shard and much that dies, so that compaction has to stream.
	add(put(40, 1, 100_000), put(41, 1, 200_000), put(42, 1, 100_000), put(43, 1, 100_000), put(44, 1, 100_000))
	add(func(w *world) error { return w.delete(40, 42, 43) }, (*world).tidy, (*world).tidy)
	add(func(w *world) error { return w.slowStream(47, 1, 70_000) })
	// A checkpoint that knows free segments, which are then used.
	add(func(w *world) error { return w.store.saveIndex() }, put(45, 1, 150_000), put(46, 1, 400_000))
	return steps
}

func perform(w *world, steps []step) {
	for _, s := range steps {
		s(w) // what failed is in the model
	}
}

var errInjected = fmt.Errorf("injected: %w", syscall.EIO)

type crashCase struct {
	mode vfs.CrashMode
	seed uint64
}

var crashes = []crashCase{{vfs.KeepAll, 0}, {vfs.LoseAll, 0}, {vfs.KeepSome, 1}, {vfs.KeepSome, 2}, {vfs.KeepSome, 3}}

// survive reopens a crashed disk, checks every promise, writes on, and checks once more after another crash.
func survive(w *world) error {
	if err := w.open(nil); err != nil {
		return fmt.Errorf("reopen: %w", err)
	}
	defer w.close(true)
	if err := w.wrong(true); err != nil {
		return err
	}
	for i := range 4 {
		if err := errors.Join(w.append(60+i, 1, 40_000), w.append(2, 7+uint64(i), 100)); err != nil {
			return fmt.Errorf("write after a crash: %w", err)
		}
	}
	if err := errors.Join(w.delete(60, 3), w.tidy(), w.wrong(true)); err != nil {
		return fmt.Errorf("after writing on: %w", err)
	}
	again := w.crash(vfs.LoseAll, 0)
	if err := again.open(nil); err != nil {
		return fmt.Errorf("second reopen: %w", err)
	}
	defer again.close(false)
	if err := again.wrong(true); err != nil {
		return fmt.Errorf("after the second crash: %w", err)
	}
	return nil
}

// every is how many operations a sweep goes on at a time: under the race detector, where each try takes ten times as long,
// one in 7 is tried; `make test` runs the sweeps without it as well, over every operation.
func every() int {
	if raceEnabled {
		return 7
	}
	return 1
}

// sweep runs the script, loses power at every changing operation in turn, and returns the first broken promise. It
// breaks the disk further by plant, if that is not nil.
func sweep(t *testing.T, steps []step, plant vfs.Fault) error {
	for n := 0; ; n += every() {
		w := newWorld(t)
		fault, hit := vfs.FailFrom(n, errInjected)
		both := func(op vfs.Op) error {
			if err := fault(op); err != nil || plant == nil {
				return err
			}
			return plant(op)
		}
		if w.open(both) == nil {
			perform(w, steps)
		}
		crashed := make([]*world, len(crashes))
		for i, c := range crashes {
			crashed[i] = w.crash(c.mode, c.seed)
		}
		w.close(false)
		for i, c := range crashes {
			if err := survive(crashed[i]); err != nil {
				return fmt.Errorf("power lost at operation %d, %v, seed %d: %w", n, c.mode, c.seed, err)
			}
		}
		if !hit() {
			t.Logf("%d operations", n)
			return nil
		}
	}
}

// I1, I4, I5: what was acknowledged is whole after any crash, what was deleted stays deleted, nothing else shows.
func TestPowerLossSweep(t *testing.T) {
	if err := sweep(t, everything(), nil); err != nil {
		t.Error(err)
	}
}

// A test of the test above: planted bugs that it has to catch.
func TestPowerLossSweepCatchesPlantedBugs(t *testing.T) {
	drop := func(kinds ...vfs.OpKind) vfs.Fault {
		return func(op vfs.Op) error {
			if slices.Contains(kinds, op.Kind) {
				return vfs.ErrDropped
			}
			return nil
		}
	}
	for name, plant := range map[string]vfs.Fault{
		"no fdatasync":      drop(vfs.OpSync),
		"no directory sync": drop(vfs.OpSyncDir),
		"lost writes":       drop(vfs.OpWrite),
	} {
		if err := sweep(t, everything(), plant); err == nil {
			t.Errorf("%s: the sweep did not notice", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

// Every operation fails once, alone: the store reports it or does without, and a reopened store keeps its promises.
func TestFaultSweep(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EIO, syscall.ENOSPC, syscall.EROFS} {
		for n := 0; ; n += every() {
			w := newWorld(t)
			fault, hit := vfs.FailNth(n, errno)
			if w.open(fault) == nil {
				perform(w, everything())
				if err := w.wrong(false); err != nil {
					t.Fatalf("%v at operation %d, store still open: %v", errno, n, err)
				}
			}
			w.close(true)
			if err := w.open(nil); err != nil {
				t.Fatalf("%v at operation %d: reopen: %v", errno, n, err)
			}
			if err := w.wrong(true); err != nil {
				t.Fatalf("%v at operation %d: %v", errno, n, err)
			}
			w.close(true)
			if !hit() {
				break
			}
		}
	}
}

// A shard is deleted between the reading and the writing of its copy: it stays deleted, now, after a crash, and when the
// segments of record, copy and deletion are recycled in any order.
func TestDeleteDuringCompaction(t *testing.T) {
	w := newWorld(t)
	defer func() { w.close(false) }()
	if err := errors.Join(w.open(nil), w.append(1, 1, 5000), w.append(2, 1, 300)); err != nil {
		t.Fatal(err)
	}
	l, err := w.store.locate(testKey(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := w.delete(1); err != nil {
		t.Fatal(err)
	}
	c := &compaction{store: w.store, from: l.segment, limit: rate.NewLimiter(rate.Inf, compactBurst), turns: make(chan struct{}, 1)}
	err = c.copyRecord(context.Background(), &l)
	l.release()
	c.wg.Wait()
	if err = errors.Join(err, c.err, w.wrong(false)); err != nil {
		t.Fatal("after the copy: ", err)
	}
	for i := range 12 {
		if err := errors.Join(w.append(10+i, 1, 120_000), w.tidy(), w.delete(10+i), w.tidy()); err != nil {
			t.Fatal(err)
		}
		after := w.crash(vfs.LoseAll, 0)
		w.close(false)
		w = after
		if err := errors.Join(w.open(nil), w.wrong(true)); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}
