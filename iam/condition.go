package iam

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Values gives a request's values of a condition key ("aws:SourceIp", "s3:prefix", "s3:ExistingObjectTag/team"), as
// conditionKey writes it: in lower case but for what follows a slash. nil: the request has no such key.
type Values interface {
	Values(key string) []string
}

// condition is one key of one operator: all of a statement's conditions must hold.
type condition struct {
	op       *operator
	set      setKind
	ifExists bool
	key      string
	text     []string
	patterns []pattern      // of string and ARN operators
	numbers  []*big.Rat     // of numeric ones
	times    []time.Time    // of dates
	prefixes []netip.Prefix // of addresses
	binary   [][]byte
}

type setKind uint8

const (
	single setKind = iota
	forAll
	forAny
)

// operator of AWS's policy language: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
type operator struct {
	name    string
	negated bool // holds if no value matches
	read    func(c *condition, s string, vars bool) bool
	// match tells whether a request's value fits the i-th value of the condition.
	match func(c *condition, i int, got string, values Values) bool
}

var operators = makeOperators()

const nullOperator = "Null"

func makeOperators() []operator {
	list := []operator{
		{name: "StringEquals", read: readLiteral, match: matchText},
		{name: "StringNotEquals", negated: true, read: readLiteral, match: matchText},
		{name: "StringEqualsIgnoreCase", read: readLiteral, match: matchFold},
		{name: "StringNotEqualsIgnoreCase", negated: true, read: readLiteral, match: matchFold},
		{name: "StringLike", read: readWild, match: matchText},
		{name: "StringNotLike", negated: true, read: readWild, match: matchText},
		{name: "Bool", read: readBool, match: matchBool},
		{name: "BinaryEquals", read: readBinary, match: matchBinary},
		{name: "IpAddress", read: readPrefix, match: matchPrefix},
		{name: "NotIpAddress", negated: true, read: readPrefix, match: matchPrefix},
		{name: "ArnEquals", read: readWild, match: matchARN},
		{name: "ArnLike", read: readWild, match: matchARN},
		{name: "ArnNotEquals", negated: true, read: readWild, match: matchARN},
		{name: "ArnNotLike", negated: true, read: readWild, match: matchARN},
		{name: nullOperator, read: readBool, match: matchBool},
	}
	for _, cmp := range []struct {
		name    string
		negated bool
		ok      func(order int) bool
	}{
		{"Equals", false, func(o int) bool { return o == 0 }}, {"NotEquals", true, func(o int) bool { return o == 0 }},
		{"LessThan", false, func(o int) bool { return o < 0 }}, {"LessThanEquals", false, func(o int) bool { return o <= 0 }},
		{"GreaterThan", false, func(o int) bool { return o > 0 }}, {"GreaterThanEquals", false, func(o int) bool { return o >= 0 }},
	} {
		list = append(list,
			operator{"Numeric" + cmp.name, cmp.negated, readNumber, func(c *condition, i int, got string, _ Values) bool {
				n, ok := parseNumber(got)
				return ok && cmp.ok(n.Cmp(c.numbers[i]))
			}},
			operator{"Date" + cmp.name, cmp.negated, readDate, func(c *condition, i int, got string, _ Values) bool {
				t, ok := parseDate(got)
				return ok && cmp.ok(t.Compare(c.times[i]))
			}})
	}
	return list
}

// readConditions reads {"Operator": {"key": value or [values]}}.
func readConditions(v any, at string, vars bool) ([]condition, error) {
	blocks, ok := v.(object)
	if !ok {
		return nil, wrong(at, "Condition must be an object")
	}
	var out []condition
	for _, block := range blocks {
		proto, ok := readOperator(block.name)
		if !ok {
			return nil, wrong(at, "Invalid Condition type : %s", block.name)
		}
		keys, ok := block.value.(object)
		if !ok || len(keys) == 0 {
			return nil, wrong(at+"."+block.name, "Condition must be an object of keys and values")
		}
		for _, m := range keys {
			c := proto
			if err := c.read(m, at+"."+block.name+"."+m.name, vars); err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// readOperator takes a name apart: "ForAnyValue:StringLikeIfExists".
func readOperator(name string) (c condition, ok bool) {
	if rest, found := strings.CutPrefix(name, "ForAllValues:"); found {
		c.set, name = forAll, rest
	} else if rest, found := strings.CutPrefix(name, "ForAnyValue:"); found {
		c.set, name = forAny, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	for i := range operators {
		if operators[i].name == name {
			c.op = &operators[i]
		}
	}
	return c, c.op != nil && !(name == nullOperator && c.ifExists)
}

func (c *condition) read(m member, at string, vars bool) error {
	if c.key = conditionKey(m.name); !validConditionKey(c.key) {
		return wrong(at, "Policy has an invalid condition key")
	}
	list, ok := m.value.([]any)
	if !ok {
		list = []any{m.value}
	}
	if len(list) == 0 {
		return wrong(at, "A condition needs a value")
	}
	for _, v := range list {
		s, ok := scalar(v)
		if !ok || !c.op.read(c, s, vars) {
			return wrong(at, "Invalid value for the condition operator %s", c.op.name)
		}
		c.text = append(c.text, s)
	}
	return nil
}

// scalar takes strings, and the numbers and booleans that people write in their place.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return strconv.FormatBool(v), true
	}
	return "", false
}

// conditionKey writes a key in the one form that is compared: keys have no case, the names of tags behind a slash do.
func conditionKey(s string) string {
	prefix, tag, ok := strings.Cut(s, "/")
	if !ok {
		return strings.ToLower(s)
	}
	return strings.ToLower(prefix) + "/" + tag
}

func validConditionKey(key string) bool {
	service, name, ok := strings.Cut(key, ":")
	if !ok || name == "" {
		return false
	}
	switch service {
	case "aws":
		return true
	case "s3":
		name, tag, tagged := strings.Cut(name, "/")
		if tagged && tag == "" {
			return false
		}
		return slices.Contains(s3Keys, name)
	case "jwt", "sts", "admin":
		return true
	}
	return strings.Contains(service, ".") // of an identity provider: "accounts.example.com:sub"
}

// s3Keys are S3's own condition keys, in lower case.
var s3Keys = []string{"authtype", "delimiter", "existingobjecttag", "if-match", "if-none-match", "locationconstraint", "max-keys",
	"object-lock-legal-hold", "object-lock-mode", "object-lock-remaining-retention-days", "object-lock-retain-until-date",
	"objectcreationoperation", "prefix", "requestobjecttag", "requestobjecttagkeys", "resourceaccount", "signatureage",
	"signatureversion", "tlsversion", "versionid", "x-amz-acl", "x-amz-content-sha256", "x-amz-copy-source",
	"x-amz-grant-full-control", "x-amz-grant-read", "x-amz-grant-read-acp", "x-amz-grant-write", "x-amz-grant-write-acp",
	"x-amz-metadata-directive", "x-amz-object-ownership", "x-amz-server-side-encryption",
	"x-amz-server-side-encryption-aws-kms-key-id", "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class",
	"x-amz-website-redirect-location", "bucketversioning", "dataaccesspointaccount", "dataaccesspointarn", "accesspointnetworkorigin",
	"inventoryaccessibleoptionalfields", "jobsuspendedcause", "requestjoboperation", "requestjobpriority", "existingjoboperation",
	"existingjobpriority", "isreplicationpauserequest", "destinationregion"}

// holds tells whether the condition is met.
func (c *condition) holds(values Values) bool {
	got := valuesOf(values, c.key)
	if c.op.name == nullOperator {
		return c.matchesOne(strconv.FormatBool(got == nil), values)
	}
	if got == nil && c.ifExists {
		return true
	}
	switch {
	case c.set == forAll:
		for _, v := range got {
			if c.matchesOne(v, values) == c.op.negated {
				return false
			}
		}
		return true
	case c.set == forAny:
		for _, v := range got {
			if c.matchesOne(v, values) != c.op.negated {
				return true
			}
		}
		return false
	}
	for _, v := range got {
		if c.matchesOne(v, values) {
			return !c.op.negated
		}
	}
	return c.op.negated
}

func (c *condition) matchesOne(got string, values Values) bool {
	for i := range c.text {
		if c.op.match(c, i, got, values) {
			return true
		}
	}
	return false
}

func readLiteral(c *condition, s string, vars bool) bool {
	c.patterns = append(c.patterns, compile(s, false, vars))
	return true
}

func readWild(c *condition, s string, vars bool) bool {
	c.patterns = append(c.patterns, compile(s, true, vars))
	return true
}

func matchText(c *condition, i int, got string, values Values) bool {
	return c.patterns[i].match(got, false, values)
}

func matchFold(c *condition, i int, got string, values Values) bool {
	if c.patterns[i].fixed() { // beyond ASCII too
		return strings.EqualFold(got, c.text[i])
	}
	return c.patterns[i].match(got, true, values)
}

// matchARN compares as AWS does: field by field, so that a star does not reach over a colon but in the last field.
func matchARN(c *condition, i int, got string, values Values) bool {
	if c.patterns[i].vars {
		return c.patterns[i].match(got, false, values)
	}
	want, have := strings.SplitN(c.text[i], ":", 6), strings.SplitN(got, ":", 6)
	if len(want) != len(have) {
		return c.text[i] == "*"
	}
	for n := range want {
		p := compile(want[n], true, false)
		if !p.match(have[n], false, nil) {
			return false
		}
	}
	return true
}

func readBool(c *condition, s string, _ bool) bool {
	return strings.EqualFold(s, "true") || strings.EqualFold(s, "false")
}

func matchBool(c *condition, i int, got string, _ Values) bool {
	return strings.EqualFold(got, c.text[i])
}

func readBinary(c *condition, s string, _ bool) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	c.binary = append(c.binary, b)
	return err == nil
}

func matchBinary(c *condition, i int, got string, _ Values) bool {
	b, err := base64.StdEncoding.DecodeString(got)
	return err == nil && bytes.Equal(b, c.binary[i])
}

func readNumber(c *condition, s string, _ bool) bool {
	n, ok := parseNumber(s)
	c.numbers = append(c.numbers, n)
	return ok
}

// parseNumber reads a decimal number of a bounded length and exponent, exactly.
func parseNumber(s string) (*big.Rat, bool) {
	if len(s) > 64 || strings.ContainsAny(s, "eEpPxX_/") {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func readDate(c *condition, s string, _ bool) bool {
	t, ok := parseDate(s)
	c.times = append(c.times, t)
	return ok
}

// parseDate reads ISO 8601 with any precision, or seconds since 1970.
func parseDate(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02", "20060102T150405Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return time.Unix(n, 0), err == nil && n > 9999 // less is a year
}

func readPrefix(c *condition, s string, _ bool) bool {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err2 := netip.ParseAddr(s)
		if err2 != nil {
			return false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p.Addr().Is4In6() {
		return false
	}
	c.prefixes = append(c.prefixes, p.Masked())
	return true
}

func matchPrefix(c *condition, i int, got string, _ Values) bool {
	a, err := netip.ParseAddr(got)
	return err == nil && c.prefixes[i].Contains(a.Unmap().WithZone(""))
}
