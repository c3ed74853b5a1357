package sigv4

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// IsPresigned tells whether the query claims credentials of Signature Version 4.
func IsPresigned(query []Param) bool {
	for i := range query {
		switch query[i].Key {
		case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature":
			return true
		}
	}
	return false
}

// FromQuery reads the parameters of a presigned URL.
func FromQuery(query []Param, h http.Header, region string) (Auth, error) {
	a := Auth{Presigned: true, Payload: UnsignedPayload}
	var alg, expires string
	if err := a.collect(query, &alg, &expires); err != nil {
		return a, err
	}
	if alg != algorithm {
		return a, refuse(MalformedQuery, "X-Amz-Algorithm only supports \""+algorithm+"\"")
	}
	if err := a.checkForms(MalformedQuery); err != nil {
		return a, err
	}
	if err := a.readScope(MalformedQuery); err != nil {
		return a, err
	}
	if err := a.checkScope(region, MalformedQuery); err != nil {
		return a, err
	}
	if err := a.readLife(expires); err != nil {
		return a, err
	}
	if p := first(h, "X-Amz-Content-Sha256"); p != "" {
		a.Payload = p
	}
	return a, checkPayload(a.Payload)
}

func (a *Auth) collect(query []Param, alg, expires *string) error {
	for i := range query {
		var to *string
		switch query[i].Key {
		case "X-Amz-Algorithm":
			to = alg
		case "X-Amz-Credential":
			to = &a.Scope
		case "X-Amz-Date":
			to = &a.Date
		case "X-Amz-Expires":
			to = expires
		case "X-Amz-SignedHeaders":
			to = &a.SignedHeaders
		case "X-Amz-Signature":
			to = &a.Signature
		case "X-Amz-Security-Token":
			to = &a.Token
		case "X-Amz-Content-Sha256":
			to = &a.Payload
		default:
			continue
		}
		if *to != "" && to != &a.Payload {
			return refuse(MalformedQuery, "The parameter "+query[i].Key+" may be given once only.")
		}
		*to = query[i].Value
	}
	if *alg == "" || a.Scope == "" || a.Date == "" || *expires == "" || a.SignedHeaders == "" || a.Signature == "" {
		return refuse(MalformedQuery, "Query-string authentication version 4 requires the X-Amz-Algorithm, "+
			"X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
	}
	return nil
}

func (a *Auth) readLife(expires string) (err error) {
	if a.Time, err = time.Parse(timeLayout, a.Date); err != nil {
		return refuse(MalformedQuery, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	if a.Date[:8] != a.Day {
		return refuse(MalformedQuery, "Invalid credential date \""+a.Day+"\". This date is not the same as X-Amz-Date: \""+a.Date[:8]+"\".")
	}
	n, err := strconv.ParseInt(expires, 10, 64)
	switch {
	case err != nil:
		return refuse(MalformedQuery, "X-Amz-Expires should be a number")
	case n < 0:
		return refuse(MalformedQuery, "X-Amz-Expires must be non-negative")
	case n > int64(MaxExpires/time.Second):
		return refuse(MalformedQuery, "X-Amz-Expires must be less than a week (in seconds) that is less than 604800")
	}
	a.Expires = time.Duration(n) * time.Second
	return nil
}

// authParam tells whether a query parameter belongs to the signature itself.
func authParam(key string) bool {
	switch key {
	case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature",
		"X-Amz-Security-Token", "X-Amz-Content-Sha256":
		return true
	}
	return false
}

// Hoisted returns the headers that a presigning client moved into the query (x-amz-…, but for the signature's own
// parameters): S3 honours them as if they had been sent as headers.
func Hoisted(query []Param) []Param {
	var out []Param
	for _, p := range query {
		if len(p.Key) > 6 && strings.EqualFold(p.Key[:6], "x-amz-") && !authParam(p.Key) {
			out = append(out, p)
		}
	}
	return out
}
