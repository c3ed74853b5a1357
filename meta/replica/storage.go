package replica

import (
	"bytes"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
)

// appender writes what main hands it, everything that waits in one record and one sync, and then sends the answers that
// depended on it.
func (v *voter) appender() error {
	var spare []*pb.Message
	var term, vote uint64 // as last synced
	term, vote = v.log.hard.GetTerm(), v.log.hard.GetVote()
	for {
		msgs := v.appends.take(spare)
		if msgs == nil {
			return nil
		}
		var hard *pb.HardState
		var entries []*pb.Entry
		for _, m := range msgs {
			if m.Term != nil && m.Vote != nil && m.Commit != nil {
				hard = &pb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
			}
			entries = append(entries, m.GetEntries()...)
			if m.Snapshot != nil && !raft.IsEmptySnap(m.Snapshot) {
				return fmt.Errorf("unexpected snapshot from voter %s", voterName(m.GetFrom()))
			}
		}
		// A commit index alone is not worth a write: it travels with the next one, and is learned again after a crash.
		must := len(entries) > 0 || hard != nil && (hard.GetTerm() != term || hard.GetVote() != vote)
		if must {
			if err := v.append(hard, entries); err != nil {
				return fmt.Errorf("log: %w", err)
			}
			if hard != nil {
				term, vote = hard.GetTerm(), hard.GetVote()
			}
		} else if hard != nil {
			v.log.setHard(hard)
		}
		v.answer(msgs)
		spare = msgs
	}
}

func (v *voter) append(hard *pb.HardState, entries []*pb.Entry) error {
	v.syncSince.Store(time.Now().UnixNano())
	defer v.syncSince.Store(0)
	return v.log.Append(hard, entries)
}

// answer delivers what was to be said once the messages were stored. The answers to others go first: they have further.
func (v *voter) answer(msgs []*pb.Message) {
	var own []event
	for _, m := range msgs {
		for _, r := range m.GetResponses() {
			if r.GetTo() == v.id {
				own = append(own, event{msg: r})
			} else {
				v.group.send(r)
			}
		}
		own = append(own, event{appended: true})
	}
	v.in.put(own...)
}

// applier changes the state by what was committed, all that waits in one batch.
func (v *voter) applier() error {
	a := &applying{v: v, conf: v.st.conf, at: v.st.at}
	var spare []*pb.Message
	for {
		msgs := v.applies.take(spare)
		if msgs == nil {
			return nil
		}
		a.batch = v.st.db.NewBatch()
		for _, m := range msgs {
			for _, e := range m.GetEntries() {
				if err := a.entry(e); err != nil {
					return fmt.Errorf("apply entry %d: %w", e.GetIndex(), err)
				}
			}
		}
		if err := a.commit(); err != nil {
			return err
		}
		v.finish(a.at)
		v.applyDone(msgs)
		spare = msgs
	}
}

func (v *voter) applyDone(msgs []*pb.Message) {
	var own []event
	for _, m := range msgs {
		for _, r := range m.GetResponses() {
			own = append(own, event{msg: r})
		}
	}
	last := msgs[len(msgs)-1].GetEntries()
	if n := len(last); n > 0 && v.leadsIn.Load() == last[n-1].GetTerm() && v.ready.Load() == 0 {
		term := last[n-1].GetTerm()
		own = append(own, event{do: func(*raft.RawNode) { v.takeOver(term) }})
	}
	v.in.put(own...)
}

// applying is the applier's work in hand.
type applying struct {
	v     *voter
	batch *pebble.Batch
	conf  *pb.ConfState
	at    position
	table *members // set when the batch changes it
}

func (a *applying) commit() error {
	if err := a.batch.Set(appliedKey, encodeApplied(a.at, a.conf), nil); err != nil {
		return err
	}
	if err := a.v.st.db.Apply(a.batch, pebble.NoSync); err != nil {
		return err
	}
	if a.table != nil {
		a.v.group.learnMembers(a.at.index, a.table) // before the index that tells of it: writeMembers relies on that
		a.table = nil
		a.v.group.changed()
	}
	a.v.applied.Store(a.at.index)
	return a.batch.Close()
}

func (a *applying) entry(e *pb.Entry) error {
	a.at = position{e.GetIndex(), e.GetTerm()}
	switch {
	case e.GetType() != pb.EntryNormal:
		return a.configure(e)
	case len(e.GetData()) == 0:
		return nil // a new leader's first entry
	}
	var requests []byte
	err := decodeEntry(e.GetData(), func(b decodedBatch) error {
		if b.requestID != 0 {
			requests = appendRequest(requests, b.requestID, b.result)
		}
		return a.ops(b.ops)
	})
	if err != nil || requests == nil {
		return err
	}
	if err := a.batch.Set(requestKey(a.at.index), requests, nil); err != nil {
		return err
	}
	if a.at.index%(dedupeEntries/8) == 0 && a.at.index > dedupeEntries {
		return a.batch.DeleteRange(requestPrefix, requestKey(a.at.index-dedupeEntries), nil)
	}
	return nil
}

func (a *applying) ops(ops []byte) error {
	return decodeOps(ops, func(kind opKind, key, value []byte) error {
		switch kind {
		case opPut:
			if bytes.Equal(key, membersKey) {
				table, err := decodeMembers(value)
				if err != nil {
					return err
				}
				a.table = table
			}
			return a.batch.Set(key, value, nil)
		case opDelete:
			return a.batch.Delete(key, nil)
		case opDeleteRange:
			return a.batch.DeleteRange(key, value, nil)
		default:
			return a.batch.Merge(key, value, nil)
		}
	})
}

// configure applies a change of members: raft is told on main's goroutine, before the entry counts as applied.
func (a *applying) configure(e *pb.Entry) error {
	cc, err := decodeConfChange(e)
	if err != nil {
		return err
	}
	if !a.v.call(func(rn *raft.RawNode) {
		a.conf = rn.ApplyConfChange(cc)
		a.v.conf.Store(a.conf)
	}) {
		return errClosed
	}
	a.v.group.changed()
	return nil
}

// finish answers the proposals that are now applied.
func (v *voter) finish(at position) {
	v.pendMu.Lock()
	n := 0
	for n < len(v.pending) && v.pending[n].index <= at.index {
		n++
	}
	done := v.pending[:n:n]
	v.pending = v.pending[n:]
	v.releaseReads(at.index)
	v.pendMu.Unlock()
	for _, e := range done {
		for _, p := range e.props {
			p.done <- outcome{index: e.index, result: p.batch.Result, repeat: p.repeat}
		}
	}
}

// flusher makes the state durable now and then, and cuts the log behind it.
func (v *voter) flusher() error {
	t := newTicker(200 * time.Millisecond)
	defer t.Stop()
	last, held := time.Now(), false
	for {
		select {
		case <-t.C:
		case <-v.stopped:
			return nil
		}
		size, _ := v.log.Size()
		idle := time.Since(last) > flushEvery && v.applied.Load() > v.durable.Load()
		if (size <= v.cfg.LogBytes || held && time.Since(last) < heldEvery) && !idle {
			continue
		}
		last = time.Now()
		if err := v.flush(); err != nil {
			return err
		}
		size, _ = v.log.Size()
		held = size > v.cfg.LogBytes
	}
}

const (
	flushEvery = 30 * time.Second
	heldEvery  = 2 * time.Second // while the log stays for somebody, a flush makes it no shorter
	// A voter that lags keeps the log of the others from being cut until it is this many times LogBytes.
	laggardLogs = 8
)

// laggard returns the last index of the voter that has the least of the log, as far as this one knows. There are no
// snapshots to send: a voter that lags behind all other logs can only be replaced, which takes a majority without it, and
// with the leader's loss it may be a part of the only one. So every voter keeps the log for it, not the leader alone.
func (v *voter) laggard() uint64 {
	g := v.group
	least := ^uint64(0)
	var match map[uint64]uint64
	for _, id := range v.conf.Load().GetVoters() {
		if o := g.voter(id); o != nil && !o.failed() {
			last, _ := o.log.last()
			least = min(least, last)
		} else if !g.lostHere(id) {
			if match == nil {
				match = v.matches()
			}
			least = min(least, match[id])
		}
	}
	return least
}

// matches is what is known of the logs of voters on other nodes: by the leader's own eyes, or by its word. The word of an
// earlier leader does not count, since what a voter had of its log may have been overwritten. Not nil.
func (v *voter) matches() map[uint64]uint64 {
	if v.leadsIn.Load() != 0 {
		if td := v.tell(); td != nil {
			return td.Match
		}
	} else if td := v.group.told.Load(); td != nil && td.Term == v.term.Load() {
		return td.Match
	}
	return map[uint64]uint64{}
}

// flush writes the state's memory to disk and lets go of the log before that, but for what laggards and seeds need.
func (v *voter) flush() error {
	at := v.applied.Load()
	if at > v.durable.Load() {
		var done <-chan struct{}
		err := v.st.fuse.run(func() (err error) {
			done, err = v.st.db.AsyncFlush()
			return err
		})
		if err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			case <-v.stopped:
				return nil
			}
		}
		v.durable.Store(at)
	}
	to := min(at, v.log.keepFrom(v.cfg.LogBytes), v.group.holdFrom(),
		max(v.laggard(), v.log.keepFrom(laggardLogs*v.cfg.LogBytes)))
	var gone []*segment
	v.call(func(*raft.RawNode) { gone = v.log.Drop(to) })
	if len(gone) == 0 {
		return nil
	}
	return v.log.Retire(gone)
}
