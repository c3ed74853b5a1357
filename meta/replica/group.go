package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
	"cairn/meta/replica/link"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Group is the voters of this process as one store. Safe for concurrent use.
type Group struct {
	cfg    Config
	shared *shared

	voters atomic.Pointer[map[uint64]*voter] // running ones; replaced, never changed
	queued atomic.Int64                      // bytes of proposals under way
	hold   atomic.Uint64                     // log index that must stay for a voter being seeded; 0 for none
	holdAt atomic.Int64                      // unix nanoseconds when hold was set

	// Of a node among others; links is nil when all voters are of this process.
	links       *link.Links
	guests      *guests
	walks       walks
	served      atomic.Int64
	compass     compass
	seeds       atomic.Pointer[[]cairn.NodeID]
	leaderCalls leaderCalls
	table       atomic.Pointer[members] // the newest row of members that a voter here has applied
	id          atomic.Pointer[string]  // the group's, once it is known

	hellos    hellos                  // guarded by mu
	tidings   atomic.Pointer[tidings] // not heeded yet
	told      atomic.Pointer[tidings] // the latest
	wanted    atomic.Int64            // voters that the leader's plan aims at; 0 if this node has not led
	membersAt uint64                  // index of table; guarded by mu
	origins   map[uint64]cairn.NodeID // of voters that table does not name; guarded by mu

	mu     sync.Mutex
	news   chan struct{} // closed when leadership, members or failures change
	homes  []Home
	closed bool

	keep     longLock // held by whoever changes the set of voters
	keeping  keeper
	ticker   sync.WaitGroup
	seeders  sync.WaitGroup
	stopTick chan struct{}
}

// Open starts the voters that the homes hold, or a new group if it may. Homes that come later are given to SetHomes; Run
// must run for lost voters to be replaced.
func Open(cfg Config, homes []Home) (*Group, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Group{cfg: cfg, shared: newShared(cfg.CacheBytes), news: make(chan struct{}), stopTick: make(chan struct{}), keep: newLongLock()}
	g.compass.look = newLongLock()
	g.voters.Store(&map[uint64]*voter{})
	g.SetSeeds(cfg.Seeds)
	g.keeping = keeper{deadSince: make(map[uint64]time.Time), marked: make(map[Home]bool), lastErr: make(map[string]string),
		seeding: make(map[string]cairn.NodeID), seedAfter: make(map[string]time.Time), seeded: make(map[uint64]bool), openAfter: make(map[string]time.Time),
		condemned: make(map[uint64]bool)}
	if !cfg.Node.IsZero() {
		g.origins, g.guests = make(map[uint64]cairn.NodeID), newGuests()
		g.links = link.New(link.Config{Peers: cfg.Peers, Path: VotersPath + "raft", Sign: g.signStream, Logger: cfg.Logger, Lost: g.lost})
	}
	g.ticker.Go(g.tick)
	g.SetHomes(homes)
	if err := g.keepOnce(); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

// tick drives the clocks of all voters. Random phases are raft's own.
func (g *Group) tick() {
	t := newTicker(g.cfg.Tick)
	defer t.Stop()
	for {
		select {
		case <-g.stopTick:
			return
		case <-t.C:
			for _, v := range *g.voters.Load() {
				v.in.put(event{tick: true})
			}
			g.walks.sweep(false)
			g.endMisled()
		}
	}
}

// Close stops all voters. Calls under way end with ErrUnavailable.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	g.mu.Unlock()
	g.changed()
	close(g.stopTick)
	g.ticker.Wait()
	if g.links != nil {
		g.links.Close()
		g.guests.close()
	}
	g.walks.sweep(true)
	g.seeders.Wait() // seconds at most: a seed is a copy of metadata
	g.keep.Lock()
	defer g.keep.Unlock()
	var errs []error
	for _, v := range *g.voters.Load() {
		if err := v.close(closePatience); err != nil {
			errs = append(errs, err)
		}
	}
	g.voters.Store(&map[uint64]*voter{})
	if len(errs) == 0 {
		g.shared.close() // an abandoned voter goes on using them
	}
	return errors.Join(errs...)
}

const closePatience = 5 * time.Second

func (g *Group) voter(id uint64) *voter { return (*g.voters.Load())[id] }

func (g *Group) addVoter(v *voter) {
	m := maps.Clone(*g.voters.Load())
	m[v.id] = v
	g.voters.Store(&m)
}

func (g *Group) removeVoter(id uint64) {
	m := maps.Clone(*g.voters.Load())
	delete(m, id)
	g.voters.Store(&m)
}

// changed wakes everyone who waits for a leader or a change of members.
func (g *Group) changed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.news)
	g.news = make(chan struct{})
}

func (g *Group) nextNews() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.news
}

func (g *Group) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// send delivers a message to a voter, or loses it: raft asks again. Inside this process entries go by reference; the
// slice around them is copied, since the receiver appends to it.
func (g *Group) send(m *pb.Message) {
	if v := g.voter(m.GetTo()); v != nil {
		if len(m.GetEntries()) > 0 {
			m = shallow(m)
		}
		v.in.put(event{msg: m})
		return
	}
	if g.links == nil {
		return
	}
	if node, ok := g.nodeOf(m.GetTo()); ok && node != g.cfg.Node {
		g.links.Send(node, m)
	}
}

// lost tells raft of a message that will not arrive.
func (g *Group) lost(m *pb.Message) {
	if v := g.voter(m.GetFrom()); v != nil {
		v.in.put(event{do: func(rn *raft.RawNode) { rn.ReportUnreachable(m.GetTo()) }})
	}
}

// signStream says for which group a stream of messages is.
func (g *Group) signStream(h http.Header) {
	g.sign(h)
	if id := g.id.Load(); id != nil {
		h.Set(groupHeader, *id)
	}
}

func shallow(m *pb.Message) *pb.Message {
	return &pb.Message{Type: m.Type, To: m.To, From: m.From, Term: m.Term, LogTerm: m.LogTerm, Index: m.Index,
		Entries: slices.Clone(m.Entries), Commit: m.Commit, Vote: m.Vote, Snapshot: m.Snapshot, Reject: m.Reject,
		RejectHint: m.RejectHint, Context: m.Context, Responses: m.Responses}
}

// leader returns the voter that leads now, waiting for one. Without one after patience, or at ctx's end, it fails with
// ErrQuorum or ErrCanceled.
func (g *Group) leader(ctx context.Context) (*voter, uint64, error) {
	if v, term := g.leaderNow(); v != nil {
		return v, term, nil
	}
	patience := time.NewTimer(leaderPatience)
	defer patience.Stop()
	for {
		news := g.nextNews()
		if v, term := g.leaderNow(); v != nil {
			return v, term, nil
		}
		if g.isClosed() {
			return nil, 0, errClosed
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, 0, fmt.Errorf("no leader: %w: %w", ctx.Err(), cairn.ErrCanceled)
		case <-patience.C:
			return nil, 0, fmt.Errorf("no leader for %v: %w: %w", leaderPatience, cairn.ErrQuorum, cairn.ErrUnavailable)
		}
	}
}

const leaderPatience = 10 * time.Second

func (g *Group) leaderNow() (best *voter, term uint64) {
	for _, v := range *g.voters.Load() {
		if t := v.ready.Load(); t > term && !v.failed() {
			best, term = v, t
		}
	}
	return best, term
}

// confirm tells whether the voter that leads in term still led at some moment after the call: that holds if majorities of
// its members had not moved to a later term, since a later leader needs a majority that has. It is ReadIndex's round of
// heartbeats, by loads of memory instead of messages: a voter publishes a term before it votes in it.
func (g *Group) confirm(v *voter, term uint64) bool {
	conf := v.conf.Load()
	voters := *g.voters.Load()
	majority := func(ids []uint64) bool {
		n := 0
		for _, id := range ids {
			if o := voters[id]; o != nil && !o.failed() && o.term.Load() <= term {
				n++
			}
		}
		return n > len(ids)/2
	}
	return majority(conf.GetVoters()) && (len(conf.GetVotersOutgoing()) == 0 || majority(conf.GetVotersOutgoing())) &&
		v.ready.Load() == term
}

// View is a voter's state for reading. Close it soon: it keeps the voter's files open.
type View struct {
	// Index is the log index that the state holds at least: what Batch.ReadIndex wants. On a node without a voter it is set
	// by the first read, or by Settle.
	Index uint64
	v     *voter
	far   *farView // instead of v: a voter on another node
	// term is that of a view of Latest, which Confirm may have to confirm; 0 for one that is linearizable already.
	term uint64
}

// View returns a state that holds everything that was acknowledged before the call (linearizable).
// Errors: ErrQuorum, ErrCanceled, ErrUnavailable.
func (g *Group) View(ctx context.Context) (*View, error) {
	if g.links != nil {
		return g.viewAmong(ctx)
	}
	for {
		v, term, err := g.leader(ctx)
		if err != nil {
			return nil, err
		}
		if v.acquire() {
			if g.confirm(v, term) {
				return &View{Index: v.applied.Load(), v: v}, nil
			}
			v.release()
		}
		if err := g.unconfirmed(ctx); err != nil {
			return nil, err
		}
	}
}

// viewAmong is View on a node among others: by the voter that runs here, else at another node.
func (g *Group) viewAmong(ctx context.Context) (*View, error) {
	for began := time.Now(); ; {
		w, err := g.viewHere(ctx, 0)
		if errors.Is(err, errNoVoter) {
			w, err = g.farViewOf(ctx)
		}
		switch {
		case err == nil:
			return w, nil
		case ctx.Err() != nil:
			return nil, fmt.Errorf("no quorum: %w: %w", ctx.Err(), cairn.ErrCanceled)
		case g.isClosed():
			return nil, errClosed
		case time.Since(began) > leaderPatience:
			return nil, fmt.Errorf("no read is confirmed for %v: %w: %w: %w", leaderPatience, err, cairn.ErrQuorum, cairn.ErrUnavailable)
		}
		if err := g.unconfirmed(ctx); err != nil {
			return nil, err
		}
	}
}

// unconfirmed waits a moment for the next leader, or for CheckQuorum to end this one's time.
func (g *Group) unconfirmed(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("no quorum: %w: %w", ctx.Err(), cairn.ErrCanceled)
	case <-time.After(g.cfg.Tick / 5):
		return nil
	}
}

// Latest returns the leader's state without asking whether it still leads: for decisions whose batch checks all they read.
// On a node that does not carry the leader it is View.
func (g *Group) Latest(ctx context.Context) (*View, error) {
	for {
		r, err := g.route(ctx)
		if err != nil {
			return nil, err
		}
		if r.v == nil {
			return g.View(ctx)
		}
		if r.v.acquire() {
			return &View{Index: r.v.applied.Load(), v: r.v, term: r.term}, nil
		}
		if err := g.unconfirmed(ctx); err != nil {
			return nil, err
		}
	}
}

// Confirm makes sure that a view of Latest held all that was acknowledged before it was taken: the voter still leads, so
// nobody else has acknowledged anything. A batch that rests on the view needs no such word, since the leader commits it, or
// another one refuses it. Errors: ErrMoved (read again), ErrQuorum, ErrCanceled.
func (w *View) Confirm(ctx context.Context) error {
	if w.term == 0 {
		return nil
	}
	g := w.v.group
	for began := time.Now(); ; {
		if g.confirm(w.v, w.term) {
			return nil
		}
		if g.links != nil && w.v.readIndex(ctx, readPatience) == nil && w.v.ready.Load() == w.term {
			return nil
		}
		switch {
		case w.v.ready.Load() != w.term:
			return ErrMoved
		case time.Since(began) > leaderPatience:
			return fmt.Errorf("no read is confirmed for %v: %w: %w", leaderPatience, cairn.ErrQuorum, cairn.ErrUnavailable)
		}
		if err := g.unconfirmed(ctx); err != nil {
			return err
		}
	}
}

// Outcome is what a commit did.
type Outcome struct {
	Index  uint64
	Repeat bool   // the request ID had been committed before; Result is of that time
	Result []byte // the batch's, or that of the first time
}

// Commit makes a batch durable on a majority of voters and visible, or fails. ErrConflict: a checked key changed (nothing
// was done). ErrOverloaded: too much waits. ErrCanceled, ErrQuorum, ErrUnavailable: the outcome is unknown; committing
// again with the same RequestID is safe.
func (g *Group) Commit(ctx context.Context, b *Batch) (Outcome, error) {
	release, err := g.enqueue(b)
	if err != nil {
		return Outcome{}, err
	}
	defer release()
	for {
		r, err := g.route(ctx)
		if err != nil {
			return Outcome{}, err
		}
		var o Outcome
		if r.v != nil {
			o, err = r.v.commit(ctx, b)
		} else {
			o, err = g.commitAt(ctx, r, b)
		}
		switch {
		case err == nil:
			return o, nil
		case ctx.Err() != nil:
			return o, err
		case errors.Is(err, errUnknown) && b.RequestID == 0:
			return o, fmt.Errorf("%w: %w", err, cairn.ErrUnavailable)
		case !errors.Is(err, errUnknown) && !errors.Is(err, errNotLeader):
			return o, err
		}
		// The next leader knows the request if it reached the log; if not, it can never come back.
		if err := g.unconfirmed(ctx); err != nil {
			return Outcome{}, err
		}
	}
}

// enqueue takes a batch into the count of what waits.
func (g *Group) enqueue(b *Batch) (release func(), err error) {
	size := int64(len(b.ops) + len(b.Result) + 64)
	if size > MaxBatchBytes {
		return nil, fmt.Errorf("batch of %d bytes: %w", size, cairn.ErrTooLarge)
	}
	if g.queued.Add(size) > g.cfg.QueueBytes+size {
		g.queued.Add(-size)
		return nil, fmt.Errorf("proposals wait: %w", cairn.ErrOverloaded)
	}
	return func() { g.queued.Add(-size) }, nil
}

// commit proposes a batch to the voter that leads. Errors: errNotLeader (it did not reach the log), errUnknown, ErrConflict.
func (v *voter) commit(ctx context.Context, b *Batch) (Outcome, error) {
	p := &proposal{batch: b, done: make(chan outcome, 1)}
	if !v.in.put(event{prop: p}) {
		return Outcome{}, errNotLeader
	}
	select {
	case o := <-p.done:
		return Outcome{Index: o.index, Repeat: o.repeat, Result: o.result}, o.err
	case <-ctx.Done():
		return Outcome{}, fmt.Errorf("%w: %w: %w", errUnknown, ctx.Err(), cairn.ErrCanceled)
	}
}

// holdFrom returns the index from which the log must stay.
func (g *Group) holdFrom() uint64 {
	at := g.hold.Load()
	if at == 0 || time.Since(time.Unix(0, g.holdAt.Load())) > maxHold {
		return ^uint64(0)
	}
	return at
}

const maxHold = 2 * time.Minute

func decodeConfChange(e *pb.Entry) (pb.ConfChangeI, error) {
	if e.GetType() == pb.EntryConfChange {
		cc := &pb.ConfChange{}
		return cc, proto.Unmarshal(e.GetData(), cc)
	}
	cc := &pb.ConfChangeV2{}
	return cc, proto.Unmarshal(e.GetData(), cc)
}

// raftLogger passes on what raft warns of. What it calls fatal or panics over is a broken invariant.
type raftLogger struct{ log logger }

type logger interface {
	Debug(msg string, args ...any)
	Warn(msg string, args ...any)
}

func (l raftLogger) Debug(v ...any)        {}
func (l raftLogger) Debugf(string, ...any) {}
func (l raftLogger) Info(v ...any)         { l.log.Debug("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Infof(format string, v ...any) {
	l.log.Debug("raft", "msg", fmt.Sprintf(format, v...))
}
func (l raftLogger) Warning(v ...any) { l.log.Debug("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Warningf(format string, v ...any) {
	l.log.Debug("raft", "msg", fmt.Sprintf(format, v...))
}
func (l raftLogger) Error(v ...any) { l.log.Warn("raft", "msg", fmt.Sprint(v...)) }
func (l raftLogger) Errorf(format string, v ...any) {
	l.log.Warn("raft", "msg", fmt.Sprintf(format, v...))
}
func (l raftLogger) Fatal(v ...any)                 { panic(fatalPanic{errors.New(fmt.Sprint(v...))}) }
func (l raftLogger) Fatalf(format string, v ...any) { panic(fatalPanic{fmt.Errorf(format, v...)}) }
func (l raftLogger) Panic(v ...any)                 { panic(fatalPanic{errors.New(fmt.Sprint(v...))}) }
func (l raftLogger) Panicf(format string, v ...any) { panic(fatalPanic{fmt.Errorf(format, v...)}) }

var _ raft.Logger = raftLogger{}

// FlushAll writes every voter's state to disk now, rather than when its log has grown.
func (g *Group) FlushAll() {
	for _, v := range *g.voters.Load() {
		if err := guard(v.flush); err != nil {
			v.fail(err)
		}
	}
}

// Lead asks the voter at a home to take the lead. It is a wish: nothing happens if it does not run or lags.
func (g *Group) Lead(dir string) {
	lead, _ := g.leaderNow()
	for _, v := range *g.voters.Load() {
		if v.home.Dir == dir && lead != nil && v != lead {
			lead.call(func(rn *raft.RawNode) { rn.TransferLeader(v.id) })
		}
	}
}
