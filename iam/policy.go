package iam

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"cairn"
)

// Limits of a policy document. S3's for a bucket policy is 20 KiB.
const (
	MaxPolicyBytes = 20 << 10
	maxPolicyDepth = 8
)

// Policy is a document in AWS's policy language, read and ready to be asked. It does not change, so it may be used by many
// goroutines.
type Policy struct {
	Version    string // "2012-10-17", or "2008-10-17" (also if the document names none), which knows no variables
	ID         string
	Statements []Statement
	text       string
}

// Statement is one of a policy's rules.
type Statement struct {
	Sid           string
	Deny          bool
	principals    []principal // nil in policies of identities
	notPrincipals []principal
	actions       []pattern
	notActions    []pattern
	resources     []pattern // of S3: what follows "arn:aws:s3:::"
	everything    bool      // a resource is "*" itself, which names more than what S3 has
	notResources  []pattern
	conditions    []condition

	plainActions   []string // as written, for checks and listings
	plainResources []string
}

// String returns the document as it was read.
func (p *Policy) String() string { return p.text }

// PolicyError tells what is wrong with a policy document, in S3's words where it has some. It is an ErrInvalid.
type PolicyError struct {
	Field  string // path of the element, e.g. "Statement[2].Action"
	Detail string
}

// Error names the field.
func (e *PolicyError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Detail + " (" + e.Field + ")"
}

// Unwrap returns cairn.ErrInvalid.
func (e *PolicyError) Unwrap() error { return cairn.ErrInvalid }

func wrong(field, format string, args ...any) error {
	return &PolicyError{Field: field, Detail: fmt.Sprintf(format, args...)}
}

// ParsePolicy reads the policy of an identity: a document without principals, about any action and resource. Errors:
// *PolicyError.
func ParsePolicy(text []byte) (*Policy, error) { return parsePolicy(text, false) }

func parsePolicy(text []byte, withPrincipal bool) (*Policy, error) {
	if len(text) > MaxPolicyBytes {
		return nil, wrong("", "Policy exceeds the maximum allowed document size of %d bytes", MaxPolicyBytes)
	}
	if t := bytes.TrimLeft(text, " \t\r\n"); len(t) == 0 || t[0] != '{' {
		return nil, wrong("", "Policies must be valid JSON and the first byte must be '{'")
	}
	tree, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	p := &Policy{Version: oldVersion, text: string(text)}
	return p, p.read(tree, withPrincipal)
}

const (
	oldVersion = "2008-10-17"
	newVersion = "2012-10-17"
)

func (p *Policy) read(tree any, withPrincipal bool) (err error) {
	statements := any(nil)
	for _, m := range tree.(object) {
		switch m.name {
		case "Version":
			if p.Version, err = stringOf(m.value, "Version"); err == nil && p.Version != oldVersion && p.Version != newVersion {
				err = wrong("Version", "The policy must contain a valid version string")
			}
		case "Id":
			p.ID, err = stringOf(m.value, "Id")
		case "Statement":
			statements = m.value
		default:
			err = wrong(m.name, "Unknown field %s", m.name)
		}
		if err != nil {
			return err
		}
	}
	if statements == nil {
		return wrong("Statement", "Missing required field Statement")
	}
	list, ok := statements.([]any)
	if !ok {
		list = []any{statements}
	}
	if len(list) == 0 {
		return wrong("Statement", "Could not parse the policy: Statement is empty!")
	}
	p.Statements = make([]Statement, len(list))
	for i := range list {
		r := statementReader{at: fmt.Sprintf("Statement[%d]", i), vars: p.Version == newVersion, to: &p.Statements[i]}
		if err := r.read(list[i], withPrincipal); err != nil {
			return err
		}
	}
	return nil
}

// statementReader reads one statement.
type statementReader struct {
	at     string
	vars   bool
	to     *Statement
	effect string
	seen   []string
}

func (r *statementReader) field(name string) string { return r.at + "." + name }

func (r *statementReader) read(v any, withPrincipal bool) error {
	members, ok := v.(object)
	if !ok {
		return wrong(r.at, "Statement must be an object")
	}
	for _, m := range members {
		if err := r.member(m); err != nil {
			return err
		}
		r.seen = append(r.seen, m.name)
	}
	return r.check(withPrincipal)
}

func (r *statementReader) member(m member) (err error) {
	at := r.field(m.name)
	switch m.name {
	case "Sid":
		r.to.Sid, err = stringOf(m.value, at)
	case "Effect":
		if r.effect, err = stringOf(m.value, at); err == nil && r.effect != "Allow" && r.effect != "Deny" {
			err = wrong(at, "Invalid effect: %s", r.effect)
		}
		r.to.Deny = r.effect == "Deny"
	case "Principal":
		r.to.principals, err = readPrincipals(m.value, at)
	case "NotPrincipal":
		r.to.notPrincipals, err = readPrincipals(m.value, at)
	case "Action":
		r.to.actions, err = r.readActions(m.value, at)
	case "NotAction":
		r.to.notActions, err = r.readActions(m.value, at)
	case "Resource":
		r.to.resources, err = r.readResources(m.value, at)
	case "NotResource":
		r.to.notResources, err = r.readResources(m.value, at)
	case "Condition":
		r.to.conditions, err = readConditions(m.value, at, r.vars)
	default:
		err = wrong(at, "Unknown field %s", m.name)
	}
	return err
}

// check refuses what is missing or given in both forms.
func (r *statementReader) check(withPrincipal bool) error {
	has := func(name string) bool { return slices.Contains(r.seen, name) }
	if !has("Effect") {
		return wrong(r.field("Effect"), "Missing required field Effect")
	}
	for _, name := range []string{"Principal", "Action", "Resource"} {
		switch negated := "Not" + name; {
		case has(name) && has(negated):
			return wrong(r.field(name), "Statement may not have both %s and %s", name, negated)
		case name == "Principal" && !withPrincipal:
			if has(name) || has(negated) {
				return wrong(r.field(name), "Policy document should not specify a principal.")
			}
		case !has(name) && !has(negated):
			return wrong(r.field(name), "Missing required field %s", name)
		}
	}
	return nil
}

func (r *statementReader) readActions(v any, at string) ([]pattern, error) {
	list, err := stringsOf(v, at)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, wrong(at, "Missing required field Action")
	}
	out := make([]pattern, len(list))
	for i, s := range list {
		if !validAction(s) {
			return nil, wrong(at, "Policy has invalid action")
		}
		out[i] = compile(s, true, false)
	}
	r.to.plainActions = list
	return out, nil
}

func (r *statementReader) readResources(v any, at string) ([]pattern, error) {
	list, err := stringsOf(v, at)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, wrong(at, "Missing required field Resource")
	}
	out := make([]pattern, len(list))
	for i, s := range list {
		r.to.everything = r.to.everything || s == "*"
		rest, ok := cutARN(s)
		if !ok {
			return nil, wrong(at, "Policy has invalid resource")
		}
		list[i], out[i] = rest, compile(rest, true, r.vars)
	}
	r.to.plainResources = list
	return out, nil
}

// cutARN returns what an S3 ARN names: "bucket", "bucket/key" or a pattern of either. "*" alone names everything. Region and
// account of S3's ARNs are empty; a star says the same.
func cutARN(s string) (string, bool) {
	if s == "*" {
		return s, true
	}
	f := strings.SplitN(s, ":", 6)
	if len(f) != 6 || f[0] != "arn" || !strings.HasPrefix(f[1], "aws") || f[2] != "s3" ||
		f[3] != "" && f[3] != "*" || f[4] != "" && f[4] != "*" || f[5] == "" || f[5][0] == '/' {
		return "", false
	}
	return f[5], true
}

// object is a JSON object with its members in order; encoding/json would take the last of two members of one name, and names
// in any case.
type object []member

type member struct {
	name  string
	value any
}

// readJSON reads one document into objects, []any, strings, booleans, json.Numbers and nil.
func readJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := readValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errJSON
	}
	return v, nil
}

var errJSON = &PolicyError{Detail: "This policy contains invalid Json"}

func readValue(d *json.Decoder, depth int) (any, error) {
	tok, err := d.Token()
	if err != nil || depth > maxPolicyDepth {
		return nil, errJSON
	}
	delim, ok := tok.(json.Delim)
	switch {
	case !ok:
		return tok, nil
	case delim == '[':
		list := []any{}
		for d.More() {
			v, err := readValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, closing(d)
	case delim == '{':
		return readMembers(d, depth)
	}
	return nil, errJSON
}

func readMembers(d *json.Decoder, depth int) (any, error) {
	o := object{}
	for d.More() {
		tok, err := d.Token()
		name, ok := tok.(string)
		if err != nil || !ok {
			return nil, errJSON
		}
		if slices.ContainsFunc(o, func(m member) bool { return m.name == name }) {
			return nil, wrong(name, "This policy contains the element %s twice", name)
		}
		v, err := readValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		o = append(o, member{name, v})
	}
	return o, closing(d)
}

func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return errJSON
	}
	return nil
}

func stringOf(v any, at string) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", wrong(at, "The element must be a string")
	}
	return s, nil
}

// stringsOf reads a string or a list of strings.
func stringsOf(v any, at string) ([]string, error) {
	if s, ok := v.(string); ok {
		return []string{s}, nil
	}
	list, ok := v.([]any)
	if !ok {
		return nil, wrong(at, "The element must be a string or a list of strings")
	}
	out := make([]string, len(list))
	for i := range list {
		if out[i], ok = list[i].(string); !ok {
			return nil, wrong(at, "The element must be a string or a list of strings")
		}
	}
	return out, nil
}
