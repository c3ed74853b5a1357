package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
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
		SegmentBytes: 4 << 10, LogBytes: 8 << 10, Tick: 10 * time.Millisecond}
}

// script is what a group does while the disk crashes or fails: it commits numbered pairs, until one fails.
type script func(ctx context.Context, g *Group, homes []Home, p *pairs) error

// pairs are two keys each, committed together, with a counter of all.
type pairs struct{ acked, tried atomic.Int64 }

// commit commits the next n pairs.
func (p *pairs) commit(ctx context.Context, g *Group, n int) error {
	value := make([]byte, 1500)
	for range n {
		i := p.tried.Add(1) - 1
		b := &Batch{RequestID: newVoterID()}
		b.Put(fmt.Appendf(nil, "a%03d", i), value)
		b.Put(fmt.Appendf(nil, "b%03d", i), value[:10])
		b.Add([]byte("count"), 1)
		if _, err := g.Commit(ctx, b); err != nil {
			return fmt.Errorf("pair %d: %w", i, err)
		}
		p.acked.Store(i + 1)
	}
	return nil
}

// commits fills and cuts the log several times: segments are begun, recycled and used again, the state is flushed.
func commits(ctx context.Context, g *Group, _ []Home, p *pairs) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // an election takes as long as the machine lets it
	defer cancel()
	if g.cfg.Voters == 1 {
		for _, v := range *g.voters.Load() {
			go func() { // ends with the voter, which the caller closes
				<-v.stopped
				cancel() // a single voter that failed never answers
			}()
		}
	}
	for range 3 {
		if err := p.commit(ctx, g, 5); err != nil {
			return err
		}
		g.FlushAll()
	}
	return p.commit(ctx, g, 1)
}

// grows makes three voters of one while it commits: a checkpoint, two seeds, changes of members.
func grows(ctx context.Context, g *Group, homes []Home, p *pairs) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { g.Run(ctx) })
	if err := p.commit(ctx, g, 3); err != nil {
		return err
	}
	g.SetHomes(homes)
	for up := 0; up < len(homes); {
		if err := p.commit(ctx, g, 1); err != nil {
			return fmt.Errorf("while %d of %d voters are up: %w", up, len(homes), err)
		}
		select {
		case <-g.nextNews():
		case <-time.After(5 * time.Millisecond):
		}
		up = 0
		for _, v := range g.Status().Voters {
			if v.State == VoterUp {
				up++
			}
		}
	}
	return p.commit(ctx, g, 2)
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

// crashAt runs a script on a disk that crashes at its nth change, with a share of what was not synced kept, and checks
// what is left. It reports whether the nth change was reached. The group begins on the first so many of the homes.
func crashAt(t *testing.T, run script, voters, first, n, keep int) (reached bool, err error) {
	mem := vfs.NewCrashableMem()
	homes := memHomes(t, mem, voters)
	var ops atomic.Int64
	var p pairs
	var ackedThen, triedThen int64
	var once sync.Once
	var crashed *vfs.MemFS
	rng := rand.New(rand.NewPCG(uint64(n), uint64(keep)))
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if writes(op) && ops.Add(1) == int64(n) {
			once.Do(func() {
				ackedThen = p.acked.Load()
				crashed = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})
				triedThen = p.tried.Load()
			})
		}
		return nil
	})
	g, err := Open(crashConfig(errorfs.Wrap(mem, inject), voters), homes[:first])
	if err != nil {
		return false, err
	}
	if err := errors.Join(run(t.Context(), g, homes, &p), g.Close()); err != nil {
		return false, err
	}
	if crashed == nil {
		return false, nil
	}
	return true, checkAfterCrash(crashed, voters, homes, ackedThen, triedThen)
}

// sweep tries f at the first, second, third … change of the file system, several at a time, until they end. How many there
// are varies a little, since elections do. Under the race detector, where each takes ten times as long, it tries every
// 20th; `make test` runs the sweeps without it as well, at every change.
func sweep(t *testing.T, f func(n int) (reached bool, err error)) {
	step, workers := int64(1), 32
	if raceEnabled {
		step, workers = 20, 4
	}
	var next, tried, beyond atomic.Int64
	next.Store(1 - step)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for beyond.Load() < beyondEnd && !t.Failed() {
				n := next.Add(step)
				reached, err := f(int(n))
				if err != nil {
					t.Errorf("change %d: %v", n, err)
				}
				if reached {
					tried.Add(1)
				} else {
					beyond.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("tried %d of about %d changes", tried.Load(), tried.Load()*step)
	if tried.Load()*step < 100 {
		t.Error("the sweep ended early")
	}
}

// beyondEnd is how many changes are not reached when a sweep ends.
const beyondEnd = 4

// I1, I5: a crash at any change of the file system loses nothing that was acknowledged, and tears nothing.
func TestCrashSweep(t *testing.T) {
	for _, voters := range []int{1, 3} {
		for _, keep := range []int{0, 50, 100} {
			t.Run(fmt.Sprintf("voters=%d/keep=%d", voters, keep), func(t *testing.T) {
				sweep(t, func(n int) (bool, error) { return crashAt(t, commits, voters, voters, n, keep) })
			})
		}
	}
}

// The same while one voter becomes three.
func TestSeedCrashSweep(t *testing.T) {
	for _, keep := range []int{0, 50, 100} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			sweep(t, func(n int) (bool, error) { return crashAt(t, grows, 3, 1, n, keep) })
		})
	}
}

// The sweep must notice a log that is not synced before it acknowledges.
func TestCrashSweepCatchesMissingSync(t *testing.T) {
	unsynced := func(ctx context.Context, g *Group, homes []Home, p *pairs) error {
		for _, v := range *g.voters.Load() {
			v.log.mu.Lock()
			v.log.syncFn = func(vfs.File) error { return nil }
			v.log.mu.Unlock()
		}
		return commits(ctx, g, homes, p)
	}
	for n := 20; ; n += 7 {
		reached, err := crashAt(t, unsynced, 1, 1, n, 0)
		if err != nil {
			t.Log("caught:", err)
			return
		}
		if !reached {
			t.Fatal("a log without syncs passed the sweep")
		}
	}
}

// The sweeps are worth what they pass through: a script that no longer reaches one of these has become too short.
func TestSweepReachesEveryKind(t *testing.T) {
	var mu sync.Mutex
	seen := make(map[string]bool)
	run := func(script script, first int) {
		mem := vfs.NewCrashableMem()
		homes := memHomes(t, mem, 3)
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			seen[kindOf(op)] = true
			return nil
		})
		g, err := Open(crashConfig(errorfs.Wrap(mem, inject), 3), homes[:first])
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(script(t.Context(), g, homes, new(pairs)), g.Close()); err != nil {
			t.Fatal(err)
		}
	}
	run(commits, 3)
	run(grows, 1)
	for _, want := range []string{"log write", "log sync", "log rename", "spare rename", "log directory sync",
		"table create", "table write", "table sync", "manifest write", "manifest sync", "marker create", "state directory sync",
		"json write", "json sync", "json rename", "home directory sync", "seed mkdir", "seed remove"} {
		if !seen[want] {
			t.Errorf("no %s among what the scripts do: %v", want, slices.Sorted(maps.Keys(seen)))
		}
	}
}

// kindOf names an operation by what it is done to.
func kindOf(op errorfs.Op) string {
	base, dir := path.Base(op.Path), path.Base(path.Dir(op.Path))
	what := map[bool]string{true: base}[slices.Contains([]string{"log", "state"}, base)] + " directory"
	switch {
	case strings.HasPrefix(base, "seed-"):
		what = "seed"
	case strings.HasPrefix(base, "drive"):
		what = "home directory"
	case dir == "log":
		what = strings.TrimPrefix(path.Ext(base), ".")
	case strings.HasSuffix(base, ".sst"):
		what = "table"
	case strings.HasPrefix(base, "MANIFEST"):
		what = "manifest"
	case strings.HasPrefix(base, "marker."):
		what = "marker"
	case strings.Contains(base, ".json"):
		what = "json"
	}
	switch op.Kind {
	case errorfs.OpFileWrite, errorfs.OpFileWriteAt:
		return what + " write"
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		return what + " sync"
	case errorfs.OpRename:
		return what + " rename"
	case errorfs.OpCreate:
		return what + " create"
	case errorfs.OpMkdirAll:
		return what + " mkdir"
	case errorfs.OpRemove, errorfs.OpRemoveAll:
		return what + " remove"
	}
	return what + " other"
}

// I1, I5: any change of the file system may fail. The voter that saw it stops; what was acknowledged stays.
func TestFaultSweep(t *testing.T) {
	for _, voters := range []int{1, 3} {
		t.Run(fmt.Sprint("voters=", voters), func(t *testing.T) {
			sweep(t, func(n int) (bool, error) { return failAt(t, voters, n) })
		})
	}
}

func failAt(t *testing.T, voters, n int) (reached bool, err error) {
	mem := vfs.NewCrashableMem()
	homes := memHomes(t, mem, voters)
	var ops atomic.Int64
	var p pairs
	var hit atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if writes(op) && ops.Add(1) == int64(n) {
			hit.Store(true)
			return errInjected
		}
		return nil
	})
	g, opened := Open(crashConfig(errorfs.Wrap(mem, inject), voters), homes)
	if opened != nil && !hit.Load() {
		return false, opened
	}
	if opened == nil {
		err := commits(t.Context(), g, homes, &p)
		_ = g.Close() // it may tell of the fault
		if voters == 3 && err != nil {
			return hit.Load(), fmt.Errorf("one of three voters failed, and a commit with it: %w", err)
		}
	}
	crashed := mem.CrashClone(vfs.CrashCloneCfg{})
	return hit.Load(), checkAfterCrash(crashed, voters, homes, p.acked.Load(), p.tried.Load())
}
