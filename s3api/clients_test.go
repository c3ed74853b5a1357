package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/s3api/sigv4"
)

// sdk is the AWS client with the defaults that it ships: path style is the only setting, for the test's host has no DNS.
func (r *rig) sdk() *s3.Client {
	tr := &http.Transport{}
	r.t.Cleanup(tr.CloseIdleConnections)
	return s3.New(s3.Options{
		BaseEndpoint: aws.String("http://" + r.addr), Region: "us-east-1", UsePathStyle: true,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		HTTPClient: &http.Client{Transport: tr},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, nil
		}),
	})
}

func (r *rig) minio(trailing bool) *minio.Client {
	r.t.Helper()
	tr := &http.Transport{}
	r.t.Cleanup(tr.CloseIdleConnections)
	c, err := minio.New(r.addr, &minio.Options{Creds: credentials.NewStaticV4(testKey, testSecret, ""), Transport: tr,
		Region: "us-east-1", TrailingHeaders: trailing, BucketLookup: minio.BucketLookupPath})
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// keyset has the keys that other stores trip over.
var keyset = []string{"plain", "a", "a/1", "with blank", "plus+sign", "per%cent", "per%2Fcent", "//double", "/leading", "trailing/", "a//b",
	"dot/./dot", "../up", "a/../b", "unicode-€-\u4e16\u754c", "quote'\"<>&", "q?uery=1&x", "hash#tag", "semi;colon,comma", "back\\slash",
	"tilde~star*paren()!", "$dollar@at:colon=", strings.Repeat("k", 1024), strings.Repeat("s/", 512)}

func randomBytes(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSDKKeysAndSizes(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	for i, key := range keyset {
		body := randomBytes(uint64(i), 100*i)
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body)})
		if err != nil {
			t.Fatalf("put %.40q: %v", key, err)
		}
		got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key})
		if err != nil {
			t.Fatalf("get %.40q: %v", key, err)
		}
		p, err := io.ReadAll(got.Body)
		if err != nil || !bytes.Equal(p, body) || got.ChecksumCRC32 == nil {
			t.Errorf("%.40q: got %d bytes, %v, checksum %v", key, len(p), err, got.ChecksumCRC32)
		}
	}
	want := slices.Clone(keyset)
	slices.Sort(want)
	if got := r.keys("bucket"); !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
	for _, url := range []types.EncodingType{"", types.EncodingTypeUrl} {
		var listed []string
		p := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String("bucket"), MaxKeys: aws.Int32(5), EncodingType: url})
		for p.HasMorePages() {
			page, err := p.NextPage(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range page.Contents {
				key := *o.Key
				if url != "" {
					key, err = unescape(key, true)
				}
				listed = append(listed, key)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(listed, want) {
			t.Errorf("encoding %q: listed %q, want %q", url, listed, want)
		}
	}
}

func TestSDKChecksums(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	body := randomBytes(7, 300_000)
	for _, algo := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmCrc64nvme,
		types.ChecksumAlgorithmSha1, types.ChecksumAlgorithmSha256} {
		key := "sum-" + string(algo)
		_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body), ChecksumAlgorithm: algo})
		if err != nil {
			t.Fatalf("%s: %v", algo, err)
		}
		h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: aws.String("bucket"), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		got := map[types.ChecksumAlgorithm]*string{types.ChecksumAlgorithmCrc32: h.ChecksumCRC32, types.ChecksumAlgorithmCrc32c: h.ChecksumCRC32C,
			types.ChecksumAlgorithmCrc64nvme: h.ChecksumCRC64NVME, types.ChecksumAlgorithmSha1: h.ChecksumSHA1, types.ChecksumAlgorithmSha256: h.ChecksumSHA256}
		parsed, _ := parseAlgo(string(algo))
		if want := base64String(sumOf(parsed, body)); aws.ToString(got[algo]) != want || h.ChecksumType != types.ChecksumTypeFullObject {
			t.Errorf("%s: got %q %s, want %q", algo, aws.ToString(got[algo]), h.ChecksumType, want)
		}
	}
	// An unseekable body over plain HTTP has no hash beforehand: the SDK insists on one of the trailer forms, or refuses itself.
	attrs, err := c.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: aws.String("bucket"), Key: aws.String("sum-SHA256"),
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesChecksum, types.ObjectAttributesEtag, types.ObjectAttributesObjectSize, types.ObjectAttributesStorageClass}})
	if err != nil || aws.ToInt64(attrs.ObjectSize) != int64(len(body)) || attrs.Checksum == nil || attrs.Checksum.ChecksumSHA256 == nil ||
		attrs.StorageClass != types.StorageClassStandard || attrs.ObjectParts != nil {
		t.Errorf("attributes: %+v, %v", attrs, err)
	}
}

func sdkCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestSDKBuckets(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	for range 2 { // the second time it is ours already
		if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("second")}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("third"), CreateBucketConfiguration: &types.CreateBucketConfiguration{
		LocationConstraint: types.BucketLocationConstraintEuWest1}})
	if sdkCode(err) != "InvalidLocationConstraint" {
		t.Errorf("another region: %v", err)
	}
	list, err := c.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil || len(list.Buckets) != 2 || *list.Buckets[0].Name != "bucket" || time.Since(*list.Buckets[1].CreationDate) > time.Minute {
		t.Errorf("buckets: %+v, %v", list, err)
	}
	page, err := c.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1)})
	if err != nil || len(page.Buckets) != 1 || page.ContinuationToken == nil {
		t.Fatalf("first page: %+v, %v", page, err)
	}
	page, err = c.ListBuckets(ctx, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1), ContinuationToken: page.ContinuationToken})
	if err != nil || len(page.Buckets) != 1 || *page.Buckets[0].Name != "second" || page.ContinuationToken != nil {
		t.Errorf("second page: %+v, %v", page, err)
	}
	loc, err := c.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: aws.String("second")})
	if err != nil || loc.LocationConstraint != "" {
		t.Errorf("location: %+v, %v", loc, err)
	}
	head, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("second")})
	if err != nil || aws.ToString(head.BucketRegion) != "us-east-1" {
		t.Errorf("head: %+v, %v", head, err)
	}
	if _, err := c.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("absent")}); sdkCode(err) != "NotFound" {
		t.Errorf("absent: %v", err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("second"), Key: aws.String("k")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String("second")}); sdkCode(err) != "BucketNotEmpty" {
		t.Errorf("not empty: %v", err)
	}
	if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("second"), Key: aws.String("k")}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "NoSuchBucket"} {
		if _, err := c.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: aws.String("second")}); sdkCode(err) != want {
			t.Errorf("delete: %v, want %q", err, want)
		}
	}
	tags := []types.Tag{{Key: aws.String("team"), Value: aws.String("a b")}}
	if _, err := c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: aws.String("bucket")}); sdkCode(err) != "NoSuchTagSet" {
		t.Errorf("no tags: %v", err)
	}
	if _, err := c.PutBucketTagging(ctx, &s3.PutBucketTaggingInput{Bucket: aws.String("bucket"), Tagging: &types.Tagging{TagSet: tags}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetBucketTagging(ctx, &s3.GetBucketTaggingInput{Bucket: aws.String("bucket")})
	if err != nil || len(got.TagSet) != 1 || *got.TagSet[0].Value != "a b" {
		t.Errorf("tags: %+v, %v", got, err)
	}
	if _, err := c.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: aws.String("bucket")}); sdkCode(err) != "NoSuchBucketPolicy" {
		t.Errorf("policy: %v", err)
	}
	if _, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String("bucket"), Policy: aws.String("{}")}); sdkCode(err) != "NotImplemented" {
		t.Errorf("put policy: %v", err)
	}
	if acl, err := c.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: aws.String("bucket")}); err != nil || len(acl.Grants) != 1 ||
		acl.Grants[0].Permission != types.PermissionFullControl {
		t.Errorf("acl: %+v, %v", acl, err)
	}
}

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

func TestSDKMultipart(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	parts := [][]byte{randomBytes(1, 5<<20), randomBytes(2, 5<<20+1), randomBytes(3, 1000)}
	for _, mode := range []struct {
		name string
		algo types.ChecksumAlgorithm
		kind types.ChecksumType
	}{{"default", "", ""}, {"composite", types.ChecksumAlgorithmSha256, types.ChecksumTypeComposite}, {"full", types.ChecksumAlgorithmCrc32, types.ChecksumTypeFullObject}} {
		key := aws.String("mp-" + mode.name)
		u, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("bucket"), Key: key, ContentType: aws.String("m/p"),
			ChecksumAlgorithm: mode.algo, ChecksumType: mode.kind})
		if err != nil {
			t.Fatal(err)
		}
		done := make([]types.CompletedPart, len(parts))
		for _, i := range []int{2, 0, 1, 0} { // out of order, one of them twice
			p, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: aws.String("bucket"), Key: key, UploadId: u.UploadId, PartNumber: aws.Int32(int32(i + 1)),
				Body: bytes.NewReader(parts[i]), ChecksumAlgorithm: mode.algo})
			if err != nil {
				t.Fatalf("%s part %d: %v", mode.name, i+1, err)
			}
			done[i] = types.CompletedPart{PartNumber: aws.Int32(int32(i + 1)), ETag: p.ETag, ChecksumSHA256: p.ChecksumSHA256}
			if mode.algo == types.ChecksumAlgorithmCrc32 {
				done[i].ChecksumCRC32 = p.ChecksumCRC32
			}
		}
		list, err := c.ListParts(ctx, &s3.ListPartsInput{Bucket: aws.String("bucket"), Key: key, UploadId: u.UploadId, MaxParts: aws.Int32(2)})
		if err != nil || len(list.Parts) != 2 || !*list.IsTruncated || aws.ToString(list.NextPartNumberMarker) != "2" {
			t.Errorf("%s: parts %+v, %v", mode.name, list, err)
		}
		ups, err := c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: aws.String("bucket")})
		if err != nil || len(ups.Uploads) != 1 || *ups.Uploads[0].UploadId != *u.UploadId {
			t.Errorf("%s: uploads %+v, %v", mode.name, ups, err)
		}
		complete := func(parts []types.CompletedPart) (*s3.CompleteMultipartUploadOutput, error) {
			return c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("bucket"), Key: key, UploadId: u.UploadId,
				ChecksumType: mode.kind, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		}
		swapped := []types.CompletedPart{done[1], done[0], done[2]}
		if _, err := complete(swapped); sdkCode(err) != "InvalidPartOrder" {
			t.Errorf("%s: swapped parts: %v", mode.name, err)
		}
		wrong := slices.Clone(done)
		wrong[1].ETag = aws.String(`"00000000000000000000000000000000"`)
		if _, err := complete(wrong); sdkCode(err) != "InvalidPart" {
			t.Errorf("%s: wrong ETag: %v", mode.name, err)
		}
		if _, err := complete([]types.CompletedPart{done[2], {PartNumber: aws.Int32(4), ETag: done[0].ETag}}); sdkCode(err) != "InvalidPart" {
			t.Errorf("%s: absent part: %v", mode.name, err)
		}
		if _, err := complete(nil); sdkCode(err) != "MalformedXML" {
			t.Errorf("%s: no parts: %v", mode.name, err)
		}
		out, err := complete(done)
		if err != nil || !strings.HasSuffix(aws.ToString(out.ETag), `-3"`) {
			t.Fatalf("%s: complete %+v, %v", mode.name, out, err)
		}
		whole := bytes.Join(parts, nil)
		got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(p, whole) || *got.ContentType != "m/p" {
			t.Errorf("%s: got %d bytes, %v", mode.name, len(p), err)
		}
		part, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: key, PartNumber: aws.Int32(2)})
		if err != nil || aws.ToInt32(part.PartsCount) != 3 || *part.ContentLength != int64(len(parts[1])) {
			t.Errorf("%s: part 2: %+v, %v", mode.name, part, err)
		} else if p, err := io.ReadAll(part.Body); err != nil || !bytes.Equal(p, parts[1]) {
			t.Errorf("%s: part 2: %d bytes, %v", mode.name, len(p), err)
		}
		if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: key, PartNumber: aws.Int32(4)}); sdkCode(err) != "InvalidPart" {
			t.Errorf("%s: part 4: %v", mode.name, err)
		}
	}
	u, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("bucket"), Key: aws.String("copied")})
	if err != nil {
		t.Fatal(err)
	}
	cp := func(rng *string) (*s3.UploadPartCopyOutput, error) {
		return c.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: aws.String("bucket"), Key: aws.String("copied"), UploadId: u.UploadId,
			PartNumber: aws.Int32(1), CopySource: aws.String("bucket/mp-default"), CopySourceRange: rng})
	}
	for _, bad := range []string{"bytes=0-", "0-5", "bytes=5-1", "bytes=0-99999999999"} {
		if _, err := cp(&bad); sdkCode(err) != "InvalidArgument" {
			t.Errorf("copy range %s: %v", bad, err)
		}
	}
	p, err := cp(aws.String("bytes=100-5000000"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: aws.String("bucket"), Key: aws.String("copied"), UploadId: u.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: p.CopyPartResult.ETag}}}}); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("copied")})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, bytes.Join(parts, nil)[100:5_000_001]) {
		t.Errorf("copied part: %d bytes, %v", len(b), err)
	}
	u, err = c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: aws.String("bucket"), Key: aws.String("dropped")})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"", "NoSuchUpload"} {
		_, err := c.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: aws.String("bucket"), Key: aws.String("dropped"), UploadId: u.UploadId})
		if sdkCode(err) != want {
			t.Errorf("abort: %v, want %q", err, want)
		}
	}
}

func TestSDKVersions(t *testing.T) {
	r := newRig(t, nil)
	c, ctx := r.sdk(), t.Context()
	if _, err := c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: aws.String("bucket"),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, body := range []string{"one", "two"} {
		out, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), Body: strings.NewReader(body)})
		if err != nil || out.VersionId == nil {
			t.Fatalf("put: %+v, %v", out, err)
		}
		ids = append(ids, *out.VersionId)
	}
	marker, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k")})
	if err != nil || !aws.ToBool(marker.DeleteMarker) || marker.VersionId == nil {
		t.Fatalf("delete: %+v, %v", marker, err)
	}
	if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k")}); sdkCode(err) != "NoSuchKey" {
		t.Errorf("behind a marker: %v", err)
	}
	if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), VersionId: marker.VersionId}); sdkCode(err) != "MethodNotAllowed" {
		t.Errorf("the marker itself: %v", err)
	}
	old, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), VersionId: &ids[0]})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := io.ReadAll(old.Body); err != nil || string(p) != "one" || aws.ToString(old.VersionId) != ids[0] {
		t.Errorf("old version: %q, %v", p, err)
	}
	vs, err := c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: aws.String("bucket")})
	if err != nil || len(vs.Versions) != 2 || len(vs.DeleteMarkers) != 1 || !*vs.DeleteMarkers[0].IsLatest || *vs.Versions[0].VersionId != ids[1] || *vs.Versions[0].IsLatest {
		t.Errorf("versions: %+v, %v", vs, err)
	}
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"),
		CopySource: aws.String("bucket/k?versionId=" + ids[0])}); err != nil {
		t.Errorf("restoring by copy: %v", err)
	}
	for _, id := range append(ids, *marker.VersionId) {
		if _, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), VersionId: &id}); err != nil {
			t.Errorf("deleting %s: %v", id, err)
		}
	}
	got, err := c.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String("bucket")})
	if err != nil || got.Status != types.BucketVersioningStatusEnabled {
		t.Errorf("versioning: %+v, %v", got, err)
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

func TestMinioClient(t *testing.T) {
	r := newRig(t, nil)
	for _, trailing := range []bool{false, true} {
		c, ctx := r.minio(trailing), t.Context()
		for i, size := range []int64{0, 1, 100, 70_000, 5<<20 + 1, 17 << 20} {
			key := fmt.Sprintf("obj %v/%d", trailing, i)
			body := randomBytes(uint64(size), int(size))
			opts := minio.PutObjectOptions{UserMetadata: map[string]string{"k": "v"}, ContentType: "a/b"}
			if _, err := c.PutObject(ctx, "bucket", key, bytes.NewReader(body), size, opts); err != nil {
				t.Fatalf("put %d (trailing %v): %v", size, trailing, err)
			}
			if _, err := c.PutObject(ctx, "bucket", key+" unknown", io.MultiReader(bytes.NewReader(body)), -1, minio.PutObjectOptions{PartSize: 5 << 20}); err != nil {
				t.Fatalf("put %d of unknown size: %v", size, err)
			}
			for _, k := range []string{key, key + " unknown"} {
				o, err := c.GetObject(ctx, "bucket", k, minio.GetObjectOptions{})
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(o)
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("get %q: %d bytes of %d, %v", k, len(got), size, err)
				}
				o.Close()
			}
		}
		for name, opts := range map[string]minio.PutObjectOptions{
			"signed chunks":    {DisableContentSha256: false, DisableMultipart: true},
			"md5":              {SendContentMd5: true},
			"unsigned":         {DisableContentSha256: true},
			"checksum sha1":    {Checksum: minio.ChecksumSHA1},
			"checksum crc64":   {Checksum: minio.ChecksumCRC64NVME},
			"checksum sha256 ": {Checksum: minio.ChecksumSHA256},
		} {
			if !trailing && opts.Checksum.IsSet() {
				continue
			}
			if _, err := c.PutObject(ctx, "bucket", name, bytes.NewReader(randomBytes(5, 200_000)), 200_000, opts); err != nil {
				t.Errorf("%s (trailing %v): %v", name, trailing, err)
			}
		}
	}
	c, ctx := r.minio(false), t.Context()
	n := 0
	for o := range c.ListObjects(ctx, "bucket", minio.ListObjectsOptions{Recursive: true, WithMetadata: false}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		n++
	}
	if n != len(r.keys("bucket")) || n < 24 {
		t.Errorf("listed %d", n)
	}
	objects := make(chan minio.ObjectInfo, n)
	for _, k := range r.keys("bucket") {
		objects <- minio.ObjectInfo{Key: k}
	}
	close(objects)
	for e := range c.RemoveObjects(ctx, "bucket", objects, minio.RemoveObjectsOptions{}) {
		t.Errorf("remove %q: %v", e.ObjectName, e.Err)
	}
	if keys := r.keys("bucket"); len(keys) != 0 {
		t.Errorf("left: %q", keys)
	}
}

// TestVirtualHost reaches a bucket by host name, with the signature over that name.
func TestVirtualHost(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Domains = []string{"s3.example.com"} })
	for _, host := range []string{"bucket.localhost:9000", "bucket.s3.example.com"} {
		r.do(req{path: "/a//b", body: "hello", host: host}).want(t, host, 200, "")
		if v, err := r.head1("bucket", "a//b"); err != nil || v.Size != 5 {
			t.Errorf("%s: %+v, %v", host, v, err)
		}
		r.do(req{method: "GET", path: "/?list-type=2", host: host}).want(t, host, 200, "")
		r.do(req{method: "DELETE", path: "/a//b", host: host}).want(t, host, 204, "")
	}
	r.do(req{method: "GET", path: "/bucket", host: "s3.example.com"}).want(t, "path style", 200, "")
}

// TestSDKOverTLS is the SDK's default on https: unsigned chunks with a trailer, for streams of unknown length too.
func TestSDKOverTLS(t *testing.T) {
	r := newRig(t, nil)
	var trailers atomic.Int64
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Header.Get("X-Amz-Content-Sha256") == sigv4.UnsignedTrailer {
			trailers.Add(1)
		}
		r.srv.ServeHTTP(w, q)
	}))
	defer front.Close()
	c := s3.New(r.sdk().Options(), func(o *s3.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String(front.URL), front.Client()
	})
	body := randomBytes(4, 300_000)
	for name, in := range map[string]io.Reader{"seekable": bytes.NewReader(body), "stream": io.MultiReader(bytes.NewReader(body))} {
		put := &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &name, Body: in}
		if name == "stream" {
			put.ContentLength = aws.Int64(int64(len(body)))
		}
		if _, err := c.PutObject(t.Context(), put); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &name})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(p, body) || got.ChecksumCRC32 == nil || got.ContentEncoding != nil {
			t.Errorf("%s: %d bytes, %v, %+v", name, len(p), err, got)
		}
	}
	if n := trailers.Load(); n != 2 {
		t.Errorf("the SDK sent %d trailers: this test no longer tests them", n)
	}
}
