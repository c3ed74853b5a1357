package s3api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"cairn"
	"cairn/meta"
	"cairn/s3api/sigv4"
)

// codeOf is the S3 code that an error becomes, "" for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	api, _ := translate(err)
	return api.code
}

func TestParseTarget(t *testing.T) {
	long := strings.Repeat("k", 1024)
	for _, c := range []struct{ uri, host, bucket, key, code string }{
		{"/", "h", "", "", ""},
		{"/?x", "h", "", "", ""},
		{"/b", "h", "b", "", ""},
		{"/b/", "h", "b", "", ""},
		{"/b/k", "h", "b", "k", ""},
		{"/b/k/", "h", "b", "k/", ""},
		{"/b//k", "h", "b", "/k", ""},
		{"/b///", "h", "b", "//", ""},
		{"/b/a//b", "h", "b", "a//b", ""},
		{"/b/../../etc/passwd", "h", "b", "../../etc/passwd", ""},
		{"/b/./k", "h", "b", "./k", ""},
		{"/b/%2e%2e/k", "h", "b", "../k", ""},
		{"/b/a%2Fb", "h", "b", "a/b", ""},
		{"/b/a%252Fb", "h", "b", "a%2Fb", ""},
		{"/b/a+b%20c", "h", "b", "a+b c", ""},
		{`/b/a\b`, "h", "b", `a\b`, ""},
		{"/b/%E2%82%AC", "h", "b", "€", ""},
		{"/b/" + long, "h", "b", long, ""},
		{"/b/" + long + "x", "h", "", "", "KeyTooLongError"},
		{"/b/%00", "h", "", "", "InvalidURI"},
		{"/b/a%FFb", "h", "", "", "InvalidURI"},
		{"/b/a\xffb", "h", "", "", "InvalidURI"},
		{"/b/%zz", "h", "", "", "InvalidURI"},
		{"/b/%2", "h", "", "", "InvalidURI"},
		{"//k", "h", "", "", "InvalidBucketName"},
		{"/b%2Fc/k", "h", "", "", "InvalidBucketName"},
		{"http://h/b/k", "h", "", "", "InvalidURI"},
		{"*", "h", "", "", "InvalidURI"},
		{"", "h", "", "", "InvalidURI"},
		{"/k/l", "b.localhost:9000", "b", "k/l", ""},
		{"/", "b.localhost", "b", "", ""},
		{"//k", "b.localhost", "b", "/k", ""},
		{"/k", "my.b.s3.example.com", "my.b", "k", ""},
		{"/b/k", "s3.example.com", "b", "k", ""},
		{"/k", "B.LOCALHOST.", "b", "k", ""},
		{"/b/k", "localhost", "b", "k", ""},
		{"/b/k", "evilocalhost", "b", "k", ""},
		{"/b/k", "[::1]:9000", "b", "k", ""},
	} {
		got, _, err := parseTarget(c.uri, c.host, []string{"s3.example.com", "localhost"})
		if codeOf(err) != c.code || err == nil && (got.bucket != c.bucket || got.key != c.key) {
			t.Errorf("%.60q at %s: got %q %q %v, want %q %q %s", c.uri, c.host, got.bucket, got.key, err, c.bucket, c.key, c.code)
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("/b/k%20x?versionId=1", "b.localhost:9000")
	f.Add("/b//../%2f", "h")
	f.Fuzz(func(t *testing.T, uri, host string) {
		got, _, err := parseTarget(uri, host, []string{"localhost"})
		if err != nil {
			return
		}
		if !utf8.ValidString(got.key) || strings.Contains(got.key, "\x00") || len(got.key) > 1024 || strings.Contains(got.bucket, "/") {
			t.Errorf("accepted %+v", got)
		}
		// What is signed is what is stored: the canonical path decodes to the same bucket and key.
		again, _, err := parseTarget(string(sigv4.AppendEscaped(nil, got.path, true)), host, []string{"localhost"})
		if err != nil && codeOf(err) != "InvalidBucketName" || err == nil && again.path != got.path {
			t.Errorf("%q: the canonical form reads as %+v, %v", uri, again, err)
		}
	})
}

func TestParseQuery(t *testing.T) {
	ps, err := parseQuery("a=1&b&c=x%20y+z&a=2&&d==", nil)
	if err != nil || len(ps) != 5 || ps.get("a") != "1" || !ps.has("b") || ps.get("c") != "x y z" || ps.get("d") != "=" || ps.has("e") {
		t.Errorf("got %v, %v", ps, err)
	}
	if _, err := parseQuery("a=%zz", nil); codeOf(err) != "InvalidURI" {
		t.Errorf("bad escape: got %v", err)
	}
	if _, err := parseQuery(strings.Repeat("a&", maxParams+1), nil); codeOf(err) != "InvalidURI" {
		t.Errorf("too many parameters: got %v", err)
	}
}

func TestParseRange(t *testing.T) {
	for _, c := range []struct {
		s           string
		size        int64
		off, length int64
		ok          bool
		code        string
	}{
		{"bytes=0-0", 10, 0, 1, true, ""},
		{"bytes=0-9", 10, 0, 10, true, ""},
		{"bytes=3-", 10, 3, 7, true, ""},
		{"bytes=-3", 10, 7, 3, true, ""},
		{"bytes=-30", 10, 0, 10, true, ""},
		{"bytes=5-100", 10, 5, 5, true, ""},
		{"bytes=5-99999999999999999999", 10, 5, 5, true, ""},
		{"bytes=9-9", 10, 9, 1, true, ""},
		{"bytes=10-", 10, 0, 0, false, "InvalidRange"},
		{"bytes=99999999999999999999-", 10, 0, 0, false, "InvalidRange"},
		{"bytes=-0", 10, 0, 0, false, "InvalidRange"},
		{"bytes=0-", 0, 0, 0, false, "InvalidRange"},
		{"bytes=-1", 0, 0, 0, false, "InvalidRange"},
		{"bytes=4-3", 10, 0, 0, false, ""},
		{"bytes=0-1,4-5", 10, 0, 0, false, ""},
		{"bytes=a-b", 10, 0, 0, false, ""},
		{"bytes=-", 10, 0, 0, false, ""},
		{"bytes=+1-2", 10, 0, 0, false, ""},
		{"items=0-1", 10, 0, 0, false, ""},
		{"bytes=", 10, 0, 0, false, ""},
	} {
		r, ok, err := parseRange(c.s, c.size)
		if ok != c.ok || codeOf(err) != c.code || ok && (r.off != c.off || r.length != c.length) {
			t.Errorf("%s of %d: got %+v %v %v", c.s, c.size, r, ok, err)
		}
	}
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-9", int64(10))
	f.Add("bytes=-99999999999999999999", int64(1))
	f.Fuzz(func(t *testing.T, s string, size int64) {
		if size < 0 {
			return
		}
		r, ok, err := parseRange(s, size)
		if ok && (err != nil || r.off < 0 || r.length < 1 || r.off+r.length > size) {
			t.Errorf("%q of %d: got %+v", s, size, r)
		}
	})
}

// TestReadConditions has the 16 combinations that matter of RFC 9110's order of precedence.
func TestReadConditions(t *testing.T) {
	modified := time.Date(2026, 5, 1, 12, 0, 0, 5e8, time.UTC)
	before, at, after := "Fri, 01 May 2026 11:59:59 GMT", "Fri, 01 May 2026 12:00:00 GMT", "Fri, 01 May 2026 12:00:01 GMT"
	for _, c := range []struct {
		rc   readConditions
		want condition
	}{
		{readConditions{}, holds},
		{readConditions{match: `"e"`}, holds},
		{readConditions{match: `e`}, holds},
		{readConditions{match: `"x", "e"`}, holds},
		{readConditions{match: `*`}, holds},
		{readConditions{match: `"x"`}, failed},
		{readConditions{match: `"e"`, unmodified: before}, holds},
		{readConditions{match: `"x"`, unmodified: after}, failed},
		{readConditions{unmodified: before}, failed},
		{readConditions{unmodified: at}, holds},
		{readConditions{unmodified: "nonsense"}, holds},
		{readConditions{noneMatch: `"e"`}, notModified},
		{readConditions{noneMatch: `W/"e"`}, notModified},
		{readConditions{noneMatch: `*`}, notModified},
		{readConditions{noneMatch: `"x"`}, holds},
		{readConditions{noneMatch: `"x"`, modified: after}, holds},
		{readConditions{noneMatch: `"e"`, modified: before}, notModified},
		{readConditions{modified: before}, holds},
		{readConditions{modified: at}, notModified},
		{readConditions{modified: "nonsense"}, holds},
		{readConditions{match: `"e"`, noneMatch: `"e"`}, notModified},
		{readConditions{match: `"x"`, noneMatch: `"e"`}, failed},
	} {
		if got := c.rc.evaluate("e", modified); got != c.want {
			t.Errorf("%+v: got %d, want %d", c.rc, got, c.want)
		}
	}
}

func TestCopySource(t *testing.T) {
	const id = "00000000000000ff"
	for _, c := range []struct {
		s    string
		want meta.VersionRef
		code string
	}{
		{"b/k", meta.VersionRef{Bucket: "b", Key: "k"}, ""},
		{"/b/k", meta.VersionRef{Bucket: "b", Key: "k"}, ""},
		{"/b//k", meta.VersionRef{Bucket: "b", Key: "/k"}, ""},
		{"b%2Fk%20l", meta.VersionRef{Bucket: "b", Key: "k l"}, ""},
		{"b/k+l", meta.VersionRef{Bucket: "b", Key: "k+l"}, ""},
		{"b/k?versionId=" + id, meta.VersionRef{Bucket: "b", Key: "k", ID: 255}, ""},
		{"b/k?versionId=null", meta.VersionRef{Bucket: "b", Key: "k", Null: true}, ""},
		{"b/k?x", meta.VersionRef{Bucket: "b", Key: "k?x"}, ""},
		{"b/k%3FversionId=null", meta.VersionRef{Bucket: "b", Key: "k?versionId=null"}, ""},
		{"b/k?versionId=", meta.VersionRef{}, "InvalidArgument"},
		{"b/k?versionId=xyz", meta.VersionRef{}, "InvalidArgument"},
		{"", meta.VersionRef{}, "InvalidArgument"},
		{"b", meta.VersionRef{}, "InvalidArgument"},
		{"/b/", meta.VersionRef{}, "InvalidArgument"},
		{"//k", meta.VersionRef{}, "InvalidArgument"},
		{"b/%zz", meta.VersionRef{}, "InvalidArgument"},
		{"b/%00", meta.VersionRef{}, "InvalidURI"},
		{"b/" + strings.Repeat("k", 1025), meta.VersionRef{}, "KeyTooLongError"},
	} {
		got, err := copySource(c.s)
		if codeOf(err) != c.code || err == nil && got != c.want {
			t.Errorf("%.50q: got %+v %v, want %+v %s", c.s, got, err, c.want, c.code)
		}
	}
}

func FuzzCopySource(f *testing.F) {
	f.Add("/b/k?versionId=null")
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := copySource(s)
		if err == nil && (ref.Bucket == "" || ref.Key == "" || len(ref.Key) > 1024 || strings.Contains(ref.Bucket, "/")) {
			t.Errorf("%q: accepted %+v", s, ref)
		}
	})
}

func TestTokens(t *testing.T) {
	for _, after := range []string{"a", "a/b", "\x01", "€", strings.Repeat("k", 1024)} {
		if got, err := decodeToken(encodeToken(after)); err != nil || got != after {
			t.Errorf("%q: got %q, %v", after, got, err)
		}
	}
	for _, token := range []string{"x", "1!", "2YQ", "1" + strings.Repeat("YQ", 9000)} {
		if _, err := decodeToken(token); codeOf(err) != "InvalidArgument" {
			t.Errorf("%.20q: got %v", token, err)
		}
	}
}

func TestDecodeXML(t *testing.T) {
	bomb := `<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>`
	deep := strings.Repeat("<Delete>", 200_000)
	for _, c := range []struct {
		name, doc string
		good      bool
	}{
		{"plain", `<Delete><Object><Key>k</Key></Object></Delete>`, true},
		{"with namespace", `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Object><Key>k</Key></Object></Delete>` + "\n", true},
		{"predefined entity", `<Delete><Object><Key>&#107;</Key></Object></Delete>`, true},
		{"other root", `<Remove><Object><Key>k</Key></Object></Remove>`, false},
		{"entity bomb", bomb, false},
		{"unknown entity", `<Delete><Object><Key>&nbsp;</Key></Object></Delete>`, false},
		{"external entity", `<!DOCTYPE d SYSTEM "file:///etc/passwd"><Delete/>`, false},
		{"deep", deep, false},
		{"deep and closed", deep + strings.Repeat("</Delete>", 200_000), false},
		{"long", `<Delete>` + strings.Repeat("<Object/>", maxXMLElements) + `</Delete>`, false},
		{"cut", `<Delete><Object><Key>k</Key>`, false},
		{"crossed", `<Delete><Object></Delete></Object>`, false},
		{"two roots", `<Delete></Delete><Delete></Delete>`, false},
		{"text behind", `<Delete></Delete>x`, false},
		{"empty", ``, false},
		{"not XML", `{"a":1}`, false},
	} {
		var d deleteDoc
		start := time.Now()
		err := decodeXML([]byte(c.doc), "Delete", &d)
		if (err == nil) != c.good || err != nil && codeOf(err) != "MalformedXML" {
			t.Errorf("%s: got %v", c.name, err)
		}
		if c.good && (len(d.Objects) != 1 || d.Objects[0].Key != "k") {
			t.Errorf("%s: got %+v", c.name, d)
		}
		if took := time.Since(start); took > 20*time.Second { // slow machines and the race detector; a bomb takes for ever
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}

func FuzzDocuments(f *testing.F) {
	f.Add([]byte(`<Delete><Quiet>true</Quiet><Object><Key>k</Key><VersionId>null</VersionId></Object></Delete>`))
	f.Add([]byte(`<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"x"</ETag></Part></CompleteMultipartUpload>`))
	f.Add([]byte(`<!DOCTYPE a [<!ENTITY b "c">]><Tagging><TagSet><Tag><Key>&b;</Key></Tag></TagSet></Tagging>`))
	f.Add([]byte(`<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm>` +
		`</ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>`))
	f.Add([]byte(`<NotificationConfiguration><QueueConfiguration><Queue>arn:cairn:sqs::q:webhook</Queue><Event>s3:ObjectCreated:*</Event>` +
		`<Filter><S3Key><FilterRule><Name>prefix</Name><Value>a</Value></FilterRule></S3Key></Filter></QueueConfiguration></NotificationConfiguration>`))
	f.Add([]byte(`<LifecycleConfiguration><Rule><Filter><And><Prefix>p</Prefix><Tag><Key>k</Key><Value>v</Value></Tag></And></Filter><Status>Enabled</Status>` +
		`<Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>`))
	f.Add([]byte(`<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var told notificationDoc
		if decodeXML(doc, "NotificationConfiguration", &told) == nil {
			if rules, err := told.parse(); err == nil && len(rules.Rules) != len(told.Queues) {
				t.Errorf("%d rules of %d", len(rules.Rules), len(told.Queues))
			}
		}
		var life lifecycleDoc
		if decodeXML(doc, "LifecycleConfiguration", &life) == nil {
			if rules, err := life.parse(); err == nil && len(rules.Rules) != len(life.Rules) {
				t.Errorf("%d rules of %d", len(rules.Rules), len(life.Rules))
			}
		}
		var cors corsDoc
		if decodeXML(doc, "CORSConfiguration", &cors) == nil {
			for i := range cors.CORSRule {
				_ = cors.CORSRule[i].check()
			}
			cors.match("http://a", "GET", []string{"x-a"})
		}
		var enc encryptionDoc
		if decodeXML(doc, "ServerSideEncryptionConfiguration", &enc) == nil {
			if r, err := enc.rule(); err == nil && r.Scheme != cairn.SSES3 && r.Scheme != cairn.SSEKMS {
				t.Errorf("a rule of %q", r.Scheme)
			}
		}
		var d deleteDoc
		if decodeXML(doc, "Delete", &d) == nil && len(d.Objects) > len(doc) {
			t.Error("more objects than bytes")
		}
		if parts, err := parseParts(doc); err == nil && len(parts) == 0 {
			t.Error("no parts and no error")
		}
		var tags taggingDoc
		if decodeXML(doc, "Tagging", &tags) == nil && tags.TagSet != nil {
			for _, tag := range tags.TagSet.Tag {
				if len(tag.Key) > len(doc) {
					t.Error("a key longer than the document")
				}
			}
		}
	})
}

func TestTagHeader(t *testing.T) {
	tags, err := parseTagHeader("a=1&b=x%20y&c=")
	if err != nil || len(tags) != 3 || tags["b"] != "x y" {
		t.Errorf("got %v, %v", tags, err)
	}
	for _, s := range []string{"a=1&a=2", "=1", "aws:x=1", strings.Repeat("k", 129) + "=1", "k=" + strings.Repeat("v", 257),
		"a&b&c&d&e&f&g&h&i&j&k", "a=%zz"} {
		if _, err := parseTagHeader(s); err == nil {
			t.Errorf("%.30q passed", s)
		}
	}
}

func TestWithoutChunked(t *testing.T) {
	for in, want := range map[string]string{"aws-chunked": "", "gzip": "gzip", "aws-chunked,gzip": "gzip", "gzip, aws-chunked": "gzip",
		"aws-chunked, gzip, br": "gzip,br"} {
		if got := withoutChunked(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestKindTableCoversEveryKind(t *testing.T) {
	for _, row := range kindTable {
		api, ok := translate(row.kind)
		if !ok || api.status < 400 || api.code == "" || api.message == "" {
			t.Errorf("%v: got %+v", row.kind, api)
		}
	}
	if api, ok := translate(errors.New("something else")); ok || api.status != http.StatusInternalServerError {
		t.Errorf("unknown error: got %+v, %v", api, ok)
	}
}
