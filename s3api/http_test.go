package s3api

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cairn/blob/blobtest"
	"cairn/iam"
	"cairn/meta"
	"cairn/s3api/sigv4"
)

// TestEveryOperationNeedsAuth walks the table of operations: none of them may answer a stranger, a forger or a latecomer.
func TestEveryOperationNeedsAuth(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "x"}).want(t, "put", 200, "")
	levels := map[level]string{service: "/", bucket: "/bucket", object_: "/bucket/k"}
	for _, op := range r.srv.operations() {
		if op.credentials {
			continue // they are in the body: postform_test.go, sts_test.go
		}
		path := levels[op.level]
		if op.query != "" {
			path += "?" + op.query
		}
		var header []string
		if op.header != "" {
			header = []string{op.header, "bucket/k"}
		}
		conn, br := r.dial()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n", op.method, path, r.addr)
		if op.header != "" {
			fmt.Fprintf(conn, "%s: bucket/k\r\n", op.header)
		}
		io.WriteString(conn, "\r\n")
		a, err := r.read(br, op.method)
		if err != nil || a.status != 403 {
			t.Errorf("%s, anonymous: got %d %s, %v", op.name, a.status, a.code, err)
		}
		conn.Close()
		for name, q := range map[string]req{
			"forged":  {secret: "not the secret"},
			"expired": {date: time.Now().Add(-time.Hour)},
		} {
			q.method, q.path, q.header = op.method, path, header
			if a := r.do(q); a.status != 403 {
				t.Errorf("%s, %s: got %d %s", op.name, name, a.status, a.code)
			}
		}
		url := r.presign(op.method, path, time.Now().UTC().Add(-time.Hour), "60", testSecret)
		conn, br = r.dial()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", op.method, url, r.addr)
		if a, err := r.read(br, op.method); err != nil || a.status != 403 {
			t.Errorf("%s, expired URL: got %d %s, %v", op.name, a.status, a.code, err)
		}
		conn.Close()
	}
	if keys := r.keys("bucket"); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("afterwards the bucket holds %q", keys)
	}
	if _, err := r.stack.Objects.Bucket(t.Context(), "bucket"); err != nil {
		t.Error(err)
	}
}

// TestEveryOperationIsReached sends each operation's request and sees by the observer that the router found it.
func TestEveryOperationIsReached(t *testing.T) {
	seen := make(chan Observation, 16)
	r := newRig(t, func(c *Config) { c.Observer = observeTo(seen) })
	levels := map[level]string{service: "/", bucket: "/absent-bucket", object_: "/absent-bucket/k"}
	names := map[string]bool{}
	for _, op := range r.srv.operations() {
		if names[op.name] {
			t.Errorf("two operations are called %s", op.name)
		}
		names[op.name] = true
		path := levels[op.level]
		if op.query == "list-type" {
			path += "?list-type=2"
		} else if op.query != "" {
			path += "?" + op.query
		}
		q := req{method: op.method, path: path}
		if op.header != "" {
			q.header = []string{op.header, "absent-bucket/x"}
		}
		a := r.do(q)
		if got := <-seen; got.Operation != op.name || got.Status != a.status || got.Code != a.code && op.method != "HEAD" {
			t.Errorf("%s %s: observed %+v, want %s (%d %s)", op.method, path, got, op.name, a.status, a.code)
		}
	}
}

type observeTo chan Observation

func (o observeTo) Observe(x Observation) { o <- x }

func TestExpectContinue(t *testing.T) {
	r := newRig(t, nil)
	body := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name, secret, path string
		header             []string
		status             int
	}{
		{"good", testSecret, "/bucket/k", nil, 200},
		{"wrong secret", "wrong secret", "/bucket/l", nil, 403},
		{"condition that fails", testSecret, "/bucket/k", []string{"If-None-Match", "*"}, 412},
		{"bad digest header", testSecret, "/bucket/l", []string{"Content-Md5", "x"}, 400},
	} {
		head, _ := r.head(req{path: c.path, body: body, secret: c.secret, header: c.header, late: []string{"Expect", "100-continue"}})
		conn, br := r.dial()
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		line, err := br.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if c.status == 200 {
			if !strings.Contains(line, "100 Continue") {
				t.Fatalf("%s: got %q", c.name, line)
			}
			br.ReadString('\n')
			if _, err := io.WriteString(conn, body); err != nil {
				t.Fatal(err)
			}
			line, _ = br.ReadString('\n')
		}
		if !strings.Contains(line, fmt.Sprint(c.status)) {
			t.Errorf("%s: got %q, want %d before the body is sent", c.name, line, c.status)
		}
		conn.Close()
	}
	if keys := r.keys("bucket"); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("stored %q", keys)
	}
}

// TestChunkedTransfer stores a body whose length nobody told beforehand.
func TestChunkedTransfer(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name, body, code string
		size             int64
	}{
		{"small", "5\r\nhello\r\n0\r\n\r\n", "", 5},
		{"empty", "0\r\n\r\n", "", 0},
		{"large", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", 300_000, strings.Repeat("x", 300_000)), "", 300_000},
		{"broken", "5\r\nhel", "IncompleteBody", 0},
		{"nonsense", "zz\r\nhello\r\n0\r\n\r\n", "", 0},
	} {
		head, _ := r.head(req{path: "/bucket/k", payload: sigv4.UnsignedPayload, noSize: true, late: []string{"Transfer-Encoding", "chunked"}})
		conn, br := r.dial()
		io.WriteString(conn, head+c.body)
		bad := c.name == "broken" || c.name == "nonsense"
		if bad {
			conn.(*net.TCPConn).CloseWrite()
		}
		a, err := r.read(br, "PUT")
		if !bad && (err != nil || a.status != 200) {
			t.Errorf("%s: got %d %s, %v", c.name, a.status, a.code, err)
		}
		if bad && err == nil && a.status < 400 {
			t.Errorf("%s: got %d", c.name, a.status)
		}
		v, err := r.head1("bucket", "k")
		if bad != (err != nil) || v.Size != c.size {
			t.Errorf("%s: stored %d bytes, %v", c.name, v.Size, err)
		}
		r.do(req{method: "DELETE", path: "/bucket/k"})
		conn.Close()
	}
}

// TestSmuggling hides a second request behind a first one that has two lengths, in one packet and in two.
func TestSmuggling(t *testing.T) {
	r := newRig(t, nil)
	inner := r.raw(req{path: "/bucket/smuggled", body: "x"})
	body := "0\r\n\r\n" + inner
	for _, late := range [][]string{
		{"Content-Length", fmt.Sprint(len(body)), "Transfer-Encoding", "chunked"},
		{"Transfer-Encoding", "chunked", "content-length", fmt.Sprint(len(body))},
	} {
		head, _ := r.head(req{path: "/bucket/k", payload: sigv4.UnsignedPayload, noSize: true, late: late})
		for _, prefix := range []string{"", r.raw(req{method: "HEAD", path: "/bucket"})} {
			conn, br := r.dial()
			io.WriteString(conn, prefix+head+body)
			if prefix != "" {
				r.read(br, "HEAD")
			}
			if a, err := r.read(br, "PUT"); err == nil {
				a.want(t, "two lengths", 400, "InvalidRequest")
			}
			conn.Close()
		}
	}
	time.Sleep(100 * time.Millisecond) // were the inner request taken, it would be stored by now
	if _, err := r.head1("bucket", "k"); err == nil {
		t.Error("the outer request was served")
	}
}

// TestHeadEqualsGet compares the headers of HEAD and GET for objects of every kind.
func TestHeadEqualsGet(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "hello world", header: []string{"X-Amz-Meta-A", "grüße", "Content-Type", "a/b", "X-Amz-Tagging", "a=b", "Cache-Control", "no-store"}}).
		want(t, "put", 200, "")
	for _, c := range []struct {
		path   string
		header []string
	}{{"/bucket/k", nil}, {"/bucket/k", []string{"Range", "bytes=1-3"}}, {"/bucket/k", []string{"Range", "bytes=99-"}}, {"/bucket/k", []string{"X-Amz-Checksum-Mode", "ENABLED"}},
		{"/bucket/k", []string{"If-Match", "x"}}, {"/bucket/k", []string{"If-None-Match", "*"}}, {"/bucket/absent", nil}, {"/bucket/k?partNumber=1", nil},
		{"/bucket/k?response-content-type=q%2Fr", nil}} {
		get, head := r.do(req{method: "GET", path: c.path, header: c.header}), r.do(req{method: "HEAD", path: c.path, header: c.header})
		for _, h := range []http.Header{get.header, head.header} {
			h.Del("X-Amz-Request-Id")
			h.Del("Date")
			if get.status >= 400 {
				h.Del("Content-Length") // of the error document, which HEAD has none of
			}
		}
		if get.status != head.status || !maps.EqualFunc(get.header, head.header, slices.Equal) || len(head.body) > 0 {
			t.Errorf("%s %v: GET %d %v, HEAD %d %v", c.path, c.header, get.status, get.header, head.status, head.header)
		}
		if get.status == 304 && len(get.body) > 0 {
			t.Errorf("304 with a body: %q", get.body)
		}
	}
	if got := r.do(req{method: "GET", path: "/bucket/k"}).header.Get("X-Amz-Meta-A"); got != "grüße" {
		t.Errorf("metadata came back as %q", got)
	}
}

// TestHeadReadsNothing: a HEAD and a 304 are answered from the version row.
func TestHeadReadsNothing(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: strings.Repeat("x", 1<<20)}).want(t, "put", 200, "")
	r.do(req{method: "HEAD", path: "/bucket/k"}).want(t, "head", 200, "")
	r.do(req{method: "GET", path: "/bucket/k", header: []string{"If-None-Match", "*"}}).want(t, "conditional get", 304, "")
	if n := r.stack.Memory.Calls(blobtest.OpRead); n > 0 {
		t.Errorf("%d shards were read", n)
	}
}

func TestExpectedOwner(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Expected-Bucket-Owner", "root"}}).want(t, "owner", 200, "")
	r.do(req{path: "/bucket/l", body: "x", header: []string{"X-Amz-Expected-Bucket-Owner", "somebody"}}).want(t, "stranger", 403, "AccessDenied")
	r.do(req{path: "/bucket/l", header: []string{"X-Amz-Copy-Source", "bucket/k", "X-Amz-Source-Expected-Bucket-Owner", "somebody"}}).want(t, "source of a stranger", 403, "AccessDenied")
	if keys := r.keys("bucket"); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("stored %q", keys)
	}
}

// TestServeDrains ends the server in the middle of an upload: the upload is finished, and Serve returns after it.
func TestServeDrains(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.srv.Serve(ctx, l) }()
	r.addr = l.Addr().String()
	head, _ := r.head(req{path: "/bucket/k", body: "12"})
	conn, br := r.dial()
	io.WriteString(conn, head+"1")
	for deadline := time.Now().Add(5 * time.Second); len(r.srv.slots) == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	cancel()
	select {
	case err := <-done:
		t.Fatalf("Serve returned %v with a request under way", err)
	case <-time.After(100 * time.Millisecond):
	}
	io.WriteString(conn, "2")
	a, err := r.read(br, "PUT")
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, "upload during the end", 200, "")
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("still listening")
	}
}

// TestConnectionLimit opens more connections than allowed: the rest wait, and are served when one is closed.
func TestConnectionLimit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxConns = 2 })
	var conns []net.Conn
	for range 2 {
		c, br := r.dial()
		io.WriteString(c, r.raw(req{method: "HEAD", path: "/bucket"}))
		if a, err := r.read(br, "HEAD"); err != nil || a.status != 200 {
			t.Fatalf("got %d, %v", a.status, err)
		}
		conns = append(conns, c)
	}
	third, br := r.dial()
	io.WriteString(third, r.raw(req{method: "HEAD", path: "/bucket"}))
	third.SetReadDeadline(time.Now().Add(150 * time.Millisecond))
	if _, err := br.Peek(1); err == nil {
		t.Fatal("the third connection was served")
	}
	conns[0].Close()
	third.SetReadDeadline(time.Now().Add(10 * time.Second))
	if a, err := r.read(bufio.NewReader(io.MultiReader(br, third)), "HEAD"); err != nil || a.status != 200 {
		t.Errorf("after one was closed: %d, %v", a.status, err)
	}
}

// TestManySmall stores and lists enough keys for several pages, in both listing versions.
func TestManySmall(t *testing.T) {
	r := newRig(t, nil)
	conn, br := r.dial()
	var want []string
	for i := range 120 {
		key := fmt.Sprintf("d%d/k%03d", i%3, i)
		want = append(want, key)
		io.WriteString(conn, r.raw(req{path: "/bucket/" + key, body: key}))
		if a, err := r.read(br, "PUT"); err != nil || a.status != 200 {
			t.Fatalf("%d, %v", a.status, err)
		}
	}
	slices.Sort(want)
	page, err := r.stack.Objects.List(t.Context(), meta.List{Bucket: "bucket", Max: 1000})
	if err != nil || len(page.Versions) != len(want) {
		t.Fatalf("%d keys, %v", len(page.Versions), err)
	}
	if a := r.do(req{method: "GET", path: "/bucket?delimiter=%2F&encoding-type=url"}); strings.Count(string(a.body), "<CommonPrefixes>") != 3 || !strings.Contains(string(a.body), "<Prefix>d0/</Prefix>") {
		t.Errorf("got %s", a.body)
	}
}

// TestPresignedV2 takes what boto3 makes by default: signatures computed here from the published recipe.
func TestPresignedV2(t *testing.T) {
	r := newRig(t, nil)
	expires := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	sign := func(toSign string) string {
		mac := hmac.New(sha1.New, []byte(testSecret))
		mac.Write([]byte(toSign))
		return url.QueryEscape(base64String(mac.Sum(nil)))
	}
	send := func(method, host, target, header, body string) answer {
		conn, br := r.dial()
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n%s\r\n%s", method, target, host, len(body), header, body)
		a, err := r.read(br, method)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	auth := "AWSAccessKeyId=" + testKey + "&Expires=" + expires + "&Signature="
	sig := sign("PUT\n\n\n" + expires + "\nx-amz-meta-a:1\n/bucket/a%20b")
	send("PUT", r.addr, "/bucket/a%20b?x-amz-meta-a=1&"+auth+sig, "", "hello").want(t, "put", 200, "")
	send("PUT", r.addr, "/bucket/other?x-amz-meta-a=1&"+auth+sig, "", "hello").want(t, "other key", 403, "SignatureDoesNotMatch")
	send("PUT", r.addr, "/bucket/a%20b?x-amz-meta-a=2&"+auth+sig, "", "hello").want(t, "other metadata", 403, "SignatureDoesNotMatch")
	send("PUT", r.addr, "/bucket/a%20b?x-amz-meta-a=1&"+auth+sig, "X-Amz-Acl: private\r\n", "hello").want(t, "added header", 403, "SignatureDoesNotMatch")
	send("DELETE", r.addr, "/bucket/a%20b?x-amz-meta-a=1&"+auth+sig, "", "").want(t, "other method", 403, "SignatureDoesNotMatch")
	sig = sign("GET\n\n\n" + expires + "\n/bucket/a%20b?response-content-type=x/y")
	a := send("GET", r.addr, "/bucket/a%20b?response-content-type=x%2Fy&"+auth+sig, "", "")
	a.want(t, "get", 200, "")
	if string(a.body) != "hello" || a.header.Get("X-Amz-Meta-A") != "1" || a.header.Get("Content-Type") != "x/y" {
		t.Errorf("got %q, %v", a.body, a.header)
	}
	sig = sign("GET\n\n\n" + expires + "\n/bucket/a%20b")
	send("GET", "bucket.localhost", "/a%20b?"+auth+sig, "", "").want(t, "virtual host", 200, "")
	send("GET", r.addr, "/bucket/a%20b?versionId=null&"+auth+sig, "", "").want(t, "added version", 403, "SignatureDoesNotMatch")
}

// TestMetadataNamesOnTheWire: some SDKs hand header names on as they come, so user metadata is sent as S3 sends it.
func TestMetadataNamesOnTheWire(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Meta-Some-Name", "v"}}).want(t, "put", 200, "")
	conn, _ := r.dial()
	io.WriteString(conn, r.raw(req{method: "GET", path: "/bucket/k", late: []string{"Connection", "close"}}))
	if all, err := io.ReadAll(conn); err != nil || !strings.Contains(string(all), "\nx-amz-meta-some-name: v\r\n") {
		t.Errorf("got %s, %v", all, err)
	}
}

// TestDocumentWithoutLength sends a document whose length is not declared and which is longer than any such document may be.
func TestDocumentWithoutLength(t *testing.T) {
	r := newRig(t, nil)
	doc := "<Tagging><TagSet/>" + strings.Repeat(" ", maxSmallDocument) + "</Tagging>"
	sum := md5.Sum([]byte(doc))
	head, _ := r.head(req{path: "/bucket?tagging", payload: sigv4.UnsignedPayload, noSize: true, late: []string{"Transfer-Encoding", "chunked"},
		header: []string{"Content-Md5", base64String(sum[:])}})
	conn, br := r.dial()
	fmt.Fprintf(conn, "%s%x\r\n%s\r\n0\r\n\r\n", head, len(doc), doc)
	a, err := r.read(br, "PUT")
	if err != nil {
		t.Fatal(err)
	}
	a.want(t, "long document", 400, "MaxMessageLengthExceeded")
}

// recorder is an Identities that allows everything and remembers what it was asked.
type recorder struct {
	Identities
	asked chan string
}

func (r recorder) Authorize(_ *iam.Identity, q *iam.Request) error {
	r.asked <- q.Action + " " + q.Bucket + "/" + q.Key
	return nil
}

// TestActions tells which permissions requests need, down to the version and the source of a copy.
func TestActions(t *testing.T) {
	asked := make(chan string, 8)
	r := newRig(t, func(c *Config) { c.Identities = recorder{c.Identities, asked} })
	r.stack.Buckets(t, "other")
	const id = "?versionId=00000000000000ff"
	del := r.deletion("<Delete><Object><Key>x</Key></Object><Object><Key>y</Key><VersionId>null</VersionId></Object></Delete>")
	for _, c := range []struct {
		q    req
		want []string
	}{
		{req{method: "GET", path: "/"}, []string{"s3:ListAllMyBuckets /"}},
		{req{method: "GET", path: "/bucket/a%2Fb"}, []string{"s3:GetObject bucket/a/b"}},
		{req{method: "HEAD", path: "/bucket/k" + id}, []string{"s3:GetObjectVersion bucket/k"}},
		{req{method: "DELETE", path: "/bucket/k" + id}, []string{"s3:DeleteObjectVersion bucket/k"}},
		{req{method: "DELETE", path: "/bucket/k"}, []string{"s3:DeleteObject bucket/k"}},
		{req{path: "/bucket/k", header: []string{"X-Amz-Copy-Source", "/other/a%20b"}}, []string{"s3:PutObject bucket/k", "s3:GetObject other/a b"}},
		{req{path: "/bucket/k", header: []string{"X-Amz-Copy-Source", "/other/a" + id}}, []string{"s3:PutObject bucket/k", "s3:GetObjectVersion other/a"}},
		{req{method: "POST", path: "/bucket?delete", body: del.body, header: del.header}, []string{"s3:DeleteObject bucket/x", "s3:DeleteObjectVersion bucket/y"}},
	} {
		r.do(c.q)
		var got []string
		for len(asked) > 0 {
			got = append(got, <-asked)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s %s: asked %q, want %q", c.q.method, c.q.path, got, c.want)
		}
	}
}

// TestRefusalReachesASender refuses a large body at once while the client keeps sending: the answer must arrive, and not be
// lost in a reset of the connection.
func TestRefusalReachesASender(t *testing.T) {
	r := newRig(t, nil)
	for range 5 {
		head, _ := r.head(req{path: "/bucket/k", secret: "not the secret", payload: sigv4.UnsignedPayload, noSize: true,
			late: []string{"Content-Length", fmt.Sprint(64 << 20)}})
		conn, br := r.dial()
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			piece := make([]byte, 1<<20)
			for range 64 {
				if _, err := conn.Write(piece); err != nil {
					return
				}
			}
		}()
		time.Sleep(50 * time.Millisecond)
		if a, err := r.read(br, "PUT"); err != nil || a.code != "SignatureDoesNotMatch" {
			t.Errorf("got %d %s, %v", a.status, a.code, err)
		}
		conn.Close()
		<-sent
	}
}
