package s3api

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/object"
	"cairn/s3api/sigv4"
)

// inbound reads a request's body from the connection with a deadline, so that a client that stalls or drips is cut off.
type inbound struct {
	body     io.ReadCloser
	deadline readDeadliner
	cfg      *Config
	started  time.Time
	n        int64
	ended    bool
	err      error // the first failure that is not the end
}

// Read implements io.Reader. The deadline is lifted at the end of the body, for from then on net/http itself waits on the
// connection, and would take a deadline that passes during a long commit for the client's going away.
func (in *inbound) Read(p []byte) (int, error) {
	if in.err != nil {
		return 0, in.err
	}
	if in.ended {
		return 0, io.EOF // without a new deadline: see above
	}
	now := time.Now()
	if in.started.IsZero() {
		in.started = now
	}
	in.setDeadline(in.limit(now))
	n, err := in.body.Read(p)
	in.n += int64(n)
	if err != nil {
		in.ended = errors.Is(err, io.EOF)
		if !in.ended {
			in.err = err
		}
		in.setDeadline(time.Time{})
	}
	return n, err
}

func (in *inbound) setDeadline(t time.Time) {
	if in.deadline != nil {
		in.deadline.SetReadDeadline(t) // fails for a connection that is gone only: the read says so
	}
}

// limit is the time until which the next byte must come: StallTimeout from now, but not later than the least average rate
// allows.
func (in *inbound) limit(now time.Time) time.Time {
	stall := now.Add(in.cfg.StallTimeout)
	earned := time.Duration(float64(in.n) / float64(in.cfg.MinRateBytesPerSec) * float64(time.Second))
	slow := in.started.Add(2*in.cfg.StallTimeout + earned)
	if slow.Before(stall) {
		return slow
	}
	return stall
}

// abandon bounds the time for which net/http drains what is left of a body that nobody wants: not at all behind a client
// that stalled, else for less than the answer may take to be written.
func (in *inbound) abandon() {
	if in.body == nil || in.ended {
		return
	}
	wait := min(drainTime, in.cfg.StallTimeout/2)
	if errors.Is(in.err, os.ErrDeadlineExceeded) {
		wait = 0
	}
	in.setDeadline(time.Now().Add(wait))
}

const drainTime = 2 * time.Second

// failure keeps the first error of the decoding for the answer.
type failure struct {
	r  io.Reader
	in *inbound
}

// Read implements io.Reader.
func (f failure) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && f.in.err == nil {
		f.in.err = err
	}
	return n, err
}

// openBody returns the decoded body, its size (-1 if unknown) and what the client declared of it. Nothing has been read.
func (c *call) openBody() (io.Reader, int64, object.Digests, error) {
	want, err := c.declared()
	if err != nil {
		return nil, 0, want, err
	}
	c.in.body, c.in.cfg = c.r.Body, &c.srv.cfg
	c.in.deadline, _ = c.w.(readDeadliner)
	if !c.auth.Streaming() {
		size := c.r.ContentLength
		if size == 0 && len(c.r.Header["Content-Length"]) == 0 && c.r.ProtoMajor == 1 {
			return nil, 0, want, errMissingContentLength
		}
		return &c.in, size, want, nil
	}
	size, err := strconv.ParseInt(c.header("X-Amz-Decoded-Content-Length"), 10, 64)
	switch {
	case c.header("X-Amz-Decoded-Content-Length") == "":
		return nil, 0, want, errMissingContentLength.with("You must provide the x-amz-decoded-content-length HTTP header.")
	case err != nil || size < 0:
		return nil, 0, want, errInvalidArgument.with("The value of x-amz-decoded-content-length is not a length.")
	}
	r := c.chunked(size, &want)
	return failure{r, &c.in}, size, want, nil
}

// chunkBuffer holds a chunk's header line; reads of data pass it by.
const chunkBuffer = 4 << 10

// chunked puts the aws-chunked decoder over the body.
func (c *call) chunked(size int64, want *object.Digests) *sigv4.ChunkReader {
	cr := sigv4.NewChunkReader(sigv4.ChunkConfig{Body: bufio.NewReaderSize(&c.in, chunkBuffer), Length: size,
		Payload: c.auth.Payload, Seed: c.seed, Trailer: c.header("X-Amz-Trailer")})
	want.Trailer = func() (cairn.Checksum, error) {
		trailer, err := cr.Trailer()
		if err != nil {
			if c.in.err == nil {
				c.in.err = err
			}
			return cairn.Checksum{}, err
		}
		for _, p := range trailer {
			if algo := checksumOfHeader(p.Key); algo != "" {
				return parseChecksum(algo, p.Value)
			}
		}
		return cairn.Checksum{}, nil
	}
	return cr
}

// declared reads the digests that headers declare of the body.
func (c *call) declared() (want object.Digests, err error) {
	if v := c.header("Content-Md5"); v != "" || len(c.r.Header["Content-Md5"]) > 0 {
		want.MD5, err = base64.StdEncoding.DecodeString(v)
		if err != nil || len(want.MD5) != md5.Size {
			return want, errInvalidDigest
		}
	}
	if c.auth.PayloadHash() {
		if want.SHA256, err = hex.DecodeString(c.auth.Payload); err != nil {
			return want, errInvalidArgument
		}
	}
	if !c.op.objectSum {
		want.Checksum, err = c.declaredChecksum()
	}
	return want, err
}

// maxXMLBody bounds a request document: CompleteMultipartUpload with 10,000 parts and checksums is the longest.
const maxXMLBody = 8 << 20

// smallXMLBody is the size up to which a document does not count against the memory for documents.
const smallXMLBody = 64 << 10

// readDocument reads a whole body of at most max bytes into memory and verifies what was declared of it. release must be
// called when the bytes are no longer used.
func (c *call) readDocument(max int64) (doc []byte, release func(), err error) {
	release = func() {}
	r, size, want, err := c.openBody()
	if err != nil {
		return nil, release, err
	}
	if size > max {
		return nil, release, errMaxMessageLength.with("", field{"MaxMessageLengthBytes", itoa(max)})
	}
	if size < 0 {
		size = max
	}
	if size > smallXMLBody {
		if err := c.reserve(size); err != nil {
			return nil, release, err
		}
		release = func() { c.srv.memory.Release(size) }
	}
	doc, err = readBounded(r, size)
	if err == nil {
		err = c.verifyDocument(doc, want)
	}
	if err != nil {
		release()
		return nil, func() {}, err
	}
	return doc, release, nil
}

// reserve waits a bounded time for memory.
func (c *call) reserve(n int64) error {
	ctx, cancel := context.WithTimeout(c.r.Context(), c.srv.cfg.QueueWait)
	defer cancel()
	if err := c.srv.memory.Acquire(ctx, n); err != nil {
		return errSlowDown
	}
	return nil
}

// readBounded reads all of r, which must end within max bytes.
func readBounded(r io.Reader, max int64) ([]byte, error) {
	doc, err := io.ReadAll(io.LimitReader(r, max+1))
	if err == nil && int64(len(doc)) > max {
		err = errMaxMessageLength
	}
	return doc, err
}

func (c *call) verifyDocument(doc []byte, want object.Digests) error {
	if want.MD5 != nil {
		if got := md5.Sum(doc); string(got[:]) != string(want.MD5) {
			return digestError(&object.DigestError{Name: "Content-MD5", Got: got[:], Want: want.MD5})
		}
	}
	if want.SHA256 != nil {
		if got := sha256.Sum256(doc); subtle.ConstantTimeCompare(got[:], want.SHA256) != 1 {
			return digestError(&object.DigestError{Name: "x-amz-content-sha256", Got: got[:], Want: want.SHA256})
		}
	}
	if want.Trailer != nil {
		sum, err := want.Trailer()
		if err != nil {
			return err
		}
		if sum.Algo != "" {
			want.Checksum = sum
		}
	}
	if want.Checksum.Value != nil {
		if got := sumOf(want.Checksum.Algo, doc); string(got) != string(want.Checksum.Value) {
			return digestError(&object.DigestError{Name: string(want.Checksum.Algo), Got: got, Want: want.Checksum.Value})
		}
	}
	return nil
}

// needDigest refuses a document without any digest, for the operations where S3 demands one.
func (c *call) needDigest() error {
	if len(c.r.Header["Content-Md5"]) > 0 || strings.HasPrefix(c.header("X-Amz-Trailer"), "x-amz-checksum-") {
		return nil
	}
	for name := range c.r.Header {
		if checksumOfHeader(strings.ToLower(name)) != "" {
			return nil
		}
	}
	return errInvalidRequest.with("Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
}

// noBody checks that an operation without a body got none, or one that matches its declared hash at least.
func (c *call) noBody() error {
	if c.r.ContentLength == 0 && c.auth.PayloadHash() && c.auth.Payload != sigv4.EmptySHA256 && c.r.Method != http.MethodGet &&
		c.r.Method != http.MethodHead {
		return errContentSHA256Mismatch
	}
	return nil
}
