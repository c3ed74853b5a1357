package simcluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"cairn"
	"cairn/meta/replica"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// put writes a key at a node, within patience.
func put(n *Node, key, value string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	b := &replica.Batch{RequestID: n.sim.request()}
	b.Put([]byte(key), []byte(value))
	_, err := n.Group().Commit(ctx, b)
	return err
}

func mustPut(s *Sim, n *Node, key, value string) {
	s.T.Helper()
	if err := put(n, key, value, 10*time.Second); err != nil {
		s.T.Fatalf("node %d: put %s: %v", n.Index, key, err)
	}
}

// get reads a key at a node.
func get(s *Sim, n *Node, key string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, _, err := s.NewHistory().read(ctx, n.Group(), key)
	return v, err
}

func wantGet(s *Sim, n *Node, key, want string) {
	s.T.Helper()
	if got, err := get(s, n, key); err != nil || got != want {
		s.T.Errorf("node %d: %s is %.40q, %v; want %.40q", n.Index, key, got, err, want)
	}
}

// A leader that hears and is not heard, or is heard and does not hear, costs seconds of simulated time, no commit and no
// right read.
func TestAsymmetricPartition(t *testing.T) {
	for name, cut := range map[string]func(s *Sim, lead, i int){
		"mute": func(s *Sim, lead, i int) { s.Cut(lead, i, true) },
		"deaf": func(s *Sim, lead, i int) { s.Cut(i, lead, true) },
	} {
		t.Run(name, func(t *testing.T) {
			Run(t, Config{Seed: 3}, func(s *Sim) {
				s.Form()
				mustPut(s, s.Nodes[3], "a", "1")
				lead := s.Leader()
				for i := range s.Nodes {
					if i != lead.Index {
						cut(s, lead.Index, i)
					}
				}
				began := time.Now()
				for _, n := range s.Nodes {
					if n != lead {
						mustPut(s, n, "a", fmt.Sprint("2", n.Index))
						wantGet(s, n, "a", fmt.Sprint("2", n.Index))
					}
				}
				if took := time.Since(began); took > 5*time.Second {
					s.T.Errorf("writes at the others took %v", took)
				}
				mustPut(s, s.Nodes[3], "a", "3")
				if got, err := get(s, lead, "a"); err == nil && got != "3" {
					s.T.Errorf("the leader that is cut off reads %q", got)
				}
				lead.Heal()
				wantGet(s, lead, "a", "3")
			})
		})
	}
}

// A node that loses its power while it is being given a voter, or while it gives one, leaves no half voter behind.
func TestCrashMidSnapshot(t *testing.T) {
	for name, who := range map[string]int{"receiver": 1, "sender": 0} {
		t.Run(name, func(t *testing.T) {
			Run(t, Config{Seed: 4}, func(s *Sim) {
				s.Nodes[0].Start()
				big := string(bytes.Repeat([]byte("cairn"), 20<<10))
				for i := range 20 {
					mustPut(s, s.Nodes[0], fmt.Sprint("row", i), fmt.Sprint(i, big))
				}
				for i := 1; i < len(s.Nodes); i++ {
					s.Weather(0, i, 0.05, 40*time.Millisecond) // a seed takes a while
				}
				for _, n := range s.Nodes[1:] {
					n.Start()
				}
				making := func() bool {
					_, err := s.Nodes[1].disk.Stat("/node1/meta.new/state")
					return err == nil
				}
				for range 10_000 {
					if making() {
						break
					}
					s.Sleep(2 * time.Millisecond)
				}
				if !making() {
					s.T.Fatal("no voter was made on node 1 in 20 s")
				}
				s.Sleep(20 * time.Millisecond)
				if !making() {
					s.T.Fatal("the seed was over at once: nothing is tested")
				}
				s.Nodes[who].Stop(Power)
				s.Sleep(3 * time.Second)
				s.Calm()
				s.AwaitVoters(3)
				for _, n := range s.Nodes {
					for i := range 20 {
						wantGet(s, n, fmt.Sprint("row", i), fmt.Sprint(i, big))
					}
				}
			})
		})
	}
}

// A gateway that was cut off while the leader changed reads what is new as soon as it is back, and what it decided on old
// rows is refused.
func TestStaleGateway(t *testing.T) {
	Run(t, Config{Seed: 5}, func(s *Sim) {
		s.Form()
		gateway := s.Nodes[3]
		mustPut(s, gateway, "a", "1")
		w, err := gateway.Group().View(s.T.Context())
		if err != nil {
			s.T.Fatal(err)
		}
		row, _, err := w.Get([]byte("a"), nil)
		stale := w.Index
		w.Close()
		if err != nil || string(row) != "1" {
			s.T.Fatal(string(row), err)
		}
		s.Isolate(gateway.Index, true)
		old := s.Leader()
		old.Stop(Kill)
		next := s.Nodes[(old.Index+1)%3]
		mustPut(s, next, "a", "2")
		s.Isolate(gateway.Index, false)
		b := &replica.Batch{RequestID: s.request(), ReadIndex: stale}
		b.Check([]byte("a"))
		b.Put([]byte("a"), []byte("stale"))
		ctx, cancel := context.WithTimeout(s.T.Context(), 20*time.Second)
		defer cancel()
		if _, err := gateway.Group().Commit(ctx, b); !errors.Is(err, replica.ErrConflict) {
			s.T.Errorf("a commit that rests on an old row: %v", err)
		}
		wantGet(s, gateway, "a", "2")
		s.Calm()
		wantGet(s, old, "a", "2")
	})
}

// A machine that comes back at its old address with an empty disk gets another voter: the one that was lost has promised
// things that the new one does not know.
func TestReplacedMember(t *testing.T) {
	for name, drive := range map[string]cairn.DriveID{"new drive": {9}, "same name": {0: 0xd0, 15: 3}} {
		t.Run(name, func(t *testing.T) {
			Run(t, Config{Seed: 6}, func(s *Sim) {
				s.Form()
				mustPut(s, s.Nodes[3], "a", "1")
				n := s.Nodes[2]
				before := voterOn(s, n)
				n.Stop(Power)
				n.wipe(drive)
				s.Sleep(time.Second)
				n.Start()
				for range 600 {
					if now := voterOn(s, n); now != 0 && now != before {
						break
					}
					s.Sleep(100 * time.Millisecond)
				}
				if now := voterOn(s, n); now == 0 || now == before {
					s.T.Fatalf("voter %x on the machine that was replaced, %x before", now, before)
				}
				s.AwaitVoters(3)
				s.Nodes[0].Stop(Kill)
				mustPut(s, s.Nodes[3], "a", "2")
				wantGet(s, n, "a", "2")
			})
		})
	}
}

// voterOn returns the voter that lives on a node by the leader's word; 0 if it has none.
func voterOn(s *Sim, n *Node) uint64 {
	for _, v := range s.Leader().Group().Status().Voters {
		if v.Node == n.ID && v.State == replica.VoterUp {
			return v.ID
		}
	}
	return 0
}

// Two nodes that were both begun anew stay two stores, whoever else knows both: nothing of one is ever seen in the other.
func TestTwoBootstraps(t *testing.T) {
	change := func(node int, cfg *replica.Config) {
		switch node {
		case 1:
			cfg.Seeds = nil
		case 2, 3:
			cfg.Seeds = []cairn.NodeID{{0: 0xa0, 15: 1}, {0: 0xa0, 15: 2}}
		}
	}
	Run(t, Config{Seed: 7, Homes: 3, Clients: 1, Change: change}, func(s *Sim) {
		for _, n := range s.Nodes {
			n.Start()
		}
		s.Sleep(time.Second)
		mustPut(s, s.Nodes[0], "a", "zero")
		mustPut(s, s.Nodes[1], "b", "one")
		for round := range 10 {
			s.Sleep(3 * time.Second)
			for _, n := range s.Nodes[:2] {
				mustPut(s, n, fmt.Sprint("own", n.Index), fmt.Sprint(round))
			}
		}
		wantGet(s, s.Nodes[0], "b", "")
		wantGet(s, s.Nodes[1], "a", "")
		wantGet(s, s.Nodes[0], "own0", "9")
		wantGet(s, s.Nodes[1], "own1", "9")
		for _, n := range s.Nodes[:2] {
			n.Stop(Kill)
			s.Sleep(time.Second)
			n.Start()
			wantGet(s, n, fmt.Sprint("own", n.Index), "9")
		}
	})
}

// With one voter's node down for good, its voter moves to a spare node, commits go on meanwhile, and the node does no harm
// when it comes back.
func TestMembershipChangeWithNodeDown(t *testing.T) {
	change := func(_ int, cfg *replica.Config) { cfg.ReplaceAfter = 3 * time.Second }
	Run(t, Config{Seed: 8, Homes: 4, Clients: 1, Change: change}, func(s *Sim) {
		s.Form()
		var gone *Node
		for _, n := range s.Nodes[:4] {
			if voterOn(s, n) != 0 && n != s.Leader() {
				gone = n
			}
		}
		gone.Stop(Power)
		for i := range 40 {
			mustPut(s, s.Nodes[4], "a", fmt.Sprint(i))
			s.Sleep(200 * time.Millisecond)
		}
		s.AwaitVoters(3)
		if voterOn(s, gone) != 0 {
			s.T.Error("the node that is gone still carries a voter that takes part")
		}
		gone.Start()
		s.Sleep(5 * time.Second)
		for i := range 10 {
			mustPut(s, gone, "a", fmt.Sprint("back", i))
			wantGet(s, s.Nodes[4], "a", fmt.Sprint("back", i))
		}
		s.AwaitVoters(3)
	})
}

// A request that is repeated because leaders go away takes effect once.
func TestRetryAcrossLeaders(t *testing.T) {
	Run(t, Config{Seed: 9}, func(s *Sim) {
		s.Form()
		gateway := s.Nodes[3]
		stop, done := make(chan struct{}), make(chan struct{})
		acknowledged := int64(0)
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
				}
				b := &replica.Batch{RequestID: s.request()}
				b.Add([]byte(sumKey), 1)
				if _, err := gateway.Group().Commit(context.Background(), b); err != nil {
					s.T.Error(err)
					return
				}
				acknowledged++
			}
		}()
		for i := range 6 {
			s.Sleep(700 * time.Millisecond)
			lead := s.Leader()
			if i%2 == 0 {
				lead.Stop(Kill)
			} else {
				s.Isolate(lead.Index, true)
			}
			s.Sleep(2 * time.Second)
			s.Calm()
		}
		close(stop)
		<-done
		row, err := get(s, gateway, sumKey)
		if err != nil {
			s.T.Fatal(err)
		}
		if sum, err := replica.Counters([]byte(row)); err != nil || sum[0] != acknowledged || acknowledged < 100 {
			s.T.Errorf("sum is %v (%v), %d additions were acknowledged", sum, err, acknowledged)
		}
	})
}

// A leader whose disk stalls hands its leadership on within seconds, though its process and its network are well; so does
// the next one.
func TestStalledLeader(t *testing.T) {
	Run(t, Config{Seed: 10}, func(s *Sim) {
		s.Form()
		for round := range 3 {
			old := s.Leader()
			old.StallDisk(true)
			began := time.Now()
			for _, n := range s.Nodes {
				mustPut(s, n, "a", fmt.Sprint(round, n.Index))
				wantGet(s, s.Nodes[3], "a", fmt.Sprint(round, n.Index))
			}
			if took := time.Since(began); took > 4*time.Second {
				s.T.Errorf("writes took %v while the leader's disk stood still", took)
			}
			if s.Leader() == old {
				s.T.Error("the node whose disk stands still leads")
			}
			old.StallDisk(false)
			s.Sleep(3 * time.Second)
		}
	})
}

// A voter of another node that lags far behind is caught up after the leader's end: with the third it is the only majority.
func TestFarLaggardIsCaughtUpWithoutTheLeader(t *testing.T) {
	Run(t, Config{Seed: 11}, func(s *Sim) {
		s.Form()
		lead := s.Leader()
		slow := s.Nodes[(lead.Index+1)%3]
		s.Isolate(slow.Index, true)
		row := string(bytes.Repeat([]byte("x"), 8<<10))
		for i := range 160 { // five times LogBytes
			mustPut(s, lead, fmt.Sprint("row", i%10), row)
		}
		s.Sleep(40 * time.Second) // the logs are cut
		lead.Stop(Power)
		slow.Heal()
		mustPut(s, s.Nodes[3], "a", "1")
		wantGet(s, slow, "a", "1")
	})
}

// wipe gives a node that does not run an empty disk with a drive of its own.
func (n *Node) wipe(drive cairn.DriveID) {
	n.mem = vfs.NewCrashableMem()
	n.homes[0].Drive = drive
	n.makeHome()
}
