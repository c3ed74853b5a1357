package meta

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"cairn"
	"cairn/meta/replica"
)

// txn is one attempt at a change: rows that were read and are checked at the commit, and changes. It does not see its own
// changes.
type txn struct {
	view   *replica.View
	batch  *replica.Batch
	now    time.Time
	blobs  map[cairn.BlobRef]*blobChange
	rules  *ruleCache
	events *eventRules
	caller cairn.Caller
}

// get reads a row on which the decision rests.
func (t *txn) get(key []byte) (row []byte, found bool, err error) {
	t.batch.Check(key)
	return t.view.Get(key, nil)
}

const maxAttempts = 60

// change decides and commits, again on every conflict. decide may leave the batch empty: then nothing is committed. Its
// errors end the change, but for errVanished: rows are read one after the other, so one may name another that a change between
// the two reads has removed. The commit would be refused; what such a decision says must not be the answer either.
func (s *Store) change(ctx context.Context, g *replica.Group, requestID uint64, decide func(t *txn) error) (replica.Outcome, error) {
	if requestID == 0 {
		requestID = newRequestID()
	}
	for attempt := range maxAttempts {
		if err := pause(ctx, attempt); err != nil {
			return replica.Outcome{}, err
		}
		o, err := s.attempt(ctx, g, requestID, decide)
		if !errors.Is(err, replica.ErrConflict) && !errors.Is(err, replica.ErrMoved) && !errors.Is(err, errVanished) {
			return o, err
		}
	}
	return replica.Outcome{}, fmt.Errorf("others changed the same rows %d times: %w", maxAttempts, cairn.ErrOverloaded)
}

func (s *Store) attempt(ctx context.Context, g *replica.Group, requestID uint64, decide func(t *txn) error) (replica.Outcome, error) {
	view, err := g.Latest(ctx)
	if err != nil {
		return replica.Outcome{}, err
	}
	t := &txn{view: view, batch: &replica.Batch{RequestID: requestID}, now: time.Now().UTC(), rules: &s.rules,
		events: &s.events, caller: cairn.CallerOf(ctx)}
	index := view.Index // what is read later is of this state or of a later one
	err = decide(t)
	if err == nil {
		err = t.countBlobs()
	}
	if err == nil && index == 0 {
		err = view.Settle()
		index = view.Index
	}
	t.batch.ReadIndex = index
	if (err != nil || t.batch.Len() == 0) && !errors.Is(err, replica.ErrMoved) {
		if e := view.Confirm(ctx); e != nil { // what was read would be the answer
			err = e
		}
	}
	view.Close()
	if err != nil || t.batch.Len() == 0 {
		return replica.Outcome{}, err
	}
	o, err := g.Commit(ctx, t.batch)
	if err == nil {
		s.written.add(t.batch)
	}
	return o, err
}

// pause lets a conflict's winner go ahead, longer with each attempt.
func pause(ctx context.Context, attempt int) error {
	if attempt < 2 {
		return nil
	}
	limit := min(time.Duration(attempt)*time.Millisecond, 20*time.Millisecond)
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ctx.Err(), cairn.ErrCanceled)
	case <-time.After(rand.N(limit)):
		return nil
	}
}

// maxMoves is how often a read goes on to another voter when the one it read from failed under it.
const maxMoves = 9

// read runs f over a state that holds all that was acknowledged before. f starts anew when it runs again.
func (s *Store) read(ctx context.Context, g *replica.Group, f func(w *replica.View) error) (err error) {
	for range maxMoves {
		var w *replica.View
		if w, err = g.View(ctx); err != nil {
			return err
		}
		err = f(w)
		w.Close()
		if !errors.Is(err, replica.ErrMoved) {
			break
		}
	}
	return err
}

// keyLocks let writers of one key in this process queue instead of conflicting. They are a courtesy: the commit decides.
type keyLocks struct {
	stripes [256]sync.Mutex
}

var lockSeed = maphash.MakeSeed()

func (l *keyLocks) of(bucket uint64, key string) *sync.Mutex {
	return &l.stripes[(maphash.String(lockSeed, key)+bucket)%uint64(len(l.stripes))]
}
