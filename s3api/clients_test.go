package s3api

import (
	"bytes"
	"context"
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
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)}).Read(b) // never fails
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
	if _, err := c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: aws.String("bucket"), Policy: aws.String("{}")}); sdkCode(err) != "MalformedPolicy" {
		t.Errorf("put policy: %v", err)
	}
	if acl, err := c.GetBucketAcl(ctx, &s3.GetBucketAclInput{Bucket: aws.String("bucket")}); err != nil || len(acl.Grants) != 1 ||
		acl.Grants[0].Permission != types.PermissionFullControl {
		t.Errorf("acl: %+v, %v", acl, err)
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
