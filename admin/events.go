package admin

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"cairn"
)

// The stream of events shows one document, State, as it changes. State is flat: each member of the status is one, and so is
// each drive ("drives/ID"), job ("jobs/7") and node ("nodes/ID"), so that a difference names only what changed.
//
//	event: snapshot   data: {"set": {member: value, …}}                      all members
//	event: delta      data: {"set": {…}, "gone": [member, …]}                since the event before
//	event: tick       data: {"now": time}                                    nothing changed
//	event: trouble    data: a problem document                               the status could not be had
//
// Snapshots and deltas have an ID. Whoever gives the last one back (Last-Event-ID) gets the difference since then, or a
// snapshot where that is not remembered, by a process that was started since for example.
const (
	eventsEvery    = time.Second
	maxStreams     = 64
	statesKept     = 32
	streamStall    = 15 * time.Second // how long a client may take to take an event
	identifyAgain  = 10 * time.Second // how often a stream asks whether its caller may still see it
	statusPatience = 10 * time.Second
)

// Change is the data of a snapshot or a delta.
type Change struct {
	Set  map[string]json.RawMessage `json:"set"`
	Gone []string                   `json:"gone,omitempty"`
}

// state is the document at one moment. It does not change.
type state struct {
	number  uint64
	members map[string]json.RawMessage
}

// watch gathers the state at most once an interval, however many streams there are. Safe for concurrent use.
type watch struct {
	server  *Server
	boot    string // tells this process's numbers from those of others
	gate    chan struct{}
	streams chan struct{}
	stopped chan struct{}
	once    sync.Once

	mu     sync.Mutex
	states []state // the last few, oldest first
	asked  time.Time
	pause  time.Duration
}

func (w *watch) init(s *Server) {
	var b [6]byte
	rand.Read(b[:])
	w.server, w.boot = s, hex.EncodeToString(b[:])
	w.gate, w.streams, w.stopped = make(chan struct{}, 1), make(chan struct{}, maxStreams), make(chan struct{})
	w.pause = eventsEvery
}

func (w *watch) stop() { w.once.Do(func() { close(w.stopped) }) }

// latest returns the state, no older than an interval.
func (w *watch) latest(ctx context.Context) (state, error) {
	select {
	case w.gate <- struct{}{}:
		defer func() { <-w.gate }()
	case <-ctx.Done():
		return state{}, ctx.Err()
	}
	w.mu.Lock()
	last, fresh := w.last(), time.Since(w.asked) < w.pause*9/10
	w.mu.Unlock()
	if fresh && last.number > 0 {
		return last, nil
	}
	began := time.Now()
	members, err := w.server.gather(ctx)
	if err != nil {
		return state{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	// A store that takes long to tell its status is asked less often: watching must not be what slows it down.
	w.asked, w.pause = time.Now(), max(eventsEvery, 4*time.Since(began))
	if c := difference(last.members, members); last.number > 0 && len(c.Set)+len(c.Gone) == 0 {
		return last, nil
	}
	next := state{last.number + 1, members}
	w.states = append(w.states, next)
	if len(w.states) > statesKept {
		w.states = append([]state(nil), w.states[1:]...)
	}
	return next, nil
}

func (w *watch) last() state {
	if len(w.states) == 0 {
		return state{}
	}
	return w.states[len(w.states)-1]
}

// known returns the state that a Last-Event-ID names, if it is remembered.
func (w *watch) known(id string) (state, bool) {
	boot, text, _ := strings.Cut(id, "-")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || boot != w.boot {
		return state{}, false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.states {
		if s.number == n {
			return s, true
		}
	}
	return state{}, false
}

func difference(before, after map[string]json.RawMessage) Change {
	c := Change{Set: map[string]json.RawMessage{}}
	for name, v := range after {
		if !bytes.Equal(before[name], v) {
			c.Set[name] = v
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			c.Gone = append(c.Gone, name)
		}
	}
	return c
}

// gather makes the document from the same Status that the API answers, and the rows beside it.
func (s *Server) gather(ctx context.Context) (map[string]json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	st, err := s.cfg.Cluster.Status(ctx)
	if err != nil {
		return nil, err
	}
	if s.cfg.Jobs != nil {
		if all, err := s.cfg.Jobs.Jobs(ctx); err == nil {
			st.Jobs = all
		}
	}
	drives, jobs := st.Drives, st.Jobs
	st.Drives, st.Jobs = nil, nil
	text, err := json.Marshal(st)
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	for _, name := range []string{"now", "drives", "jobs"} {
		delete(members, name)
	}
	put := func(name string, v any) {
		if b, merr := json.Marshal(v); merr != nil {
			err = merr
		} else {
			members[name] = b
		}
	}
	for _, d := range drives {
		name := d.ID
		if name == "" {
			name = d.Node + d.Path
		}
		put("drives/"+name, d)
	}
	for _, j := range jobs {
		put("jobs/"+j.ID.String(), j)
	}
	if nodes, nerr := s.cfg.Topology.Nodes(ctx); nerr == nil {
		for _, n := range nodes {
			if n.State != cairn.NodeRemoved {
				put("nodes/"+n.ID.String(), n)
			}
		}
	}
	if last := s.ring.last(); last != nil {
		put("sample", last)
	}
	return members, err
}

// events answers with the stream.
func (s *Server) events(w http.ResponseWriter, r *http.Request) (any, error) {
	select {
	case s.watch.streams <- struct{}{}:
		defer func() { <-s.watch.streams }()
	default:
		return nil, &cairn.Error{Op: "admin.events", Err: fmt.Errorf("%d streams are open: %w", maxStreams, cairn.ErrOverloaded)}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	e := &stream{w: w, control: http.NewResponseController(w), watch: &s.watch}
	if was, ok := s.watch.known(r.Header.Get("Last-Event-ID")); ok {
		e.sent = was
	}
	tick := time.NewTicker(eventsEvery)
	defer tick.Stop()
	for checked := time.Now(); ; {
		if err := e.next(r.Context()); err != nil {
			return nil, nil // the client is gone
		}
		select {
		case <-r.Context().Done():
			return nil, nil
		case <-s.watch.stopped:
			return nil, nil
		case <-tick.C:
		}
		if time.Since(checked) > identifyAgain {
			checked = time.Now()
			if id, err := s.identify(r); cairn.Kind(err) == cairn.ErrForbidden || err == nil && s.authorize(&id, "cairn:GetStatus") != nil {
				return nil, nil
			}
		}
	}
}

// stream is one client's view of the state.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	watch   *watch
	sent    state // number 0: nothing yet
}

// next sends what is new.
func (e *stream) next(ctx context.Context) error {
	now, err := e.watch.latest(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return e.send("trouble", "", problemOf(err, e.w.Header().Get(requestIDHeader)))
	case e.sent.number == 0:
		err = e.send("snapshot", e.id(now), Change{Set: now.members})
	case now.number == e.sent.number:
		return e.send("tick", "", map[string]time.Time{"now": time.Now().UTC()})
	default:
		err = e.send("delta", e.id(now), difference(e.sent.members, now.members))
	}
	e.sent = now
	return err
}

func (e *stream) id(s state) string { return e.watch.boot + "-" + strconv.FormatUint(s.number, 10) }

func (e *stream) send(event, id string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	e.control.SetWriteDeadline(time.Now().Add(streamStall)) // a writer that has none is a test's
	if _, err := fmt.Fprintf(e.w, "event: %s\n%sdata: %s\n\n", event, id, text); err != nil {
		return err
	}
	return e.control.Flush()
}
