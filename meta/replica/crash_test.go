package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var errInjected = errors.New("injected")

// memHomes makes n homes in a memory file system, durably.
func memHomes(t testing.TB, fs vfs.FS, n int) []Home {
	var homes []Home
	for i := range n {
		h := Home{Drive: cairn.DriveID{byte(i + 1)}, Dir: fmt.Sprint("/drive", i+1), Usable: true}
		if err := fs.MkdirAll(h.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		homes = append(homes, h)
	}
	if err := syncDir(fs, "/"); err != nil {
		t.Fatal(err)
	}
	return homes
}

func crashConfig(fs vfs.FS, voters int) Config {
	return Config{Cluster: cairn.ClusterID{1}, Logger: testConfig(1).Logger, Voters: voters, FS: fs, CacheBytes: 1 << 20, MemTableBytes: 64 << 10,
		SegmentBytes: 8 << 10, LogBytes: 16 << 10, Tick: 10 * time.Millisecond}
}

// patience is how long a commit may take: a single voter that failed never answers, while three elect another leader,
// which takes as long as the machine lets it.
func patience(voters int) time.Duration {
	if voters == 1 {
		return 150 * time.Millisecond
	}
	return 10 * time.Second
}

// script commits pairs of keys, one pair after another, until one fails; it returns how many were acknowledged and how
// many were tried. The flush cuts the log in between.
func script(ctx context.Context, g *Group, acked, tried *atomic.Int64) {
	value := make([]byte, 1500)
	for i := range int64(24) {
		tried.Store(i + 1)
		b := &Batch{RequestID: newVoterID()}
		b.Put(fmt.Appendf(nil, "a%03d", i), value)
		b.Put(fmt.Appendf(nil, "b%03d", i), value[:10])
		b.Add([]byte("count"), 1)
		ctx, cancel := context.WithTimeout(ctx, patience(g.cfg.Voters))
		_, err := g.Commit(ctx, b)
		cancel()
		if err != nil {
			return
		}
		acked.Store(i + 1)
		if i%8 == 7 {
			for _, v := range *g.voters.Load() {
				if err := guard(v.flush); err != nil {
					v.fail(err)
				}
			}
		}
	}
}

// checkAfterCrash opens what a crash left: every acknowledged pair is whole (I1), every other one whole or absent (I5).
func checkAfterCrash(fs vfs.FS, voters int, homes []Home, acked, tried int64) (err error) {
	g, err := Open(crashConfig(fs, voters), homes)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { err = errors.Join(err, g.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { g.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	w, err := g.View(ctx)
	if err != nil {
		return fmt.Errorf("view: %w", err)
	}
	defer w.Close()
	have := int64(0)
	for i := range tried + 1 {
		a, foundA, errA := w.Get(fmt.Appendf(nil, "a%03d", i), nil)
		_, foundB, errB := w.Get(fmt.Appendf(nil, "b%03d", i), nil)
		switch {
		case errA != nil || errB != nil:
			return errors.Join(errA, errB)
		case foundA != foundB || foundA && len(a) != 1500:
			return fmt.Errorf("pair %d is torn", i)
		case !foundA && i < acked:
			return fmt.Errorf("acknowledged pair %d of %d is lost", i, acked)
		case foundA:
			have++
		}
	}
	row, _, err := w.Get([]byte("count"), nil)
	if err != nil {
		return err
	}
	if c, err := Counters(row); err != nil || have > 0 && (len(c) != 1 || c[0] != have) {
		return fmt.Errorf("%d pairs, counter %v, %v", have, c, err)
	}
	return nil
}

// writes tells whether an operation changes the file system.
func writes(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }

// crashAt runs the script on a disk that crashes at its nth change, with a share of what was not synced kept, and checks
// what is left. It reports whether the nth change was reached. after is called with every group that was opened.
func crashAt(t *testing.T, voters, n, keep int, after func(*Group)) (reached bool, err error) {
	mem := vfs.NewCrashableMem()
	homes := memHomes(t, mem, voters)
	var ops, acked, tried, ackedThen, triedThen atomic.Int64
	var once sync.Once
	var crashed *vfs.MemFS
	rng := rand.New(rand.NewPCG(uint64(n), uint64(keep)))
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if writes(op) && ops.Add(1) == int64(n) {
			once.Do(func() {
				ackedThen.Store(acked.Load())
				crashed = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})
				triedThen.Store(tried.Load())
			})
		}
		return nil
	})
	g, err := Open(crashConfig(errorfs.Wrap(mem, inject), voters), homes)
	if err != nil {
		t.Fatal(err)
	}
	if after != nil {
		after(g)
	}
	script(t.Context(), g, &acked, &tried)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if crashed == nil {
		return false, nil
	}
	return true, checkAfterCrash(crashed, voters, homes, ackedThen.Load(), triedThen.Load())
}

// stride thins a sweep out under the race detector, where each step is ten times as slow.
func stride(n int) int {
	if raceEnabled {
		return n * 10
	}
	return n
}

// I1, I5: a crash at any change of the file system loses nothing that was acknowledged, and tears nothing.
func TestCrashSweep(t *testing.T) {
	for _, voters := range []int{1, 3} {
		for _, keep := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("voters=%d/keep=%d", voters, keep), func(t *testing.T) {
				t.Parallel()
				step := stride(11 * voters)
				for n := 1 + rand.IntN(step); ; n += step {
					reached, err := crashAt(t, voters, n, keep, nil)
					if err != nil {
						t.Fatalf("crash at change %d: %v", n, err)
					}
					if !reached {
						t.Logf("%d changes", n)
						return
					}
				}
			})
		}
	}
}

// The sweep must notice a log that is not synced before it acknowledges.
func TestCrashSweepCatchesMissingSync(t *testing.T) {
	for n := 20; ; n += 7 {
		reached, err := crashAt(t, 1, n, 0, func(g *Group) {
			for _, v := range *g.voters.Load() {
				v.log.mu.Lock()
				v.log.syncFn = func(vfs.File) error { return nil }
				v.log.mu.Unlock()
			}
		})
		if err != nil {
			t.Log("caught:", err)
			return
		}
		if !reached {
			t.Fatal("a log without syncs passed the sweep")
		}
	}
}

// I1, I5: any change of the file system may fail. The voter that saw it stops; what was acknowledged stays.
func TestFaultSweep(t *testing.T) {
	for _, voters := range []int{1, 3} {
		t.Run(fmt.Sprint("voters=", voters), func(t *testing.T) {
			t.Parallel()
			step := stride(11 * voters)
			for n := 1 + rand.IntN(step); ; n += step {
				if !failAt(t, voters, n) {
					t.Logf("%d changes", n)
					return
				}
			}
		})
	}
}

func failAt(t *testing.T, voters, n int) (reached bool) {
	mem := vfs.NewCrashableMem()
	homes := memHomes(t, mem, voters)
	var ops, acked, tried atomic.Int64
	var hit atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if writes(op) && ops.Add(1) == int64(n) {
			hit.Store(true)
			return errInjected
		}
		return nil
	})
	g, err := Open(crashConfig(errorfs.Wrap(mem, inject), voters), homes)
	if err != nil && !hit.Load() {
		t.Fatal(err)
	}
	if err == nil {
		script(t.Context(), g, &acked, &tried)
		_ = g.Close() // it may tell of the fault
	}
	if voters == 3 && hit.Load() && err == nil && acked.Load() < tried.Load() {
		t.Errorf("fault %d: one of three voters failed, and commit %d with it", n, tried.Load())
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := checkAfterCrash(crashed, voters, homes, acked.Load(), tried.Load()); err != nil {
		t.Fatalf("fault %d: %v", n, err)
	}
	return hit.Load()
}
