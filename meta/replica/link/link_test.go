package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func message(index uint64, size int) *pb.Message {
	return &pb.Message{Type: pb.MsgApp.Enum(), To: new(uint64(2)), From: new(uint64(1)), Index: new(index),
		Entries: []*pb.Entry{{Index: new(index + 1), Data: bytes.Repeat([]byte{7}, size)}}}
}

func framesOf(t testing.TB, list ...*pb.Message) (buf []byte) {
	for _, m := range list {
		var err error
		if buf, err = appendFrame(buf, m); err != nil {
			t.Fatal(err)
		}
	}
	return buf
}

// No damage on the way makes another message of one.
func TestDamagedStream(t *testing.T) {
	want := message(5, 300)
	whole := framesOf(t, want)
	receive := func(b []byte) (got []*pb.Message, err error) {
		err = Receive(bytes.NewReader(b), func(m *pb.Message) error {
			got = append(got, m)
			return nil
		})
		return got, err
	}
	if got, err := receive(whole); !errors.Is(err, io.EOF) || len(got) != 1 || !proto.Equal(got[0], want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range whole {
		if got, err := receive(whole[:i]); err == nil || len(got) != 0 {
			t.Fatalf("cut off after %d bytes: %v, %v", i, got, err)
		}
		bad := bytes.Clone(whole)
		bad[i] ^= 16
		if got, err := receive(bad); err == nil || len(got) != 0 {
			t.Fatalf("byte %d flipped: %v, %v", i, got, err)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add(framesOf(f, message(1, 10), message(2, 0)))
	f.Add([]byte{0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 5})
	f.Add(make([]byte, 2*headerBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		_ = Receive(bytes.NewReader(b), func(*pb.Message) error { n++; return nil })
		if n > len(b)/headerBytes {
			t.Errorf("%d messages in %d bytes", n, len(b))
		}
	})
}

type onePeer struct{ url atomic.Pointer[string] }

func (p *onePeer) Peer(cairn.NodeID) (*http.Client, string, error) {
	if u := p.url.Load(); u != nil {
		return http.DefaultClient, *u, nil
	}
	return nil, "", cairn.ErrUnavailable
}

// Messages arrive in order, what is sent while the node is away is reported as lost, and the stream comes back by itself.
func TestStreamComesBack(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer http.DefaultClient.CloseIdleConnections()
	got := make(chan uint64, 100)
	serve := func() *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_ = Receive(r.Body, func(m *pb.Message) error {
				if m != nil {
					got <- m.GetIndex()
				}
				return nil
			})
		}))
	}
	peer := &onePeer{}
	var lost atomic.Int64
	l := New(Config{Peers: peer, Path: "/", Sign: func(http.Header) {}, Logger: slog.New(slog.DiscardHandler), Lost: func(*pb.Message) { lost.Add(1) }})
	defer l.Close()
	for round := range uint64(2) {
		l.Send(cairn.NodeID{1}, message(999, 0))
		for before := lost.Load(); lost.Load() == before; time.Sleep(time.Millisecond) {
			l.Send(cairn.NodeID{1}, message(999, 0))
		}
		srv := serve()
		peer.url.Store(&srv.URL)
		next := round * 100
		for end := time.After(20 * time.Second); next < round*100+50; {
			l.Send(cairn.NodeID{1}, message(next, 100)) // some may be lost until the pause after a failure is over
			select {
			case i := <-got:
				if i == 999 {
					continue
				}
				if i < round*100 || i > next {
					t.Fatalf("message %d arrived, %d was sent last", i, next)
				}
				next = i + 1
			case <-time.After(10 * time.Millisecond):
			case <-end:
				t.Fatal("the stream does not come back")
			}
		}
		peer.url.Store(nil)
		srv.CloseClientConnections()
		srv.Close()
		for len(got) > 0 {
			<-got
		}
	}
}

// The queue is bounded, and what does not fit is lost rather than waited for.
func TestQueueIsBounded(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(block)
	peer := &onePeer{}
	peer.url.Store(&srv.URL)
	var lost atomic.Int64
	l := New(Config{Peers: peer, Path: "/", Sign: func(http.Header) {}, Logger: slog.New(slog.DiscardHandler), Lost: func(*pb.Message) { lost.Add(1) }})
	defer l.Close()
	for range 200 {
		l.Send(cairn.NodeID{1}, message(1, 1<<20))
	}
	s := l.node(cairn.NodeID{1}).streams[1]
	s.mu.Lock()
	held := s.bytes
	s.mu.Unlock()
	if held > maxQueuedBytes+(2<<20) || lost.Load() == 0 {
		t.Errorf("%d bytes wait, %d messages are lost", held, lost.Load())
	}
}

// Silence on both sides ends a connection long before TCP would.
func TestStuckStreamIsBegunAnew(t *testing.T) {
	var streams atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		streams.Add(1)
		select { // takes no bytes
		case <-ctx.Done():
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer stop()
	peer := &onePeer{}
	peer.url.Store(&srv.URL)
	l := New(Config{Peers: peer, Path: "/", Sign: func(http.Header) {}, Logger: slog.New(slog.DiscardHandler)})
	defer l.Close()
	for end := time.After(30 * time.Second); streams.Load() < 2; {
		l.Send(cairn.NodeID{1}, message(1, 10))
		select {
		case <-time.After(20 * time.Millisecond):
		case <-end:
			t.Fatal("the stream is never begun anew")
		}
	}
}
