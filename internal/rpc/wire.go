package rpc

import (
	"bufio"
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
	gatherBytes = 256 << 10
)

// wire is a connection below TLS: it reads ahead, and while it is told to, gathers what is written.
type wire struct {
	net.Conn
	in *bufio.Reader // used by TLS, which reads under a lock of its own

	mu     sync.Mutex
	gather bool
	out    []byte
}

func newWire(c net.Conn) *wire { return &wire{Conn: c, in: bufio.NewReaderSize(c, connBuffer)} }

// Read reads what came.
func (w *wire) Read(p []byte) (int, error) { return w.in.Read(p) }

// Write writes at once, or gathers.
func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.gather {
		return w.Conn.Write(p)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

func (w *wire) begin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gather = true
}

// end writes what was gathered.
func (w *wire) end() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gather = false
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.Conn.Write(w.out)
	w.out = w.out[:0]
	if cap(w.out) > connBuffer {
		w.out = nil // connections are many, and large bodies few
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

var gatherBuffers = sync.Pool{New: func() any { b := make([]byte, gatherBytes); return &b }}

// ReadFrom writes a request's body in large pieces. What the body's Read returns is sent without waiting for more: a
// stream may have nothing else to say for long.
func (g *gathered) ReadFrom(r io.Reader) (total int64, err error) {
	b := gatherBuffers.Get().(*[]byte)
	defer gatherBuffers.Put(b)
	for {
		n, rerr := r.Read(*b)
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
