package s3api

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

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
