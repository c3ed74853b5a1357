package iam

import (
	"slices"
	"strings"
)

// ParseBucketPolicy reads the policy of a bucket: every statement names principals, S3's actions, and resources in this very
// bucket that the actions apply to. Errors: *PolicyError, with S3's messages.
func ParseBucketPolicy(text []byte, bucket string) (*Policy, error) {
	p, err := parsePolicy(text, true)
	if err != nil {
		return nil, err
	}
	for i := range p.Statements {
		if err := p.Statements[i].fits(bucket); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (st *Statement) fits(bucket string) error {
	for _, a := range st.plainActions {
		if service, _, ok := strings.Cut(a, ":"); ok && !strings.EqualFold(service, "s3") {
			return wrong("Action", "Policy has invalid action")
		}
	}
	ofBucket, ofObjects := false, false
	for _, r := range st.plainResources {
		inBucket, inObjects := reach(r, bucket)
		if !inBucket && !inObjects {
			return wrong("Resource", "Policy has invalid resource")
		}
		ofBucket, ofObjects = ofBucket || inBucket, ofObjects || inObjects
	}
	if st.notResources != nil || st.notActions != nil {
		return nil
	}
	for _, a := range st.plainActions {
		_, name, _ := strings.Cut(a, ":")
		if a == "*" {
			name = a
		}
		if !(ofObjects && anyActionFits(name, objectActions) || ofBucket && anyActionFits(name, bucketActions)) {
			return wrong("Action", "Action does not apply to any resource(s) in statement")
		}
	}
	return nil
}

// reach tells whether a resource can name the bucket itself, and whether it can name objects in it.
func reach(resource, bucket string) (self, objects bool) {
	name, _, slash := strings.Cut(resource, "/")
	p := compile(name, true, true)
	if p.vars || !p.match(bucket, false, nil) {
		// "*abc" may still fit "bucket/…abc"
		return false, !slash && !p.vars && reachesInto(p, bucket)
	}
	if slash {
		return false, true
	}
	return true, strings.Contains(name, "*")
}

// reachesInto tells whether a pattern without slash fits some key of the bucket.
func reachesInto(p pattern, bucket string) bool {
	i := slices.IndexFunc(p.tokens, func(t token) bool { return t.kind == star })
	if i < 0 {
		return false
	}
	head := pattern{tokens: p.tokens[:i+1]}
	return head.match(bucket+"/", false, nil)
}

// Public tells whether a policy lets everybody in: a statement allows everyone something and no condition holds it to fixed
// sources. That is the rule of S3's block public access.
// Source: "The meaning of 'public'" in the Amazon S3 User Guide.
func (p *Policy) Public() bool {
	if p == nil {
		return false
	}
	return slices.ContainsFunc(p.Statements, func(st Statement) bool {
		open := st.notPrincipals != nil || slices.ContainsFunc(st.principals, func(p principal) bool { return p.kind == everyone })
		return !st.Deny && open && !slices.ContainsFunc(st.conditions, condition.narrows)
	})
}

// narrowing are the keys that hold a statement to fixed callers.
var narrowing = []string{"aws:sourceip", "aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceaccount", "aws:sourceowner",
	"aws:userid", "aws:principalarn", "aws:principalaccount", "aws:principalorgid", "aws:username", "s3:dataaccesspointarn",
	"s3:dataaccesspointaccount"}

// narrows tells whether a condition holds a statement to callers that are fixed: by one of the keys above, and values without
// wildcards or variables, or address ranges that are not half the world.
func (c condition) narrows() bool {
	if c.op.negated || c.ifExists || c.set == forAll || c.op.name == nullOperator || !slices.Contains(narrowing, c.key) {
		return false
	}
	for _, p := range c.prefixes {
		if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 32 {
			return false
		}
	}
	return !slices.ContainsFunc(c.patterns, func(p pattern) bool { return !p.fixed() })
}
