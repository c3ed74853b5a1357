package s3api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"cairn/object"
	"cairn/object/objecttest"
)

// TestLifecycleConfiguration puts rules of every form and reads them back.
func TestLifecycleConfiguration(t *testing.T) {
	r := newRig(t, nil)
	c, ctx, b := r.sdk(), t.Context(), aws.String("bucket")
	const on = types.ExpirationStatusEnabled
	days := func(n int32) *types.LifecycleExpiration { return &types.LifecycleExpiration{Days: &n} }
	date := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	rules := []types.LifecycleRule{
		{ID: aws.String("days"), Status: on, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("tmp/")}, Expiration: days(3)},
		{ID: aws.String("date"), Status: types.ExpirationStatusDisabled, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("")}, Expiration: &types.LifecycleExpiration{Date: &date}},
		{ID: aws.String("tag"), Status: on, Filter: &types.LifecycleRuleFilter{Tag: &types.Tag{Key: aws.String("a"), Value: aws.String("1")}}, Expiration: days(1)},
		{ID: aws.String("size"), Status: on, Filter: &types.LifecycleRuleFilter{ObjectSizeGreaterThan: aws.Int64(5)}, Expiration: days(1)},
		{ID: aws.String("and"), Status: on, Filter: &types.LifecycleRuleFilter{And: &types.LifecycleRuleAndOperator{Prefix: aws.String("p"),
			Tags: []types.Tag{tag("a", "1"), tag("b", "2")}, ObjectSizeGreaterThan: aws.Int64(1), ObjectSizeLessThan: aws.Int64(9)}}, Expiration: days(1)},
		{ID: aws.String("noncurrent"), Status: on, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("q")},
			NoncurrentVersionExpiration: &types.NoncurrentVersionExpiration{NoncurrentDays: aws.Int32(4), NewerNoncurrentVersions: aws.Int32(2)}},
		{ID: aws.String("markers and uploads"), Status: on, Filter: &types.LifecycleRuleFilter{Prefix: aws.String("u")},
			Expiration:                     &types.LifecycleExpiration{ExpiredObjectDeleteMarker: aws.Bool(true)},
			AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(2)}},
	}
	get := func() (*s3.GetBucketLifecycleConfigurationOutput, error) {
		return c.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: b})
	}
	if _, err := get(); sdkCode(err) != "NoSuchLifecycleConfiguration" {
		t.Errorf("before: %v", err)
	}
	_, err := c.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{Bucket: b,
		LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: rules}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := get()
	if err != nil || !sameJSON(t, got.Rules, rules) {
		t.Errorf("got %+v, %v", got, err)
	}
	put, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String("tmp/x"), Body: strings.NewReader("x")})
	if err != nil {
		t.Fatal(err)
	}
	want := time.Now().UTC().Truncate(24 * time.Hour).Add(4 * 24 * time.Hour).Format(time.RFC1123)
	want = `expiry-date="` + strings.Replace(want, "UTC", "GMT", 1) + `", rule-id="days"`
	head, err := c.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: aws.String("tmp/x")})
	if err != nil || aws.ToString(head.Expiration) != want || aws.ToString(put.Expiration) != want {
		t.Errorf("expiration %q and %q, want %q; %v", aws.ToString(put.Expiration), aws.ToString(head.Expiration), want, err)
	}
	up, err := c.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String("u/x")})
	if err != nil || aws.ToString(up.AbortRuleId) != "markers and uploads" || up.AbortDate == nil {
		t.Errorf("upload: %+v, %v", up, err)
	}
	if _, err := c.DeleteBucketLifecycle(ctx, &s3.DeleteBucketLifecycleInput{Bucket: b}); err != nil {
		t.Error(err)
	}
	if _, err := get(); sdkCode(err) != "NoSuchLifecycleConfiguration" {
		t.Errorf("after: %v", err)
	}
}

// TestLifecycleRefusals lists what S3 says of rules that cannot be.
func TestLifecycleRefusals(t *testing.T) {
	r := newRig(t, nil)
	const exp = "<Expiration><Days>1</Days></Expiration>"
	rule := func(s string) string { return "<Rule><ID>r</ID><Status>Enabled</Status>" + s + "</Rule>" }
	all := "<Filter><Prefix></Prefix></Filter>"
	for _, tt := range []struct{ name, rules, code string }{
		{"good", rule(all + exp), ""},
		{"an empty filter", rule("<Filter/>" + exp), ""},
		{"a plain prefix", rule("<Prefix>x</Prefix>" + exp), ""},
		{"no rules", "", "MalformedXML"},
		{"status", "<Rule><Status>enabled</Status>" + all + exp + "</Rule>", "MalformedXML"},
		{"no filter", rule(exp), "MalformedXML"},
		{"prefix and filter", rule("<Prefix/>" + all + exp), "MalformedXML"},
		{"two conditions without And", rule("<Filter><Prefix>a</Prefix><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>" + exp), "MalformedXML"},
		{"no action", rule(all), "InvalidRequest"},
		{"same ID", rule(all+exp) + rule(all+exp), "InvalidArgument"},
		{"long ID", "<Rule><ID>" + strings.Repeat("a", 256) + "</ID><Status>Enabled</Status>" + all + exp + "</Rule>", "InvalidArgument"},
		{"0 days", rule(all + "<Expiration><Days>0</Days></Expiration>"), "InvalidArgument"},
		{"days and date", rule(all + "<Expiration><Days>1</Days><Date>2030-01-01T00:00:00Z</Date></Expiration>"), "MalformedXML"},
		{"an empty expiration", rule(all + "<Expiration/>"), "MalformedXML"},
		{"not midnight", rule(all + "<Expiration><Date>2030-01-01T00:00:01Z</Date></Expiration>"), "InvalidArgument"},
		{"no date", rule(all + "<Expiration><Date>20300101</Date></Expiration>"), "MalformedXML"},
		{"markers by tag", rule("<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"), "InvalidRequest"},
		{"noncurrent days", rule(all + "<NoncurrentVersionExpiration><NoncurrentDays>0</NoncurrentDays></NoncurrentVersionExpiration>"), "InvalidArgument"},
		{"newer without days", rule(all + "<NoncurrentVersionExpiration><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>"), "MalformedXML"},
		{"too many newer", rule(all + "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions></NoncurrentVersionExpiration>"), "InvalidArgument"},
		{"abort by tag", rule("<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"), "InvalidRequest"},
		{"abort after 0 days", rule(all + "<AbortIncompleteMultipartUpload><DaysAfterInitiation>0</DaysAfterInitiation></AbortIncompleteMultipartUpload>"), "InvalidArgument"},
		{"sizes", rule("<Filter><And><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></And></Filter>" + exp), "InvalidRequest"},
		{"tag twice", rule("<Filter><And><Tag><Key>k</Key><Value>v</Value></Tag><Tag><Key>k</Key><Value>w</Value></Tag></And></Filter>" + exp), "InvalidRequest"},
		{"transition", rule(all + "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"), "NotImplemented"},
	} {
		body := "<LifecycleConfiguration>" + tt.rules + "</LifecycleConfiguration>"
		status := map[string]int{"": 200, "NotImplemented": 501}[tt.code]
		if status == 0 {
			status = 400
		}
		r.do(req{path: "/bucket?lifecycle", body: body, header: md5Header(body)}).want(t, tt.name, status, tt.code)
	}
	body := "<LifecycleConfiguration>" + rule(all+exp) + "</LifecycleConfiguration>"
	r.do(req{path: "/bucket?lifecycle", body: body}).want(t, "no digest", 400, "InvalidRequest")
	r.do(req{path: "/nobucket?lifecycle", body: body, header: md5Header(body)}).want(t, "no bucket", 404, "NoSuchBucket")
}

// TestLifecycleRuns: a rule whose date has passed empties its prefix while the store runs, what was there before it too.
func TestLifecycleRuns(t *testing.T) {
	r := newRigOn(t, objecttest.Config{Run: true, Object: func(c *object.Config) { c.LifecycleInterval = 5 * time.Millisecond }}, nil)
	for _, k := range []string{"tmp/before", "keep/before"} {
		r.do(req{path: "/bucket/" + k, body: "x"}).want(t, k, 200, "")
	}
	body := "<LifecycleConfiguration><Rule><Status>Enabled</Status><Filter><Prefix>tmp/</Prefix></Filter>" +
		"<Expiration><Date>2020-01-01T00:00:00Z</Date></Expiration></Rule></LifecycleConfiguration>"
	r.do(req{path: "/bucket?lifecycle", body: body, header: md5Header(body)}).want(t, "rules", 200, "")
	r.do(req{path: "/bucket/tmp/after", body: "x"}).want(t, "after", 200, "")
	for deadline := time.Now().Add(time.Minute); len(r.keys("bucket")) != 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still there: %q", r.keys("bucket"))
		}
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) { // it is counted after the commit
		s := r.stack.Objects.Status()
		if s.LifecycleRemoved == 2 && s.LifecycleReindexed > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", s)
		}
	}
}

// sameJSON compares values by what they hold, not by their pointers.
func sameJSON(t *testing.T, got, want any) bool {
	t.Helper()
	a, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	return string(a) == string(b)
}
