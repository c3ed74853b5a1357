package iam

import (
	"testing"
)

func TestSimulationsNameWhatDecides(t *testing.T) {
	policy := func(text string) *Policy {
		p, err := ParsePolicy([]byte(`{"Version":"2012-10-17","Statement":[` + text + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	bucket, err := ParseBucketPolicy([]byte(`{"Version":"2012-10-17","Statement":[{"Sid":"Keep","Effect":"Deny","Principal":"*",
		"Action":"s3:DeleteObject","Resource":"arn:aws:s3:::b/*"},{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
		"Resource":"arn:aws:s3:::b/*"}]}`), "b")
	if err != nil {
		t.Fatal(err)
	}
	write := policy(`{"Effect":"Deny","Action":"s3:PutObject","Resource":"arn:aws:s3:::b/secret/*"},{"Sid":"All","Effect":"Allow","Action":"s3:*","Resource":"*"}`)
	ann := Identity{Account: "ann", Number: "1", AccessKey: "AK", grants: &grants{policies: []*Policy{write}, names: []string{"write"}}}
	robot := ann
	robot.grants = ann.grants.limited(policy(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`))
	for _, c := range []struct {
		name string
		id   Identity
		r    Request
		want verdict
		by   Simulated
	}{
		{"a user's policy", ann, Request{Action: "s3:PutObject", Bucket: "b", Key: "k"}, allow, Simulated{Policy: "write", Statement: "All"}},
		{"its denial", ann, Request{Action: "s3:PutObject", Bucket: "b", Key: "secret/k"}, deny, Simulated{Policy: "write", Statement: "Statement[0]"}},
		{"a bucket's denial", ann, Request{Action: "s3:DeleteObject", Bucket: "b", Key: "k", Policy: bucket}, deny, Simulated{Policy: "the bucket's policy", Statement: "Keep"}},
		{"a key's limit", robot, Request{Action: "s3:PutObject", Bucket: "b", Key: "k"}, deny, Simulated{Policy: "the key's policy"}},
		{"nobody, let in by the bucket", Identity{}, Request{Action: "s3:GetObject", Bucket: "b", Key: "k", Policy: bucket}, allow, Simulated{Policy: "the bucket's policy", Statement: "Statement[1]"}},
		{"nothing", Identity{Account: "x", AccessKey: "AK"}, Request{Action: "s3:GetObject", Bucket: "c", Key: "k"}, deny, Simulated{}},
	} {
		got := explain(&c.id, &c.r)
		if v := evaluate(&c.id, &c.r); v != c.want || got.Policy != c.by.Policy || got.Statement != c.by.Statement || got.Why == "" {
			t.Errorf("%s: got %d, %+v, want %d, %+v", c.name, v, got, c.want, c.by)
		}
	}
}
