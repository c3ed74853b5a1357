package s3api

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// listener bounds the connections that are open at once: Accept waits while there are too many, and the rest queue up in
// the kernel.
type listener struct {
	net.Listener
	slots   chan struct{}
	stopped chan struct{}
	once    sync.Once
}

func newListener(l net.Listener, max int) *listener {
	return &listener{Listener: l, slots: make(chan struct{}, max), stopped: make(chan struct{})}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.stopped:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &conn{Conn: c, free: func() { <-l.slots }}, nil
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.stopped) }) // lets an Accept that waits for a free connection return
	return l.Listener.Close()
}

// conn gives its place back when it is closed, and keeps the beginning of what was read since the last request, for a
// framing that net/http hides: it drops Content-Length when Transfer-Encoding is there too, the means of request
// smuggling (RFC 9112, section 6.1).
type conn struct {
	net.Conn
	free func()
	once sync.Once
	used atomic.Int32 // bytes of head; stored after they were copied
	head [maxWatched]byte
}

// maxWatched is how much of a request's beginning is kept for looking at. A request with Transfer-Encoding whose headers
// are longer than that is refused.
const maxWatched = 4 << 10

type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if own, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, own)
	}
	return ctx
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if at := c.used.Load(); n > 0 && at < maxWatched {
		c.used.Store(at + int32(copy(c.head[at:], p[:n])))
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// CloseWrite ends our side only. net/http does so before it closes a connection with an unread body, so that the answer
// reaches the client and is not lost in a reset.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// forget begins a new request.
func (c *conn) forget() { c.used.Store(0) }

// plainChunked tells whether the headers of a request with Transfer-Encoding were seen whole and hold no Content-Length.
// In doubt (long headers, a pipelined request that was read together with the one before) the answer is no.
func (c *conn) plainChunked(requestURI string) bool {
	head := c.head[:c.used.Load()]
	line := bytes.LastIndex(head, []byte(requestURI+" HTTP/1.1\r\n"))
	if line < 0 {
		return false
	}
	head, _, whole := bytes.Cut(head[line:], []byte("\r\n\r\n"))
	return whole && !bytes.Contains(bytes.ToLower(head), []byte("\ncontent-length"))
}
