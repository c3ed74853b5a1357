package replica

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

// I9: a state that cannot be opened leaves nothing running, at whatever change of the file system its opening failed.
// A store that met a fatal error may leave the goroutines parked that Pebble offers no way to end; those are not meant.
func TestFailedOpenLeavesNothing(t *testing.T) {
	cfg, err := crashConfig(vfs.NewMem(), 1).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	sh := newShared(1 << 20)
	defer sh.close()
	failed := 0
	for n := int64(1); ; n++ {
		mem := vfs.NewMem()
		cfg.FS = mem
		if err := createState(&cfg, sh, "/state", firstPosition, votersConf([]uint64{1}), nil); err != nil {
			t.Fatal(err)
		}
		var ops atomic.Int64
		cfg.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if writes(op) && ops.Add(1) == n {
				return errInjected
			}
			return nil
		}))
		before := goleak.IgnoreCurrent()
		var fatal atomic.Bool
		s, err := openState(&cfg, sh, "/state", func(error) { fatal.Store(true) })
		if err == nil {
			err = s.close()
		} else {
			failed++
		}
		if !fatal.Load() {
			if err := goleak.Find(before); err != nil {
				t.Fatalf("opening failed at change %d (%v) and left: %v", n, errors.Unwrap(err), err)
			}
		}
		if ops.Load() < n {
			break
		}
		_ = err // an injected error may come out of close too
	}
	if failed < 5 {
		t.Errorf("only %d openings failed: the faults do not reach them", failed)
	}
	t.Logf("%d openings failed", failed)
}

// Compactions go on after one was refused a turn, and none begins after the end.
func TestCompactionTurns(t *testing.T) {
	db := &waitingDB{}
	c := newCompactions()
	c.Register(1, db)
	ok, first := c.TrySchedule()
	if !ok {
		t.Fatal("the first compaction was refused")
	}
	for range 2 {
		if again, _ := c.TrySchedule(); again {
			t.Fatal("two compactions run where one may")
		}
		db.waiting++
	}
	first.Done()
	for i := range 2 {
		if len(db.granted) != i+1 {
			t.Fatalf("%d compactions were granted, want %d", len(db.granted), i+1)
		}
		db.granted[i].Done()
	}
	if len(db.granted) != 2 || c.running != 0 {
		t.Errorf("%d granted, %d running; want 2, 0", len(db.granted), c.running)
	}
	_, last := c.TrySchedule()
	db.waiting++
	c.end()
	last.Done()
	c.Unregister()
	if ok, _ := c.TrySchedule(); ok || len(db.granted) != 2 {
		t.Error("a compaction began after the end")
	}
}

// waitingDB has so many compactions waiting, one of which may run at a time.
type waitingDB struct {
	waiting int
	granted []pebble.CompactionGrantHandle
}

func (d *waitingDB) GetAllowedWithoutPermission() int { return 1 }

func (d *waitingDB) GetWaitingCompaction() (bool, pebble.WaitingCompaction) {
	return d.waiting > 0, pebble.WaitingCompaction{}
}

func (d *waitingDB) Schedule(h pebble.CompactionGrantHandle) bool {
	d.waiting--
	d.granted = append(d.granted, h)
	return true
}

// A store with many small tables compacts under its own scheduler.
func TestStateCompacts(t *testing.T) {
	cfg, err := crashConfig(vfs.NewMem(), 1).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	sh := newShared(1 << 20)
	defer sh.close()
	if err := createState(&cfg, sh, "/state", firstPosition, votersConf([]uint64{1}), nil); err != nil {
		t.Fatal(err)
	}
	s, err := openState(&cfg, sh, "/state", func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		for j := range 10 {
			if err := s.db.Set(fmt.Appendf(nil, "key%d", i*j), make([]byte, 100), pebble.NoSync); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.close(); err != nil { // waits for the compactions under way
		t.Fatal(err)
	}
	if n := s.db.Metrics().Compact.Count; n < 3 {
		t.Errorf("%d compactions of 60 flushed tables", n)
	}
}
