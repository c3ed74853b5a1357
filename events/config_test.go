package events

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestRuleMatches(t *testing.T) {
	r := Rule{Events: []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:Delete"}, Prefix: "in/", Suffix: ".bin"}
	for _, c := range []struct {
		kind Kind
		key  string
		want bool
	}{
		{CreatedPut, "in/a.bin", true},
		{CreatedComplete, "in/.bin", true},
		{CreatedPut, "in/a.txt", false},
		{CreatedPut, "out/a.bin", false},
		{RemovedDelete, "in/a.bin", true},
		{RemovedMarker, "in/a.bin", false},
		{TaggingPut, "in/a.bin", false},
	} {
		if got := r.Matches(c.kind, c.key); got != c.want {
			t.Errorf("%s of %s: got %t, want %t", c.kind, c.key, got, c.want)
		}
	}
}

func TestRulesOverlap(t *testing.T) {
	created, removed := []string{"s3:ObjectCreated:*"}, []string{"s3:ObjectRemoved:*"}
	for _, c := range []struct {
		name string
		a, b Rule
		want bool
	}{
		{"same", Rule{Events: created}, Rule{Events: []string{"s3:ObjectCreated:Put"}}, true},
		{"other events", Rule{Events: created}, Rule{Events: removed}, false},
		{"prefix in prefix", Rule{Events: created, Prefix: "a"}, Rule{Events: created, Prefix: "ab"}, true},
		{"prefixes apart", Rule{Events: created, Prefix: "a"}, Rule{Events: created, Prefix: "b"}, false},
		{"suffixes apart", Rule{Events: created, Suffix: ".a"}, Rule{Events: created, Suffix: ".b"}, false},
		{"prefix and suffix", Rule{Events: created, Prefix: "a"}, Rule{Events: created, Suffix: ".b"}, true},
	} {
		if got := c.a.Overlaps(&c.b); got != c.want || c.b.Overlaps(&c.a) != c.want {
			t.Errorf("%s: got %t, want %t, both ways", c.name, got, c.want)
		}
	}
}

func TestKnown(t *testing.T) {
	for name, want := range map[string]bool{"s3:ObjectCreated:*": true, "s3:ObjectAcl:Put": true, "s3:LifecycleExpiration:*": true, "s3:*": false, "*": false,
		"s3:ObjectCreated": false, "s3:Replication:*": false, "": false} {
		if got := Known(name); got != want {
			t.Errorf("%q: got %t, want %t", name, got, want)
		}
	}
}

func TestTargetOfARN(t *testing.T) {
	for arn, want := range map[string]string{ARN("a-b_1"): "a-b_1", "arn:cairn:sqs:us-east-1:x:webhook": "x", "arn:cairn:sqs:x:webhook": "",
		"arn:aws:sqs::x:webhook": "", "arn:cairn:sqs::x/y:webhook": "", "arn:cairn:sqs:::webhook": ""} {
		if got, ok := TargetOfARN(arn); ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q %t, want %q", arn, got, ok, want)
		}
	}
}

func TestOutside(t *testing.T) {
	for s, want := range map[string]bool{"1.1.1.1": true, "2606:4700::1111": true, "127.0.0.1": false, "::1": false, "10.1.2.3": false, "192.168.0.1": false,
		"172.16.0.1": false, "169.254.169.254": false, "100.64.0.1": false, "0.0.0.0": false, "::": false, "fe80::1": false, "fd00::1": false,
		"224.0.0.1": false, "255.255.255.255": false, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::7f00:1": false,
		"2002:7f00:1::": false, "198.18.0.1": false} {
		if got := outside(netip.MustParseAddr(s)); got != want {
			t.Errorf("%s: got %t, want %t", s, got, want)
		}
	}
}

func TestTargetValidate(t *testing.T) {
	for _, c := range []struct {
		t    Target
		good bool
	}{
		{Target{Name: "a", URL: "https://x.example/y?z=1"}, true},
		{Target{Name: "a b", URL: "https://x.example/"}, false},
		{Target{Name: "a", URL: "ftp://x.example/"}, false},
		{Target{Name: "a", URL: "https://u:p@x.example/"}, false},
		{Target{Name: "a", URL: "//x.example/"}, false},
		{Target{Name: "a", URL: "https://x.example/", Token: "a\r\nX: y"}, false},
	} {
		if err := c.t.Validate(); (err == nil) != c.good {
			t.Errorf("%+v: %v", c.t, err)
		}
	}
}

func TestDocument(t *testing.T) {
	e := Event{Kind: CreatedPut, Rule: "r", Time: time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC), Bucket: "b", Owner: "o", Key: "dir/a b+c.bin", Size: 7,
		ETag: "abc", Version: "v", Sequencer: "00FF", Account: "who", Address: "1.2.3.4"}
	doc, err := e.Document("eu-1")
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		EventName, Key string
		Records        []record
	}
	if err := json.Unmarshal(doc, &got); err != nil {
		t.Fatal(err)
	}
	r := got.Records[0]
	if got.EventName != "s3:ObjectCreated:Put" || got.Key != "b/dir/a b+c.bin" || len(got.Records) != 1 || r.EventName != "ObjectCreated:Put" ||
		r.EventTime != "2026-01-02T03:04:05.006Z" || r.AWSRegion != "eu-1" || r.S3.Object.Key != "dir/a+b%2Bc.bin" || r.S3.Object.Size != 7 ||
		r.S3.Object.VersionID != "v" || r.S3.Bucket.ARN != "arn:aws:s3:::b" || r.UserIdentity.PrincipalID != "who" ||
		r.RequestParameters["sourceIPAddress"] != "1.2.3.4" || r.S3.ConfigurationID != "r" {
		t.Errorf("got %s", doc)
	}
	if strings.Contains(string(doc), "null") {
		t.Errorf("a null in %s", doc)
	}
}
