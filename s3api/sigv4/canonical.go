package sigv4

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// unreserved tells which bytes S3 leaves as they are in canonical paths and queries (RFC 3986's unreserved ones).
func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

// AppendEscaped appends s percent-encoded as SigV4 wants it; slashes stay if keepSlash.
func AppendEscaped(b []byte, s string, keepSlash bool) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case unreserved(c), c == '/' && keepSlash:
			b = append(b, c)
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// appendCanonical appends the canonical request, with escapedPath as it is, or m.Path in S3's canonical form if it is "".
func appendCanonical(b []byte, a *Auth, m *Message, escapedPath string) []byte {
	b = append(b, m.Method...)
	b = append(b, '\n')
	if escapedPath != "" {
		b = append(b, escapedPath...)
	} else {
		b = AppendEscaped(b, m.Path, true)
	}
	b = append(b, '\n')
	b = appendQuery(b, m.Query, a.Presigned)
	b = append(b, '\n')
	for names := a.SignedHeaders; names != ""; {
		var name string
		name, names, _ = strings.Cut(names, ";")
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, name, m)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	b = append(b, a.SignedHeaders...)
	b = append(b, '\n')
	return append(b, a.Payload...)
}

// appendQuery appends the parameters sorted by encoded name, then encoded value, without the signature itself.
func appendQuery(b []byte, query []Param, presigned bool) []byte {
	switch len(query) {
	case 0:
		return b
	case 1:
		return appendParam(b, query[0])
	}
	encoded := make([]string, 0, len(query))
	start := len(b)
	for _, p := range query {
		if presigned && p.Key == "X-Amz-Signature" {
			continue
		}
		// '=' sorts after '-', '.' and digits, so sort with NUL in its place: names first, then values.
		b = AppendEscaped(b[:start], p.Key, false)
		b = append(b, 0)
		b = AppendEscaped(b, p.Value, false)
		encoded = append(encoded, string(b[start:]))
	}
	slices.Sort(encoded)
	b = b[:start]
	for i, s := range encoded {
		if i > 0 {
			b = append(b, '&')
		}
		name, value, _ := strings.Cut(s, "\x00")
		b = append(b, name...)
		b = append(b, '=')
		b = append(b, value...)
	}
	return b
}

func appendParam(b []byte, p Param) []byte {
	b = AppendEscaped(b, p.Key, false)
	b = append(b, '=')
	return AppendEscaped(b, p.Value, false)
}

// appendHeader appends a header's values, trimmed, inner runs of blanks made one, joined by commas.
func appendHeader(b []byte, name string, m *Message) []byte {
	if name == "host" {
		return append(b, m.Host...)
	}
	for i, v := range m.Header[canonicalName(name)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendTrimmed(b, v)
	}
	return b
}

func appendTrimmed(b []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	for i := range len(v) {
		if v[i] == ' ' && v[i-1] == ' ' {
			continue
		}
		b = append(b, v[i])
	}
	return b
}

// canonicalName is textproto.CanonicalMIMEHeaderKey without its allocation for the names that nearly every request signs.
func canonicalName(lower string) string {
	switch lower {
	case "x-amz-date":
		return "X-Amz-Date"
	case "x-amz-content-sha256":
		return "X-Amz-Content-Sha256"
	case "x-amz-decoded-content-length":
		return "X-Amz-Decoded-Content-Length"
	case "x-amz-trailer":
		return "X-Amz-Trailer"
	case "x-amz-sdk-checksum-algorithm":
		return "X-Amz-Sdk-Checksum-Algorithm"
	case "x-amz-checksum-mode":
		return "X-Amz-Checksum-Mode"
	case "amz-sdk-invocation-id":
		return "Amz-Sdk-Invocation-Id"
	case "amz-sdk-request":
		return "Amz-Sdk-Request"
	case "content-length":
		return "Content-Length"
	case "content-type":
		return "Content-Type"
	case "content-md5":
		return "Content-Md5"
	case "content-encoding":
		return "Content-Encoding"
	case "accept-encoding":
		return "Accept-Encoding"
	}
	return textproto.CanonicalMIMEHeaderKey(lower)
}

// checkSigned refuses a list of signed headers without Host or without an x-amz-… header that the request carries.
func checkSigned(list string, h http.Header) error {
	if !listed(list, "host") {
		return refuse(NotSigned, "host")
	}
	for name := range h {
		if len(name) > 6 && name[:6] == "X-Amz-" && !listed(list, name) {
			return refuse(NotSigned, strings.ToLower(name))
		}
	}
	return nil
}

// listed tells whether name, in any case, is one of the ";"-separated lower-case names.
func listed(list, name string) bool {
	for list != "" {
		var one string
		one, list, _ = strings.Cut(list, ";")
		if len(one) == len(name) && equalLower(one, name) {
			return true
		}
	}
	return false
}

func equalLower(lower, s string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if lower[i] != c {
			return false
		}
	}
	return true
}
