package s3api

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cairn"
	"cairn/meta"
	"cairn/object/objecttest"
)

// customer is a client's own key as the headers carry it.
type customer struct{ algo, key, sum *string }

func customerOf(fill byte) customer {
	raw := bytes.Repeat([]byte{fill}, 32)
	sum := md5.Sum(raw)
	return customer{aws.String("AES256"), aws.String(base64.StdEncoding.EncodeToString(raw)),
		aws.String(base64.StdEncoding.EncodeToString(sum[:]))}
}

// scheme is one way to encrypt an object, as an SDK asks for it.
type scheme struct {
	name     string
	sse      types.ServerSideEncryption
	keyID    *string
	customer customer
}

var schemes = []scheme{
	{name: "plain"},
	{name: "SSE-S3", sse: types.ServerSideEncryptionAes256},
	{name: "SSE-KMS", sse: types.ServerSideEncryptionAwsKms},
	{name: "SSE-KMS other", sse: types.ServerSideEncryptionAwsKms, keyID: aws.String("other")},
	{name: "SSE-C", customer: customerOf(1)},
	{name: "SSE-C other", customer: customerOf(2)},
}

func encryptionRig(t *testing.T) (*rig, *s3.Client) {
	r := newRig(t, func(c *Config) { c.PlainSSEC = true })
	return r, r.sdk()
}

func (s *scheme) put(ctx context.Context, c *s3.Client, key string, body []byte) error {
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: &key, Body: bytes.NewReader(body),
		ServerSideEncryption: s.sse, SSEKMSKeyId: s.keyID, SSECustomerAlgorithm: s.customer.algo, SSECustomerKey: s.customer.key,
		SSECustomerKeyMD5: s.customer.sum})
	return err
}

func (s *scheme) get(ctx context.Context, c *s3.Client, key, rng string) (*s3.GetObjectOutput, []byte, error) {
	in := &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: &key,
		SSECustomerAlgorithm: s.customer.algo, SSECustomerKey: s.customer.key, SSECustomerKeyMD5: s.customer.sum}
	if rng != "" {
		in.Range = &rng
	}
	out, err := c.GetObject(ctx, in)
	if err != nil {
		return nil, nil, err
	}
	defer out.Body.Close()
	got, err := io.ReadAll(out.Body)
	return out, got, err
}

// stored returns the bytes of an object as they lie at rest.
func (r *rig) stored(key string) (cairn.Version, []byte) {
	r.t.Helper()
	v, err := r.stack.Objects.Head(r.t.Context(), meta.VersionRef{Bucket: "bucket", Key: key})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(v.Layout.Blobs) == 0 {
		return v, v.Layout.Inline
	}
	var b bytes.Buffer
	n := int64(0)
	for _, blob := range v.Layout.Blobs {
		n += blob.Length
	}
	if err := r.stack.Blobs.Get(r.t.Context(), v.Layout.Blobs, 0, n, &b); err != nil {
		r.t.Fatal(err)
	}
	return v, b.Bytes()
}

func testBytes(n int) []byte {
	return bytes.Repeat([]byte("plain as the nose on your face. "), n/32+1)[:n]
}

func TestEncryptionRoundTrips(t *testing.T) {
	r, c := encryptionRig(t)
	for _, s := range schemes {
		for _, size := range []int{0, 1, 5000, 64 << 10, 300<<10 + 1} {
			key, body := fmt.Sprintf("%s/%d", s.name, size), testBytes(size)
			if err := s.put(t.Context(), c, key, body); err != nil {
				t.Errorf("%s: put: %v", key, err)
				continue
			}
			out, got, err := s.get(t.Context(), c, key, "")
			if err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: got %d bytes, %v", key, len(got), err)
				continue
			}
			if out.ServerSideEncryption != s.sse || aws.ToString(out.SSECustomerAlgorithm) != aws.ToString(s.customer.algo) ||
				aws.ToString(out.SSECustomerKeyMD5) != aws.ToString(s.customer.sum) {
				t.Errorf("%s: told %q %q", key, out.ServerSideEncryption, aws.ToString(out.SSECustomerAlgorithm))
			}
			sum := md5.Sum(body)
			isMD5 := aws.ToString(out.ETag) == fmt.Sprintf(`"%x"`, sum)
			if want := s.customer.algo == nil && s.sse != types.ServerSideEncryptionAwsKms; isMD5 != want {
				t.Errorf("%s: the ETag %s is the MD5: %v, want %v", key, aws.ToString(out.ETag), isMD5, want)
			}
			if _, stored := r.stored(key); size > 0 && bytes.Equal(stored, body) != (s.name == "plain") {
				t.Errorf("%s: at rest it is plain: %v", key, bytes.Equal(stored, body))
			}
			if size > 70<<10 {
				if _, got, err := s.get(t.Context(), c, key, "bytes=65530-70000"); err != nil || !bytes.Equal(got, body[65530:70001]) {
					t.Errorf("%s: range: %d bytes, %v", key, len(got), err)
				}
			}
		}
	}
}

func TestEncryptedCopies(t *testing.T) {
	r, c := encryptionRig(t)
	body := testBytes(200 << 10)
	for _, from := range schemes {
		if err := from.put(t.Context(), c, "from "+from.name, body); err != nil {
			t.Fatal(err)
		}
		for _, to := range schemes {
			key := from.name + " to " + to.name
			_, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("bucket"), Key: &key,
				CopySource:           aws.String("bucket/" + strings.ReplaceAll("from "+from.name, " ", "%20")),
				ServerSideEncryption: to.sse, SSEKMSKeyId: to.keyID,
				SSECustomerAlgorithm: to.customer.algo, SSECustomerKey: to.customer.key, SSECustomerKeyMD5: to.customer.sum,
				CopySourceSSECustomerAlgorithm: from.customer.algo, CopySourceSSECustomerKey: from.customer.key,
				CopySourceSSECustomerKeyMD5: from.customer.sum})
			if err != nil {
				t.Errorf("%s: %v", key, err)
				continue
			}
			if _, got, err := to.get(t.Context(), c, key, ""); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%s: got %d bytes, %v", key, len(got), err)
			}
			source, _ := r.stored("from " + from.name)
			v, stored := r.stored(key)
			if bytes.Equal(stored, body) != (to.name == "plain") {
				t.Errorf("%s: at rest it is plain: %v", key, bytes.Equal(stored, body))
			}
			// Between two ways of encryption only the data key is wrapped anew: no bytes move.
			if alike := (from.name == "plain") == (to.name == "plain"); alike != (v.Layout.Blobs[0] == source.Layout.Blobs[0]) {
				t.Errorf("%s: the blobs are shared: %v, want %v", key, !alike, alike)
			}
		}
	}
	key := "stolen"
	_, err := c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("bucket"), Key: &key, CopySource: aws.String("bucket/from%20SSE-C")})
	if sdkCode(err) != "InvalidRequest" {
		t.Errorf("copy of an SSE-C object without its key: %v", err)
	}
	other := customerOf(9)
	_, err = c.CopyObject(t.Context(), &s3.CopyObjectInput{Bucket: aws.String("bucket"), Key: &key, CopySource: aws.String("bucket/from%20SSE-C"),
		CopySourceSSECustomerAlgorithm: other.algo, CopySourceSSECustomerKey: other.key, CopySourceSSECustomerKeyMD5: other.sum})
	if sdkCode(err) != "AccessDenied" {
		t.Errorf("copy of an SSE-C object with another key: %v", err)
	}
}

func TestEncryptedUploads(t *testing.T) {
	r, c := encryptionRig(t)
	parts := [][]byte{testBytes(5 << 20), testBytes(5<<20 + 70001), testBytes(100)}
	whole := bytes.Join(parts, nil)
	bucket := aws.String("bucket")
	plain := scheme{}
	if err := plain.put(t.Context(), c, "source", whole); err != nil {
		t.Fatal(err)
	}
	for _, s := range schemes[1:5:5] {
		key := aws.String("upload " + s.name)
		u, err := c.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key, ServerSideEncryption: s.sse,
			SSEKMSKeyId: s.keyID, SSECustomerAlgorithm: s.customer.algo, SSECustomerKey: s.customer.key, SSECustomerKeyMD5: s.customer.sum})
		if err != nil {
			t.Fatal(err)
		}
		var done types.CompletedMultipartUpload
		for i, p := range parts {
			n := aws.Int32(int32(i + 1))
			if i == 1 {
				out, err := c.UploadPartCopy(t.Context(), &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: n,
					CopySource:           aws.String("bucket/source"),
					CopySourceRange:      aws.String(fmt.Sprintf("bytes=%d-%d", 5<<20, 5<<20+len(p)-1)),
					SSECustomerAlgorithm: s.customer.algo, SSECustomerKey: s.customer.key, SSECustomerKeyMD5: s.customer.sum})
				if err != nil {
					t.Fatalf("%s: copy part: %v", s.name, err)
				}
				done.Parts = append(done.Parts, types.CompletedPart{PartNumber: n, ETag: out.CopyPartResult.ETag})
				continue
			}
			out, err := c.UploadPart(t.Context(), &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: u.UploadId, PartNumber: n,
				Body: bytes.NewReader(p), SSECustomerAlgorithm: s.customer.algo, SSECustomerKey: s.customer.key, SSECustomerKeyMD5: s.customer.sum})
			if err != nil {
				t.Fatalf("%s: part: %v", s.name, err)
			}
			done.Parts = append(done.Parts, types.CompletedPart{PartNumber: n, ETag: out.ETag})
		}
		if s.customer.algo != nil {
			r.refusedParts(c, key, u.UploadId)
		}
		if _, err := c.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: u.UploadId,
			MultipartUpload: &done}); err != nil {
			t.Fatalf("%s: complete: %v", s.name, err)
		}
		for _, rng := range []string{"", "bytes=5242870-5242890", "bytes=10500000-", "bytes=-50"} {
			_, got, err := s.get(t.Context(), c, *key, rng)
			want := whole
			if rng != "" {
				p, ok, perr := parseRange(rng, int64(len(whole)))
				if !ok || perr != nil {
					t.Fatal(rng)
				}
				want = whole[p.off : p.off+p.length]
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s %q: got %d bytes, %v", s.name, rng, len(got), err)
			}
		}
		if _, stored := r.stored(*key); bytes.Contains(stored, whole[:64]) {
			t.Errorf("%s: plain bytes at rest", s.name)
		}
	}
}

// refusedParts sends parts without the key of their upload, and with another one.
func (r *rig) refusedParts(c *s3.Client, key, id *string) {
	r.t.Helper()
	for _, k := range []customer{{}, customerOf(9)} {
		_, err := c.UploadPart(r.t.Context(), &s3.UploadPartInput{Bucket: aws.String("bucket"), Key: key, UploadId: id, PartNumber: aws.Int32(9),
			Body: strings.NewReader("x"), SSECustomerAlgorithm: k.algo, SSECustomerKey: k.key, SSECustomerKeyMD5: k.sum})
		if sdkCode(err) != "InvalidRequest" {
			r.t.Errorf("a part with key %v: %v, want InvalidRequest", k.sum, err)
		}
	}
}

func TestBucketEncryption(t *testing.T) {
	r, c := encryptionRig(t)
	bucket := aws.String("bucket")
	if _, err := c.GetBucketEncryption(t.Context(), &s3.GetBucketEncryptionInput{Bucket: bucket}); sdkCode(err) != "ServerSideEncryptionConfigurationNotFoundError" {
		t.Errorf("without a configuration: %v", err)
	}
	config := func(algo types.ServerSideEncryption, key *string) error {
		_, err := c.PutBucketEncryption(t.Context(), &s3.PutBucketEncryptionInput{Bucket: bucket, ServerSideEncryptionConfiguration: &types.ServerSideEncryptionConfiguration{
			Rules: []types.ServerSideEncryptionRule{{ApplyServerSideEncryptionByDefault: &types.ServerSideEncryptionByDefault{SSEAlgorithm: algo, KMSMasterKeyID: key}}}}})
		return err
	}
	plain := scheme{}
	for _, want := range []scheme{schemes[1], schemes[3]} {
		if err := config(want.sse, want.keyID); err != nil {
			t.Fatal(err)
		}
		got, err := c.GetBucketEncryption(t.Context(), &s3.GetBucketEncryptionInput{Bucket: bucket})
		if err != nil {
			t.Fatal(err)
		}
		if d := got.ServerSideEncryptionConfiguration.Rules[0].ApplyServerSideEncryptionByDefault; d.SSEAlgorithm != want.sse ||
			aws.ToString(d.KMSMasterKeyID) != aws.ToString(want.keyID) {
			t.Errorf("configured %s, got %+v", want.name, d)
		}
		if err := plain.put(t.Context(), c, "k", []byte("by the bucket's rule")); err != nil {
			t.Fatal(err)
		}
		out, body, err := plain.get(t.Context(), c, "k", "")
		if err != nil || string(body) != "by the bucket's rule" || out.ServerSideEncryption != want.sse ||
			aws.ToString(out.SSEKMSKeyId) != aws.ToString(want.keyID) {
			t.Errorf("under %s: %q, %v", want.name, body, err)
		}
		if v, stored := r.stored("k"); string(v.Encryption.Scheme) != string(want.sse) || bytes.Contains(stored, []byte("rule")) {
			t.Errorf("under %s: at rest as %q", want.name, v.Encryption.Scheme)
		}
	}
	for _, bad := range []struct {
		algo types.ServerSideEncryption
		key  *string
		code string
	}{
		{types.ServerSideEncryptionAes256, aws.String("other"), "InvalidArgument"},
		{types.ServerSideEncryptionAwsKms, aws.String("nobody"), ""}, // as in S3, the key may come later
		{"rot13", nil, "MalformedXML"},
		{"aws:kms:dsse", nil, "NotImplemented"},
	} {
		if err := config(bad.algo, bad.key); bad.code != "" && sdkCode(err) != bad.code || bad.code == "" && err != nil {
			t.Errorf("a rule of %s %s: %v, want %s", bad.algo, aws.ToString(bad.key), err, bad.code)
		}
	}
	if _, err := c.DeleteBucketEncryption(t.Context(), &s3.DeleteBucketEncryptionInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if err := plain.put(t.Context(), c, "k", []byte("plain again")); err != nil {
		t.Fatal(err)
	}
	if v, _ := r.stored("k"); v.Encryption.Sealed() {
		t.Error("sealed after the rule was deleted")
	}
}

// A store without keys, or with damaged bytes, never answers with plain or wrong ones.
func TestEncryptionThatCannotBeServed(t *testing.T) {
	r := newRigOn(t, objecttest.Config{Object: noKeys}, func(c *Config) { c.PlainSSEC = true })
	c := r.sdk()
	for _, s := range schemes[1:] {
		if err := s.put(t.Context(), c, "k", []byte("secret")); sdkCode(err) != "NotImplemented" {
			t.Errorf("%s: %v, want NotImplemented", s.name, err)
		}
	}
	if keys := r.keys("bucket"); len(keys) != 0 {
		t.Errorf("stored all the same: %q", keys)
	}
}
