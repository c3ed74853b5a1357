package s3api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"time"
)

// postPolicy is what the signer of a POST form allows its bearer.
// Source: "Creating a POST Policy" in the Amazon S3 API Reference.
type postPolicy struct {
	expires    time.Time
	conditions []postCondition
	ranged     bool // content-length-range was given
	min, max   int64
}

type postCondition struct {
	prefix bool   // starts-with rather than eq
	field  string // in lower case
	value  string
}

// maxPostConditions bounds the conditions of one policy.
const maxPostConditions = 100

var errPostPolicy = newError(400, "InvalidPolicyDocument", "The content of the form does not meet the conditions specified in the policy document.")

func badPolicy(detail string) error { return errPostPolicy.with("Invalid Policy: " + detail) }

// parsePostPolicy reads a form's policy field, base64 of a JSON document whose names have exact case.
func parsePostPolicy(text string) (p postPolicy, err error) {
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return p, badPolicy("Policy is not base64.")
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var members map[string]json.RawMessage
	if d.Decode(&members) != nil {
		return p, badPolicy("Invalid JSON.")
	}
	if _, err := d.Token(); err != io.EOF {
		return p, badPolicy("Invalid JSON.")
	}
	var expires string
	switch raw, ok := members["expiration"]; {
	case !ok:
		return p, badPolicy("Policy missing expiration.")
	case json.Unmarshal(raw, &expires) != nil:
		return p, badPolicy("Invalid 'expiration' value.")
	}
	if p.expires, err = time.Parse(time.RFC3339, expires); err != nil {
		return p, badPolicy("Invalid 'expiration' value: '" + expires + "'")
	}
	var list []json.RawMessage
	if raw, ok := members["conditions"]; !ok || json.Unmarshal(raw, &list) != nil || list == nil {
		return p, badPolicy("Policy missing conditions.")
	}
	if len(list) > maxPostConditions {
		return p, badPolicy("Too many conditions.")
	}
	for _, raw := range list {
		if err := p.condition(raw); err != nil {
			return p, err
		}
	}
	return p, nil
}

// condition reads {"field": "value"} or ["eq", "$field", "value"].
func (p *postPolicy) condition(raw json.RawMessage) error {
	var simple map[string]any
	if json.Unmarshal(raw, &simple) == nil {
		if len(simple) != 1 {
			return badPolicy("Invalid Simple-Condition: Simple-Conditions must have exactly one property specified.")
		}
		for field, v := range simple {
			value, ok := v.(string)
			if !ok {
				return badPolicy("Invalid Simple-Condition: value must be a string.")
			}
			p.conditions = append(p.conditions, postCondition{field: strings.ToLower(field), value: value})
		}
		return nil
	}
	var list []any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if d.Decode(&list) != nil || len(list) != 3 {
		return badPolicy("Invalid Condition: wrong number of arguments.")
	}
	op, _ := list[0].(string)
	switch strings.ToLower(op) {
	case "eq", "starts-with":
		field, ok1 := list[1].(string)
		value, ok2 := list[2].(string)
		field, dollar := strings.CutPrefix(field, "$")
		if !ok1 || !ok2 || !dollar {
			return badPolicy("Invalid Condition: want [\"" + op + "\", \"$field\", \"value\"].")
		}
		p.conditions = append(p.conditions, postCondition{strings.EqualFold(op, "starts-with"), strings.ToLower(field), value})
		return nil
	case "content-length-range":
		low, ok1 := length(list[1])
		high, ok2 := length(list[2])
		if !ok1 || !ok2 || low > high {
			return badPolicy("Invalid content-length-range: want two lengths.")
		}
		if p.ranged { // the narrower counts
			low, high = max(low, p.min), min(high, p.max)
		}
		p.ranged, p.min, p.max = true, low, high
		return nil
	}
	return badPolicy("Invalid Condition: unknown operation '" + op + "'.")
}

func length(v any) (int64, bool) {
	s := ""
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = v
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// check asks every condition, and whether every field is one that a condition is about.
func (p *postPolicy) check(fields map[string]string, now time.Time) error {
	if !now.Before(p.expires) {
		return errAccessDenied.with("Invalid according to Policy: Policy expired.")
	}
	covered := map[string]bool{}
	for _, c := range p.conditions {
		covered[c.field] = true
		got, ok := fields[c.field]
		fits := got == c.value
		if c.prefix {
			fits = strings.HasPrefix(got, c.value)
		}
		if !fits || !ok && (c.value != "" || !c.prefix) {
			op := "eq"
			if c.prefix {
				op = "starts-with"
			}
			return errAccessDenied.with(`Invalid according to Policy: Policy Condition failed: ["` + op + `", "$` + c.field + `", "` + c.value + `"]`)
		}
	}
	for name := range fields {
		if !covered[name] && !uncovered(name) {
			return errAccessDenied.with("Invalid according to Policy: Extra input fields: " + name)
		}
	}
	return nil
}

// uncovered knows the fields that a policy need not speak of.
func uncovered(name string) bool {
	switch name {
	case "x-amz-signature", "signature", "awsaccesskeyid", "policy", "file":
		return true
	}
	return strings.HasPrefix(name, "x-ignore-")
}
