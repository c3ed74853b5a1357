package meta

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"cairn"
	"cairn/events"
	"cairn/meta/replica"
)

// NotificationConfig is the name of a bucket's event rules among its configurations: an events.Config as JSON.
const NotificationConfig = "notification"

// maxQueuedEvents bounds the queue of one target. What happens while it is full is counted as lost, and told by nobody.
const maxQueuedEvents = 500_000

// troubleConfig is the beginning of the names of the rows that say what keeps a target from getting its events.
const troubleConfig = "event.trouble/"

// eventKey orders a target's events by their sequencer. What follows keeps those of one moment apart.
func eventKey(target string, seq uint64, e *events.Event) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%s\x00%s", e.Kind, e.Bucket, e.Key, e.Version)
	return appendID(appendID(eventPrefix(target), seq), h.Sum64())
}

func eventPrefix(target string) []byte { return appendEscaped([]byte{famEvent}, target) }

// The counters of a target's queue.
const (
	eventsQueued = iota
	eventsLost
	eventCounters
)

// eventRules keeps parsed event rules by bucket.
type eventRules struct {
	mu sync.Mutex
	m  map[uint64]cachedEvents
}

type cachedEvents struct {
	raw   string
	rules *events.Config
}

// of returns a bucket's rules, nil for none.
func (c *eventRules) of(b *cairn.Bucket) (*events.Config, error) {
	raw := b.Configs[NotificationConfig]
	if raw == "" {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got, ok := c.m[b.ID]; ok && got.raw == raw {
		return got.rules, nil
	}
	rules := new(events.Config)
	if err := json.Unmarshal([]byte(raw), rules); err != nil {
		return nil, fmt.Errorf("event rules of bucket %s: %w: %w", b.Name, err, cairn.ErrCorrupt)
	}
	if c.m == nil || len(c.m) >= maxCachedRules {
		c.m = make(map[uint64]cachedEvents)
	}
	c.m[b.ID] = cachedEvents{raw, rules}
	return rules, nil
}

// tell queues an event about a version for every target that the bucket's rules name, in the commit that it is about.
func (o *object) tell(kind events.Kind, v *cairn.Version) error {
	rules, err := o.t.events.of(&o.bucket)
	if rules == nil || err != nil {
		return err
	}
	seq := uint64(o.nextID())
	for i := range rules.Rules {
		r := &rules.Rules[i]
		if !r.Matches(kind, o.key) {
			continue
		}
		e := events.Event{Kind: kind, Rule: r.ID, Time: o.t.now, Bucket: o.bucket.Name, Owner: o.bucket.Owner, Key: o.key,
			Size: v.Size, ETag: v.ETag, Sequencer: fmt.Sprintf("%016X", seq), Account: o.t.caller.Account, Address: o.t.caller.Address}
		switch {
		case o.bucket.Version == cairn.VersioningOff:
		case v.Null:
			e.Version = "null"
		default:
			e.Version = v.ID.String()
		}
		if err := o.t.enqueue(r.Target, seq, &e); err != nil {
			return err
		}
	}
	return nil
}

// created is the kind of event that a new version is, unless whoever makes it says another.
func (o *object) created() events.Kind {
	switch {
	case o.event != "":
		return o.event
	case o.t.caller.Form:
		return events.CreatedPost
	}
	return events.CreatedPut
}

func (t *txn) enqueue(target string, seq uint64, e *events.Event) error {
	stats := keyName(famEventStats, target)
	c, err := readCounters(t.view, stats, eventCounters) // not checked: writers would all wait for one another
	if err != nil {
		return err
	}
	if c[eventsQueued] >= maxQueuedEvents {
		t.batch.Add(stats, 0, 1)
		return nil
	}
	row, err := json.Marshal(e)
	if err != nil {
		return err
	}
	t.batch.Put(eventKey(target, seq, e), row)
	t.batch.Add(stats, 1, 0)
	return nil
}

// QueuedEvents returns a target's oldest events, at most max.
func (s *Store) QueuedEvents(ctx context.Context, target string, max int) (list []events.Queued, err error) {
	prefix := eventPrefix(target)
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		return w.Walk(prefix, after(prefix), func(c replica.Cursor) error {
			for ; c.Valid() && len(list) < max; c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				q := events.Queued{Row: string(c.Key())}
				if err := json.Unmarshal(row, &q.Event); err != nil {
					return corruptRow("event")
				}
				list = append(list, q)
			}
			return nil
		})
	})
	return list, fail("meta.queued events", target, err)
}

// DoneEvents takes delivered events out of a target's queue. One that is gone already is no error.
func (s *Store) DoneEvents(ctx context.Context, target string, done []events.Queued) error {
	prefix := string(eventPrefix(target))
	_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		gone := int64(0)
		for _, q := range done {
			if !strings.HasPrefix(q.Row, prefix) {
				return invalid("an event of another target")
			}
			_, found, err := t.get([]byte(q.Row))
			if err != nil {
				return err
			}
			if found {
				t.batch.Delete([]byte(q.Row))
				gone++
			}
		}
		if gone > 0 {
			t.batch.Add(keyName(famEventStats, target), -gone, 0)
		}
		return nil
	})
	return fail("meta.done events", target, err)
}

// EventTargets returns the targets of events by name.
func (s *Store) EventTargets(ctx context.Context) (list []events.Target, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list, err = eventTargets(w)
		return err
	})
	return list, fail("meta.event targets", "", err)
}

func eventTargets(w *replica.View) (list []events.Target, err error) {
	err = w.Walk([]byte{famEventTarget}, []byte{famEventTarget + 1}, func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			row, err := c.Value()
			if err != nil {
				return err
			}
			var t events.Target
			if err := json.Unmarshal(row, &t); err != nil {
				return corruptRow("event target")
			}
			list = append(list, t)
		}
		return nil
	})
	return list, err
}

// PutEventTarget adds a target, or changes the one of its name. Errors: ErrInvalid, ErrOverloaded (too many).
func (s *Store) PutEventTarget(ctx context.Context, target events.Target) error {
	const op = "meta.put event target"
	if err := target.Validate(); err != nil {
		return err
	}
	row, err := json.Marshal(target)
	if err != nil {
		return fail(op, target.Name, err)
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		all, err := eventTargets(t.view)
		if err != nil {
			return err
		}
		if len(all) >= events.MaxTargets {
			if _, found, err := t.get(keyName(famEventTarget, target.Name)); err != nil || !found {
				return fmt.Errorf("there are %d targets already: %w", len(all), cairn.ErrOverloaded)
			}
		}
		t.batch.Put(keyName(famEventTarget, target.Name), row)
		return nil
	})
	return fail(op, target.Name, err)
}

// DeleteEventTarget removes a target and what waits for it. Errors: ErrNotFound, ErrPrecondition while a bucket's rules name it.
func (s *Store) DeleteEventTarget(ctx context.Context, name string) error {
	const op = "meta.delete event target"
	buckets, err := s.Buckets(ctx)
	if err != nil {
		return fail(op, name, err)
	}
	for i := range buckets {
		rules, err := s.events.of(&buckets[i])
		if err != nil {
			return fail(op, name, err)
		}
		for j := 0; rules != nil && j < len(rules.Rules); j++ {
			if rules.Rules[j].Target == name {
				return fail(op, name, fmt.Errorf("bucket %s tells it of events: change its notification configuration first: %w", buckets[i].Name,
					cairn.ErrPrecondition))
			}
		}
	}
	_, err = s.change(ctx, s.groups.system(), 0, func(t *txn) error {
		if _, found, err := t.get(keyName(famEventTarget, name)); err != nil || !found {
			if err == nil {
				err = fmt.Errorf("no such target: %w", cairn.ErrNotFound)
			}
			return err
		}
		t.batch.Delete(keyName(famEventTarget, name))
		t.batch.Delete(keyName(famEventStats, name))
		t.batch.Delete(keyName(famConfig, troubleConfig+name))
		prefix := eventPrefix(name)
		t.batch.DeleteRange(prefix, after(prefix))
		return nil
	})
	return fail(op, name, err)
}

// SetTargetTrouble notes what keeps a target from getting its events, "" for nothing.
func (s *Store) SetTargetTrouble(ctx context.Context, target, why string) error {
	return s.PutConfig(ctx, troubleConfig+target, []byte(why))
}

// EventQueue is how it stands with one target.
type EventQueue struct {
	Target  events.Target `json:"target"`
	Queued  int64         `json:"queued"`            // events that wait
	Oldest  time.Time     `json:"oldest,omitzero"`   // when the oldest of them happened
	Lost    int64         `json:"lost"`              // events that happened while the queue was full
	Trouble string        `json:"trouble,omitempty"` // why they wait, "" if they are being delivered
}

// EventQueues tells of every target how far its events have come.
func (s *Store) EventQueues(ctx context.Context) (list []EventQueue, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		targets, err := eventTargets(w)
		if err != nil {
			return err
		}
		for _, t := range targets {
			q := EventQueue{Target: t}
			c, err := readCounters(w, keyName(famEventStats, t.Name), eventCounters)
			if err != nil {
				return err
			}
			q.Queued, q.Lost = c[eventsQueued], c[eventsLost]
			why, _, err := w.Get(keyName(famConfig, troubleConfig+t.Name), nil)
			if err != nil {
				return err
			}
			q.Trouble = string(why)
			if q.Oldest, err = oldestEvent(w, t.Name); err != nil {
				return err
			}
			list = append(list, q)
		}
		return nil
	})
	return list, fail("meta.event queues", "", err)
}

func oldestEvent(w *replica.View, target string) (at time.Time, err error) {
	prefix := eventPrefix(target)
	err = w.Walk(prefix, after(prefix), func(c replica.Cursor) error {
		if !c.Valid() {
			return nil
		}
		row, err := c.Value()
		if err != nil {
			return err
		}
		var e events.Event
		if err := json.Unmarshal(row, &e); err != nil {
			return corruptRow("event")
		}
		at = e.Time
		return nil
	})
	return at, err
}
