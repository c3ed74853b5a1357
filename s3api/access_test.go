package s3api

import (
	"crypto/md5"
	"strings"
	"testing"

	"cairn/iam"
	"cairn/object/objecttest"
)

// accessRig is a frontend with users: ann and ben own what they make, adm may do everything. Their secrets are testSecret.
type accessRig struct {
	*rig
	store *iam.Store
	ids   map[string]string // canonical IDs
	num   map[string]string // account numbers
}

func newAccessRig(t *testing.T, change func(*Config)) *accessRig {
	t.Helper()
	a := &accessRig{ids: map[string]string{}, num: map[string]string{}}
	stack := objecttest.Open(t, objecttest.Config{})
	ids, err := iam.New(iam.Config{AccessKey: testKey, SecretKey: testSecret, Rows: stack.Meta, Seal: [32]byte{1}, MaxStale: 1 << 50})
	if err != nil {
		t.Fatal(err)
	}
	a.store = ids
	for name, policy := range map[string]string{"ann": "readwrite", "ben": "readwrite", "adm": "admin", "rdr": "readonly"} {
		u, _, err := ids.CreateUser(t.Context(), iam.NewUser{Name: name, AccessKey: name + "KEY", SecretKey: testSecret,
			Policies: []string{policy}, Email: name + "@example.com"})
		if err != nil {
			t.Fatal(err)
		}
		a.ids[name], a.num[name] = u.ID, u.Number
	}
	a.rig = serveRig(t, stack, func(c *Config) {
		c.Identities = ids
		if change != nil {
			change(c)
		}
	})
	return a
}

// step is one request of a story: who, what, and the answer. "{ann}" stands for ann's canonical ID, "{ann#}" for her number.
type step struct {
	who    string // user's name, "" for nobody, "root"
	method string
	path   string
	header string // "Name: value" lines
	body   string
	want   string // "200", "403 AccessDenied"
	has    string // part of the answer's body
}

func (a *accessRig) expand(s string) string {
	for name, id := range a.ids {
		s = strings.NewReplacer("{"+name+"}", id, "{"+name+"#}", a.num[name]).Replace(s)
	}
	return s
}

func (a *accessRig) play(t *testing.T, steps []step) {
	t.Helper()
	for i, s := range steps {
		q := req{method: s.method, path: s.path, body: a.expand(s.body), key: s.who + "KEY"}
		switch s.who {
		case "":
			q.key = "-"
		case "root":
			q.key = testKey
		}
		for line := range strings.Lines(a.expand(s.header)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			q.header = append(q.header, name, value)
		}
		got := a.do(q)
		want := strings.TrimSpace(s.want)
		if is := strings.TrimSpace(itoa(int64(got.status)) + " " + got.code); is != want || !strings.Contains(string(got.body), a.expand(s.has)) {
			t.Errorf("step %d, %s %s %s: got %s, want %s %q: %.600s", i+1, s.who, s.method, s.path, is, want, s.has, got.body)
		}
	}
}

const (
	ok        = "200"
	gone      = "204"
	forbidden = "403 AccessDenied"
)

func policyText(statements string) string {
	return `{"Version":"2012-10-17","Statement":[` + statements + `]}`
}

// TestOwnBuckets: a user sees and reaches its own buckets, and nobody else's.
func TestOwnBuckets(t *testing.T) {
	a := newAccessRig(t, nil)
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", want: ok},
		{who: "ann", method: "PUT", path: "/anns/k", body: "x", want: ok},
		{who: "ann", method: "GET", path: "/anns/k", want: ok, has: "x"},
		{who: "ann", method: "GET", path: "/", want: ok, has: "<ID>{ann}</ID><DisplayName>ann</DisplayName></Owner><Buckets><Bucket><Name>anns</Name>"},
		{who: "ben", method: "GET", path: "/", want: ok, has: "<Buckets></Buckets>"},
		{who: "ben", method: "GET", path: "/anns/k", want: forbidden},
		{who: "ben", method: "GET", path: "/anns/absent", want: forbidden},
		{who: "ben", method: "GET", path: "/anns", want: forbidden},
		{who: "ben", method: "PUT", path: "/anns/k", body: "y", want: forbidden},
		{who: "ben", method: "DELETE", path: "/anns/k", want: forbidden},
		{who: "ben", method: "DELETE", path: "/anns", want: forbidden},
		{who: "ben", method: "PUT", path: "/anns", want: "409 BucketAlreadyExists"},
		{who: "ben", method: "GET", path: "/anns?policy", want: forbidden},
		{who: "ben", method: "PUT", path: "/bens", want: ok},
		{who: "ben", method: "PUT", path: "/bens/stolen", header: "X-Amz-Copy-Source: /anns/k", want: forbidden},
		{who: "", method: "GET", path: "/anns/k", want: forbidden},
		{who: "", method: "GET", path: "/", want: forbidden},
		{who: "ann", method: "GET", path: "/anns/absent", want: "404 NoSuchKey"},
		{who: "ben", method: "GET", path: "/nobodys/k", want: "404 NoSuchBucket"},
		{who: "adm", method: "GET", path: "/anns/k", want: ok, has: "x"},
		{who: "adm", method: "GET", path: "/", want: ok, has: "<Name>anns</Name>"},
		{who: "root", method: "GET", path: "/anns/k", want: ok, has: "x"},
		{who: "rdr", method: "PUT", path: "/readers", want: forbidden},
		{who: "ann", method: "GET", path: "/anns/k", header: "X-Amz-Expected-Bucket-Owner: {ann}", want: ok},
		{who: "ann", method: "GET", path: "/anns/k", header: "X-Amz-Expected-Bucket-Owner: {ann#}", want: ok},
		{who: "ann", method: "GET", path: "/anns/k", header: "X-Amz-Expected-Bucket-Owner: {ben#}", want: forbidden},
		{who: "ann", method: "DELETE", path: "/anns/k", want: gone},
		{who: "ann", method: "DELETE", path: "/anns", want: gone},
	})
}

// TestBucketPolicies opens and shuts buckets by policy.
func TestBucketPolicies(t *testing.T) {
	a := newAccessRig(t, nil)
	put := func(statements, want string) step {
		return step{who: "ann", method: "PUT", path: "/anns?policy", body: policyText(statements), want: want}
	}
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", want: ok},
		{who: "ann", method: "PUT", path: "/anns/k", body: "x", header: "X-Amz-Tagging: team=red", want: ok},
		{who: "ann", method: "PUT", path: "/anns/b/1", body: "y", want: ok},
		{who: "ann", method: "GET", path: "/anns?policy", want: "404 NoSuchBucketPolicy"},
		{who: "ann", method: "GET", path: "/anns?policyStatus", want: ok, has: "<IsPublic>false</IsPublic>"},

		put(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::{ben#}:user/ben"},"Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::anns","arn:aws:s3:::anns/*"]}`, gone),
		{who: "ann", method: "GET", path: "/anns?policy", want: ok, has: `"Principal":{"AWS":"arn:aws:iam::{ben#}:user/ben"}`},
		{who: "ann", method: "GET", path: "/anns?policyStatus", want: ok, has: "<IsPublic>false</IsPublic>"},
		{who: "ben", method: "GET", path: "/anns/k", want: ok, has: "x"},
		{who: "ben", method: "GET", path: "/anns", want: ok, has: "<Key>k</Key>"},
		{who: "ben", method: "GET", path: "/anns/absent", want: "404 NoSuchKey"},
		{who: "ben", method: "PUT", path: "/anns/k", body: "z", want: forbidden},
		{who: "rdr", method: "GET", path: "/anns/k", want: forbidden},
		{who: "", method: "GET", path: "/anns/k", want: forbidden},

		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/b/*"}`, gone),
		{who: "ann", method: "GET", path: "/anns?policyStatus", want: ok, has: "<IsPublic>true</IsPublic>"},
		{who: "", method: "GET", path: "/anns/b/1", want: ok, has: "y"},
		{who: "", method: "GET", path: "/anns/k", want: forbidden},
		{who: "ben", method: "GET", path: "/anns/k", want: forbidden},

		put(`{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/k"}`, gone),
		{who: "ann", method: "GET", path: "/anns/k", want: forbidden},
		{who: "adm", method: "GET", path: "/anns/k", want: forbidden},
		{who: "root", method: "GET", path: "/anns/k", want: forbidden},
		{who: "ann", method: "GET", path: "/anns/b/1", want: ok},

		put(`{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::anns","arn:aws:s3:::anns/*"]}`, gone),
		{who: "ann", method: "DELETE", path: "/anns?policy", want: forbidden},
		{who: "root", method: "DELETE", path: "/anns?policy", want: gone},
		{who: "ann", method: "GET", path: "/anns/k", want: ok},

		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Condition":{"StringEquals":{"s3:ExistingObjectTag/team":"red"}}}`, gone),
		{who: "ben", method: "GET", path: "/anns/k", want: ok},
		{who: "ben", method: "GET", path: "/anns/b/1", want: forbidden},
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::anns/*"},`+
			`{"Effect":"Allow","Principal":"*","Action":"s3:PutObjectTagging","Resource":"arn:aws:s3:::anns/*","Condition":{"StringEquals":{"s3:RequestObjectTag/team":"red"}}}`, gone),
		{who: "ben", method: "PUT", path: "/anns/t", header: "X-Amz-Tagging: team=red", want: ok},
		{who: "ben", method: "PUT", path: "/anns/t", header: "X-Amz-Tagging: team=blue", want: forbidden},
		{who: "ben", method: "PUT", path: "/anns/t?tagging", body: "<Tagging><TagSet><Tag><Key>team</Key><Value>red</Value></Tag></TagSet></Tagging>", want: ok},
		{who: "ben", method: "PUT", path: "/anns/t?tagging", body: "<Tagging><TagSet><Tag><Key>team</Key><Value>blue</Value></Tag></TagSet></Tagging>", want: forbidden},
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::anns","Condition":{"StringLike":{"s3:prefix":"b/*"},"NumericLessThanEquals":{"s3:max-keys":10}}}`, gone),
		{who: "ben", method: "GET", path: "/anns?prefix=b/&max-keys=10", want: ok},
		{who: "ben", method: "GET", path: "/anns?prefix=b/&max-keys=11", want: forbidden},
		{who: "ben", method: "GET", path: "/anns?prefix=c/&max-keys=10", want: forbidden},
		{who: "ben", method: "GET", path: "/anns", want: forbidden},
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:PutObject","Resource":"arn:aws:s3:::anns/*","Condition":{"StringLike":{"s3:x-amz-copy-source":"bens/open/*"}}}`, gone),
		{who: "ben", method: "PUT", path: "/bens", want: ok},
		{who: "ben", method: "PUT", path: "/bens/open/1", body: "1", want: ok},
		{who: "ben", method: "PUT", path: "/bens/shut/1", body: "1", want: ok},
		{who: "ben", method: "PUT", path: "/anns/c", header: "X-Amz-Copy-Source: /bens/open/1", want: ok},
		{who: "ben", method: "PUT", path: "/anns/c", header: "X-Amz-Copy-Source: /bens/shut/1", want: forbidden},
		{who: "ben", method: "PUT", path: "/anns/c", body: "1", want: forbidden},
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"},"Bool":{"aws:SecureTransport":"false"}}}`, gone),
		{who: "", method: "GET", path: "/anns/k", want: ok},
		{who: "", method: "GET", path: "/anns/k", header: "X-Forwarded-For: 10.0.0.1", want: ok},
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Condition":{"StringLike":{"aws:Referer":"http://good/*"}}}`, gone),
		{who: "", method: "GET", path: "/anns/k", header: "Referer: http://good/page", want: ok},
		{who: "", method: "GET", path: "/anns/k", header: "Referer: http://bad/page", want: forbidden},
		{who: "", method: "GET", path: "/anns/k", want: forbidden},

		put(``, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Permit","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:ListBucket","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:Nonsense","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"admin:Status","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::{ben#}:user/nobody"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*"}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Condition":{"StringEqual":{"s3:prefix":"a"}}}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Condition":{"StringEquals":{"s3:nonsense":"a"}}}`, "400 MalformedPolicy"),
		put(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*","Conditions":{}}`, "400 MalformedPolicy"),
		{who: "ann", method: "DELETE", path: "/anns?policy", want: gone},
		{who: "", method: "GET", path: "/anns/k", header: "Referer: http://good/page", want: forbidden},
	})
}

// TestTrustedProxy: X-Forwarded-For counts behind a proxy that the configuration names, and its last hop that is none.
func TestTrustedProxy(t *testing.T) {
	a := newAccessRig(t, func(c *Config) { c.TrustedProxies = prefixes("127.0.0.0/8", "10.1.0.0/16") })
	a.play(t, []step{
		{who: "ann", method: "PUT", path: "/anns", want: ok},
		{who: "ann", method: "PUT", path: "/anns/k", body: "x", want: ok},
		{who: "ann", method: "PUT", path: "/anns?policy", want: gone, body: policyText(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",` +
			`"Resource":"arn:aws:s3:::anns/*","Condition":{"IpAddress":{"aws:SourceIp":["192.0.2.0/24","2001:db8::/32"]}}}`)},
		{method: "GET", path: "/anns/k", header: "X-Forwarded-For: 192.0.2.7", want: ok},
		{method: "GET", path: "/anns/k", header: "X-Forwarded-For: 192.0.2.7, 10.1.2.3", want: ok},
		{method: "GET", path: "/anns/k", header: "X-Forwarded-For: 2001:db8::1", want: ok},
		{method: "GET", path: "/anns/k", header: "X-Forwarded-For: 192.0.2.7, 203.0.113.9", want: forbidden},
		{method: "GET", path: "/anns/k", header: "X-Forwarded-For: nonsense", want: forbidden},
		{method: "GET", path: "/anns/k", want: forbidden},
	})
}

func md5Of(s string) string {
	sum := md5.Sum([]byte(s))
	return base64String(sum[:])
}
