package datanode

import (
	"errors"
	"sync/atomic"
	"syscall"
	"testing"

	"cairn/internal/vfs"
)

// What a start finds on a disk is unknown as long as it cannot be read: no operation of a start that fails, by a bad sector
// or for want of file handles, may cost a shard that is there, then or at a later start.
func TestStartRemovesNothingGood(t *testing.T) {
	seed := tail(t)
	for _, tt := range []struct {
		name  string
		err   error
		times int64 // operations in a row that fail
	}{
		{"EIO once", syscall.EIO, 1}, {"EIO twice", syscall.EIO, 2}, {"EIO for good", syscall.EIO, 1 << 40},
		{"EMFILE once", syscall.EMFILE, 1}, {"EMFILE for good", syscall.EMFILE, 1 << 40},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := int64(1); ; n++ {
				came := startFails(t, seed, n, tt.times, tt.err)
				if t.Failed() {
					t.Fatalf("at operation %d", n)
				}
				if !came {
					t.Logf("each of %d operations failed", n-1)
					return
				}
			}
		})
	}
}

// tail is a store that was killed: its last checkpoint lacks half of what it holds, and one upload was under way.
func tail(t *testing.T) *world {
	w := newWorld(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.open(nil))
	for i := range 6 {
		must(w.append(i, 1, 100+i*9000))
	}
	must(w.delete(3))
	must(w.store.saveIndex())
	for i := range 6 {
		must(w.append(30+i, 1, 100+i*9000))
	}
	must(w.stream(50, 1, 200<<10))
	must(w.delete(30))
	must(w.abandon(60, 100<<10))
	w.close(false)
	return w
}

// startFails reports whether it came to the n-th operation.
func startFails(t *testing.T, seed *world, n, times int64, fail error) bool {
	w := seed.crash(vfs.KeepAll, 1)
	var seen atomic.Int64
	fault := func(op vfs.Op) error {
		switch {
		case op.Kind == vfs.OpLock || op.Kind == vfs.OpClose:
			return nil
		case errors.Is(fail, syscall.EMFILE) && op.Kind != vfs.OpOpen && op.Kind != vfs.OpReadDir && op.Kind != vfs.OpSyncDir:
			return nil // what needs no new handle goes on
		}
		if k := seen.Add(1); k >= n && k < n+times {
			return fail
		}
		return nil
	}
	if w.open(fault) == nil {
		// It came up with the fault: what it writes and tidies now must not cost what it did not see.
		_ = w.append(70, 1, 50000)
		_ = w.stream(71, 1, 300<<10)
		_ = w.delete(70)
		_ = w.tidy()
		_ = w.tidy()
		w.close(n%2 == 0)
	}
	came := seen.Load() >= n
	if err := w.open(nil); err != nil {
		t.Fatal(err)
	}
	defer w.close(false)
	if err := w.wrong(false); err != nil {
		t.Error(err)
	}
	return came
}
