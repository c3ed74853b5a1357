package s3api

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func TestSDKGet(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	body := randomBytes(3, 100_000)
	when := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), Body: bytes.NewReader(body),
		ContentType: aws.String("text/weights"), CacheControl: aws.String("no-cache"), ContentDisposition: aws.String("inline"),
		ContentLanguage: aws.String("de"), ContentEncoding: aws.String("br"), Expires: &when, Metadata: map[string]string{"one": "1", "two": "zwei"},
		Tagging: aws.String("a=1&b=2")})
	if err != nil {
		t.Fatal(err)
	}
	get := func(in s3.GetObjectInput) (*s3.GetObjectOutput, []byte, error) {
		in.Bucket, in.Key = aws.String("bucket"), aws.String("k")
		out, err := c.GetObject(ctx, &in)
		if err != nil {
			return nil, nil, err
		}
		p, err := io.ReadAll(out.Body)
		return out, p, err
	}
	out, p, err := get(s3.GetObjectInput{})
	d := md5.Sum(body)
	if err != nil || !bytes.Equal(p, body) || aws.ToString(out.ETag) != `"`+hexString(d[:])+`"` || *out.ContentType != "text/weights" ||
		*out.CacheControl != "no-cache" || *out.ContentDisposition != "inline" || *out.ContentLanguage != "de" || *out.ContentEncoding != "br" ||
		out.Metadata["two"] != "zwei" || aws.ToInt32(out.TagCount) != 2 || *out.AcceptRanges != "bytes" || *out.ContentLength != 100_000 {
		t.Errorf("get: %+v, %v", out, err)
	}
	for _, c := range []struct {
		rng      string
		from, to int
		code     string
	}{{"bytes=0-0", 0, 1, ""}, {"bytes=5-9", 5, 10, ""}, {"bytes=99990-", 99_990, 100_000, ""}, {"bytes=-10", 99_990, 100_000, ""},
		{"bytes=0-1,5-6", 0, 100_000, ""}, {"bytes=100000-", 0, 0, "InvalidRange"}, {"bytes=99999-200000", 99_999, 100_000, ""}} {
		out, p, err := get(s3.GetObjectInput{Range: &c.rng})
		if sdkCode(err) != c.code || err == nil && !bytes.Equal(p, body[c.from:c.to]) {
			t.Errorf("%s: got %d bytes, %v", c.rng, len(p), err)
		}
		if err == nil && c.to-c.from < len(body) && aws.ToString(out.ContentRange) != fmt.Sprintf("bytes %d-%d/100000", c.from, c.to-1) {
			t.Errorf("%s: Content-Range %q", c.rng, aws.ToString(out.ContentRange))
		}
	}
	etag := aws.ToString(out.ETag)
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		in   s3.GetObjectInput
		code string
	}{
		"match":          {s3.GetObjectInput{IfMatch: &etag}, ""},
		"no match":       {s3.GetObjectInput{IfMatch: aws.String(`"x"`)}, "PreconditionFailed"},
		"none match":     {s3.GetObjectInput{IfNoneMatch: &etag}, "NotModified"},
		"modified":       {s3.GetObjectInput{IfModifiedSince: &past}, ""},
		"not modified":   {s3.GetObjectInput{IfModifiedSince: &future}, "NotModified"},
		"unmodified":     {s3.GetObjectInput{IfUnmodifiedSince: &future}, ""},
		"not unmodified": {s3.GetObjectInput{IfUnmodifiedSince: &past}, "PreconditionFailed"},
	} {
		if _, _, err := get(c.in); sdkCode(err) != c.code {
			t.Errorf("%s: got %v, want %q", name, err, c.code)
		}
	}
	out, _, err = get(s3.GetObjectInput{ResponseContentType: aws.String("x/y"), ResponseContentDisposition: aws.String(`attachment; filename="ü"`),
		ResponseCacheControl: aws.String("max-age=1"), ResponseContentEncoding: aws.String("zstd"), ResponseContentLanguage: aws.String("fr")})
	if err != nil || *out.ContentType != "x/y" || *out.ContentDisposition != `attachment; filename="ü"` || *out.CacheControl != "max-age=1" ||
		*out.ContentEncoding != "zstd" || *out.ContentLanguage != "fr" {
		t.Errorf("overrides: %+v, %v", out, err)
	}
	tags, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: aws.String("bucket"), Key: aws.String("k")})
	if err != nil || len(tags.TagSet) != 2 || *tags.TagSet[1].Value != "2" {
		t.Errorf("tags: %+v, %v", tags, err)
	}
}

func TestSDKConditionalWrites(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	put := func(ifMatch, ifNone *string) (string, error) {
		out, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), IfMatch: ifMatch, IfNoneMatch: ifNone,
			Body: strings.NewReader("v")})
		if err != nil {
			return "", err
		}
		return *out.ETag, nil
	}
	star := aws.String("*")
	if _, err := put(aws.String(`"x"`), nil); sdkCode(err) != "NoSuchKey" {
		t.Errorf("If-Match on nothing: %v", err)
	}
	etag, err := put(nil, star)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put(nil, star); sdkCode(err) != "PreconditionFailed" {
		t.Errorf("If-None-Match: * on something: %v", err)
	}
	if _, err := put(aws.String(`"x"`), nil); sdkCode(err) != "PreconditionFailed" {
		t.Errorf("If-Match on another: %v", err)
	}
	if _, err := put(&etag, nil); err != nil {
		t.Errorf("If-Match: %v", err)
	}
	del := func(etag string) error {
		_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), IfMatch: &etag})
		return err
	}
	if err := del(`"x"`); sdkCode(err) != "PreconditionFailed" {
		t.Errorf("delete If-Match on another: %v", err)
	}
	if err := del(etag); err != nil {
		t.Errorf("delete If-Match: %v", err)
	}
	if keys := r.keys("bucket"); len(keys) != 0 {
		t.Errorf("still there: %q", keys)
	}
}

func TestSDKListing(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	for _, k := range []string{"a", "b/1", "b/2", "c/1", "d", "e/f/1"} {
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &k, Body: strings.NewReader(k)}); err != nil {
			t.Fatal(err)
		}
	}
	v1 := func(in s3.ListObjectsInput) string {
		in.Bucket = aws.String("bucket")
		out, err := c.ListObjects(ctx, &in)
		if err != nil {
			return err.Error()
		}
		return summary(out.Contents, out.CommonPrefixes) + " " + aws.ToString(out.NextMarker)
	}
	v2 := func(in s3.ListObjectsV2Input) string {
		in.Bucket = aws.String("bucket")
		out, err := c.ListObjectsV2(ctx, &in)
		if err != nil {
			return err.Error()
		}
		if int(*out.KeyCount) != len(out.Contents)+len(out.CommonPrefixes) {
			t.Errorf("KeyCount %d", *out.KeyCount)
		}
		return summary(out.Contents, out.CommonPrefixes)
	}
	for _, c := range []struct{ got, want string }{
		{v1(s3.ListObjectsInput{}), "a b/1 b/2 c/1 d e/f/1 | "},
		{v1(s3.ListObjectsInput{MaxKeys: aws.Int32(2)}), "a b/1 | "},
		{v1(s3.ListObjectsInput{Delimiter: aws.String("/"), MaxKeys: aws.Int32(2)}), "a | b/ b/"},
		{v1(s3.ListObjectsInput{Delimiter: aws.String("/"), MaxKeys: aws.Int32(2), Marker: aws.String("b/")}), "d | c/ d"},
		{v1(s3.ListObjectsInput{Prefix: aws.String("b/")}), "b/1 b/2 | "},
		{v1(s3.ListObjectsInput{MaxKeys: aws.Int32(0)}), "| "},
		{v2(s3.ListObjectsV2Input{Delimiter: aws.String("/")}), "a d | b/ c/ e/"},
		{v2(s3.ListObjectsV2Input{StartAfter: aws.String("b/1")}), "b/2 c/1 d e/f/1 |"},
		{v2(s3.ListObjectsV2Input{Prefix: aws.String("e/"), Delimiter: aws.String("/")}), "| e/f/"},
		{v2(s3.ListObjectsV2Input{Delimiter: aws.String("1")}), "a b/2 d | b/1 c/1 e/f/1"},
		{v2(s3.ListObjectsV2Input{Prefix: aws.String("zz")}), "|"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("bucket"), FetchOwner: aws.Bool(true), MaxKeys: aws.Int32(1)})
	if err != nil || out.Contents[0].Owner == nil || *out.Contents[0].Owner.ID != "root" || !*out.IsTruncated || *out.Contents[0].Size != 1 {
		t.Errorf("fetch-owner: %+v, %v", out, err)
	}
}

func summary(contents []types.Object, prefixes []types.CommonPrefix) string {
	var b strings.Builder
	for _, o := range contents {
		b.WriteString(*o.Key + " ")
	}
	b.WriteString("|")
	for _, p := range prefixes {
		b.WriteString(" " + *p.Prefix)
	}
	return b.String()
}

func TestSDKCopyAndDelete(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	body := randomBytes(9, 50_000)
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("src x+y"), Body: bytes.NewReader(body),
		Metadata: map[string]string{"m": "1"}, ContentType: aws.String("a/b")}); err != nil {
		t.Fatal(err)
	}
	copyTo := func(key string, change func(*s3.CopyObjectInput)) error {
		in := &s3.CopyObjectInput{Bucket: aws.String("bucket"), Key: &key, CopySource: aws.String("bucket/src%20x%2By")}
		if change != nil {
			change(in)
		}
		_, err := c.CopyObject(ctx, in)
		return err
	}
	if err := copyTo("dst", nil); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("dst")})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(p, body) || got.Metadata["m"] != "1" || *got.ContentType != "a/b" {
		t.Errorf("copy: %d bytes, %v, %+v", len(p), err, got)
	}
	for name, c := range map[string]struct {
		key    string
		change func(*s3.CopyObjectInput)
		code   string
	}{
		"onto itself": {"src x+y", nil, "InvalidRequest"},
		"onto itself, changed": {"src x+y", func(in *s3.CopyObjectInput) {
			in.MetadataDirective = "REPLACE"
			in.Metadata = map[string]string{"n": "2"}
		}, ""},
		"strange directive":    {"d", func(in *s3.CopyObjectInput) { in.MetadataDirective = "MAYBE" }, "InvalidArgument"},
		"absent source":        {"d", func(in *s3.CopyObjectInput) { in.CopySource = aws.String("bucket/absent") }, "NoSuchKey"},
		"absent source bucket": {"d", func(in *s3.CopyObjectInput) { in.CopySource = aws.String("absent/absent") }, "NoSuchBucket"},
		"failed condition":     {"d", func(in *s3.CopyObjectInput) { in.CopySourceIfMatch = aws.String("x") }, "PreconditionFailed"},
		"not modified":         {"d", func(in *s3.CopyObjectInput) { in.CopySourceIfNoneMatch = aws.String("*") }, "PreconditionFailed"},
		"other checksum":       {"d2", func(in *s3.CopyObjectInput) { in.ChecksumAlgorithm = types.ChecksumAlgorithmSha256 }, ""},
	} {
		if err := copyTo(c.key, c.change); sdkCode(err) != c.code {
			t.Errorf("%s: got %v, want %q", name, err, c.code)
		}
	}
	h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: aws.String("src x+y")})
	if err != nil || h.Metadata["n"] != "2" || h.Metadata["m"] != "" {
		t.Errorf("replaced metadata: %+v, %v", h, err)
	}
	del, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("bucket"), Delete: &types.Delete{Objects: []types.ObjectIdentifier{
		{Key: aws.String("dst")}, {Key: aws.String("src x+y")}, {Key: aws.String("never")}, {Key: aws.String("bad"), VersionId: aws.String("zzz")}}}})
	if err != nil || len(del.Deleted) != 3 || len(del.Errors) != 1 || *del.Errors[0].Code != "NoSuchVersion" {
		t.Errorf("delete: %+v, %v", del, err)
	}
	quiet, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: aws.String("bucket"), Delete: &types.Delete{Quiet: aws.Bool(true),
		Objects: []types.ObjectIdentifier{{Key: aws.String("d2")}}}})
	if err != nil || len(quiet.Deleted) != 0 {
		t.Errorf("quiet delete: %+v, %v", quiet, err)
	}
	if keys := r.keys("bucket"); len(keys) != 0 {
		t.Errorf("left: %q", keys)
	}
}

func TestSDKPresign(t *testing.T) {
	r := newRig(t, nil)
	ctx := t.Context()
	p := s3.NewPresignClient(r.sdk())
	put, err := p.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a b/ü+"), Metadata: map[string]string{"m": "1"},
		ContentType: aws.String("x/y")})
	if err != nil {
		t.Fatal(err)
	}
	do := func(method, url string, header http.Header, body string) (int, string) {
		rq, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range header {
			if k != "Host" && k != "Content-Length" {
				rq.Header[k] = v
			}
		}
		resp, err := http.DefaultClient.Do(rq)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, body := do("PUT", put.URL, put.SignedHeader, "hello"); status != 200 {
		t.Fatalf("presigned put: %d %s", status, body)
	}
	if v, err := r.head1("bucket", "a b/ü+"); err != nil || v.Headers["X-Amz-Meta-M"] != "1" {
		t.Errorf("stored %+v, %v", v, err)
	}
	get, err := p.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a b/ü+"), ResponseContentType: aws.String("q/r")})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := do("GET", get.URL, get.SignedHeader, ""); status != 200 || body != "hello" {
		t.Errorf("presigned get: %d %s", status, body)
	}
	if status, _ := do("PUT", get.URL, nil, "other"); status != 403 {
		t.Errorf("a GET's URL for a PUT: %d", status)
	}
}
