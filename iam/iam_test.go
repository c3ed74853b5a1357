package iam

import (
	"errors"
	"strings"
	"testing"

	"cairn"
)

func TestEvaluate(t *testing.T) {
	root := Identity{Account: "root", AccessKey: "AK", Root: true}
	user := Identity{Account: "ann", AccessKey: "AK2"}
	with := func(statement string) Identity {
		p, err := ParsePolicy([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",` + statement + `}]}`))
		if err != nil {
			t.Fatal(err)
		}
		return Identity{Account: "ann", AccessKey: "AK2", grants: &grants{policies: []*Policy{p}}}
	}
	for _, c := range []struct {
		name string
		id   Identity
		req  Request
		want verdict
	}{
		{"root reads", root, Request{Action: "s3:GetObject", Bucket: "b", Key: "k"}, allow},
		{"root administers", root, Request{Action: "cairn:GetStatus", Bucket: "", Key: ""}, allow},
		{"all of S3 is not the store itself", with(`"Action":"*","Resource":"arn:aws:s3:::*"`), Request{Action: "cairn:GetStatus"}, deny},
		{"all but a bucket is not the store itself", with(`"Action":"*","NotResource":"arn:aws:s3:::b"`), Request{Action: "cairn:GetStatus"}, deny},
		{"everything is", with(`"Action":"*","Resource":"*"`), Request{Action: "cairn:GetStatus"}, allow},
		{"one action of the store", with(`"Action":"cairn:GetStatus","Resource":"*"`), Request{Action: "cairn:GetStatus"}, allow},
		{"and no other", with(`"Action":"cairn:GetStatus","Resource":"*"`), Request{Action: "cairn:CreateUser"}, deny},
		{"root without an action", root, Request{Action: "", Bucket: "b", Key: "k"}, deny},
		{"anonymous reads", Identity{}, Request{Action: "s3:GetObject", Bucket: "b", Key: "k"}, deny},
		{"anonymous lists buckets", Identity{}, Request{Action: "s3:ListAllMyBuckets", Bucket: "", Key: ""}, deny},
		{"anonymous that claims root", Identity{Root: true}, Request{Action: "s3:GetObject", Bucket: "b", Key: "k"}, deny},
		{"user without a policy", user, Request{Action: "s3:GetObject", Bucket: "b", Key: "k"}, deny},
	} {
		if got := evaluate(&c.id, &c.req); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestStore(t *testing.T) {
	s, err := New(Config{AccessKey: "AKIAROOT", SecretKey: "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	secret, id, err := s.Lookup("AKIAROOT", "")
	if want := (Identity{Account: DefaultAccount, Number: rootNumber, Name: DefaultAccount, AccessKey: "AKIAROOT", Root: true}); err != nil || secret != "correct horse" || id != want {
		t.Errorf("Lookup: got %q, %+v, %v", secret, id, err)
	}
	for _, key := range []string{"", "akiaroot", "AKIAROOT ", "AKIAROO"} {
		if secret, id, err := s.Lookup(key, ""); !errors.Is(err, cairn.ErrNotFound) || secret != "" || !id.Anonymous() {
			t.Errorf("Lookup(%q): got %q, %+v, %v", key, secret, id, err)
		}
	}
	if err := s.Authorize(&id, &Request{Action: "s3:PutObject", Bucket: "b", Key: "k"}); err != nil {
		t.Errorf("root: %v", err)
	}
	if err := s.Authorize(&Identity{}, &Request{Action: "s3:PutObject", Bucket: "b", Key: "k"}); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("anonymous: got %v, want %v", err, cairn.ErrForbidden)
	}
}

func TestConfigValidate(t *testing.T) {
	long := strings.Repeat("x", 129)
	for _, c := range []struct {
		access, secret string
		ok             bool
	}{
		{"abc", "12345678", true},
		{"minio.admin-1_x", "with space and / = ,", true},
		{"ab", "12345678", false},
		{long, "12345678", false},
		{"abc", "1234567", false},
		{"abc", long, false},
		{"a/bc", "12345678", false},
		{"a,bc", "12345678", false},
		{"a=bc", "12345678", false},
		{"a bc", "12345678", false},
		{"abcä", "12345678", false},
		{"", "", false},
	} {
		_, err := New(Config{AccessKey: c.access, SecretKey: c.secret})
		if (err == nil) != c.ok || (err != nil && !errors.Is(err, cairn.ErrInvalid)) {
			t.Errorf("New(%.20q, %.20q): got %v, want ok %t", c.access, c.secret, err, c.ok)
		}
	}
}

func TestAuthorizeAllocatesNothingForRoot(t *testing.T) {
	s, err := New(Config{AccessKey: "AKIAROOT", SecretKey: "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	_, id, _ := s.Lookup("AKIAROOT", "")
	who, r := &id, &Request{Action: "s3:GetObject", Bucket: "bucket", Key: "key"}
	if n := testing.AllocsPerRun(100, func() { s.Authorize(who, r) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
