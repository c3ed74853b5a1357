package s3api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"cairn"
	"cairn/iam"
	"cairn/meta"
	"cairn/object"
	"cairn/object/objecttest"
	"cairn/s3api/sigv4"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testKey    = "TESTACCESSKEY"
	testSecret = "a test secret of some length"
)

// rig is a whole frontend on a real port: the real object store, metadata and blobs below it, shards in memory.
type rig struct {
	t     testing.TB
	stack *objecttest.Stack
	srv   *Server
	addr  string
}

// newRig serves with the given changes of the configuration until the test ends. It has one bucket, "bucket".
func newRig(t testing.TB, change func(*Config)) *rig {
	t.Helper()
	return newRigOn(t, objecttest.Config{}, change)
}

// newRigOn is newRig over a stack of one's choice.
func newRigOn(t testing.TB, under objecttest.Config, change func(*Config)) *rig {
	t.Helper()
	stack := objecttest.Open(t, under)
	stack.Buckets(t, "bucket")
	return serveRig(t, stack, change)
}

// serveRig is newRig over a stack that is open, without a bucket.
func serveRig(t testing.TB, stack *objecttest.Stack, change func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, stack: stack}
	ids, err := iam.New(iam.Config{AccessKey: testKey, SecretKey: testSecret})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Objects: r.stack.Objects, Identities: ids}
	if change != nil {
		change(&cfg)
	}
	if r.srv, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.srv.Serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		cancel()
		wg.Wait()
	})
	return r
}

// req is a request to be signed and written byte by byte as it stands.
type req struct {
	method  string
	path    string // with query, as it goes over the wire
	header  []string
	body    string
	payload string // x-amz-content-sha256, default the body's hash
	key     string // access key, default testKey; "-" sends the request unsigned
	secret  string
	date    time.Time
	noSize  bool // leave Content-Length out
	// late headers are added after signing.
	late []string
	host string
}

// head renders a signed request's head and returns the seed of its signature.
func (r *rig) head(q req) (string, sigv4.Seed) {
	r.t.Helper()
	q.defaults(r.addr)
	h := http.Header{"X-Amz-Date": {q.date.UTC().Format("20060102T150405Z")}, "X-Amz-Content-Sha256": {q.payload}}
	for i := 0; i < len(q.header); i += 2 {
		h.Set(q.header[i], q.header[i+1])
	}
	names := []string{"host"}
	for name := range h {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	rawPath, rawQuery, _ := strings.Cut(q.path, "?")
	path, err := unescape(rawPath, false)
	if err != nil {
		path = rawPath
	}
	query, err := parseQuery(rawQuery, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	signed := h
	h, seed := sigv4.Sign(&sigv4.Message{Method: q.method, Path: path, RawPath: rawPath, Query: query, Header: h, Host: q.host},
		q.key, q.secret, "us-east-1", strings.Join(names, ";"))
	if q.key == "-" {
		h = signed
		for _, name := range []string{"Authorization", "X-Amz-Date", "X-Amz-Content-Sha256"} {
			h.Del(name)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", q.method, q.path, q.host)
	if !q.noSize {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.body))
	}
	for name, values := range h {
		fmt.Fprintf(&b, "%s: %s\r\n", name, values[0])
	}
	for i := 0; i < len(q.late); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", q.late[i], q.late[i+1])
	}
	return b.String() + "\r\n", seed
}

func (q *req) defaults(addr string) {
	if q.method == "" {
		q.method = "PUT"
	}
	if q.payload == "" {
		sum := sha256.Sum256([]byte(q.body))
		q.payload = hex.EncodeToString(sum[:])
	}
	if q.key == "" {
		q.key = testKey
	}
	if q.secret == "" {
		q.secret = testSecret
	}
	if q.date.IsZero() {
		q.date = time.Now()
	}
	if q.host == "" {
		q.host = addr
	}
}

// raw renders a signed request with its body.
func (r *rig) raw(q req) string {
	head, _ := r.head(q)
	return head + q.body
}

// answer is what came back.
type answer struct {
	status int
	code   string
	body   []byte
	header http.Header
}

// dial opens a connection that the test's end closes.
func (r *rig) dial() (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, bufio.NewReader(c)
}

// read takes one answer off a connection.
func (r *rig) read(br *bufio.Reader, method string) (answer, error) {
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, body: body, header: resp.Header}
	if i := bytes.Index(body, []byte("<Code>")); i >= 0 {
		a.code, _, _ = strings.Cut(string(body[i+6:]), "</Code>")
	}
	return a, err
}

// do sends one request on a connection of its own.
func (r *rig) do(q req) answer {
	r.t.Helper()
	c, br := r.dial()
	defer c.Close()
	q.defaults(r.addr)
	if _, err := io.WriteString(c, r.raw(q)); err != nil {
		r.t.Fatal(err)
	}
	a, err := r.read(br, q.method)
	if err != nil {
		r.t.Fatalf("%s %s: %v", q.method, q.path, err)
	}
	return a
}

// want fails the test unless the answer is this one.
func (a answer) want(t testing.TB, what string, status int, code string) {
	t.Helper()
	if a.status != status || a.code != code {
		t.Errorf("%s: got %d %s, want %d %s: %.300s", what, a.status, a.code, status, code, a.body)
	}
}

// keys lists what is stored in the bucket, whatever the frontend says.
func (r *rig) keys(bucket string) (keys []string) {
	r.t.Helper()
	page, err := r.stack.Objects.List(context.Background(), meta.List{Bucket: bucket, Max: 1000})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, v := range page.Versions {
		keys = append(keys, v.Key)
	}
	return keys
}

func (r *rig) head1(bucket, key string) (cairn.Version, error) {
	return r.stack.Objects.Head(context.Background(), meta.VersionRef{Bucket: bucket, Key: key})
}

// chunked renders an aws-chunked body, signed if the payload says so.
func chunked(t testing.TB, q req, seed sigv4.Seed, chunks []string, trailer string) string {
	t.Helper()
	var b strings.Builder
	sign := q.payload != sigv4.UnsignedTrailer
	for _, data := range append(slices.Clone(chunks), "") {
		fmt.Fprintf(&b, "%x", len(data))
		if sign {
			b.WriteString(";chunk-signature=" + seed.NextChunk([]byte(data)))
		}
		b.WriteString("\r\n" + data)
		if data != "" {
			b.WriteString("\r\n")
		}
	}
	if trailer != "" {
		b.WriteString(trailer + "\r\n")
		if sign {
			b.WriteString("x-amz-trailer-signature:" + seed.SignTrailer([]byte(trailer+"\n")) + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.String()
}

// noKeys takes the encryption keys away.
func noKeys(c *object.Config) { c.Keys = nil }
