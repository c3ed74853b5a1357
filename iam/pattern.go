package iam

import "strings"

// pattern is a string with wildcards ("*" any bytes, "?" one) and, in policies of version 2012-10-17, variables
// ("${aws:username}", "${aws:username, 'nobody'}"; "${*}", "${?}" and "${$}" are the characters themselves). It is read once
// and matched often.
type pattern struct {
	tokens []token
	vars   bool
}

type tokenKind uint8

const (
	literal tokenKind = iota
	star
	one
	variable
)

type token struct {
	kind     tokenKind
	text     string // of a literal; the key of a variable
	fallback string // of a variable that the request does not carry
	optional bool   // fallback was given
}

// compile reads a pattern. wild tells whether wildcards count, vars whether variables do.
func compile(s string, wild, vars bool) pattern {
	var p pattern
	start := 0
	flush := func(end int) {
		if end > start {
			p.tokens = append(p.tokens, token{text: s[start:end]})
		}
	}
	for i := 0; i < len(s); i++ {
		switch {
		case wild && s[i] == '*':
			flush(i)
			if n := len(p.tokens); n == 0 || p.tokens[n-1].kind != star {
				p.tokens = append(p.tokens, token{kind: star})
			}
			start = i + 1
		case wild && s[i] == '?':
			flush(i)
			p.tokens = append(p.tokens, token{kind: one})
			start = i + 1
		case vars && s[i] == '$' && i+1 < len(s) && s[i+1] == '{':
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				continue
			}
			flush(i)
			p.variable(s[i+2 : i+end])
			i += end
			start = i + 1
		}
	}
	flush(len(s))
	return p
}

func (p *pattern) variable(name string) {
	switch name {
	case "*", "?", "$":
		p.tokens = append(p.tokens, token{text: name})
		return
	}
	key, fallback, optional := strings.Cut(name, ",")
	t := token{kind: variable, text: conditionKey(strings.TrimSpace(key)), optional: optional}
	t.fallback = strings.Trim(strings.TrimSpace(fallback), "'")
	p.tokens, p.vars = append(p.tokens, t), true
}

// match tells whether s, as a whole, fits. fold ignores the case of ASCII letters. A variable that the request does not carry
// and that has no default fits nothing.
func (p *pattern) match(s string, fold bool, values Values) bool {
	tokens := p.tokens
	if p.vars {
		var ok bool
		if tokens, ok = p.resolve(values); !ok {
			return false
		}
	}
	switch {
	case len(tokens) == 0:
		return s == ""
	case len(tokens) == 1 && tokens[0].kind == star:
		return true
	case len(tokens) == 1 && tokens[0].kind == literal:
		return len(s) == len(tokens[0].text) && hasPrefix(s, tokens[0].text, fold)
	}
	return matchTokens(tokens, s, fold)
}

// resolve puts values in the place of variables. What they hold is literal.
func (p *pattern) resolve(values Values) ([]token, bool) {
	tokens := make([]token, len(p.tokens))
	copy(tokens, p.tokens)
	for i := range tokens {
		if tokens[i].kind != variable {
			continue
		}
		text, ok := tokens[i].fallback, tokens[i].optional
		if v := valuesOf(values, tokens[i].text); len(v) == 1 {
			text, ok = v[0], true
		}
		if !ok {
			return nil, false
		}
		tokens[i] = token{text: text}
	}
	return tokens, true
}

func valuesOf(values Values, key string) []string {
	if values == nil {
		return nil
	}
	return values.Values(key)
}

// matchTokens goes back to the last star when what follows it does not fit: O(len(tokens) × len(s)), without recursion.
func matchTokens(tokens []token, s string, fold bool) bool {
	t, i := 0, 0
	starAt, resume := -1, 0
	for t < len(tokens) || i < len(s) {
		if t < len(tokens) {
			switch tok := &tokens[t]; {
			case tok.kind == star:
				starAt, resume = t, i
				t++
				continue
			case tok.kind == one && i < len(s):
				t++
				i += runeLen(s[i:])
				continue
			case tok.kind == literal && hasPrefix(s[i:], tok.text, fold):
				t++
				i += len(tok.text)
				continue
			}
		}
		if starAt < 0 || resume >= len(s) {
			return false
		}
		resume++
		t, i = starAt+1, resume
	}
	return true
}

// runeLen is the length of s's first character in UTF-8, of a broken one 1.
func runeLen(s string) int {
	for i := range s {
		if i > 0 {
			return i
		}
	}
	return len(s)
}

func hasPrefix(s, prefix string, fold bool) bool {
	if len(s) < len(prefix) {
		return false
	}
	if !fold {
		return s[:len(prefix)] == prefix
	}
	for i := range len(prefix) {
		if lower(s[i]) != lower(prefix[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// fixed tells whether the pattern can fit one string only.
func (p *pattern) fixed() bool {
	for i := range p.tokens {
		if p.tokens[i].kind != literal {
			return false
		}
	}
	return true
}
