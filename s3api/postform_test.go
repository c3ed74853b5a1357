package s3api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"mime/multipart"
	"strings"
	"testing"
	"time"
)

// formFields are a form's fields in order: name, value, name, value …
type formFields []string

func (f formFields) without(name string) formFields {
	for i := 0; i < len(f); i += 2 {
		if f[i] == name {
			return append(f[:i:i], f[i+2:]...)
		}
	}
	return f
}

func (f formFields) with(name, value string) formFields {
	return append(append(formFields{}, f.without(name)...), name, value)
}

// signedForm signs a policy with these conditions and returns the fields of its form.
func signedForm(key string, expires time.Time, conditions string) formFields {
	now := time.Now().UTC()
	date, day := now.Format("20060102T150405Z"), now.Format("20060102")
	credential := key + "/" + day + "/us-east-1/s3/aws4_request"
	policy := fmt.Sprintf(`{"expiration":%q,"conditions":[{"x-amz-algorithm":"AWS4-HMAC-SHA256"},{"x-amz-credential":%q},{"x-amz-date":%q}%s]}`,
		expires.UTC().Format("2006-01-02T15:04:05Z"), credential, date, conditions)
	return signPolicy(formFields{"x-amz-algorithm", "AWS4-HMAC-SHA256", "x-amz-credential", credential, "x-amz-date", date}, policy, day)
}

func signPolicy(f formFields, policy, day string) formFields {
	text := base64.StdEncoding.EncodeToString([]byte(policy))
	k := []byte("AWS4" + testSecret)
	for _, s := range []string{day, "us-east-1", "s3", "aws4_request", text} {
		mac := hmac.New(sha256.New, k)
		mac.Write([]byte(s))
		k = mac.Sum(nil)
	}
	return append(f, "policy", text, "x-amz-signature", hex.EncodeToString(k))
}

// post sends a form whose file is body.
func (a *accessRig) post(t *testing.T, path string, fields formFields, body string) answer {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		if err := w.WriteField(fields[i], fields[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if body != "none" {
		part, err := w.CreateFormFile("file", `C:\dir\photo.jpg`)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, body)
	}
	w.Close()
	return a.do(req{method: "POST", path: path, key: "-", header: []string{"Content-Type", w.FormDataContentType()}, body: b.String()})
}

const formConditions = `,{"bucket":"anns"},["starts-with","$key","up/"],["content-length-range",2,10],["starts-with","$Content-Type",""],` +
	`["starts-with","$x-amz-meta-tag",""],["eq","$success_action_status","201"]`

// TestPostForm posts forms as browsers do, and as they should not.
func TestPostForm(t *testing.T) {
	a := newAccessRig(t, nil)
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", header: "X-Amz-Object-Ownership: ObjectWriter", want: ok},
		{who: "ben", method: "PUT", path: "/bens", want: ok},
	})
	soon := time.Now().Add(time.Hour)
	fields := func() formFields {
		return signedForm("annKEY", soon, formConditions).with("key", "up/${filename}").with("Content-Type", "image/jpeg").
			with("x-amz-meta-tag", "blue").with("success_action_status", "201")
	}
	got := a.post(t, "/anns", fields(), "12345")
	if got.status != 201 || !strings.Contains(string(got.body), "<Key>up/photo.jpg</Key>") || !strings.Contains(got.header.Get("Location"), "/anns/up/photo.jpg") {
		t.Errorf("a good form: got %d %s %v", got.status, got.body, got.header)
	}
	if v, err := a.head1("anns", "up/photo.jpg"); err != nil || v.Size != 5 || v.Headers["Content-Type"] != "image/jpeg" ||
		v.Headers["X-Amz-Meta-Tag"] != "blue" || v.Owner != a.ids["ann"] {
		t.Errorf("stored: got %+v, %v", v, err)
	}
	for _, c := range []struct {
		name, path string
		fields     formFields
		body, want string
	}{
		{"no condition speaks of the field", "/anns", fields().with("x-amz-meta-other", "x"), "12345", "403 AccessDenied"},
		{"an ignored field", "/anns", fields().with("x-ignore-this", "x"), "12345", "201"},
		{"a condition without its field", "/anns", fields().without("success_action_status"), "12345", "403 AccessDenied"},
		{"another key", "/anns", fields().with("key", "down/x"), "12345", "403 AccessDenied"},
		{"another bucket", "/bens", fields(), "12345", "403 AccessDenied"},
		{"too long", "/anns", fields(), "12345678901", "400 EntityTooLarge"},
		{"too short", "/anns", fields(), "1", "400 EntityTooSmall"},
		{"no key", "/anns", fields().without("key"), "12345", "400 InvalidArgument"},
		{"no file", "/anns", fields(), "none", "400 InvalidArgument"},
		{"no policy", "/anns", fields().without("policy"), "12345", "400 InvalidArgument"},
		{"no signature", "/anns", fields().without("x-amz-signature"), "12345", "400 InvalidArgument"},
		{"wrong signature", "/anns", fields().with("x-amz-signature", strings.Repeat("0", 64)), "12345", "403 SignatureDoesNotMatch"},
		{"unknown key", "/anns", signedForm("nobody", soon, formConditions).with("key", "up/x"), "12345", "403 InvalidAccessKeyId"},
		{"expired", "/anns", signedForm("annKEY", time.Now().Add(-time.Minute), formConditions).with("key", "up/x"), "12345", "403 AccessDenied"},
		{"policy of another", "/anns", signedForm("benKEY", soon, formConditions).with("key", "up/x").with("success_action_status", "201").
			with("Content-Type", "a/b").with("x-amz-meta-tag", ""), "12345", "403 AccessDenied"},
		{"nobody", "/anns", formFields{"key", "up/x"}, "12345", "403 AccessDenied"},
		{"too many fields", "/anns", fields().with("x-ignore-long", strings.Repeat("x", maxFormBytes)), "12345", "400 MaxPostPreDataLengthExceeded"},
		{"changed policy", "/anns", fields().with("policy", base64.StdEncoding.EncodeToString([]byte("{}"))), "12345", "403 SignatureDoesNotMatch"},
	} {
		before := len(a.keys("anns"))
		got := a.post(t, c.path, c.fields, c.body)
		if is := strings.TrimSpace(itoa(int64(got.status)) + " " + got.code); is != c.want {
			t.Errorf("%s: got %s, want %s: %.300s", c.name, is, c.want, got.body)
		}
		if after := len(a.keys("anns")); after != before {
			t.Errorf("%s: %d objects became %d", c.name, before, after)
		}
	}
	for _, c := range []struct{ name, conditions string }{
		{"one length", `,["content-length-range",0]`},
		{"negative length", `,["content-length-range",-1,10]`},
		{"no condition", `,{}`},
		{"unknown operation", `,["like","$key","x"]`},
		{"no dollar", `,["eq","key","x"]`},
		{"number", `,{"key":1}`},
	} {
		a.post(t, "/anns", signedForm("annKEY", soon, c.conditions).with("key", "x"), "1").want(t, c.name, 400, "InvalidPolicyDocument")
	}
	day := time.Now().UTC().Format("20060102")
	for _, policy := range []string{`{"conditions":[]}`, `{"Expiration":"2099-01-01T00:00:00Z","conditions":[]}`, `{"expiration":"2099-01-01T00:00:00Z"}`,
		`{"expiration":"tomorrow","conditions":[]}`, `{"expiration":"2099-01-01T00:00:00Z","CONDITIONS":[]}`, `[]`, `{`} {
		f := signedForm("annKEY", soon, "").without("policy").without("x-amz-signature")
		a.post(t, "/anns", signPolicy(f, policy, day).with("key", "x"), "1").want(t, policy, 400, "InvalidPolicyDocument")
	}
}

// TestPostFormAnswers: redirects, statuses, old signatures, and forms without any.
func TestPostFormAnswers(t *testing.T) {
	a := newAccessRig(t, nil)
	a.play(t, []step{{who: "ann", method: "PUT", path: "/anns", header: "X-Amz-Object-Ownership: ObjectWriter\nX-Amz-Acl: public-read-write", want: ok}})
	got := a.post(t, "/anns", formFields{"key", "k", "success_action_redirect", "http://example.com/done?x=1"}, "body")
	if got.status != 303 || !strings.HasPrefix(got.header.Get("Location"), "http://example.com/done?x=1&bucket=anns&key=k&etag=%22") {
		t.Errorf("redirect: got %d %q", got.status, got.header.Get("Location"))
	}
	for status, want := range map[string]int{"": 204, "200": 200, "204": 204, "404": 204} {
		if got := a.post(t, "/anns", formFields{"key", "k", "success_action_status", status}, "body"); got.status != want {
			t.Errorf("status %q: got %d %s, want %d", status, got.status, got.body, want)
		}
	}
	a.post(t, "/anns", formFields{"key", "public", "acl", "public-read"}, "body").want(t, "a public form", 204, "")
	a.do(req{method: "GET", path: "/anns/public", key: "-"}).want(t, "reading it", 200, "")
	a.post(t, "/anns", formFields{"key", "tagged", "tagging", "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"}, "body").want(t, "tags", 204, "")

	policy := base64.StdEncoding.EncodeToString([]byte(`{"expiration":"2099-01-01T00:00:00Z","conditions":[{"bucket":"anns"},["starts-with","$key",""]]}`))
	mac := hmac.New(sha1.New, []byte(testSecret))
	mac.Write([]byte(policy))
	v2 := formFields{"key", "v2", "AWSAccessKeyId", "annKEY", "policy", policy, "signature", base64.StdEncoding.EncodeToString(mac.Sum(nil))}
	a.post(t, "/anns", v2, "body").want(t, "version 2", 204, "")
	anywhere := base64.StdEncoding.EncodeToString([]byte(`{"expiration":"2099-01-01T00:00:00Z","conditions":[["starts-with","$key",""]]}`))
	mac.Reset()
	mac.Write([]byte(anywhere))
	a.post(t, "/anns", v2.with("policy", anywhere).with("signature", base64.StdEncoding.EncodeToString(mac.Sum(nil))), "body").
		want(t, "a policy that speaks of no bucket", 403, "AccessDenied")
	a.post(t, "/anns", v2.with("signature", "AAAA"), "body").want(t, "version 2, forged", 403, "SignatureDoesNotMatch")
	a.do(req{method: "POST", path: "/anns", key: "-", header: []string{"Content-Type", "text/plain"}, body: "x"}).want(t, "no form", 412, "PreconditionFailed")

	// A form that breaks off is no object.
	a.do(req{method: "POST", path: "/anns", key: "-", header: []string{"Content-Type", "multipart/form-data; boundary=B"},
		body: "--B\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\ncut\r\n--B\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhalf of"}).
		want(t, "no end", 400, "IncompleteBody")
	if _, err := a.head1("anns", "cut"); err == nil {
		t.Error("half a form became an object")
	}
}

func FuzzPostPolicy(f *testing.F) {
	f.Add([]byte(`{"expiration":"2099-01-01T00:00:00Z","conditions":[{"bucket":"b"},["starts-with","$key","u"],["content-length-range",1,"2"]]}`), "key", "user")
	f.Add([]byte(`{"expiration":"","conditions":[[]]}`), "", "")
	f.Fuzz(func(t *testing.T, doc []byte, name, value string) {
		p, err := parsePostPolicy(base64.StdEncoding.EncodeToString(doc))
		if err != nil {
			return
		}
		if len(p.conditions) > maxPostConditions || p.ranged && (p.min < 0 || p.max < 0) {
			t.Fatalf("got %+v", p)
		}
		fields := map[string]string{strings.ToLower(name): value, "not in any policy \x00": ""}
		if p.check(fields, time.Unix(0, 0)) == nil {
			t.Fatalf("a field that no condition speaks of was let through: %s", doc)
		}
	})
}
