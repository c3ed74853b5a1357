package replica

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn"
)

// leaderHome returns where the leader lives.
func leaderHome(t testing.TB, g *Group) int {
	t.Helper()
	v, _, err := g.leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range g.homesNow() {
		if h.Dir == v.home.Dir {
			return i
		}
	}
	t.Fatal("leader has no home")
	return -1
}

// load commits numbered keys from several clients until stopped, and keeps what was acknowledged.
type load struct {
	g       *Group
	stop    context.CancelFunc
	wg      sync.WaitGroup
	mu      sync.Mutex
	acked   []string
	slowest atomic.Int64
}

func startLoad(t testing.TB, g *Group, clients int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{g: g, stop: cancel}
	for c := range clients {
		l.wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprintf("load/%d/%06d", c, i)
				b := &Batch{RequestID: newVoterID()}
				b.Put([]byte(key), []byte(key))
				start := time.Now()
				_, err := g.Commit(ctx, b)
				if d := int64(time.Since(start)); d > l.slowest.Load() && err == nil {
					l.slowest.Store(d)
				}
				switch {
				case err == nil:
					l.mu.Lock()
					l.acked = append(l.acked, key)
					l.mu.Unlock()
				case ctx.Err() == nil:
					t.Errorf("commit %s: %v", key, err)
					return
				}
			}
		})
	}
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

func (l *load) finish() []string {
	l.stop()
	l.wg.Wait()
	return l.acked
}

func checkKeys(t testing.TB, g *Group, keys []string) {
	t.Helper()
	for _, k := range keys {
		if got, found := mustGet(t, g, k); !found || got != k {
			t.Fatalf("acknowledged key %s = %q, %v", k, got, found)
		}
	}
}

// waitVoters waits until n voting members run, and none of the members is missing.
func waitVoters(t testing.TB, g *Group, n int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		up, other := 0, 0
		st := g.Status()
		usable := make(map[string]bool)
		for _, h := range g.homesNow() {
			_, err := os.Stat(h.Dir)
			usable[h.Dir] = h.Usable && err == nil
		}
		for _, v := range st.Voters {
			if v.State == VoterUp && usable[filepath.Dir(v.Path)] && !v.Doubt {
				up++
			} else {
				other++
			}
		}
		if up == n && other == 0 && st.Leader != 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("voters never became %d: %+v", n, st.Voters)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// I1: losing any two of five voters' directories, the leader's among them, loses no acknowledged commit and stops nothing
// for long; the lost voters come back on other homes, after which two more may go.
func TestLoseTwoOfFiveTwice(t *testing.T) {
	homes := makeHomes(t, 9)
	g := openGroup(t, testConfig(5), homes)
	l := startLoad(t, g, 4)
	for round := range 2 {
		waitVoters(t, g, 5)
		time.Sleep(200 * time.Millisecond)
		lead := leaderHome(t, g)
		homes = g.homesNow()
		lost := map[string]bool{homes[lead].Dir: true}
		for _, v := range g.Status().Voters {
			if dir := filepath.Dir(v.Path); len(lost) < 2 && !lost[dir] {
				lost[dir] = true
			}
		}
		for dir := range lost {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		var left []Home
		for _, h := range homes {
			h.Usable = !lost[h.Dir]
			left = append(left, h)
		}
		start := time.Now()
		if round == 0 {
			g.SetHomes(left) // in the other round the group finds out by itself
		} else {
			time.AfterFunc(time.Second, func() { g.SetHomes(left) })
		}
		put(t, g, fmt.Sprint("after", round), "x")
		t.Logf("round %d: first commit after the loss: %v", round, time.Since(start))
		waitVoters(t, g, 5)
		t.Logf("round %d: five voters again after %v", round, time.Since(start))
	}
	acked := l.finish()
	t.Logf("%d commits, slowest %v", len(acked), time.Duration(l.slowest.Load()))
	checkKeys(t, g, acked)
}

// A group grows from one voter to three when homes appear.
func TestGrow(t *testing.T) {
	homes := makeHomes(t, 3)
	g := openGroup(t, testConfig(3), homes[:1])
	put(t, g, "a", "1")
	g.SetHomes(homes)
	waitVoters(t, g, 3)
	if got, _ := mustGet(t, g, "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
	lead := leaderHome(t, g)
	homes[lead].Usable = false
	g.SetHomes(homes)
	if got, _ := mustGet(t, g, "a"); got != "1" {
		t.Errorf("a = %q after the first voter's loss", got)
	}
}

// With a minority of voters' homes there is no answer, and no new group; when they return all is there.
func TestMinorityWaits(t *testing.T) {
	homes := makeHomes(t, 5)
	g, err := Open(testConfig(5), homes)
	if err != nil {
		t.Fatal(err)
	}
	put(t, g, "a", "1")
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	g = openGroup(t, testConfig(5), homes[:2])
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := g.View(ctx); !errors.Is(err, cairn.ErrCanceled) {
		t.Fatalf("view with two of five: %v", err)
	}
	g.SetHomes(homes[:4])
	if got, _ := mustGet(t, g, "a"); got != "1" {
		t.Errorf("a = %q", got)
	}
}

// A voter whose log or state is damaged does not take part with less than it acknowledged; it is made anew.
func TestDamagedVoter(t *testing.T) {
	damages := map[string]func(t *testing.T, dir string){
		"log flipped in the middle": func(t *testing.T, dir string) { flip(t, glob1(t, dir, "log/*.log", largestWritten), 4096+700) },
		"log cut": func(t *testing.T, dir string) {
			if err := os.Truncate(glob1(t, dir, "log/*.log", largestWritten), 3000); err != nil {
				t.Fatal(err)
			}
		},
		"log gone":       func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "log")) },
		"state gone":     func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, "state")) },
		"manifest empty": func(t *testing.T, dir string) { os.Truncate(glob1(t, dir, "state/MANIFEST-*", nil), 0) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			homes := makeHomes(t, 3)
			g, err := Open(testConfig(3), homes)
			if err != nil {
				t.Fatal(err)
			}
			var keys []string
			for i := range 60 {
				keys = append(keys, fmt.Sprintf("key%03d", i))
				put(t, g, keys[i], keys[i])
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(homes[1].Dir, voterDir))
			g = openGroup(t, testConfig(3), homes)
			checkKeys(t, g, keys)
			waitVoters(t, g, 3)
			// The repaired voter must hold everything: it and one other are a majority.
			homes[0].Usable = false
			g.SetHomes(homes)
			checkKeys(t, g, keys)
		})
	}
}

func largestWritten(a, b string) bool { return written(a) > written(b) }

// written is how many bytes of a file are not zero.
func written(path string) (n int) {
	b, _ := os.ReadFile(path)
	for _, c := range b {
		if c != 0 {
			n++
		}
	}
	return n
}

func glob1(t *testing.T, dir, pattern string, better func(a, b string) bool) string {
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(list) == 0 {
		t.Fatalf("no %s in %s: %v", pattern, dir, err)
	}
	best := list[0]
	for _, p := range list[1:] {
		if better != nil && better(p, best) {
			best = p
		}
	}
	return best
}

func flip(t *testing.T, path string, at int) {
	b, err := os.ReadFile(path)
	if err != nil || at >= len(b) {
		t.Fatal(path, err)
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A drive that was replaced while away must not bring its old voter back.
func TestReturnOfReplacedVoter(t *testing.T) {
	homes := makeHomes(t, 4)
	g := openGroup(t, testConfig(3), homes)
	put(t, g, "a", "1")
	lead := leaderHome(t, g)
	homes[lead].Usable = false
	g.SetHomes(homes)
	put(t, g, "a", "2")
	waitVoters(t, g, 3)
	homes[lead].Usable = true
	g.SetHomes(homes)
	time.Sleep(4 * keepEvery)
	waitVoters(t, g, 3)
	if found, _ := exists(g.cfg.FS, filepath.Join(homes[lead].Dir, voterDir)); found {
		t.Error("the replaced voter's directory is still there")
	}
	if got, _ := mustGet(t, g, "a"); !strings.HasPrefix(got, "2") {
		t.Errorf("a = %q, want 2", got)
	}
}
