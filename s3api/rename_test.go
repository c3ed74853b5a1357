package s3api

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cairn"
	"cairn/object/objecttest"
)

func appendTo(key, body string, offset int) req {
	return req{path: "/bucket/" + key, body: body, header: []string{"X-Amz-Write-Offset-Bytes", fmt.Sprint(offset)}}
}

func TestAppend(t *testing.T) {
	r := newRigOn(t, objecttest.Config{Run: true}, nil)
	big := string(randomBytes(5, 300_000))
	for name, pieces := range map[string][]string{
		"inline":        {"one", "two", "three"},
		"blobs":         {big, big[:70_000], big},
		"inline grows":  {"small", big, "small again"},
		"at the limit":  {big[:8<<10-1], "x", "y"},
		"empty to more": {"", "a", "", big},
	} {
		whole := ""
		for i, p := range pieces {
			a := r.do(appendTo(name[:2]+"/"+strings.ReplaceAll(name, " ", "-"), p, len(whole)))
			whole += p
			if i == 0 {
				a.want(t, name, 200, "")
			} else if a.status != 200 || a.header.Get("X-Amz-Object-Size") != fmt.Sprint(len(whole)) ||
				!strings.HasSuffix(a.header.Get("Etag"), fmt.Sprintf(`-%d"`, i+1)) {
				t.Errorf("%s, piece %d: %d %s %v", name, i, a.status, a.code, a.header)
			}
			// The checksum of the whole is that of its bytes.
			if got := a.header.Get("X-Amz-Checksum-Crc64nvme"); got != base64String(sumOf("CRC64NVME", []byte(whole))) {
				t.Errorf("%s, piece %d: checksum %q", name, i, got)
			}
		}
		a := r.do(req{method: "GET", path: "/bucket/" + name[:2] + "/" + strings.ReplaceAll(name, " ", "-")})
		if a.status != 200 || string(a.body) != whole {
			t.Errorf("%s: got %d, %d bytes, want %d", name, a.status, len(a.body), len(whole))
		}
	}
	r.do(req{path: "/bucket/k", body: "12345"}).want(t, "put", 200, "")
	r.do(appendTo("k", "x", 4)).want(t, "too low", 400, "InvalidWriteOffset")
	r.do(appendTo("k", "x", 6)).want(t, "too high", 400, "InvalidWriteOffset")
	r.do(appendTo("k", "x", 0)).want(t, "over an object", 400, "InvalidWriteOffset")
	r.do(appendTo("none", "x", 1)).want(t, "behind nothing", 400, "InvalidWriteOffset")
	q := appendTo("k", "x", 5)
	q.header[1] = "five"
	r.do(q).want(t, "no number", 400, "InvalidArgument")
	q = appendTo("k", "x", 5)
	q.header = append(q.header, "If-Match", `"other"`)
	r.do(q).want(t, "If-Match", 412, "PreconditionFailed")
	q.path = "/nobucket/k"
	r.do(q).want(t, "no bucket", 404, "NoSuchBucket")
	if a := r.do(req{method: "GET", path: "/bucket/k"}); string(a.body) != "12345" {
		t.Errorf("refused appends changed it: %q", a.body)
	}
}

// Of appends at the same offset one wins, and nothing is lost or doubled.
func TestConcurrentAppends(t *testing.T) {
	r := newRig(t, nil)
	r.do(appendTo("log", "0", 0)).want(t, "first", 200, "")
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			a := r.do(appendTo("log", fmt.Sprint(i), 1))
			if a.status == 200 {
				won.Add(1)
			} else if a.code != "InvalidWriteOffset" {
				t.Errorf("append: %d %s", a.status, a.code)
			}
		})
	}
	wg.Wait()
	if a := r.do(req{method: "GET", path: "/bucket/log"}); won.Load() != 1 || len(a.body) != 2 {
		t.Errorf("%d appends won, %q", won.Load(), a.body)
	}
}

func TestRename(t *testing.T) {
	r := newRigOn(t, objecttest.Config{Run: true}, nil)
	c, ctx := r.sdk(), t.Context()
	big := randomBytes(7, 200_000)
	put := func(key string, body []byte) {
		t.Helper()
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body),
			ContentType: aws.String("a/b"), Tagging: aws.String("t=1")})
		if err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string, header ...string) answer {
		return r.do(req{path: "/bucket/" + to + "?renameObject", header: append([]string{"X-Amz-Rename-Source", from}, header...)})
	}
	is := func(key string, body []byte) {
		t.Helper()
		a := r.do(req{method: "GET", path: "/bucket/" + key})
		if body == nil && a.status != 404 || body != nil && (!bytes.Equal(a.body, body) || a.header.Get("Content-Type") != "a/b" || a.header.Get("X-Amz-Tagging-Count") != "1") {
			t.Errorf("%s: %d, %d bytes, %v", key, a.status, len(a.body), a.header)
		}
	}
	for i, body := range [][]byte{big, []byte("inline"), bytes.Repeat([]byte("m"), 4000), {}} {
		put("from", body)
		was := r.do(req{method: "HEAD", path: "/bucket/from"})
		rename("from", fmt.Sprint("to", i)).want(t, "rename", 200, "")
		is("from", nil)
		is(fmt.Sprint("to", i), body)
		if now := r.do(req{method: "HEAD", path: fmt.Sprint("/bucket/to", i)}); now.header.Get("Etag") != was.header.Get("Etag") || now.header.Get("Last-Modified") != was.header.Get("Last-Modified") {
			t.Errorf("got %v, was %v", now.header, was.header)
		}
	}
	rename("%2Fbucket/to0", "to1").want(t, "over another, with the bucket's name", 200, "")
	is("to1", big)
	is("to0", nil)
	put("a%b c/ü", []byte("x"))
	rename("a%25b%20c/%C3%BC", "plain").want(t, "an encoded key", 200, "")
	is("plain", []byte("x"))
	etag := r.do(req{method: "HEAD", path: "/bucket/plain"}).header.Get("Etag")
	for _, tt := range []struct {
		name, from, to string
		header         []string
		status         int
		code           string
	}{
		{"nothing", "none", "x", nil, 404, "NoSuchKey"},
		{"itself", "plain", "plain", nil, 400, "InvalidArgument"},
		{"no source", "", "x", nil, 400, "InvalidArgument"},
		{"in the way", "plain", "to1", []string{"If-None-Match", "*"}, 412, "PreconditionFailed"},
		{"nothing in the way", "plain", "x", []string{"If-Match", "*"}, 412, "PreconditionFailed"},
		{"another source", "plain", "x", []string{"X-Amz-Rename-Source-If-Match", `"other"`}, 412, "PreconditionFailed"},
		{"not that source", "plain", "x", []string{"X-Amz-Rename-Source-If-None-Match", etag}, 412, "PreconditionFailed"},
		{"all hold", "plain", "x", []string{"X-Amz-Rename-Source-If-Match", etag, "If-None-Match", "*", "X-Amz-Client-Token", "once"}, 200, ""},
		{"sent again", "plain", "x", []string{"X-Amz-Rename-Source-If-Match", etag, "If-None-Match", "*", "X-Amz-Client-Token", "once"}, 200, ""},
		{"not sent again", "plain", "x", []string{"X-Amz-Client-Token", "another"}, 404, "NoSuchKey"},
	} {
		rename(tt.from, tt.to, tt.header...).want(t, tt.name, tt.status, tt.code)
	}
	is("x", []byte("x"))
	_, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: aws.String("bucket"),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	if err != nil {
		t.Fatal(err)
	}
	rename("x", "y").want(t, "a versioned bucket", 400, "InvalidRequest")
	is("x", []byte("x"))
}

// TestQuota: a bucket's quota refuses puts, appends, copies and parts, and none of them leaves anything.
func TestQuota(t *testing.T) {
	r := newRigOn(t, objecttest.Config{Run: true}, nil)
	_, err := r.stack.Objects.UpdateBucket(t.Context(), "bucket", func(b *cairn.Bucket) error { b.QuotaBytes = 100_000; return nil })
	if err != nil {
		t.Fatal(err)
	}
	body := string(randomBytes(9, 60_000))
	r.do(req{path: "/bucket/a", body: body}).want(t, "first", 200, "")
	r.do(req{path: "/bucket/b", body: body}).want(t, "second", 403, "QuotaExceeded")
	r.do(req{path: "/bucket/b", header: []string{"X-Amz-Copy-Source", "bucket/a"}}).want(t, "copy", 403, "QuotaExceeded")
	r.do(appendTo("a", body, len(body))).want(t, "append", 403, "QuotaExceeded")
	r.do(req{path: "/bucket/a", body: body[:50_000]}).want(t, "a smaller one", 200, "")
	r.do(appendTo("a", body[50_000:], 50_000)).want(t, "a short append", 200, "")
	if keys := r.keys("bucket"); len(keys) != 1 {
		t.Errorf("keys %q", keys)
	}
	if a := r.do(req{method: "GET", path: "/bucket/a"}); string(a.body) != body {
		t.Errorf("%d bytes", len(a.body))
	}
}
