package replica

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"cairn"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// errNotLeader: the proposal did not reach the log. errUnknown: it may have.
var (
	errNotLeader = errors.New("not the leader")
	errUnknown   = errors.New("outcome unknown")
	errClosed    = fmt.Errorf("closed: %w", cairn.ErrUnavailable)
)

// voter is one member of the group: three goroutines around raft's RawNode with asynchronous storage. main alone
// touches the RawNode; the appender writes and syncs the log, the applier changes the state. While a sync runs, main goes
// on: proposals gather, and go into the log together when the sync returns.
type voter struct {
	id      uint64
	groupID string
	home    Home
	dir     string
	group   *Group
	cfg     *Config
	log     *raftLog
	st      *state
	rn      *raft.RawNode

	in      *queue[event]
	appends *queue[*pb.Message]
	applies *queue[*pb.Message]
	dense   chan span     // what walks want compacted; see dense.go
	stopped chan struct{} // closed when the voter fails or is closed
	wg      sync.WaitGroup

	// Read by everyone, written by main (applied: by the applier).
	term      atomic.Uint64
	applied   atomic.Uint64
	durable   atomic.Uint64 // applied index that the flushed state holds
	ready     atomic.Uint64 // term in which it leads and has applied an entry of that term; 0 if none
	leadsIn   atomic.Uint64 // term in which it was elected; 0 if it does not lead
	leader    atomic.Uint64 // whom it follows, itself included; 0 if nobody
	conf      atomic.Pointer[pb.ConfState]
	syncSince atomic.Int64 // unix nanoseconds since when a log write is under way, 0 if none
	refs      atomic.Int64 // readers of the state, and one for being open
	failure   atomic.Pointer[error]
	doubtful  atomic.Bool
	voteFor   atomic.Uint64 // whom a doubtful voter may vote for

	answerEarly atomic.Bool // a planted bug, for a test of the tests: answers before the quorum

	// main's own.
	leads      bool
	leadTerm   uint64
	lastIndex  uint64
	appending  int // appends under way
	waiting    []*proposal
	changed    conflicts
	seen       seenRequests
	transferAt time.Time
	rounds     readRounds

	pendMu  sync.Mutex
	pending []pendingEntry // at the leader: in the log, not yet applied; in order of index
	behind  []waitApplied  // readers that wait for the applier
}

// event is what reaches main: one of its fields is set.
type event struct {
	msg      *pb.Message
	prop     *proposal
	read     chan uint64 // has room for one
	tick     bool
	appended bool // the appender is done with one message
	do       func(*raft.RawNode)
}

type proposal struct {
	batch  *Batch
	done   chan outcome // holds one
	repeat bool
}

type outcome struct {
	index  uint64
	result []byte // of the first time, for a repeated request
	repeat bool
	err    error
}

type pendingEntry struct {
	position
	props []*proposal
}

// start opens the RawNode over an opened log and state, and begins work.
func (v *voter) start() error {
	last, _ := v.log.last()
	if at := v.st.at.index; last < at || v.log.base > at {
		return &cairn.Error{Op: "meta.voter", Subject: v.dir,
			Err: corrupt(fmt.Sprintf("log holds %d to %d, state stands at %d", v.log.base+1, last, at))}
	}
	v.log.conf = v.st.conf
	if h := v.log.hard; h.GetCommit() < v.st.at.index {
		// The commit index is not synced by itself; what the state has applied was committed.
		v.log.setHard(&pb.HardState{Term: h.Term, Vote: h.Vote, Commit: new(v.st.at.index)})
	}
	rn, err := raft.NewRawNode(&raft.Config{
		ID: v.id, ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks,
		Storage: v.log, Applied: v.st.at.index, AsyncStorageWrites: true,
		MaxSizePerMsg: 2 * maxEntryBytes, MaxCommittedSizePerReady: 8 * maxEntryBytes,
		MaxInflightMsgs: maxMessages, MaxInflightBytes: maxInflight,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true,
		Logger: raftLogger{v.cfg.Logger.With("voter", voterName(v.id))},
	})
	if err != nil {
		return err
	}
	v.rn, v.lastIndex = rn, last
	v.term.Store(v.log.hard.GetTerm())
	v.applied.Store(v.st.at.index)
	v.durable.Store(v.st.at.index)
	v.conf.Store(v.st.conf)
	v.refs.Store(1)
	for _, f := range []func() error{v.main, v.appender, v.applier, v.flusher, v.thinner} {
		v.wg.Go(func() {
			if err := guard(f); err != nil {
				v.fail(err)
			}
		})
	}
	return nil
}

// fail stops the voter's work; the group replaces it.
func (v *voter) fail(err error) {
	if !v.failure.CompareAndSwap(nil, &err) {
		return
	}
	if !errors.Is(err, errClosed) {
		v.cfg.Logger.Warn("meta voter failed", "voter", voterName(v.id), "dir", v.dir, "err", err)
	}
	v.ready.Store(0)
	close(v.stopped)
	v.appends.close()
	v.applies.close()
	for _, e := range v.in.close() {
		if e.prop != nil {
			e.prop.done <- outcome{err: errNotLeader}
		}
	}
	v.group.changed()
}

func (v *voter) failed() bool { return v.failure.Load() != nil }

// dropPending answers what was in the log and not applied when leadership or the voter ended.
func (v *voter) dropPending() {
	v.pendMu.Lock()
	list := v.pending
	v.pending = nil
	v.pendMu.Unlock()
	for _, p := range list {
		for _, prop := range p.props {
			prop.done <- outcome{err: errUnknown}
		}
	}
}

// main runs until the voter fails or is closed.
func (v *voter) main() error {
	defer func() {
		for _, p := range v.waiting {
			p.done <- outcome{err: errNotLeader}
		}
		v.dropPending()
	}()
	var spare []event
	for {
		events := v.in.take(spare)
		if events == nil {
			return nil
		}
		ticks := 0
		for i := range events {
			ticks += v.handle(&events[i])
		}
		// Ticks that piled up while the process did not run say nothing about the others: count two at most.
		for range min(ticks, 2) {
			if !v.doubtful.Load() || v.voteFor.Load() == v.id {
				v.rn.Tick() // a doubtful voter's clock stands still: it does not stand for election
			}
		}
		v.startReads()
		if err := v.drainReady(); err != nil {
			return err
		}
		if err := v.propose(); err != nil {
			return err
		}
		spare = events
	}
}

func (v *voter) handle(e *event) (ticks int) {
	switch {
	case e.msg != nil:
		v.step(e.msg)
	case e.prop != nil:
		v.waiting = append(v.waiting, e.prop)
	case e.read != nil:
		v.rounds.waiting = append(v.rounds.waiting, e.read)
	case e.tick:
		v.ageReads()
		v.watchStall()
		return 1
	case e.appended:
		v.appending--
	case e.do != nil:
		e.do(v.rn)
	}
	return 0
}

// step feeds a message. A doubtful voter (see voterdir.go) neither votes nor stands for election.
func (v *voter) step(m *pb.Message) {
	if v.doubtful.Load() {
		switch m.GetType() {
		case pb.MsgVote, pb.MsgPreVote:
			if m.GetFrom() != v.voteFor.Load() {
				return
			}
		case pb.MsgTimeoutNow:
			return
		}
	}
	if v.hollow(m) {
		return
	}
	// Errors are of kinds that raft's own drivers ignore: a message from a removed member, a local message.
	_ = v.rn.Step(m)
}

// hollow tells whether a message is the answer of a voter to some earlier leader whose term was over: it acknowledges
// nothing, and has the next term. A new leader that has heard nothing else of the voter takes it for the word that nothing
// before index 1 is missing, wants to send the log from there, which it no longer has, and sends nothing ever again, since
// there are no snapshots.
func (v *voter) hollow(m *pb.Message) bool {
	if m.GetType() != pb.MsgAppResp || m.GetIndex() != 0 || m.GetReject() {
		return false
	}
	st := v.rn.BasicStatus()
	return st.RaftState == raft.StateLeader && st.HardState.GetTerm() == m.GetTerm()
}

// drainReady hands out what raft wants done, until nothing is left.
func (v *voter) drainReady() error {
	for v.rn.HasReady() {
		rd := v.rn.Ready()
		if !raft.IsEmptyHardState(rd.HardState) {
			// Readers rely on it: a term is visible before any vote in it leaves (group.go, confirm).
			v.term.Store(rd.HardState.GetTerm())
		}
		if n := len(rd.Entries); n > 0 {
			v.lastIndex = rd.Entries[n-1].GetIndex()
		}
		v.endReads(rd.ReadStates)
		if rd.SoftState != nil || !raft.IsEmptyHardState(rd.HardState) && rd.HardState.GetTerm() != v.leadTerm {
			v.leadership()
		}
		for _, m := range rd.Messages {
			switch m.GetTo() {
			case raft.LocalAppendThread:
				v.appending++
				v.appends.put(m)
			case raft.LocalApplyThread:
				v.applies.put(m)
			default:
				v.group.send(m)
			}
		}
	}
	return nil
}

// leadership follows changes of role.
func (v *voter) leadership() {
	st := v.rn.BasicStatus()
	leads := st.RaftState == raft.StateLeader
	if v.leader.Swap(st.Lead) != st.Lead {
		v.group.changed()
	}
	if leads == v.leads && (!leads || st.HardState.GetTerm() == v.leadTerm) {
		return
	}
	v.leads, v.leadTerm = leads, st.HardState.GetTerm()
	v.leadsIn.Store(0)
	if leads {
		v.leadsIn.Store(v.leadTerm)
	}
	v.ready.Store(0)
	v.dropPending()
	v.group.changed()
}

// takeOver makes the voter answer as leader, once it has applied an entry of its own term: all that earlier leaders
// committed is then in its state.
func (v *voter) takeOver(term uint64) {
	if !v.leads || v.leadTerm != term || v.ready.Load() == term {
		return
	}
	if err := v.seen.load(v.st.db); err != nil {
		v.fail(err)
		return
	}
	v.changed.reset(v.lastIndex)
	v.ready.Store(term)
	v.group.changed()
}

// watchStall hands leadership on when the leader's own log hangs: its followers would still commit, but it applies only
// what it has stored itself.
func (v *voter) watchStall() {
	since := v.syncSince.Load()
	if since == 0 {
		return
	}
	stalled := time.Since(time.Unix(0, since))
	if stalled > v.cfg.HangLimit {
		v.fail(fmt.Errorf("log write hangs for %v: %w", stalled, cairn.ErrUnavailable))
		return
	}
	if !v.leads || stalled < v.cfg.StallLimit || time.Since(v.transferAt) < v.cfg.StallLimit {
		return
	}
	v.transferAt = time.Now()
	if to := v.bestFollower(); to != 0 {
		v.cfg.Logger.Warn("meta leader's log is slow, leadership goes on", "voter", voterName(v.id), "stalled", stalled, "to", voterName(to))
		v.rn.TransferLeader(to)
	}
}

func (v *voter) bestFollower() (best uint64) {
	st := v.rn.Status()
	var match uint64
	for id, p := range st.Progress {
		other := v.group.voter(id)
		if id == v.id || p.IsLearner || !p.RecentActive || v.group.lostHere(id) {
			continue
		}
		if other != nil && other.syncSince.Load() != 0 && time.Since(time.Unix(0, other.syncSince.Load())) > v.cfg.StallLimit {
			continue
		}
		if p.Match > match || p.Match == match && id < best { // the same one, whatever the map's order
			best, match = id, p.Match
		}
	}
	return best
}

// propose puts the waiting proposals into the log, many to an entry, unless an append is under way: then they wait for
// more company. What conflicts, or was there before, is answered.
func (v *voter) propose() error {
	for len(v.waiting) > 0 {
		if v.ready.Load() == 0 {
			for _, p := range v.waiting {
				p.done <- outcome{err: errNotLeader}
			}
			v.waiting = clearProps(v.waiting)
			return nil
		}
		if v.appending > 0 {
			return nil
		}
		if err := v.proposeEntry(); err != nil {
			return err
		}
		if err := v.drainReady(); err != nil {
			return err
		}
	}
	return nil
}

func clearProps(list []*proposal) []*proposal {
	clear(list)
	return list[:0]
}

func (v *voter) proposeEntry() error {
	at := position{index: v.lastIndex + 1, term: v.leadTerm}
	var data []byte
	var props []*proposal
	taken := 0
	for _, p := range v.waiting {
		if len(data) > 0 && len(data)+len(p.batch.ops) > maxEntryBytes {
			break
		}
		taken++
		if v.repeats(p) {
			continue
		}
		if !v.changed.holds(p.batch) {
			p.done <- outcome{err: ErrConflict}
			continue
		}
		v.changed.wrote(p.batch, at.index)
		v.seen.add(p.batch.RequestID, at.index, p.batch.Result)
		data = appendBatch(data, p.batch)
		props = append(props, p)
	}
	v.waiting = slices.Delete(v.waiting, 0, taken)
	if len(props) == 0 {
		return nil
	}
	sealEntry(data)
	if err := v.rn.Propose(data); err != nil {
		// Not in the log: what conflicts and seen have noted for this index must go, or a repeat would be believed.
		v.seen.remove(props)
		for _, p := range props {
			p.done <- outcome{err: errNotLeader}
		}
		return nil
	}
	if v.answerEarly.Load() {
		for _, p := range props {
			p.done <- outcome{index: at.index}
		}
		return nil
	}
	v.pendMu.Lock()
	defer v.pendMu.Unlock()
	v.pending = append(v.pending, pendingEntry{at, props})
	return nil
}

// repeats answers a request that is in the log already, or joins its waiters.
func (v *voter) repeats(p *proposal) bool {
	at, result, ok := v.seen.find(p.batch.RequestID)
	if !ok {
		return false
	}
	v.pendMu.Lock()
	defer v.pendMu.Unlock()
	for i := range v.pending {
		if v.pending[i].index == at {
			v.pending[i].props = append(v.pending[i].props, &proposal{batch: &Batch{Result: result}, done: p.done, repeat: true})
			return true
		}
	}
	p.done <- outcome{index: at, result: result, repeat: true}
	return true
}

// acquire keeps the state open for a reader; false when the voter is gone.
func (v *voter) acquire() bool {
	for {
		n := v.refs.Load()
		if n == 0 {
			return false
		}
		if v.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (v *voter) release() { v.refs.Add(-1) }

// call runs f on main and waits for it; false when the voter is gone: then f has not run, and never will.
func (v *voter) call(f func(*raft.RawNode)) bool {
	done := make(chan struct{})
	var taken atomic.Bool // by main, or by the caller who gives up
	if !v.in.put(event{do: func(rn *raft.RawNode) {
		if taken.CompareAndSwap(false, true) {
			f(rn)
			close(done)
		}
	}}) {
		return false
	}
	select {
	case <-done:
		return true
	case <-v.stopped:
	}
	if taken.CompareAndSwap(false, true) {
		return false
	}
	<-done // main is at it
	return true
}

// close stops the goroutines and closes files. What hangs in a system call for longer than patience is left behind.
func (v *voter) close(patience time.Duration) error {
	v.fail(errClosed)
	done := make(chan error, 1)
	go func() {
		v.wg.Wait()
		v.refs.Add(-1)
		for v.refs.Load() > 0 {
			time.Sleep(time.Millisecond)
		}
		err := v.st.close()
		if e := v.log.Close(); err == nil {
			err = e
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("voter %s does not stop: %w", voterName(v.id), cairn.ErrUnavailable)
	}
}

func voterName(id uint64) string { return fmt.Sprintf("%016x", id) }
