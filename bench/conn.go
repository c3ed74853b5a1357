package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

const (
	readBufferBytes  = 64 << 10
	maxHeaderBytes   = 32 << 10
	requestTimeout   = 60 * time.Second
	maxErrorBodyRead = 64 << 10
)

// conn is one keep-alive connection to an S3 endpoint. It is used by one goroutine and dials again after an error.
type conn struct {
	addr   string
	signer *signer
	nc     net.Conn
	br     *bufio.Reader
	head   []byte // scratch: the request's head
	buf    []byte // scratch: response bodies pass through it
}

// request is what the loads need of HTTP.
type request struct {
	method string
	path   string // escaped, begins with "/"
	query  string // canonical order, escaped
	header string // further lines, unsigned, each ending in CRLF
	body   []byte
}

// statusError is an answer other than 2xx.
type statusError struct {
	Status int
	Body   string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d: %s", e.Status, strings.TrimSpace(e.Body))
}

// newConn prepares a connection to endpoint, e.g. "http://127.0.0.1:9000".
func newConn(endpoint string, cred Credentials) (*conn, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("endpoint %q: want http://host:port", endpoint)
	}
	return &conn{addr: u.Host, signer: newSigner(cred, u.Host), buf: make([]byte, 256<<10)}, nil
}

func (c *conn) close() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}

// do sends r and hands the body of a 2xx answer to sink (nil: it is read and dropped). An error leaves the connection
// closed, except a statusError whose body could be read.
func (c *conn) do(ctx context.Context, r request, sink func(p []byte)) (err error) {
	if c.nc == nil {
		if err := c.dial(ctx); err != nil {
			return err
		}
	}
	err = c.roundTrip(r, sink)
	var se *statusError
	if err != nil && !errors.As(err, &se) {
		c.close()
	}
	return err
}

func (c *conn) dial(ctx context.Context) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	nc, err := d.DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.nc = nc
	c.br = bufio.NewReaderSize(nc, readBufferBytes)
	return nil
}

func (c *conn) roundTrip(r request, sink func(p []byte)) error {
	now := time.Now()
	if err := c.nc.SetDeadline(now.Add(requestTimeout)); err != nil {
		return err
	}
	h := append(c.head[:0], r.method...)
	h = append(h, ' ')
	h = append(h, r.path...)
	if r.query != "" {
		h = append(h, '?')
		h = append(h, r.query...)
	}
	h = append(h, " HTTP/1.1\r\n"...)
	h = c.signer.appendHeaders(h, r.method, r.path, r.query, now)
	h = append(h, r.header...)
	if r.body != nil || r.method == "PUT" || r.method == "POST" {
		h = append(h, "Content-Length: "...)
		h = strconv.AppendInt(h, int64(len(r.body)), 10)
		h = append(h, "\r\n"...)
	}
	h = append(h, "\r\n"...)
	var werr error
	if len(r.body) > 0 && len(r.body) <= 64<<10 {
		h = append(h, r.body...) // one segment rather than two
		_, werr = c.nc.Write(h)
	} else {
		bufs := net.Buffers{h}
		if len(r.body) > 0 {
			bufs = append(bufs, r.body)
		}
		_, werr = bufs.WriteTo(c.nc)
	}
	c.head = h[:0]
	// A server that refuses early answers before it has read the body: the answer matters more than the write's error.
	if err := c.readAnswer(r.method, sink); err != nil {
		if werr != nil {
			return errors.Join(err, werr)
		}
		return err
	}
	return werr
}

func (c *conn) readAnswer(method string, sink func(p []byte)) error {
	status, length, chunked, closing, err := c.readHead()
	for err == nil && status == 100 {
		status, length, chunked, closing, err = c.readHead()
	}
	if err != nil {
		return err
	}
	if closing {
		defer c.close()
	}
	if method == "HEAD" || status == 204 || status == 304 {
		length, chunked = 0, false
	}
	var body io.Reader = c.br
	switch {
	case chunked:
		body = httputil.NewChunkedReader(c.br)
		length = -1
	case length < 0:
		return errors.New("answer without a length")
	}
	if status/100 != 2 {
		return c.readError(body, status, length)
	}
	if err := c.copyBody(body, length, sink); err != nil {
		return err
	}
	if chunked {
		_, err = c.br.ReadString('\n') // the empty line behind the last chunk
	}
	return err
}

func (c *conn) readError(body io.Reader, status int, length int64) error {
	var text bytes.Buffer
	if length >= 0 {
		body = io.LimitReader(body, length)
	}
	io.Copy(&text, io.LimitReader(body, maxErrorBodyRead))
	if length < 0 || length > maxErrorBodyRead {
		c.close()
	}
	return &statusError{Status: status, Body: text.String()}
}

func (c *conn) copyBody(body io.Reader, length int64, sink func(p []byte)) error {
	for left := length; left != 0; {
		p := c.buf
		if left > 0 && int64(len(p)) > left {
			p = p[:left]
		}
		n, err := body.Read(p)
		if n > 0 {
			if sink != nil {
				sink(p[:n])
			}
			if left > 0 {
				left -= int64(n)
			}
		}
		if err == io.EOF && left < 0 {
			return nil
		}
		if err != nil && left != 0 {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// readHead reads a status line and the few headers that frame the body.
func (c *conn) readHead() (status int, length int64, chunked, closing bool, err error) {
	length = -1
	total := 0
	for first := true; ; first = false {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			return 0, 0, false, false, err
		}
		if total += len(line); total > maxHeaderBytes {
			return 0, 0, false, false, errors.New("answer's head is too long")
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
				return 0, 0, false, false, fmt.Errorf("not an HTTP/1.1 answer: %q", line)
			}
			if status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return 0, 0, false, false, err
			}
			continue
		}
		if len(line) == 0 {
			return status, length, chunked, closing, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, 0, false, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			closing = bytes.EqualFold(value, []byte("close"))
		}
	}
}
