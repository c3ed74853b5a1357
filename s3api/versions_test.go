package s3api

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestMarkers: what GET and HEAD tell of a delete marker.
func TestMarkers(t *testing.T) {
	r, c := lockRig(t)
	put := r.do(req{path: "/locked/k", body: "x"})
	del := r.do(req{method: "DELETE", path: "/locked/k"})
	marker := del.header.Get("X-Amz-Version-Id")
	if del.status != 204 || del.header.Get("X-Amz-Delete-Marker") != "true" || marker == "" {
		t.Fatalf("delete: %d %v", del.status, del.header)
	}
	for _, method := range []string{"GET", "HEAD"} {
		a := r.do(req{method: method, path: "/locked/k"})
		if a.status != 404 || a.header.Get("X-Amz-Delete-Marker") != "true" || a.header.Get("X-Amz-Version-Id") != marker {
			t.Errorf("%s: %d %v", method, a.status, a.header)
		}
		a = r.do(req{method: method, path: "/locked/k?versionId=" + marker})
		if a.status != 405 || a.header.Get("X-Amz-Delete-Marker") != "true" || a.header.Get("Allow") != "DELETE" || a.header.Get("Last-Modified") == "" {
			t.Errorf("%s of the marker: %d %v", method, a.status, a.header)
		}
		a = r.do(req{method: method, path: "/locked/k?versionId=" + put.header.Get("X-Amz-Version-Id")})
		if a.status != 200 || a.header.Get("X-Amz-Delete-Marker") != "" {
			t.Errorf("%s of the version: %d %v", method, a.status, a.header)
		}
		a = r.do(req{method: method, path: "/locked/never"})
		if a.status != 404 || a.header.Get("X-Amz-Delete-Marker") != "" {
			t.Errorf("%s of nothing: %d %v", method, a.status, a.header)
		}
	}
	for _, sub := range []string{"tagging", "attributes", "retention"} {
		a := r.do(req{method: "GET", path: "/locked/k?" + sub + "&versionId=" + marker, header: []string{"X-Amz-Object-Attributes", "ETag"}})
		a.want(t, sub+" of the marker", 405, "MethodNotAllowed")
	}
	_, err := c.PutObjectTagging(t.Context(), &s3.PutObjectTaggingInput{Bucket: aws.String("locked"), Key: aws.String("k"), VersionId: &marker,
		Tagging: &types.Tagging{TagSet: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}})
	if sdkCode(err) != "MethodNotAllowed" {
		t.Errorf("tagging a marker: %v", err)
	}
}

// TestNullVersions: S3 shows "null" as soon as a bucket has known versioning, and nothing before.
func TestNullVersions(t *testing.T) {
	r := newRig(t, nil)
	a := r.do(req{path: "/bucket/k", body: "old"})
	if _, shown := a.header["X-Amz-Version-Id"]; shown {
		t.Errorf("an unversioned bucket: %v", a.header)
	}
	state := func(s string) {
		r.do(req{path: "/bucket?versioning", body: "<VersioningConfiguration><Status>" + s + "</Status></VersioningConfiguration>"}).want(t, s, 200, "")
	}
	shows := func(what string, q req, id string) {
		t.Helper()
		if a := r.do(q); a.status/100 != 2 || id != "*" && a.header.Get("X-Amz-Version-Id") != id {
			t.Errorf("%s: %d, version %q, want %q", what, a.status, a.header.Get("X-Amz-Version-Id"), id)
		}
	}
	state("Enabled")
	shows("get", req{method: "GET", path: "/bucket/k"}, "null")
	shows("get null", req{method: "GET", path: "/bucket/k?versionId=null"}, "null")
	shows("put", req{path: "/bucket/k", body: "new"}, "*")
	state("Suspended")
	shows("put", req{path: "/bucket/k", body: "null again"}, "null")
	shows("copy", req{path: "/bucket/copy", header: []string{"X-Amz-Copy-Source", "bucket/k"}}, "null")
	shows("head", req{method: "HEAD", path: "/bucket/k"}, "null")
	shows("marker", req{method: "DELETE", path: "/bucket/k"}, "null")
	a = r.do(req{method: "GET", path: "/bucket?versions&prefix=k"})
	if n := strings.Count(string(a.body), "<VersionId>null</VersionId>"); n != 1 || strings.Count(string(a.body), "<VersionId>") != 2 {
		t.Errorf("versions: %s", a.body)
	}
}

func TestObjectTagging(t *testing.T) {
	r, c := lockRig(t)
	ctx, b, k := t.Context(), aws.String("locked"), aws.String("k")
	first, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: strings.NewReader("x"), Tagging: aws.String("a=1")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: k, Body: strings.NewReader("y")}); err != nil {
		t.Fatal(err)
	}
	tags := func(version *string) string {
		t.Helper()
		out, err := c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: b, Key: k, VersionId: version})
		if err != nil {
			t.Fatal(err)
		}
		var list []string
		for _, tag := range out.TagSet {
			list = append(list, *tag.Key+"="+*tag.Value)
		}
		return strings.Join(list, ",")
	}
	set := func(version *string, pairs ...string) error {
		var list []types.Tag
		for i := 0; i < len(pairs); i += 2 {
			list = append(list, types.Tag{Key: &pairs[i], Value: &pairs[i+1]})
		}
		_, err := c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: b, Key: k, VersionId: version, Tagging: &types.Tagging{TagSet: list}})
		return err
	}
	if err := set(nil, "zwei", "ü", "eins", ""); err != nil {
		t.Error(err)
	}
	if now, then := tags(nil), tags(first.VersionId); now != "eins=,zwei=ü" || then != "a=1" {
		t.Errorf("tags %q and %q", now, then)
	}
	if err := set(first.VersionId, "b", "2"); err != nil || tags(first.VersionId) != "b=2" || tags(nil) != "eins=,zwei=ü" {
		t.Errorf("an older version: %v, %q, %q", err, tags(first.VersionId), tags(nil))
	}
	if h, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: k}); err != nil || h.TagCount == nil || *h.TagCount != 2 {
		t.Errorf("head: %+v, %v", h, err)
	}
	many := make([]string, 22)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	for name, pairs := range map[string][]string{
		"eleven":   many,
		"twice":    {"a", "1", "a", "2"},
		"long key": {strings.Repeat("k", 129), ""}, "long value": {"k", strings.Repeat("v", 257)},
		"no key": {"", "v"}, "reserved": {"aws:k", "v"}, "sign": {"k", "a;b"},
	} {
		if err := set(nil, pairs...); sdkCode(err) != "InvalidTag" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := set(nil, many[:20]...); err != nil {
		t.Errorf("ten tags: %v", err)
	}
	if err := set(nil, strings.Repeat("ü", 128), strings.Repeat("ö", 256)); err != nil {
		t.Errorf("the longest tag: %v", err)
	}
	if _, err := c.DeleteObjectTagging(ctx, &s3.DeleteObjectTaggingInput{Bucket: b, Key: k}); err != nil || tags(nil) != "" {
		t.Errorf("delete: %v, %q", err, tags(nil))
	}
	body := "<Tagging><TagSet></TagSet></Tagging>"
	r.do(req{path: "/locked/none?tagging", body: body, header: md5Header(body)}).want(t, "no key", 404, "NoSuchKey")
	r.do(req{path: "/locked/k?tagging", body: "<Tagging/>", header: md5Header("<Tagging/>")}).want(t, "no set", 400, "MalformedXML")
}
