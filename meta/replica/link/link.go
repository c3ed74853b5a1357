// Package link carries Raft's messages between nodes: to every node two ordered streams, one for entries and one for all
// else, so that a vote or a heartbeat never waits behind megabytes of log. A stream is the body of one long POST.
//
// It owns the streams and their queues, which are bounded: what does not fit, or is under way when a stream breaks, is
// lost, and Raft asks again. It does not know voters or terms, and authenticates nobody: that is done by the connection.
package link

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
)

// Peers reaches other nodes.
type Peers interface {
	Peer(node cairn.NodeID) (*http.Client, string, error)
}

// Config says how Links run. Lost may be nil.
type Config struct {
	Peers  Peers
	Path   string              // of the POST
	Sign   func(h http.Header) // adds headers to every POST
	Logger *slog.Logger
	// Lost hears of messages that will not arrive. It must not block.
	Lost func(m *pb.Message)
}

// Bounds of one stream's queue, and its patience.
const (
	maxQueued      = 4096
	maxQueuedBytes = 32 << 20
	batchBytes     = 256 << 10       // encoded at a time
	keepAlive      = time.Second     // an idle stream says so
	stuckAfter     = 3 * time.Second // a stream that takes nothing, or whose node says nothing, is begun anew
	firstPause     = 20 * time.Millisecond
	longestPause   = 300 * time.Millisecond
)

// Links are the streams to all other nodes. Safe for concurrent use.
type Links struct {
	cfg  Config
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu    sync.Mutex
	nodes map[cairn.NodeID]*node
}

type node struct {
	streams [2]*stream
	heard   atomic.Int64 // unix nanoseconds of the last message from there
}

// New returns Links without streams: the first message to a node begins them.
func New(cfg Config) *Links {
	ctx, stop := context.WithCancel(context.Background()) // ended by Close
	return &Links{cfg: cfg, ctx: ctx, stop: stop, nodes: make(map[cairn.NodeID]*node)}
}

// Close ends the streams.
func (l *Links) Close() {
	l.mu.Lock()
	l.stop()
	l.mu.Unlock()
	l.wg.Wait()
}

// Heard notes that a node has sent something.
func (l *Links) Heard(id cairn.NodeID) {
	if n := l.node(id); n != nil {
		n.heard.Store(time.Now().UnixNano())
	}
}

// Send queues a message for a node. It never blocks.
func (l *Links) Send(to cairn.NodeID, m *pb.Message) {
	n := l.node(to)
	if n == nil {
		return
	}
	s := n.streams[0]
	if m.GetType() == pb.MsgApp {
		s = n.streams[1]
	}
	if !s.put(m) {
		l.lost(m)
	}
}

func (l *Links) lost(m *pb.Message) {
	if l.cfg.Lost != nil {
		l.cfg.Lost(m)
	}
}

func (l *Links) node(id cairn.NodeID) *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx.Err() != nil {
		return nil
	}
	n := l.nodes[id]
	if n == nil {
		n = &node{}
		for i := range n.streams {
			s := &stream{links: l, to: id, node: n, wake: make(chan struct{}, 1)}
			n.streams[i] = s
			l.wg.Go(s.run)
		}
		l.nodes[id] = n
	}
	return n
}

// stream is one ordered way to a node.
type stream struct {
	links *Links
	to    cairn.NodeID
	node  *node

	mu     sync.Mutex
	queue  []*pb.Message
	bytes  int
	wake   chan struct{}
	lastOK atomic.Int64 // unix nanoseconds when the connection last asked for bytes, or nothing waited
}

func cost(m *pb.Message) int {
	n := 64
	for _, e := range m.GetEntries() {
		n += len(e.GetData()) + 32
	}
	return n
}

func (s *stream) put(m *pb.Message) bool {
	c := cost(m)
	s.mu.Lock()
	if len(s.queue) >= maxQueued || s.bytes > 0 && s.bytes+c > maxQueuedBytes {
		s.mu.Unlock()
		return false
	}
	s.queue = append(s.queue, m)
	s.bytes += c
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns messages of about batchBytes.
func (s *stream) take() []*pb.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, size := 0, 0
	for n < len(s.queue) && (n == 0 || size < batchBytes) {
		size += cost(s.queue[n])
		n++
	}
	list := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.bytes -= size
	return list
}

func (s *stream) waiting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0
}

// drop loses what waits: after a break it is old, and raft sends better.
func (s *stream) drop() {
	s.mu.Lock()
	list := s.queue
	s.queue, s.bytes = nil, 0
	s.mu.Unlock()
	for _, m := range list {
		s.links.lost(m)
	}
}

// run connects whenever something is to be said, with pauses that grow while that fails.
func (s *stream) run() {
	pause := firstPause
	told := ""
	for {
		select {
		case <-s.links.ctx.Done():
			return
		case <-s.wake:
		}
		if !s.waiting() {
			continue
		}
		began := time.Now()
		err := s.connect()
		if s.links.ctx.Err() != nil {
			return
		}
		s.drop()
		if time.Since(began) > stuckAfter/3 {
			pause, told = firstPause, ""
		}
		if text := fmt.Sprint(err); text != told {
			told = text
			s.links.cfg.Logger.Debug("meta link", "node", s.to, "err", err)
		}
		select {
		case <-s.links.ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
		s.drop() // of the time of the pause
	}
}

// connect runs one POST until it breaks.
func (s *stream) connect() error {
	client, base, err := s.links.cfg.Peers.Peer(s.to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(s.links.ctx)
	defer cancel(nil)
	body := &source{stream: s, ctx: ctx}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+s.links.cfg.Path, body)
	if err != nil {
		return err
	}
	req.ContentLength = -1
	s.links.cfg.Sign(req.Header)
	s.lastOK.Store(time.Now().UnixNano())
	var guard sync.WaitGroup
	guard.Go(func() { s.watch(ctx, cancel) })
	defer guard.Wait()
	defer cancel(nil)
	endless := *client
	endless.Timeout = 0
	resp, err := endless.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // whatever it says, the stream has ended
	return fmt.Errorf("%s: %s: %w", resp.Status, text, cairn.ErrUnavailable)
}

// watch breaks a connection on which nothing moves, long before TCP gives it up.
func (s *stream) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	began := time.Now()
	t := time.NewTicker(stuckAfter / 8)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if time.Since(time.Unix(0, s.lastOK.Load())) > stuckAfter {
			cancel(fmt.Errorf("takes no bytes for %v: %w", stuckAfter, cairn.ErrUnavailable))
			return
		}
		if heard := s.node.heard.Load(); time.Since(began) > stuckAfter && time.Since(time.Unix(0, heard)) > stuckAfter {
			cancel(fmt.Errorf("node says nothing for %v: %w", stuckAfter, cairn.ErrUnavailable))
			return
		}
	}
}
