package iam

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// naive evaluates a policy document by the words of AWS's reference, slowly, with regular expressions, and without anything of
// the code under test. It knows the operators that the generator uses.
type naive struct {
	who    Identity
	action string
	name   string // bucket or bucket/key
	values map[string][]string
	// compiled remembers expressions, of which there are few.
	compiled map[string]*regexp.Regexp
}

type naiveStatement struct {
	Effect                                   string
	Principal, NotPrincipal                  any
	Action, NotAction, Resource, NotResource any
	Condition                                map[string]map[string]any
}

func listOf(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, s := range v {
			out = append(out, fmt.Sprint(s))
		}
		return out
	}
	return nil
}

// glob turns a pattern into an anchored regular expression, with variables put in as literals. ok is false for a variable
// that has no value.
func (n *naive) glob(pattern string, fold bool) (*regexp.Regexp, bool) {
	var b strings.Builder
	if fold {
		b.WriteString("(?i)")
	}
	b.WriteString(`(?s)\A`)
	for pattern != "" {
		if strings.HasPrefix(pattern, "${") {
			name, rest, _ := strings.Cut(pattern[2:], "}")
			pattern = rest
			value, found := map[string]string{"aws:username": n.who.Name, "aws:PrincipalAccount": n.who.Number}[name]
			if !found || value == "" {
				return nil, false
			}
			b.WriteString(regexp.QuoteMeta(value))
			continue
		}
		switch c := pattern[0]; c {
		case '*':
			b.WriteString(".*")
		case '?':
			b.WriteString(".")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
		pattern = pattern[1:]
	}
	re, ok := n.compiled[b.String()]
	if !ok {
		re = regexp.MustCompile(b.String() + `\z`)
		n.compiled[b.String()] = re
	}
	return re, true
}

func (n *naive) any(patterns any, s string, fold bool) bool {
	return slices.ContainsFunc(listOf(patterns), func(p string) bool {
		re, ok := n.glob(strings.TrimPrefix(p, "arn:aws:s3:::"), fold)
		return ok && re.MatchString(s)
	})
}

func (n *naive) principal(v any) bool {
	if v == "*" {
		return true
	}
	for kind, list := range v.(map[string]any) {
		for _, p := range listOf(list) {
			switch {
			case p == "*":
				return true
			case n.who.Account == "":
			case kind == "CanonicalUser" && p == n.who.Account,
				p == "arn:aws:iam::"+n.who.Number+":user/"+n.who.Name,
				p == "arn:aws:iam::"+n.who.Number+":root", p == n.who.Number:
				return true
			}
		}
	}
	return false
}

func (n *naive) applies(st *naiveStatement) bool {
	if st.Action != nil && !n.any(st.Action, n.action, true) || st.NotAction != nil && n.any(st.NotAction, n.action, true) ||
		st.Resource != nil && !n.any(st.Resource, n.name, false) || st.NotResource != nil && n.any(st.NotResource, n.name, false) ||
		st.Principal != nil && !n.principal(st.Principal) || st.NotPrincipal != nil && n.principal(st.NotPrincipal) {
		return false
	}
	for op, keys := range st.Condition {
		for key, want := range keys {
			if !n.condition(op, key, listOf(want)) {
				return false
			}
		}
	}
	return true
}

func (n *naive) condition(op, key string, want []string) bool {
	set, rest, qualified := strings.Cut(op, ":")
	if !qualified {
		set, rest = "", op
	}
	base, ifExists := strings.CutSuffix(rest, "IfExists")
	got := n.values[key]
	if base == "Null" {
		return (want[0] == "true") == (len(got) == 0)
	}
	if len(got) == 0 && ifExists {
		return true
	}
	positive := strings.Replace(base, "Not", "", 1)
	matchesAny := func(v string) bool {
		return slices.ContainsFunc(want, func(w string) bool { return n.compare(positive, w, v) })
	}
	negated := positive != base
	one := func(v string) bool { return matchesAny(v) != negated }
	switch {
	case set == "ForAllValues":
		return !slices.ContainsFunc(got, func(v string) bool { return !one(v) })
	case set == "ForAnyValue":
		return slices.ContainsFunc(got, one)
	case negated:
		return !slices.ContainsFunc(got, matchesAny)
	}
	return slices.ContainsFunc(got, matchesAny)
}

func (n *naive) compare(op, want, got string) bool {
	switch op {
	case "StringEquals":
		re, ok := n.glob(strings.NewReplacer("*", "\x00", "?", "\x01").Replace(want), false)
		return ok && re.MatchString(strings.NewReplacer("*", "\x00", "?", "\x01").Replace(got))
	case "StringEqualsIgnoreCase":
		return strings.EqualFold(want, got)
	case "StringLike":
		re, ok := n.glob(want, false)
		return ok && re.MatchString(got)
	case "NumericLessThan", "NumericEquals":
		w, err1 := strconv.ParseFloat(want, 64)
		g, err2 := strconv.ParseFloat(got, 64)
		return err1 == nil && err2 == nil && (op == "NumericEquals" && g == w || op == "NumericLessThan" && g < w)
	case "Bool":
		return strings.EqualFold(want, got)
	case "IpAddress": // the generator writes 10.x.0.0/16 and 10.x.y.z only
		return strings.HasPrefix(got+".", strings.TrimSuffix(strings.TrimSuffix(want, "/16"), "0.0")) || want == got
	}
	panic("naive does not know " + op)
}

func (n *naive) decide(doc string) string {
	var p struct{ Statement []naiveStatement }
	if err := json.Unmarshal([]byte(doc), &p); err != nil {
		panic(err)
	}
	verdict := "silent"
	for i := range p.Statement {
		if n.applies(&p.Statement[i]) {
			if p.Statement[i].Effect == "Deny" {
				return "denies"
			}
			verdict = "allows"
		}
	}
	return verdict
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func some[T any](r *rand.Rand, make func() T) any {
	if r.IntN(2) == 0 {
		return make()
	}
	list := []any{}
	for range 1 + r.IntN(3) {
		list = append(list, make())
	}
	return list
}

func randomStatement(r *rand.Rand) map[string]any {
	st := map[string]any{"Effect": pick(r, "Allow", "Allow", "Deny")}
	either := func(name string, make func() string) {
		if r.IntN(6) == 0 {
			name = "Not" + name
		}
		st[name] = some(r, make)
	}
	either("Action", func() string {
		return pick(r, "s3:GetObject", "s3:Get*", "s3:*", "s3:PutObject", "s3:?etObject", "S3:getobject", "*", "s3:*Object", "s3:ListBucket")
	})
	either("Resource", func() string {
		return "arn:aws:s3:::" + pick(r, "b/*", "b", "*", "b/a*c", "b/?", "b/${aws:username}/*", "c/*", "b/*/x", "b/a/b/c", "b*")
	})
	who := "Principal"
	if r.IntN(8) == 0 {
		who = "NotPrincipal"
	}
	st[who] = pick[any](r, "*", map[string]any{"AWS": "*"}, map[string]any{"AWS": some(r, func() string {
		return pick(r, "arn:aws:iam::111122223333:user/ann", "arn:aws:iam::111122223333:root", "444455556666", "arn:aws:iam::444455556666:user/ann")
	})}, map[string]any{"CanonicalUser": pick(r, "ann-id", "ben-id")})
	if r.IntN(2) == 0 {
		conditions := map[string]any{}
		for range 1 + r.IntN(2) {
			op, key, value := randomCondition(r)
			conditions[op] = map[string]any{key: value}
		}
		st["Condition"] = conditions
	}
	return st
}

func randomCondition(r *rand.Rand) (op, key string, value any) {
	text := func() string { return pick(r, "a", "b", "A", "a*", "?", "${aws:username}", "ann", "") }
	switch r.IntN(6) {
	case 0:
		op, key, value = pick(r, "NumericLessThan", "NumericEquals", "NumericNotEquals"), "s3:max-keys", some(r, func() string { return pick(r, "1", "5", "10") })
	case 1:
		return "Null", pick(r, "s3:prefix", "s3:max-keys"), pick(r, "true", "false")
	case 2:
		op, key, value = pick(r, "IpAddress", "NotIpAddress"), "aws:SourceIp", some(r, func() string { return pick(r, "10.1.0.0/16", "10.2.0.0/16", "10.1.2.3") })
	case 3:
		op, key, value = "Bool", "aws:SecureTransport", pick(r, "true", "false")
	case 4:
		op = pick(r, "ForAllValues:", "ForAnyValue:") + pick(r, "StringEquals", "StringLike", "StringNotEquals", "StringNotLike")
		return op, "s3:RequestObjectTagKeys", some(r, text)
	default:
		op = pick(r, "StringEquals", "StringNotEquals", "StringLike", "StringNotLike")
		key, value = pick(r, "s3:prefix", "s3:ExistingObjectTag/Team"), some(r, text)
	}
	if r.IntN(3) == 0 {
		op += "IfExists"
	}
	return op, key, value
}

func randomValues(r *rand.Rand) map[string][]string {
	v := map[string][]string{}
	for key, choices := range map[string][]string{"s3:max-keys": {"1", "4", "5", "x"}, "s3:prefix": {"a", "A", "b", "ab", "ann", "a*"},
		"s3:ExistingObjectTag/Team": {"a", "ann"}, "aws:SourceIp": {"10.1.2.3", "10.2.9.9", "10.3.0.1"}, "aws:SecureTransport": {"true", "false"}} {
		if r.IntN(3) > 0 {
			v[key] = []string{choices[r.IntN(len(choices))]}
		}
	}
	for range r.IntN(3) {
		v["s3:RequestObjectTagKeys"] = append(v["s3:RequestObjectTagKeys"], pick(r, "a", "b", "ab", "ann"))
	}
	return v
}

// TestAgainstNaive compares the verdicts on 10,000 random policies with those of the naive evaluator.
func TestAgainstNaive(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	tally, compiled := map[string]int{}, map[string]*regexp.Regexp{}
	names := map[answer]string{silent: "silent", allows: "allows", denies: "denies"}
	for i := range 10_000 {
		doc := map[string]any{"Version": "2012-10-17"}
		var statements []any
		for range 1 + r.IntN(4) {
			statements = append(statements, randomStatement(r))
		}
		doc["Statement"] = statements
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePolicy(text, true)
		if err != nil {
			t.Fatalf("seed %d, policy %d: %v: %s", seed, i, err, text)
		}
		{
			n := naive{compiled: compiled, who: pick(r, Identity{}, Identity{Account: "ann-id", Number: "111122223333", Name: "ann"},
				Identity{Account: "ben-id", Number: "444455556666", Name: "ben"}),
				action: pick(r, "s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject"), values: randomValues(r)}
			q := Request{Action: n.action, Bucket: pick(r, "b", "b", "c"), Key: pick(r, "", "a", "ac", "abc", "a/b/c", "ann/k", "ä", "a/x"), Values: valueMap(n.values)}
			n.name = q.Bucket
			if q.Key != "" {
				n.name = path.Join(q.Bucket, q.Key)
			}
			got, want := names[p.ask(&n.who, &q)], n.decide(string(text))
			if got != want {
				t.Fatalf("seed %d, policy %d: got %s, want %s for %+v %+v: %s", seed, i, got, want, n, q, text)
			}
			tally[want]++
		}
	}
	for _, v := range names {
		if tally[v] < 200 {
			t.Errorf("only %d requests of 10,000 had the verdict %s: the generator is one-sided (%v)", tally[v], v, tally)
		}
	}
}

// hundred is a policy of 100 statements, none of which but the last allows.
func hundred(tb testing.TB) *Policy {
	var b strings.Builder
	for i := range 99 {
		fmt.Fprintf(&b, `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["s3:Get*"],`+
			`"Resource":"arn:aws:s3:::bucket/team-%d/*","Condition":{"IpAddress":{"aws:SourceIp":"10.%d.0.0/16"}}},`, i, i)
	}
	b.WriteString(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}`)
	p, err := parsePolicy([]byte(`{"Version":"2012-10-17","Statement":[`+b.String()+`]}`), true)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestHundredStatements(t *testing.T) {
	p, who := hundred(t), Identity{Account: "ann-id", Number: "111122223333", Name: "ann"}
	if got := p.ask(&who, &Request{Action: "s3:GetObject", Bucket: "bucket", Key: "k"}); got != allows {
		t.Errorf("got %d, want %d", got, allows)
	}
	if got := p.ask(&who, &Request{Action: "s3:DeleteObject", Bucket: "bucket", Key: "k"}); got != silent {
		t.Errorf("got %d, want %d", got, silent)
	}
}

// BenchmarkHundredStatements is to stay below 20 µs.
func BenchmarkHundredStatements(b *testing.B) {
	p, who := hundred(b), Identity{Account: "ann-id", Number: "111122223333", Name: "ann"}
	r := &Request{Action: "s3:GetObject", Bucket: "bucket", Key: "team-98/k", Values: valueMap{"aws:SourceIp": {"192.0.2.1"}}}
	b.ReportAllocs()
	for b.Loop() {
		p.ask(&who, r)
	}
}

func FuzzPolicy(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"arn:aws:s3:::b/*"}}`, "b", "k")
	f.Add(`{"Statement":[{"Effect":"Deny","NotPrincipal":{"AWS":["1"]},"NotAction":"s3:G*","NotResource":"*","Condition":{"ForAllValues:StringLikeIfExists":{"s3:prefix":["${aws:username, 'x'}*?"]}}}]}`, "b", "")
	f.Add(`{"Statement":[{"Condition":{"DateLessThan":{"aws:CurrentTime":"2026-01-01"},"NumericEquals":{"s3:max-keys":1e400}}}]}`, "b", "k")
	f.Add(strings.Repeat(`[`, 1000), "b", "k")
	f.Fuzz(func(t *testing.T, text, bucket, key string) {
		p, err := ParseBucketPolicy([]byte(text), bucket)
		if err != nil {
			p, err = ParsePolicy([]byte(text))
		}
		if err != nil {
			return
		}
		again, err := parsePolicy([]byte(p.String()), p.Statements[0].principals != nil || p.Statements[0].notPrincipals != nil)
		if err != nil || len(again.Statements) != len(p.Statements) {
			t.Fatalf("read twice: %v", err)
		}
		who := Identity{Account: "id", Number: "1", Name: "n"}
		r := &Request{Action: "s3:GetObject", Bucket: bucket, Key: key, Values: valueMap{"s3:prefix": {key}, "aws:CurrentTime": {"2026-01-01T00:00:00Z"}}}
		if p.ask(&who, r) != again.ask(&who, r) {
			t.Fatal("the same document gives two verdicts")
		}
		p.Public()
	})
}
