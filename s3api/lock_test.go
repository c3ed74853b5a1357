package s3api

import (
	"crypto/md5"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// lockRig is a rig with a bucket "locked" whose object lock is enabled.
func lockRig(t *testing.T) (*rig, *s3.Client) {
	r := newRig(t, nil)
	c := r.sdk()
	_, err := c.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("locked"), ObjectLockEnabledForBucket: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	return r, c
}

func TestLockProtectsVersions(t *testing.T) {
	_, c := lockRig(t)
	ctx, b := t.Context(), aws.String("locked")
	until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	for name, tt := range map[string]struct {
		in     s3.PutObjectInput
		plain  string // what deleting the version is told
		bypass string // and with the bypass header
	}{
		"plain":      {s3.PutObjectInput{}, "", ""},
		"governance": {s3.PutObjectInput{ObjectLockMode: types.ObjectLockModeGovernance, ObjectLockRetainUntilDate: &until}, "AccessDenied", ""},
		"compliance": {s3.PutObjectInput{ObjectLockMode: types.ObjectLockModeCompliance, ObjectLockRetainUntilDate: &until}, "AccessDenied", "AccessDenied"},
		"hold":       {s3.PutObjectInput{ObjectLockLegalHoldStatus: types.ObjectLockLegalHoldStatusOn}, "AccessDenied", "AccessDenied"},
		"no hold":    {s3.PutObjectInput{ObjectLockLegalHoldStatus: types.ObjectLockLegalHoldStatusOff}, "", ""},
	} {
		tt.in.Bucket, tt.in.Key, tt.in.Body = b, aws.String(name), strings.NewReader("x")
		put, err := c.PutObject(ctx, &tt.in)
		if err != nil {
			t.Fatal(name, err)
		}
		head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: &name})
		if err != nil || string(head.ObjectLockMode) != string(tt.in.ObjectLockMode) ||
			head.ObjectLockLegalHoldStatus != tt.in.ObjectLockLegalHoldStatus ||
			tt.in.ObjectLockMode != "" && !head.ObjectLockRetainUntilDate.Equal(until) {
			t.Errorf("%s: head %+v, %v", name, head, err)
		}
		hide, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: &name})
		if err != nil || !aws.ToBool(hide.DeleteMarker) {
			t.Errorf("%s: a marker: %+v, %v", name, hide, err)
		}
		many, err := c.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{
			Objects: []types.ObjectIdentifier{{Key: &name, VersionId: put.VersionId}, {Key: &name, VersionId: hide.VersionId}}}})
		if err != nil || len(many.Errors) != min(len(tt.plain), 1) || len(many.Errors) == 1 && *many.Errors[0].Code != tt.plain {
			t.Errorf("%s: delete both: %+v, %v", name, many, err)
		}
		if tt.plain == "" {
			continue
		}
		del := func(bypass bool) error {
			_, err := c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: b, Key: &name, VersionId: put.VersionId, BypassGovernanceRetention: &bypass})
			return err
		}
		if err := del(false); sdkCode(err) != tt.plain {
			t.Errorf("%s: delete: %v, want %s", name, err, tt.plain)
		}
		if _, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: &name}); err != nil {
			t.Errorf("%s: it is gone: %v", name, err)
		}
		if err := del(true); sdkCode(err) != tt.bypass {
			t.Errorf("%s: delete with bypass: %v, want %q", name, err, tt.bypass)
		}
	}
}

func TestLockRetentionChanges(t *testing.T) {
	_, c := lockRig(t)
	ctx, b := t.Context(), aws.String("locked")
	at := func(hours int) *time.Time {
		return aws.Time(time.Now().Add(time.Duration(hours) * time.Hour).UTC().Truncate(time.Second))
	}
	const gov, comp = types.ObjectLockRetentionModeGovernance, types.ObjectLockRetentionModeCompliance
	for _, tt := range []struct {
		name     string
		from, to types.ObjectLockRetentionMode
		hours    int // from two
		bypass   bool
		want     string
	}{
		{"set", "", gov, 2, false, ""},
		{"extend governance", gov, gov, 3, false, ""},
		{"shorten governance", gov, gov, 1, false, "AccessDenied"},
		{"shorten governance with bypass", gov, gov, 1, true, ""},
		{"governance to compliance", gov, comp, 2, false, "AccessDenied"},
		{"governance to compliance with bypass", gov, comp, 2, true, ""},
		{"lift governance", gov, "", 0, false, "AccessDenied"},
		{"lift governance with bypass", gov, "", 0, true, ""},
		{"extend compliance", comp, comp, 3, false, ""},
		{"shorten compliance with bypass", comp, comp, 1, true, "AccessDenied"},
		{"compliance to governance with bypass", comp, gov, 3, true, "AccessDenied"},
		{"lift compliance with bypass", comp, "", 0, true, "AccessDenied"},
		{"past", "", gov, -1, false, "InvalidArgument"},
		{"unknown mode", "", "governance", 2, false, "MalformedXML"},
	} {
		k := &tt.name
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: strings.NewReader("x")}); err != nil {
			t.Fatal(err)
		}
		set := func(mode types.ObjectLockRetentionMode, hours int, bypass bool) error {
			in := &s3.PutObjectRetentionInput{Bucket: b, Key: k, Retention: &types.ObjectLockRetention{Mode: mode}, BypassGovernanceRetention: &bypass}
			if hours != 0 {
				in.Retention.RetainUntilDate = at(hours)
			}
			_, err := c.PutObjectRetention(ctx, in)
			return err
		}
		if tt.from != "" {
			if err := set(tt.from, 2, false); err != nil {
				t.Fatal(tt.name, err)
			}
		}
		if err := set(tt.to, tt.hours, tt.bypass); sdkCode(err) != tt.want {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
		want := tt.to
		if tt.want != "" {
			want = tt.from
		}
		got, err := c.GetObjectRetention(ctx, &s3.GetObjectRetentionInput{Bucket: b, Key: k})
		if want == "" {
			if sdkCode(err) != "NoSuchObjectLockConfiguration" {
				t.Errorf("%s: retention %+v, %v", tt.name, got, err)
			}
		} else if err != nil || got.Retention.Mode != want {
			t.Errorf("%s: retention %+v, %v; want %s", tt.name, got, err, want)
		}
	}
}

func TestLockDefaultRetention(t *testing.T) {
	_, c := lockRig(t)
	ctx, b := t.Context(), aws.String("locked")
	if got, err := c.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: b}); err != nil ||
		got.ObjectLockConfiguration.ObjectLockEnabled != "Enabled" || got.ObjectLockConfiguration.Rule != nil {
		t.Errorf("at first: %+v, %v", got, err)
	}
	_, err := c.PutObjectLockConfiguration(ctx, &s3.PutObjectLockConfigurationInput{Bucket: b, ObjectLockConfiguration: &types.ObjectLockConfiguration{
		ObjectLockEnabled: "Enabled", Rule: &types.ObjectLockRule{DefaultRetention: &types.DefaultRetention{Mode: "GOVERNANCE", Years: aws.Int32(1)}}}})
	if err != nil {
		t.Fatal(err)
	}
	hold := types.ObjectLockLegalHoldStatusOn
	put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("put"), Body: strings.NewReader("x"), ObjectLockLegalHoldStatus: hold})
	if err != nil {
		t.Fatal(err)
	}
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String("multi")})
	if err != nil {
		t.Fatal(err)
	}
	part, err := c.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: up.Key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("p")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: b, Key: up.Key, UploadId: up.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: part.ETag}}}})
	if err != nil {
		t.Fatal(err)
	}
	src := "locked/put?versionId=" + *put.VersionId
	if _, err := c.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String("copy"), CopySource: &src}); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"put", "multi", "copy"} {
		h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: &k})
		if err != nil || h.ObjectLockMode != "GOVERNANCE" || time.Until(*h.ObjectLockRetainUntilDate) < 364*24*time.Hour {
			t.Errorf("%s: %+v, %v", k, h, err)
		}
		if wants := k == "put"; (h.ObjectLockLegalHoldStatus == hold) != wants {
			t.Errorf("%s: a copy or upload has no hold of another: %q", k, h.ObjectLockLegalHoldStatus)
		}
	}
	_, err = c.PutBucketVersioning(ctx, &s3.PutBucketVersioningInput{Bucket: b,
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusSuspended}})
	if sdkCode(err) != "InvalidBucketState" {
		t.Errorf("suspend: %v", err)
	}
}

// TestLockRefusals lists what S3 answers to requests about locks that cannot be.
func TestLockRefusals(t *testing.T) {
	r, _ := lockRig(t)
	r.do(req{path: "/bucket/k", body: "x"}).want(t, "put", 200, "")
	r.do(req{path: "/locked/k", body: "x"}).want(t, "put", 200, "")
	conf := func(inner string) string {
		return "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>" + inner + "</DefaultRetention></Rule></ObjectLockConfiguration>"
	}
	future := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	retain := "<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>" + future + "</RetainUntilDate></Retention>"
	for _, tt := range []struct {
		method, path, body string
		status             int
		code               string
	}{
		{"PUT", "/bucket?object-lock", conf("<Mode>GOVERNANCE</Mode><Days>1</Days>"), 409, "InvalidBucketState"},
		{"GET", "/bucket?object-lock", "", 404, "ObjectLockConfigurationNotFoundError"},
		{"PUT", "/locked?object-lock", conf("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>"), 400, "MalformedXML"},
		{"PUT", "/locked?object-lock", conf("<Mode>GOVERNANCE</Mode>"), 400, "MalformedXML"},
		{"PUT", "/locked?object-lock", conf("<Mode>abc</Mode><Days>1</Days>"), 400, "MalformedXML"},
		{"PUT", "/locked?object-lock", conf("<Mode>GOVERNANCE</Mode><Days>0</Days>"), 400, "InvalidRetentionPeriod"},
		{"PUT", "/locked?object-lock", conf("<Mode>GOVERNANCE</Mode><Years>-1</Years>"), 400, "InvalidRetentionPeriod"},
		{"PUT", "/locked?object-lock", conf("<Mode>GOVERNANCE</Mode><Days>36501</Days>"), 400, "InvalidRetentionPeriod"},
		{"PUT", "/locked?object-lock", "<ObjectLockConfiguration><ObjectLockEnabled>Disabled</ObjectLockEnabled></ObjectLockConfiguration>", 400, "MalformedXML"},
		{"PUT", "/bucket/k?retention", retain, 400, "InvalidRequest"},
		{"GET", "/bucket/k?retention", "", 400, "InvalidRequest"},
		{"PUT", "/bucket/none?retention", retain, 400, "InvalidRequest"},
		{"PUT", "/locked/none?retention", retain, 404, "NoSuchKey"},
		{"PUT", "/nobucket/none?retention", retain, 404, "NoSuchBucket"},
		{"PUT", "/locked/k?retention", "<Retention><Mode>GOVERNANCE</Mode></Retention>", 400, "MalformedXML"},
		{"PUT", "/locked/k?retention", "<Retention><RetainUntilDate>" + future + "</RetainUntilDate></Retention>", 400, "MalformedXML"},
		{"PUT", "/bucket/k?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>", 400, "InvalidRequest"},
		{"GET", "/bucket/k?legal-hold", "", 400, "InvalidRequest"},
		{"PUT", "/locked/k?legal-hold", "<LegalHold><Status>abc</Status></LegalHold>", 400, "MalformedXML"},
		{"GET", "/locked/k?legal-hold", "", 404, "NoSuchObjectLockConfiguration"},
		{"PUT", "/locked/k?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>", 200, ""},
		{"PUT", "/locked/k?legal-hold", "<LegalHold><Status>OFF</Status></LegalHold>", 200, ""},
	} {
		r.do(req{method: tt.method, path: tt.path, body: tt.body, header: md5Header(tt.body)}).want(t, tt.method+" "+tt.path+" "+tt.body, tt.status, tt.code)
	}
	for _, tt := range []struct {
		bucket string
		header []string
		code   string
	}{
		{"bucket", []string{"X-Amz-Object-Lock-Legal-Hold", "ON"}, "InvalidRequest"},
		{"locked", []string{"X-Amz-Object-Lock-Legal-Hold", "on"}, "InvalidArgument"},
		{"locked", []string{"X-Amz-Object-Lock-Mode", "GOVERNANCE"}, "InvalidArgument"},
		{"locked", []string{"X-Amz-Object-Lock-Retain-Until-Date", future}, "InvalidArgument"},
		{"locked", []string{"X-Amz-Object-Lock-Mode", "x", "X-Amz-Object-Lock-Retain-Until-Date", future}, "InvalidArgument"},
		{"locked", []string{"X-Amz-Object-Lock-Mode", "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date", "2001-01-01T00:00:00Z"}, "InvalidArgument"},
		{"locked", []string{"X-Amz-Object-Lock-Mode", "GOVERNANCE", "X-Amz-Object-Lock-Retain-Until-Date", "tomorrow"}, "InvalidArgument"},
	} {
		r.do(req{path: "/" + tt.bucket + "/refused", body: "x", header: append(tt.header, md5Header("x")...)}).want(t, strings.Join(tt.header, " "), 400, tt.code)
	}
	r.do(req{path: "/locked/refused", body: "x", header: []string{"X-Amz-Object-Lock-Legal-Hold", "ON"}}).want(t, "no digest", 400, "InvalidRequest")
	r.do(req{method: "GET", path: "/locked/refused"}).want(t, "nothing was stored", 404, "NoSuchKey")
}

// md5Header is the Content-MD5 that S3 demands with some documents.
func md5Header(body string) []string {
	sum := md5.Sum([]byte(body))
	return []string{"Content-Md5", base64String(sum[:])}
}
