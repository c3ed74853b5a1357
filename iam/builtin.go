package iam

import "slices"

// The built-in policies. All but admin are about the account's own buckets: another account's are reached by that bucket's
// policy, its access control list, or a policy that an administrator wrote.
const (
	AdminPolicy     = "admin"
	ReadWritePolicy = "readwrite"
	readOnlyPolicy  = "readonly"
	writeOnlyPolicy = "writeonly"
	diagnostics     = "diagnostics"
)

const ownBuckets = `"Resource":"arn:aws:s3:::*","Condition":{"StringEquals":{"s3:ResourceAccount":"${aws:PrincipalAccount}"}}}`

// builtins gives the policies that exist without being stored. A bucket that is not there yet has no account, so creating one
// is allowed beside.
var builtins = map[string]*Policy{
	AdminPolicy: builtin(`{"Effect":"Allow","Action":["s3:*","cairn:*","sts:*"],"Resource":"*"}`),
	ReadWritePolicy: builtin(`{"Effect":"Allow","Action":["s3:ListAllMyBuckets","s3:CreateBucket"],"Resource":"*"},` +
		`{"Effect":"Allow","Action":"s3:*",` + ownBuckets),
	readOnlyPolicy: builtin(`{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"},` +
		`{"Effect":"Allow","Action":["s3:Get*","s3:List*"],` + ownBuckets),
	writeOnlyPolicy: builtin(`{"Effect":"Allow","Action":["s3:PutObject","s3:PutObjectTagging","s3:AbortMultipartUpload"],` + ownBuckets),
	diagnostics:     builtin(`{"Effect":"Allow","Action":["cairn:Console","cairn:Get*","cairn:List*"],"Resource":"*"}`),
}

func builtin(statements string) *Policy {
	p, err := ParsePolicy([]byte(`{"Version":"2012-10-17","Statement":[` + statements + `]}`))
	if err != nil {
		panic("iam: a built-in policy is broken: " + err.Error())
	}
	return p
}

// Builtins returns the names of the built-in policies, sorted.
func Builtins() []string {
	names := make([]string, 0, len(builtins))
	for name := range builtins {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
