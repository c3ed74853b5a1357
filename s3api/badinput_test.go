package s3api

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn"
	"cairn/blob/blobtest"
	"cairn/s3api/sigv4"
)

// after says what becomes of a connection.
type after uint8

const (
	usable after = iota
	closed
	either // net/http decides by how much of the body was read
)

// TestBadInput sends what no honest client sends. Each case has the error that S3 gives, says whether the connection lives on,
// and leaves nothing behind.
func TestBadInput(t *testing.T) {
	r := newRig(t, nil)
	sum := func(s string) string { d := md5.Sum([]byte(s)); return base64String(d[:]) }
	long := strings.Repeat("k", 1025)
	const oneKey = "<Delete><Object><Key>k</Key></Object></Delete>"
	now := time.Now()
	for _, c := range []struct {
		name   string
		q      req
		status int
		code   string
		after  after
	}{
		{"wrong secret", req{path: "/bucket/k", body: "x", secret: "another secret"}, 403, "SignatureDoesNotMatch", either},
		{"old date", req{path: "/bucket/k", body: "x", date: now.Add(-16 * time.Minute)}, 403, "RequestTimeTooSkewed", either},
		{"future date", req{path: "/bucket/k", body: "x", date: now.Add(16 * time.Minute)}, 403, "RequestTimeTooSkewed", either},
		{"unsigned x-amz header", req{path: "/bucket/k", body: "x", late: []string{"x-amz-meta-a", "1"}}, 403, "AccessDenied", either},
		{"header changed after signing", req{path: "/bucket/k", body: "x", header: []string{"Content-Type", "a"}, late: []string{"Content-Type", "b"}}, 400, "InvalidRequest", either},
		{"two dates", req{path: "/bucket/k", body: "x", late: []string{"X-Amz-Date", "20260101T000000Z"}}, 400, "InvalidRequest", either},
		{"two authorizations", req{path: "/bucket/k", body: "x", late: []string{"Authorization", "AWS4-HMAC-SHA256 x"}}, 400, "InvalidRequest", either},
		{"two payload hashes", req{path: "/bucket/k", body: "x", late: []string{"X-Amz-Content-Sha256", sigv4.UnsignedPayload}}, 400, "InvalidRequest", either},
		{"two content MD5s", req{path: "/bucket/k", body: "x", late: []string{"Content-Md5", sum("x"), "Content-Md5", sum("y")}}, 400, "InvalidRequest", either},
		{"two copy sources", req{path: "/bucket/k", late: []string{"X-Amz-Copy-Source", "a/b", "X-Amz-Copy-Source", "bucket/x"}}, 400, "InvalidRequest", either},
		{"payload hash of other bytes", req{path: "/bucket/k", body: "x", payload: sigv4.EmptySHA256}, 400, "XAmzContentSHA256Mismatch", usable},
		{"nonsense payload hash", req{path: "/bucket/k", body: "x", payload: "nonsense"}, 400, "InvalidArgument", either},
		{"wrong MD5", req{path: "/bucket/k", body: "x", header: []string{"Content-Md5", sum("y")}}, 400, "BadDigest", usable},
		{"malformed MD5", req{path: "/bucket/k", body: "x", header: []string{"Content-Md5", "zzzz"}}, 400, "InvalidDigest", either},
		{"empty MD5", req{path: "/bucket/k", body: "x", header: []string{"Content-Md5", ""}}, 400, "InvalidDigest", either},
		{"wrong CRC32", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Crc32", base64String(sumOf(cairn.CRC32, []byte("y")))}}, 400, "BadDigest", usable},
		{"wrong CRC32C", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Crc32c", base64String(sumOf(cairn.CRC32C, []byte("y")))}}, 400, "BadDigest", usable},
		{"wrong CRC64NVME", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Crc64nvme", base64String(sumOf(cairn.CRC64NVME, []byte("y")))}}, 400, "BadDigest", usable},
		{"wrong SHA1", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Sha1", base64String(sumOf(cairn.SHA1, []byte("y")))}}, 400, "BadDigest", usable},
		{"wrong SHA256", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Sha256", base64String(sumOf(cairn.SHA256, []byte("y")))}}, 400, "BadDigest", usable},
		{"short checksum", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Crc32", "AAA="}}, 400, "InvalidRequest", either},
		{"two checksums", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Checksum-Crc32", "AAAAAA==", "X-Amz-Checksum-Crc32c", "AAAAAA=="}}, 400, "InvalidRequest", either},
		{"algorithm without checksum", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Sdk-Checksum-Algorithm", "CRC32"}}, 400, "InvalidRequest", either},
		{"no content length", req{path: "/bucket/k", noSize: true}, 411, "MissingContentLength", either},
		{"negative content length", req{path: "/bucket/k", noSize: true, late: []string{"Content-Length", "-1"}}, 400, "", closed},
		{"two content lengths", req{path: "/bucket/k", body: "x", late: []string{"Content-Length", "2"}}, 400, "", closed},
		{"content length and chunked", req{path: "/bucket/k", body: "1\r\nx\r\n0\r\n\r\n", payload: sigv4.UnsignedPayload, late: []string{"Transfer-Encoding", "chunked"}}, 400, "InvalidRequest", either},
		{"odd transfer encoding", req{path: "/bucket/k", noSize: true, late: []string{"Transfer-Encoding", "gzip"}}, 501, "", closed},
		{"NUL in key", req{path: "/bucket/a%00b", body: "x"}, 400, "InvalidURI", either},
		{"invalid UTF-8 in key", req{path: "/bucket/a%ffb", body: "x"}, 400, "InvalidURI", either},
		{"broken escape", req{path: "/bucket/a%zz", body: "x"}, 400, "", closed},
		{"key of 1,025 bytes", req{path: "/bucket/" + long, body: "x"}, 400, "KeyTooLongError", either},
		{"absolute form", req{path: "http://other/bucket/k", body: "x"}, 400, "InvalidURI", either},
		{"absent bucket", req{path: "/absent/k", body: "x"}, 404, "NoSuchBucket", either},
		{"bad bucket name", req{path: "/Bad_Bucket", body: ""}, 400, "InvalidBucketName", usable},
		{"method that is none", req{method: "BREW", path: "/bucket/k"}, 405, "MethodNotAllowed", usable},
		{"encryption of no kind that there is", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Server-Side-Encryption", "rot13"}}, 400, "InvalidArgument", either},
		{"public ACL", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Acl", "public-read"}}, 400, "AccessControlListNotSupported", either},
		{"put of a version", req{path: "/bucket/k?versionId=null", body: "x"}, 400, "InvalidArgument", either},
		{"unknown sub-resource", req{path: "/bucket/k?futureThing", body: "x"}, 501, "NotImplemented", either},
		{"deleting an unknown sub-resource", req{method: "DELETE", path: "/bucket?futureThing"}, 501, "NotImplemented", usable},
		{"strange class", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Storage-Class", "GOLD"}}, 400, "InvalidStorageClass", either},
		{"too much metadata", req{path: "/bucket/k", body: "x", header: []string{"X-Amz-Meta-A", strings.Repeat("x", 2048)}}, 400, "MetadataTooLarge", either},
		{"odd expectation", req{path: "/bucket/k", body: "x", late: []string{"Expect", "200-nothing"}}, 417, "", either},
		{"decoded length missing", req{path: "/bucket/k", body: "x", payload: sigv4.UnsignedTrailer}, 411, "MissingContentLength", either},
		{"delete without digest", req{method: "POST", path: "/bucket?delete", body: "<Delete/>"}, 400, "InvalidRequest", either},
		{"delete with wrong MD5", req{method: "POST", path: "/bucket?delete", body: oneKey, header: []string{"Content-Md5", sum("x")}}, 400, "BadDigest", usable},
		{"delete with wrong hash", req{method: "POST", path: "/bucket?delete", body: oneKey, header: []string{"Content-Md5", sum(oneKey)}, payload: sigv4.EmptySHA256}, 400, "XAmzContentSHA256Mismatch", usable},
		{"delete with wrong checksum", req{method: "POST", path: "/bucket?delete", body: oneKey, header: []string{"X-Amz-Checksum-Crc32", "AAAAAA=="}}, 400, "BadDigest", usable},
		{"range beyond the end of nothing", req{method: "GET", path: "/bucket/k", header: []string{"Range", "bytes=5-"}}, 404, "NoSuchKey", usable},
		{"entity bomb", r.deletion(`<!DOCTYPE d [<!ENTITY a "aaaaaaaa">]><Delete><Object><Key>&a;</Key></Object></Delete>`), 400, "MalformedXML", usable},
		{"deep document", r.deletion(strings.Repeat("<Delete>", 100_000)), 400, "MalformedXML", usable},
		{"1,001 keys", r.deletion("<Delete>" + strings.Repeat("<Object><Key>k</Key></Object>", 1001) + "</Delete>"), 400, "MalformedXML", usable},
		{"no keys", r.deletion("<Delete></Delete>"), 400, "MalformedXML", usable},
		{"huge document", req{method: "POST", path: "/bucket?delete", payload: sigv4.UnsignedPayload, noSize: true,
			header: []string{"Content-Md5", sum("x")}, late: []string{"Content-Length", fmt.Sprint(maxXMLBody + 1)}}, 400, "MaxMessageLengthExceeded", closed},
		{"6 GiB at once", req{path: "/bucket/k", payload: sigv4.UnsignedPayload, noSize: true, late: []string{"Content-Length", fmt.Sprint(6 << 30)}}, 400, "EntityTooLarge", closed},
		{"part 0", req{path: "/bucket/k?uploadId=x&partNumber=0", body: "x"}, 400, "InvalidArgument", either},
		{"part 10,001", req{path: "/bucket/k?uploadId=x&partNumber=10001", body: "x"}, 400, "InvalidArgument", either},
		{"absent upload", req{path: "/bucket/k?uploadId=00000000000000000000000000000000&partNumber=1", body: "x"}, 404, "NoSuchUpload", either},
		{"max-keys of words", req{method: "GET", path: "/bucket?list-type=2&max-keys=many"}, 400, "InvalidArgument", usable},
		{"negative max-keys", req{method: "GET", path: "/bucket?max-keys=-1"}, 400, "InvalidArgument", usable},
		{"forged token", req{method: "GET", path: "/bucket?list-type=2&continuation-token=nonsense"}, 400, "InvalidArgument", usable},
		{"odd encoding type", req{method: "GET", path: "/bucket?encoding-type=base64"}, 400, "InvalidArgument", usable},
		{"odd version id", req{method: "GET", path: "/bucket/k?versionId=nope"}, 400, "InvalidArgument", usable},
		{"object that is not there", req{method: "GET", path: "/bucket/k"}, 404, "NoSuchKey", usable},
		{"version that is not there", req{method: "GET", path: "/bucket/k?versionId=00000000000000ff"}, 404, "NoSuchVersion", usable},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, br := r.dial()
			defer conn.Close()
			q := c.q
			q.defaults(r.addr)
			if _, err := io.WriteString(conn, r.raw(q)); err != nil {
				t.Fatal(err)
			}
			a, err := r.read(br, q.method)
			if err != nil {
				t.Fatal(err)
			}
			a.want(t, c.name, c.status, c.code)
			if c.code != "" && (a.header.Get("X-Amz-Request-Id") == "" || a.header.Get("X-Amz-Id-2") == "" ||
				!bytes.Contains(a.body, []byte("<RequestId>"+a.header.Get("X-Amz-Request-Id")+"</RequestId>"))) {
				t.Errorf("no request ids in %v %s", a.header, a.body)
			}
			r.checkAfter(t, conn, br, c.after)
			if keys := r.keys("bucket"); len(keys) > 0 {
				t.Errorf("stored: %q", keys)
			}
		})
	}
}

// deletion is a DeleteObjects request with a right MD5.
func (r *rig) deletion(doc string) req {
	d := md5.Sum([]byte(doc))
	return req{method: "POST", path: "/bucket?delete", body: doc, header: []string{"Content-Md5", base64String(d[:])}}
}

// checkAfter sends an honest request on the same connection.
func (r *rig) checkAfter(t *testing.T, conn net.Conn, br *bufio.Reader, want after) {
	t.Helper()
	q := req{method: "HEAD", path: "/bucket"}
	q.defaults(r.addr)
	var a answer
	_, err := io.WriteString(conn, r.raw(q))
	if err == nil {
		a, err = r.read(br, q.method)
	}
	switch {
	case err == nil && a.status != 200:
		t.Errorf("the next request on the connection got %d", a.status)
	case err != nil && want == usable:
		t.Errorf("the connection is not usable: %v", err)
	case err == nil && want == closed:
		t.Error("the connection is still open")
	}
}

func TestPresignedRefusals(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "hello"}).want(t, "put", 200, "")
	now := time.Now().UTC()
	for _, c := range []struct {
		name    string
		date    time.Time
		expires string
		change  func(url string) string
		header  string
		status  int
		code    string
	}{
		{"good", now, "60", nil, "", 200, ""},
		{"good for a week", now, "604800", nil, "", 200, ""},
		{"expired", now.Add(-2 * time.Minute), "60", nil, "", 403, "AccessDenied"},
		{"from the future", now.Add(16 * time.Minute), "60", nil, "", 403, "AccessDenied"},
		{"more than a week", now, "604801", nil, "", 400, "AuthorizationQueryParametersError"},
		{"negative life", now, "-1", nil, "", 400, "AuthorizationQueryParametersError"},
		{"life of words", now, "long", nil, "", 400, "AuthorizationQueryParametersError"},
		{"other key", now, "60", func(u string) string { return strings.Replace(u, "/bucket/k", "/bucket/l", 1) }, "", 403, "SignatureDoesNotMatch"},
		{"longer life", now, "60", func(u string) string { return strings.Replace(u, "Expires=60", "Expires=61", 1) }, "", 403, "SignatureDoesNotMatch"},
		{"added parameter", now, "60", func(u string) string { return u + "&versionId=null" }, "", 403, "SignatureDoesNotMatch"},
		{"without signature", now, "60", func(u string) string { return u[:strings.Index(u, "&X-Amz-Signature")] }, "", 400, "AuthorizationQueryParametersError"},
		{"unsigned header", now, "60", nil, "X-Amz-Meta-A: 1\r\n", 403, "AccessDenied"},
		{"both mechanisms", now, "60", nil, "Authorization: AWS4-HMAC-SHA256 x\r\n", 400, "InvalidArgument"},
	} {
		url := r.presign("GET", "/bucket/k", c.date, c.expires, testSecret)
		if c.change != nil {
			url = c.change(url)
		}
		conn, br := r.dial()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", url, r.addr, c.header)
		a, err := r.read(br, "GET")
		if err != nil {
			t.Fatal(err)
		}
		a.want(t, c.name, c.status, c.code)
		conn.Close()
	}
}

// presign returns a presigned target.
func (r *rig) presign(method, path string, date time.Time, expires, secret string) string {
	r.t.Helper()
	stamp := date.Format("20060102T150405Z")
	q := "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + testKey + "%2F" + stamp[:8] + "%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=" +
		stamp + "&X-Amz-Expires=" + expires + "&X-Amz-SignedHeaders=host"
	if before, extra, ok := strings.Cut(path, "?"); ok {
		path, q = before, extra+"&"+q
	}
	query, err := parseQuery(q, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	sig := sigv4.Presign(&sigv4.Message{Method: method, Path: path, Query: query, Host: r.addr}, secret, "us-east-1")
	return path + "?" + q + "&X-Amz-Signature=" + sig
}

func TestOtherAuthRefusals(t *testing.T) {
	r := newRig(t, nil)
	soon := fmt.Sprint(time.Now().Add(time.Minute).Unix())
	for _, c := range []struct{ name, head, code string }{
		{"anonymous", "GET /bucket HTTP/1.1\r\n", "AccessDenied"},
		{"anonymous put", "PUT /bucket/k HTTP/1.1\r\nContent-Length: 0\r\n", "AccessDenied"},
		{"anonymous nonsense", "BREW /bucket/k HTTP/1.1\r\n", "AccessDenied"},
		{"anonymous signed chunks", "PUT /bucket/k HTTP/1.1\r\nX-Amz-Content-Sha256: " + sigv4.SignedChunks + "\r\n", "AccessDenied"},
		{"version 2", "GET /bucket HTTP/1.1\r\nAuthorization: AWS key:signature\r\n", "InvalidRequest"},
		{"version 2 in query, expired", "GET /bucket?AWSAccessKeyId=" + testKey + "&Expires=1&Signature=b HTTP/1.1\r\n", "AccessDenied"},
		{"version 2 in query, unknown key", "GET /bucket?AWSAccessKeyId=a&Expires=" + soon + "&Signature=b HTTP/1.1\r\n", "InvalidAccessKeyId"},
		{"version 2 in query, wrong signature", "GET /bucket?AWSAccessKeyId=" + testKey + "&Expires=" + soon + "&Signature=b HTTP/1.1\r\n", "SignatureDoesNotMatch"},
		{"version 2 in query, for years", "GET /bucket?AWSAccessKeyId=" + testKey + "&Expires=99999999999&Signature=b HTTP/1.1\r\n", "AuthorizationQueryParametersError"},
		{"version 2 in query, without time", "GET /bucket?AWSAccessKeyId=" + testKey + "&Signature=b HTTP/1.1\r\n", "AuthorizationQueryParametersError"},
		{"both versions in query", "GET /bucket?AWSAccessKeyId=" + testKey + "&Signature=b&X-Amz-Signature=c HTTP/1.1\r\n", "InvalidArgument"},
		{"basic", "GET /bucket HTTP/1.1\r\nAuthorization: Basic eDp5\r\n", "InvalidArgument"},
		{"nonsense", "GET /bucket HTTP/1.1\r\nAuthorization: AWS4-HMAC-SHA256 nonsense\r\n", "AuthorizationHeaderMalformed"},
		{"empty", "GET /bucket HTTP/1.1\r\nAuthorization: \r\n", "AccessDenied"},
		{"version 2 without signature", "GET /bucket HTTP/1.1\r\nAuthorization: AWS HAHAHA\r\n", "InvalidArgument"},
		{"unknown key", "GET /bucket HTTP/1.1\r\nX-Amz-Date: " + time.Now().UTC().Format("20060102T150405Z") + "\r\nX-Amz-Content-Sha256: " +
			sigv4.EmptySHA256 + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=NOBODY/" + time.Now().UTC().Format("20060102") +
			"/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=" + sigv4.EmptySHA256 + "\r\n", "InvalidAccessKeyId"},
		{"other region", "GET /bucket HTTP/1.1\r\nX-Amz-Date: " + time.Now().UTC().Format("20060102T150405Z") + "\r\nX-Amz-Content-Sha256: " +
			sigv4.EmptySHA256 + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=NOBODY/" + time.Now().UTC().Format("20060102") +
			"/mars/s3/aws4_request, SignedHeaders=host, Signature=" + sigv4.EmptySHA256 + "\r\n", "AuthorizationHeaderMalformed"},
	} {
		conn, br := r.dial()
		fmt.Fprintf(conn, "%sHost: %s\r\n\r\n", c.head, r.addr)
		a, err := r.read(br, "GET")
		if err != nil {
			t.Fatal(err)
		}
		if a.code != c.code {
			t.Errorf("%s: got %d %s, want %s", c.name, a.status, a.code, c.code)
		}
		conn.Close()
	}
	if keys := r.keys("bucket"); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

// TestStreamingForms sends good and tampered aws-chunked uploads in all forms.
func TestStreamingForms(t *testing.T) {
	r := newRig(t, nil)
	chunks := []string{strings.Repeat("a", 70_000), "bc"}
	whole := strings.Join(chunks, "")
	crc := "x-amz-checksum-crc32c:" + base64String(sumOf(cairn.CRC32C, []byte(whole)))
	for _, c := range []struct {
		name    string
		payload string
		trailer string
		length  int
		tamper  func(string) string
		code    string
	}{
		{"signed", sigv4.SignedChunks, "", len(whole), nil, ""},
		{"signed with trailer", sigv4.SignedTrailer, crc, len(whole), nil, ""},
		{"unsigned with trailer", sigv4.UnsignedTrailer, crc, len(whole), nil, ""},
		{"tampered chunk", sigv4.SignedChunks, "", len(whole), func(s string) string { return strings.Replace(s, "aaaa", "aaab", 1) }, "SignatureDoesNotMatch"},
		{"tampered last chunk", sigv4.SignedTrailer, crc, len(whole), func(s string) string { return strings.Replace(s, "\r\nbc\r\n", "\r\nbd\r\n", 1) }, "SignatureDoesNotMatch"},
		{"tampered unsigned chunk", sigv4.UnsignedTrailer, crc, len(whole), func(s string) string { return strings.Replace(s, "aaaa", "aaab", 1) }, "BadDigest"},
		{"forged trailer", sigv4.SignedTrailer, crc, len(whole), func(s string) string { return strings.Replace(s, crc, crc[:len(crc)-8]+"AAAAAA==", 1) }, "SignatureDoesNotMatch"},
		{"forged trailer signature", sigv4.SignedTrailer, crc, len(whole), func(s string) string {
			i := strings.Index(s, "trailer-signature:") + 20
			return s[:i] + "0123" + s[i+4:]
		}, "SignatureDoesNotMatch"},
		{"trailer of another sum", sigv4.UnsignedTrailer, crc[:len(crc)-8] + "AAAAAA==", len(whole), nil, "BadDigest"},
		{"missing trailer", sigv4.UnsignedTrailer, crc, len(whole), func(s string) string { return strings.Replace(s, crc+"\r\n", "", 1) }, "MalformedTrailerError"},
		{"malformed trailer value", sigv4.UnsignedTrailer, "x-amz-checksum-crc32c:zz", len(whole), nil, "InvalidRequest"},
		{"longer than declared", sigv4.SignedChunks, "", len(whole) - 1, nil, "IncompleteBody"},
		{"shorter than declared", sigv4.SignedChunks, "", len(whole) + 1, nil, "IncompleteBody"},
		{"missing final chunk", sigv4.SignedChunks, "", len(whole), func(s string) string { return s[:strings.LastIndex(s, "0;chunk")] }, "IncompleteBody"},
		{"missing final unsigned chunk", sigv4.UnsignedTrailer, crc, len(whole), func(s string) string { return s[:strings.LastIndex(s, "0\r\n")] }, "IncompleteBody"},
		{"no framing at all", sigv4.SignedChunks, "", len(whole), func(string) string { return whole }, "IncompleteBody"},
	} {
		q := req{path: "/bucket/k", payload: c.payload, noSize: true,
			header: []string{"X-Amz-Decoded-Content-Length", fmt.Sprint(c.length), "Content-Encoding", "aws-chunked"}}
		if c.trailer != "" {
			name, _, _ := strings.Cut(c.trailer, ":")
			q.header = append(q.header, "X-Amz-Trailer", name)
		}
		head, seed := r.head(q)
		body := chunked(t, q, seed, chunks, c.trailer)
		if c.tamper != nil {
			body = c.tamper(body)
		}
		conn, br := r.dial()
		go io.WriteString(conn, strings.Replace(head, "\r\n\r\n", fmt.Sprintf("\r\nContent-Length: %d\r\n\r\n", len(body)), 1)+body)
		a, err := r.read(br, "PUT")
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if a.code != c.code {
			t.Errorf("%s: got %d %q, want %q: %s", c.name, a.status, a.code, c.code, a.body)
		}
		keys := r.keys("bucket")
		if (len(keys) == 1) != (c.code == "") {
			t.Errorf("%s: stored %q", c.name, keys)
		}
		if len(keys) == 1 {
			v, err := r.head1("bucket", "k")
			d := md5.Sum([]byte(whole))
			if err != nil || v.ETag != hexString(d[:]) || v.Headers["Content-Encoding"] != "" {
				t.Errorf("%s: stored %+v, %v", c.name, v, err)
			}
			r.do(req{method: "DELETE", path: "/bucket/k"}).want(t, "delete", 204, "")
		}
		conn.Close()
	}
}

// TestCutBody drops the connection in the middle of a body, in several places.
func TestCutBody(t *testing.T) {
	r := newRig(t, nil)
	for _, sent := range []int{0, 1, 5000, 199_999} {
		body := strings.Repeat("x", 200_000)
		head, _ := r.head(req{path: "/bucket/k", body: body})
		conn, br := r.dial()
		if _, err := io.WriteString(conn, head+body[:sent]); err != nil {
			t.Fatal(err)
		}
		conn.(*net.TCPConn).CloseWrite()
		if a, err := r.read(br, "PUT"); err == nil {
			a.want(t, "cut body", 400, "IncompleteBody")
		}
		conn.Close()
	}
	if keys := r.keys("bucket"); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

// TestStalledBody sends half a body and then nothing, or one byte at a time.
func TestStalledBody(t *testing.T) {
	r := newRig(t, func(c *Config) { c.StallTimeout = 200 * time.Millisecond; c.MinRateBytesPerSec = 1 << 20 })
	for name, drip := range map[string]bool{"stalled": false, "dripping": true} {
		head, _ := r.head(req{path: "/bucket/k", body: strings.Repeat("x", 200_000)})
		conn, br := r.dial()
		if _, err := io.WriteString(conn, head+"half"); err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for drip {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					io.WriteString(conn, "x")
				}
			}
		}()
		start := time.Now()
		a, err := r.read(br, "PUT")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			a.want(t, name, 400, "RequestTimeout")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: cut off after %v", name, took)
		}
		close(stop)
		<-done
		conn.Close()
	}
	if keys := r.keys("bucket"); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

// TestUnsatisfiableRange has the one error answer that carries Content-Range.
func TestUnsatisfiableRange(t *testing.T) {
	r := newRig(t, nil)
	r.do(req{path: "/bucket/k", body: "hello"}).want(t, "put", 200, "")
	a := r.do(req{method: "GET", path: "/bucket/k", header: []string{"Range", "bytes=5-"}})
	a.want(t, "range", 416, "InvalidRange")
	if got := a.header.Get("Content-Range"); got != "bytes */5" || !bytes.Contains(a.body, []byte("<ActualObjectSize>5</ActualObjectSize>")) ||
		a.header.Get("Etag") != "" {
		t.Errorf("Content-Range %q, %v, %s", got, a.header, a.body)
	}
}

// TestClientThatDoesNotRead asks for much and takes nothing: it is cut off, and its slot is free again.
func TestClientThatDoesNotRead(t *testing.T) {
	seen := make(chan Observation, 16)
	r := newRig(t, func(c *Config) { c.StallTimeout = 300 * time.Millisecond; c.Observer = observeTo(seen) })
	r.do(req{path: "/bucket/k", body: strings.Repeat("x", 32<<20), payload: sigv4.UnsignedPayload}).want(t, "put", 200, "")
	<-seen
	conn, _ := r.dial()
	conn.(*net.TCPConn).SetReadBuffer(4096)
	io.WriteString(conn, r.raw(req{method: "GET", path: "/bucket/k"}))
	select {
	case o := <-seen:
		if o.Code == "" || o.BytesOut >= 32<<20 || len(r.srv.slots) > 0 {
			t.Errorf("observed %+v, %d slots taken", o, len(r.srv.slots))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still writing to a client that does not read")
	}
}

// TestSlowCommit: once the body is read, nothing is expected of the client, so a commit that takes longer than a client may
// stall is not taken for the client's going away.
func TestSlowCommit(t *testing.T) {
	r := newRig(t, func(c *Config) { c.StallTimeout = 100 * time.Millisecond })
	r.stack.Memory.Fault = func(_ context.Context, c blobtest.Call) error {
		if c.Op == blobtest.OpAppend || c.Op == blobtest.OpCommit {
			time.Sleep(500 * time.Millisecond)
		}
		return nil
	}
	r.do(req{path: "/bucket/k", body: strings.Repeat("x", 100_000)}).want(t, "put on slow drives", 200, "")
}

// TestFullDrives writes onto drives without space.
func TestFullDrives(t *testing.T) {
	r := newRig(t, nil)
	r.stack.Memory.Fault = func(_ context.Context, c blobtest.Call) error {
		if c.Op == blobtest.OpAppend || c.Op == blobtest.OpCreate || c.Op == blobtest.OpWrite {
			return &cairn.Error{Op: "test", Err: cairn.ErrFull}
		}
		return nil
	}
	a := r.do(req{path: "/bucket/k", body: strings.Repeat("x", 100_000)})
	a.want(t, "put on full drives", 503, "ServiceUnavailable")
	if keys := r.keys("bucket"); len(keys) > 0 {
		t.Errorf("stored: %q", keys)
	}
}

// TestOverload holds every slot and looks at what the next requests get.
func TestOverload(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxRequests, c.MaxWaiting, c.QueueWait = 1, 1, 300*time.Millisecond })
	head, _ := r.head(req{path: "/bucket/slow", body: "12"})
	conn, br := r.dial()
	if _, err := io.WriteString(conn, head+"1"); err != nil { // holds the slot
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); len(r.srv.slots) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the first request never took the slot")
		}
	}
	a := r.do(req{path: "/bucket/k", body: "x"})
	a.want(t, "while the slot is taken", 503, "SlowDown")
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if _, err := io.WriteString(conn, "2"); err != nil {
		t.Fatal(err)
	}
	slow, err := r.read(br, "PUT")
	if err != nil {
		t.Fatal(err)
	}
	slow.want(t, "the slow one", 200, "")
	r.do(req{path: "/bucket/k", body: "x"}).want(t, "afterwards", 200, "")
}

// TestAnswerBreaksOff fails a read in the middle: the client must see a short body, never a clean end.
func TestAnswerBreaksOff(t *testing.T) {
	r := newRig(t, nil)
	body := strings.Repeat("0123456789abcdef", 1<<18) // 4 MiB
	r.do(req{path: "/bucket/k", body: body}).want(t, "put", 200, "")
	var reads atomic.Int64
	var failing = errors.New("planted")
	r.stack.Memory.Fault = func(_ context.Context, c blobtest.Call) error {
		if c.Op == blobtest.OpRead {
			if reads.Add(1) > 6 {
				return &cairn.Error{Op: "test", Err: fmt.Errorf("%w: %w", failing, cairn.ErrUnavailable)}
			}
		}
		return nil
	}
	conn, br := r.dial()
	io.WriteString(conn, r.raw(req{method: "GET", path: "/bucket/k"}))
	a, err := r.read(br, "GET")
	switch {
	case err == nil && a.status == 200:
		t.Errorf("got a whole answer of %d bytes", len(a.body))
	case err != nil && !strings.HasPrefix(body, string(a.body)):
		t.Error("the bytes before the break are wrong")
	case err == nil && a.status != 503:
		t.Errorf("got %d %s", a.status, a.code)
	}
	conn.Close()
}
