package rpc

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
)

const (
	// connBuffer is what one system call reads of a connection at the most. TLS has records of 16 KiB, and would read and
	// write each with a call of its own.
	connBuffer = 64 << 10
	// gatherBytes is what one system call writes of a stream of records.
	gatherBytes = 256<<10 + 8<<10 // 256 KiB of data with frames and records around them
)

// wire is a connection below TLS: it reads ahead, and while it is told to, gathers what is written.
type wire struct {
	net.Conn
	in *bufio.Reader // used by TLS, which reads under a lock of its own

	mu  sync.Mutex
	buf *[]byte // from gatherBuffers while it gathers
	out []byte  // in buf: gathered, not written yet
}

func newWire(c net.Conn) *wire { return &wire{Conn: c, in: bufio.NewReaderSize(c, connBuffer)} }

// Read reads what came.
func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

// Write writes at once, or gathers.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.buf == nil {
		return w.Conn.Write(p)
	}
	if len(w.out)+len(p) > cap(w.out) {
		if err := w.flush(); err != nil {
			return 0, err
		}
		if len(p) > cap(w.out) {
			return w.Conn.Write(p)
		}
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// flush writes what was gathered. w.mu is held.
func (w *wire) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	return err
}

// begin makes what is written wait for end.
func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = gatherBuffers.Get().(*[]byte)
	w.out = (*w.buf)[:0]
}

// end writes what was gathered.
func (w *wire) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.flush()
	gatherBuffers.Put(w.buf)
	w.buf, w.out = nil, nil
	return err
}

type wireKey struct{}

// connContext lets Gather find a request's connection.
func connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		if turn, ok := t.NetConn().(*turnConn); ok {
			return context.WithValue(ctx, wireKey{}, turn.wire)
		}
	}
	return ctx
}

// Gather runs write, which writes a piece of the answer to the request whose context this is, and sends the piece's TLS
// records with few system calls. Of other contexts it just runs write. For one goroutine of a request at a time.
func Gather(ctx context.Context, write func() error) error {
	w, ok := ctx.Value(wireKey{}).(*wire)
	if !ok {
		return write()
	}
	w.begin()
	err := write()
	if werr := w.end(); err == nil {
		err = werr
	}
	return err
}

// gathered is a client's TLS connection that writes the records of one Write with one system call.
type gathered struct {
	*tls.Conn
	wire *wire
	mu   sync.Mutex // one Write at a time, from begin to end
}

// Write writes p as records, at once.
func (g *gathered) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wire.begin()
	n, err := g.Conn.Write(p)
	if werr := g.wire.end(); err == nil && werr != nil {
		return 0, werr
	}
	return n, err
}

// bodyBytes leaves room for the records around them in one gatherBuffer.
const bodyBytes = 256<<10 + 1<<10

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, gatherBytes); return &b }}

// ReadFrom writes a request's body in large pieces. What the body's Read returns is sent without waiting for more: a
// stream may have nothing else to say for long.
func (g *gathered) ReadFrom(r io.Reader) (total int64, err error) {
	b := gatherBuffers.Get().(*[]byte)
	defer gatherBuffers.Put(b)
	for {
		n, rerr := r.Read((*b)[:bodyBytes])
		if n > 0 {
			written, werr := g.Write((*b)[:n])
			total += int64(written)
			if werr != nil {
				return total, werr
			}
		}
		if rerr != nil {
			if errors.Is(rerr, io.EOF) {
				rerr = nil
			}
			return total, rerr
		}
	}
}
