package simcluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"cairn/meta/replica"

	"github.com/anishathalye/porcupine"
)

// Op is what a client did to one key.
type Op struct {
	Kind  Kind
	Key   string
	Value string // written
	Old   string // what Swap replaced
}

// Kind is one of the operations below.
type Kind int

// The operations of clients.
const (
	Read  Kind = iota
	Write      // unconditional
	Swap       // read, then replace what was read, unless it has changed
)

// String prints the operation.
func (o Op) String() string {
	return [...]string{"read ", "write ", "swap "}[o.Kind] + o.Key + " " + o.Old + "→" + o.Value
}

// registers is what clients expect of keys: one value each, all operations in one order that fits real time.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var keys []string
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			k := op.Input.(Op).Key
			if byKey[k] == nil {
				keys = append(keys, k)
			}
			byKey[k] = append(byKey[k], op)
		}
		var list [][]porcupine.Operation
		for _, k := range keys {
			list = append(list, byKey[k])
		}
		return list
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		op, out := input.(Op), output.(outcome)
		switch {
		case op.Kind == Write:
			return true, op.Value
		case op.Kind == Read:
			return out.value == state.(string), state
		case state.(string) == op.Old:
			return true, op.Value
		}
		return !out.known, state // a swap whose fate is not known may have been refused
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " = ", out) },
}

type outcome struct {
	value string
	known bool
}

// History is what all clients did.
type History struct {
	sim *Sim
	// Stale makes reads skip their confirmation by a majority: a planted bug.
	Stale bool

	mu      sync.Mutex
	clock   int64 // orders calls and returns
	ops     []porcupine.Operation
	client  int
	added   int64 // acknowledged additions to sumKey
	maybe   int64 // additions of unknown fate
	refused map[string]int
}

const (
	sumKey     = "sum"
	opPatience = 15 * time.Second
	// checkLimit is real time: a history that takes longer is a failure, since it proves nothing.
	checkLimit = time.Minute
)

// NewHistory returns an empty history.
func (s *Sim) NewHistory() *History { return &History{sim: s, refused: make(map[string]int)} }

func (h *History) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock++
	return h.clock
}

// Client runs operations at a node until ctx ends. After one whose fate is not known it goes on as another client, since
// that one may still be under way.
func (h *History) Client(ctx context.Context, n *Node, keys int, rng *rand.Rand) {
	id := h.newClient()
	for i := 0; ctx.Err() == nil; i++ {
		h.sim.Sleep(time.Duration(rng.IntN(90_000)) * time.Microsecond)
		g := n.Group()
		if g == nil || ctx.Err() != nil {
			continue
		}
		h.sim.noteLeader(n)
		if rng.IntN(6) == 0 {
			h.add(g, n, rng.Uint64()|1)
			continue
		}
		op := Op{Kind: Kind(rng.IntN(3)), Key: fmt.Sprint("k", rng.IntN(keys)), Value: fmt.Sprintf("%d.%d", id, i)}
		if !h.Do(n, id, op, rng.Uint64()|1) {
			id = h.newClient()
		}
	}
}

func (h *History) newClient() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.client++
	return h.client
}

// Do runs one operation and notes it; false if its fate is not known.
func (h *History) Do(n *Node, client int, op Op, request uint64) bool {
	g := n.Group()
	if g == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.sim.lone(opPatience))
	defer cancel()
	call := h.tick()
	value, err := h.do(ctx, g, &op, request)
	if err == nil && n.Group() != g {
		err = errGone // a process that is killed answers nobody
	}
	done := h.tick()
	h.note(err)
	record := porcupine.Operation{ClientId: client, Input: op, Call: call, Output: outcome{value, err == nil}, Return: done}
	switch {
	case err == nil:
	case op.Kind == Read, errors.Is(err, errUnchanged):
		return true // nothing happened
	default:
		record.Return = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, record)
	return err == nil
}

var (
	errGone      = errors.New("the client's node is gone")
	errUnchanged = errors.New("nothing was changed")
)

func (h *History) note(err error) {
	if err == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused[err.Error()]++
}

func (h *History) do(ctx context.Context, g *replica.Group, op *Op, request uint64) (string, error) {
	b := &replica.Batch{RequestID: request}
	if op.Kind != Write {
		value, index, err := h.read(ctx, g, op.Key)
		if err != nil {
			return "", fmt.Errorf("%w: %w", errUnchanged, err)
		}
		if op.Kind == Read {
			return value, nil
		}
		op.Old, b.ReadIndex = value, index
		b.Check([]byte(op.Key))
	}
	b.Put([]byte(op.Key), []byte(op.Value))
	_, err := g.Commit(ctx, b)
	if errors.Is(err, replica.ErrConflict) {
		return "", fmt.Errorf("%w: %w", errUnchanged, err)
	}
	return "", err
}

// read reads a key as package meta does: again, at another voter, when one goes away.
func (h *History) read(ctx context.Context, g *replica.Group, key string) (string, uint64, error) {
	var last error
	for range 9 {
		view := g.View
		if h.Stale {
			view = g.Latest
		}
		w, err := view(ctx)
		if err != nil {
			return "", 0, err
		}
		index := w.Index
		row, _, err := w.Get([]byte(key), nil)
		if index == 0 {
			index = w.Index
		}
		w.Close()
		if err == nil {
			return string(row), index, nil
		}
		if last = err; !errors.Is(err, replica.ErrMoved) {
			break
		}
	}
	return "", 0, last
}

// add raises the sum by one.
func (h *History) add(g *replica.Group, n *Node, request uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), h.sim.lone(opPatience))
	defer cancel()
	b := &replica.Batch{RequestID: request}
	b.Add([]byte(sumKey), 1)
	_, err := g.Commit(ctx, b)
	if err == nil && n.Group() != g {
		err = errGone
	}
	h.note(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err == nil {
		h.added++
	} else {
		h.maybe++
	}
}

// Settle reads everything at every node, which must be possible by now, and checks the whole history: all of it fits one
// order, and every addition that was acknowledged took effect once.
func (h *History) Settle(keys int) {
	s := h.sim
	s.T.Helper()
	for _, n := range s.Nodes {
		for k := range keys {
			if !h.readable(n, fmt.Sprint("k", k)) {
				s.T.Errorf("node %d: key %d is not to be read, though nothing is wrong any more", n.Index, k)
			}
		}
		h.checkSum(n)
	}
	if err := h.Check(); err != nil {
		s.T.Error(err)
	}
}

func (h *History) readable(n *Node, key string) bool {
	before := len(h.ops)
	for range 6 {
		h.Do(n, h.newClient(), Op{Kind: Read, Key: key}, 0)
		if len(h.ops) > before {
			return true
		}
		h.sim.Sleep(time.Second)
	}
	return false
}

func (h *History) checkSum(n *Node) {
	ctx, cancel := context.WithTimeout(context.Background(), h.sim.lone(opPatience))
	defer cancel()
	row, _, err := h.read(ctx, n.Group(), sumKey)
	if err != nil {
		h.sim.T.Errorf("node %d: sum: %v", n.Index, err)
		return
	}
	sum := int64(0)
	if row != "" {
		list, err := replica.Counters([]byte(row))
		if err != nil || len(list) != 1 {
			h.sim.T.Errorf("node %d: sum is %q: %v", n.Index, row, err)
			return
		}
		sum = list[0]
	}
	if sum < h.added || sum > h.added+h.maybe {
		h.sim.T.Errorf("node %d: sum is %d; %d additions were acknowledged, %d may have taken effect", n.Index, sum, h.added, h.maybe)
	}
}

// Check tells whether the history fits one order.
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if res := porcupine.CheckOperationsTimeout(registers, h.ops, checkLimit); res != porcupine.Ok {
		return fmt.Errorf("history of %d operations is not linearizable (%v)", len(h.ops), res)
	}
	return nil
}

// Count returns how many operations were noted, and how many of them with a known outcome.
func (h *History) Count() (all, known int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, op := range h.ops {
		if op.Output.(outcome).known {
			known++
		}
	}
	return len(h.ops), known
}
