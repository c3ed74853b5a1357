package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3"
)

// register is one key in the history: reads, and writes.
type register struct {
	write bool
	key   int
	value string
}

var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[int][]porcupine.Operation)
		for _, op := range history {
			k := op.Input.(register).key
			byKey[k] = append(byKey[k], op)
		}
		var list [][]porcupine.Operation
		for _, ops := range byKey {
			list = append(list, ops)
		}
		return list
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in := input.(register)
		if in.write {
			return true, in.value
		}
		return output.(string) == state.(string), state
	},
}

// history runs clients against a few keys for a while, and disturb beside them.
func history(t *testing.T, g *Group, d time.Duration, disturb func(ctx context.Context)) []porcupine.Operation {
	const clients, keys = 6, 3
	var mu sync.Mutex
	var ops []porcupine.Operation
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(c), 1))
			for i := 0; ctx.Err() == nil; i++ {
				in := register{write: rng.IntN(2) == 0, key: rng.IntN(keys), value: fmt.Sprintf("%d.%d", c, i)}
				op := porcupine.Operation{ClientId: c, Input: in, Call: int64(time.Since(start))}
				out, err := doRegister(t.Context(), g, in)
				op.Output, op.Return = out, int64(time.Since(start))
				if err != nil {
					t.Errorf("client %d: %v", c, err)
					return
				}
				mu.Lock()
				ops = append(ops, op)
				mu.Unlock()
				time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
			}
		})
	}
	disturb(ctx)
	wg.Wait()
	return ops
}

func doRegister(ctx context.Context, g *Group, in register) (string, error) {
	key := fmt.Appendf(nil, "reg%d", in.key)
	if in.write {
		b := &Batch{RequestID: newVoterID()}
		b.Put(key, []byte(in.value))
		_, err := g.Commit(ctx, b)
		return "", err
	}
	w, err := g.View(ctx)
	if err != nil {
		return "", err
	}
	defer w.Close()
	row, _, err := w.Get(key, nil)
	return string(row), err
}

// I3: histories stay linearizable while leaders hand over or are killed.
func TestLinearizable(t *testing.T) {
	g := openGroup(t, testConfig(5), makeHomes(t, 7))
	ops := history(t, g, 3*time.Second, func(ctx context.Context) {
		for i := 0; ctx.Err() == nil; i++ {
			time.Sleep(150 * time.Millisecond)
			lead, _ := g.leaderNow()
			if lead == nil {
				continue
			}
			if i%4 == 3 {
				lead.fail(errors.New("killed by the test"))
				continue
			}
			lead.call(func(rn *raft.RawNode) { rn.TransferLeader(lead.bestFollower()) })
		}
	})
	res, _ := porcupine.CheckOperationsVerbose(registers, ops, 20*time.Second)
	if res != porcupine.Ok {
		t.Errorf("history of %d operations: %v", len(ops), res)
	}
	t.Logf("%d operations", len(ops))
}

// hangLog makes a voter's log wait in its next sync until the returned function is called.
func hangLog(v *voter) (release func()) {
	block := make(chan struct{})
	var on atomic.Bool
	on.Store(true)
	v.log.mu.Lock()
	defer v.log.mu.Unlock()
	v.log.syncFn = func(f vfs.File) error {
		if on.Load() {
			<-block
		}
		return f.SyncData()
	}
	return func() { on.Store(false); close(block) }
}

// A planted bug, answering before a majority has the entry, must be seen as a history that is not linearizable.
func TestCatchesEarlyAnswer(t *testing.T) {
	g := openGroup(t, testConfig(3), makeHomes(t, 3))
	put(t, g, "reg0", "")
	lead, _, err := g.leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range *g.voters.Load() {
		if v != lead {
			defer hangLog(v)() // the followers acknowledge nothing: nothing can be committed
		}
	}
	lead.answerEarly.Store(true)
	var ops []porcupine.Operation
	for i, in := range []register{{write: true, value: "early"}, {}} {
		op := porcupine.Operation{Input: in, Call: int64(2 * i), Return: int64(2*i + 1)}
		if op.Output, err = doRegister(t.Context(), g, in); err != nil {
			t.Fatal(err)
		}
		ops = append(ops, op)
	}
	if porcupine.CheckOperations(registers, ops) {
		t.Error("an answer before the quorum went unnoticed")
	}
}

// A leader whose disk hangs hands its leadership on, and commits go on.
func TestLeaderStalls(t *testing.T) {
	cfg := testConfig(3)
	cfg.StallLimit = 300 * time.Millisecond
	g := openGroup(t, cfg, makeHomes(t, 3))
	put(t, g, "a", "1")
	lead, _, err := g.leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hangLog(lead)()
	start := time.Now()
	put(t, g, "a", "2")
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("commit took %v with a hung leader", d)
	}
	if now, _ := g.leaderNow(); now == lead {
		t.Error("the hung voter still leads")
	}
	if got, _ := mustGet(t, g, "a"); got != "2" {
		t.Errorf("a = %q, want 2", got)
	}
}

// A voter that lags keeps the others' logs from being cut: when the leader dies, it and the third are the only majority, and
// nothing but the third's log can bring it up to date.
func TestLaggardIsCaughtUpWithoutTheLeader(t *testing.T) {
	cfg := testConfig(3)
	cfg.SegmentBytes, cfg.LogBytes, cfg.MemTableBytes = 4<<10, 8<<10, 64<<10
	g, err := Open(cfg, makeHomes(t, 3)) // without Run, which would open the leader's voter again
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	put(t, g, "a", "1")
	lead, _, err := g.leader(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var slow *voter
	for _, v := range *g.voters.Load() {
		if v != lead {
			slow = v
		}
	}
	gate := make(chan struct{})
	slow.in.put(event{do: func(*raft.RawNode) { <-gate }})
	for i := range 40 { // five times LogBytes
		lead.call(func(rn *raft.RawNode) { rn.ReportUnreachable(slow.id) }) // it is sent one message at a time
		put(t, g, fmt.Sprint("k", i), strings.Repeat("x", 1<<10))
	}
	for _, v := range *g.voters.Load() {
		for v != slow && v.applied.Load() < lead.applied.Load() {
			time.Sleep(time.Millisecond)
		}
		if v != slow {
			if err := v.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	lead.fail(errInjected)
	close(gate)
	put(t, g, "a", "2")
	if got, _ := mustGet(t, g, "a"); got != "2" {
		t.Errorf("a = %q, want 2", got)
	}
}
