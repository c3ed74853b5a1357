package s3api

import (
	"net"
	"strings"
	"unicode/utf8"

	"cairn/object"
	"cairn/s3api/sigv4"
)

// target is what a request is about. It is made once per request, and signature, authorisation and storage all use it:
// two readings of one path would be a hole.
type target struct {
	bucket string
	key    string
	path   string // the whole path, decoded once: what the signature covers
	raw    string // the path as received
	// virtual: the bucket was named by the host.
	virtual bool
}

// parseTarget reads the request target ("/bucket/key?query") and Host. Nothing is cleaned: "//", "." and ".." are parts of
// keys. Percent-encoding is undone exactly once.
func parseTarget(requestURI, host string, domains []string) (t target, rawQuery string, err error) {
	if requestURI == "" || requestURI[0] != '/' {
		return t, "", errInvalidURI // absolute-form and "*": no S3 client sends them, and they would name a second host
	}
	t.raw, rawQuery, _ = strings.Cut(requestURI, "?")
	if t.path, err = unescape(t.raw, false); err != nil {
		return t, "", err
	}
	if bucket := virtualHost(host, domains); bucket != "" {
		t.bucket, t.key, t.virtual = bucket, t.path[1:], true
	} else {
		rawBucket, rawKey, _ := strings.Cut(t.raw[1:], "/")
		if t.bucket, err = unescape(rawBucket, false); err != nil {
			return t, "", err
		}
		if t.key, err = unescape(rawKey, false); err != nil {
			return t, "", err
		}
	}
	return t, rawQuery, t.check()
}

func (t *target) check() error {
	switch {
	case len(t.key) > object.MaxKeyBytes:
		return errKeyTooLong.with("", field{"Size", itoa(int64(len(t.key)))}, field{"MaxSizeAllowed", itoa(object.MaxKeyBytes)})
	case !utf8.ValidString(t.path) || strings.IndexByte(t.path, 0) >= 0:
		return errInvalidURI
	case t.bucket == "" && t.key != "", len(t.bucket) > 255, strings.IndexByte(t.bucket, '/') >= 0:
		return errInvalidBucketName.with("", field{"BucketName", t.bucket})
	}
	return nil
}

// virtualHost returns the bucket that the host names in front of one of the domains, "" in path style.
func virtualHost(host string, domains []string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(host, ".")
	for _, d := range domains {
		if cut := len(host) - len(d) - 1; cut > 0 && host[cut] == '.' && strings.EqualFold(host[cut+1:], d) {
			return strings.ToLower(host[:cut])
		}
	}
	return ""
}

// unescape undoes percent-encoding once. In queries '+' is a blank.
func unescape(s string, query bool) (string, error) {
	if strings.IndexByte(s, '%') < 0 && (!query || strings.IndexByte(s, '+') < 0) {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+' && query:
			b = append(b, ' ')
		case c != '%':
			b = append(b, c)
		default:
			if i+2 >= len(s) {
				return "", errInvalidURI
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi > 15 || lo > 15 {
				return "", errInvalidURI
			}
			b = append(b, hi<<4|lo)
			i += 2
		}
	}
	return string(b), nil
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// maxParams bounds the parameters of a query; S3's longest operations have a dozen, presigned ones a few dozen.
const maxParams = 256

// params are a query's parameters, decoded, in order.
type params []sigv4.Param

// parseQuery decodes a raw query into ps.
func parseQuery(raw string, ps params) (params, error) {
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		if pair == "" {
			continue
		}
		if len(ps) == maxParams {
			return nil, errInvalidURI
		}
		k, v, _ := strings.Cut(pair, "=")
		key, err := unescape(k, true)
		if err != nil {
			return nil, err
		}
		value, err := unescape(v, true)
		if err != nil {
			return nil, err
		}
		ps = append(ps, sigv4.Param{Key: key, Value: value})
	}
	return ps, nil
}

// lookup returns the first value of a parameter and whether it is there.
func (ps params) lookup(key string) (string, bool) {
	for i := range ps {
		if ps[i].Key == key {
			return ps[i].Value, true
		}
	}
	return "", false
}

// get returns the first value of a parameter, "" if it is not there.
func (ps params) get(key string) string {
	v, _ := ps.lookup(key)
	return v
}

// has tells whether a parameter is there, with or without a value.
func (ps params) has(key string) bool {
	_, ok := ps.lookup(key)
	return ok
}
