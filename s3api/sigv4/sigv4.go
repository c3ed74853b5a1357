// Package sigv4 verifies AWS Signature Version 4 in the dialect that S3 speaks: by Authorization header, by presigned
// URL, and chunk by chunk in streaming uploads.
//
// It owns the parsing of credentials out of headers and query strings, the canonical request, the signing-key cache and
// the aws-chunked decoder. It knows no identities, no S3 error codes and no routes: values in, verdict out.
//
// Invariants: nothing of a request is trusted before Verify returned nil; a ChunkReader hands out the last byte of a body
// only after the final chunk and the trailer behind it were found right; memory is bounded by constants, whatever arrives.
//
// Sources: "Authenticating Requests (AWS Signature Version 4)" and "Signature Calculations for the Authorization Header:
// Transferring Payload in Multiple Chunks" in the Amazon S3 API Reference.
package sigv4

import (
	"net/http"
	"strings"
	"time"
)

// The values of x-amz-content-sha256 that are not a hash.
const (
	UnsignedPayload  = "UNSIGNED-PAYLOAD"
	SignedChunks     = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	SignedTrailer    = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	UnsignedTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	EmptySHA256      = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	algorithm        = "AWS4-HMAC-SHA256"
	timeLayout       = "20060102T150405Z"
	maxCredentialLen = 512
	maxSignedHeaders = 4096
)

const (
	// MaxSkew is how far a request's clock may be from ours.
	MaxSkew = 15 * time.Minute
	// MaxExpires is the longest life of a presigned URL.
	MaxExpires = 7 * 24 * time.Hour
)

// Reason tells why a request was refused.
type Reason uint8

// The reasons. The frontend turns each into one of S3's error codes.
const (
	Malformed      Reason = iota // the Authorization header cannot be understood
	MalformedQuery               // the presigned URL's parameters cannot be understood
	Unsupported                  // another signature algorithm
	MalformedV2                  // a header of Version 2, which is not spoken, and not even well-formed
	BadDate                      // no date, or one that cannot be read
	Skewed                       // the clock is off by more than MaxSkew
	Expired                      // a presigned URL past its time
	NotYetValid                  // a presigned URL before its time
	NotSigned                    // security headers were left out of the signature
	BadPayload                   // x-amz-content-sha256 is missing or has no known form
	WrongRegion                  // the credential's scope is another region or service
	Mismatch                     // the signature is wrong
	BadChunk                     // the aws-chunked framing is broken
	BadTrailer                   // the trailer is broken or not what was announced
	WrongLength                  // not x-amz-decoded-content-length bytes
)

// Error is a refusal. Detail is for people; it never holds a secret.
type Error struct {
	Reason Reason
	Detail string
	// Canonical and StringToSign explain a Mismatch.
	Canonical    string
	StringToSign string
}

// Error returns the detail.
func (e *Error) Error() string { return "sigv4: " + e.Detail }

func refuse(r Reason, detail string) error { return &Error{Reason: r, Detail: detail} }

// Param is one decoded query parameter, in the order of the request.
type Param struct{ Key, Value string }

// Message is what a signature covers besides the payload.
type Message struct {
	Method  string
	Path    string // decoded once, as storage uses it; begins with "/"
	RawPath string // as received
	Query   []Param
	Header  http.Header
	Host    string
}

// Auth is what a request claims: nothing in it is trusted before Verify.
type Auth struct {
	Presigned     bool
	AccessKey     string
	Day           string // yyyymmdd of the scope
	Region        string
	Service       string // of the scope; "" is s3
	Scope         string // day/region/s3/aws4_request
	SignedHeaders string // lower-case names joined by ";"
	Signature     string // 64 hexadecimal digits
	Date          string // as signed: yyyymmddThhmmssZ
	Time          time.Time
	Expires       time.Duration // of a presigned URL
	Payload       string        // x-amz-content-sha256
	Token         string        // x-amz-security-token
}

// Streaming tells whether the payload is aws-chunked.
func (a *Auth) Streaming() bool { return strings.HasPrefix(a.Payload, "STREAMING-") }

// PayloadHash tells whether Payload is a hash of the body (64 lower-case hexadecimal digits).
func (a *Auth) PayloadHash() bool { return len(a.Payload) == 64 }

// FromHeader reads an Authorization header. region and service of the scope must be region and "s3".
func FromHeader(h http.Header, region string) (Auth, error) {
	a, err := fromHeader(h, region, "s3")
	if err != nil {
		return a, err
	}
	a.Payload = first(h, "X-Amz-Content-Sha256")
	if a.Payload == "" {
		return a, refuse(BadPayload, "Missing required header for this request: x-amz-content-sha256")
	}
	return a, checkPayload(a.Payload)
}

// FromHeaderOf reads the Authorization header of a request to another service than S3, whose payload's hash, in hexadecimal,
// is not in a header.
func FromHeaderOf(h http.Header, region, service, payload string) (Auth, error) {
	a, err := fromHeader(h, region, service)
	a.Payload = payload
	if sent := first(h, "X-Amz-Content-Sha256"); err == nil && sent != "" && sent != payload {
		err = refuse(BadPayload, "x-amz-content-sha256 is not the hash of the body")
	}
	return a, err
}

func fromHeader(h http.Header, region, service string) (Auth, error) {
	a := Auth{Service: service}
	value := first(h, "Authorization")
	rest, ok := strings.CutPrefix(value, algorithm)
	if !ok && strings.HasPrefix(value, "AWS ") && !strings.Contains(value, ":") {
		return a, refuse(MalformedV2, "AWS authorization header is invalid. Expected AwsAccessKeyId:signature")
	}
	if !ok {
		return a, refuse(Unsupported, "The authorization mechanism you have provided is not supported. Please use "+algorithm+".")
	}
	if err := a.readFields(rest); err != nil {
		return a, err
	}
	if err := a.readScope(Malformed); err != nil {
		return a, err
	}
	if err := a.checkScope(region, Malformed); err != nil {
		return a, err
	}
	if err := a.readHeaderDate(h); err != nil {
		return a, err
	}
	a.Token = first(h, "X-Amz-Security-Token")
	return a, nil
}

func first(h http.Header, canonicalName string) string {
	if v := h[canonicalName]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// readFields takes "Credential=…, SignedHeaders=…, Signature=…" in any order, separated by commas and blanks.
func (a *Auth) readFields(s string) error {
	for s != "" {
		var field string
		field, s, _ = strings.Cut(s, ",")
		name, value, ok := strings.Cut(strings.Trim(field, " \t"), "=")
		var to *string
		switch name {
		case "Credential":
			to = &a.Scope
		case "SignedHeaders":
			to = &a.SignedHeaders
		case "Signature":
			to = &a.Signature
		}
		if !ok || to == nil || *to != "" {
			return refuse(Malformed, "The authorization header is malformed: "+
				"want Credential, SignedHeaders and Signature, each once.")
		}
		*to = value
	}
	if a.Scope == "" || a.SignedHeaders == "" || a.Signature == "" {
		return refuse(Malformed, "The authorization header is malformed: Credential, SignedHeaders and Signature are required.")
	}
	return a.checkForms(Malformed)
}

func (a *Auth) checkForms(r Reason) error {
	if len(a.Scope) > maxCredentialLen || len(a.SignedHeaders) > maxSignedHeaders {
		return refuse(r, "The credential or the list of signed headers is too long.")
	}
	if !isHex64(a.Signature) {
		return refuse(r, "The signature must be 64 lower-case hexadecimal digits.")
	}
	return nil
}

// readScope splits "key/day/region/service/aws4_request", where the access key may hold slashes itself.
func (a *Auth) readScope(r Reason) error {
	cred, cut := a.Scope, len(a.Scope)
	for range 4 {
		if cut = strings.LastIndexByte(cred[:cut], '/'); cut < 0 {
			return refuse(r, "The credential is malformed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
		}
	}
	a.AccessKey, a.Scope = cred[:cut], cred[cut+1:]
	var rest string
	a.Day, rest, _ = strings.Cut(a.Scope, "/")
	a.Region, _, _ = strings.Cut(rest, "/")
	if a.AccessKey == "" || len(a.Day) != 8 {
		return refuse(r, "The credential is malformed: access key or date.")
	}
	return nil
}

func (a *Auth) service() string {
	if a.Service == "" {
		return "s3"
	}
	return a.Service
}

func (a *Auth) checkScope(region string, r Reason) error {
	if want := "/" + a.service() + "/aws4_request"; !strings.HasSuffix(a.Scope, want) {
		return refuse(r, "The credential's scope must end in \""+want+"\".")
	}
	if a.Region != region {
		return refuse(WrongRegion, "the region '"+a.Region+"' is wrong; expecting '"+region+"'")
	}
	return nil
}

// readHeaderDate takes x-amz-date or, without it, Date in one of HTTP's forms.
func (a *Auth) readHeaderDate(h http.Header) (err error) {
	const noDate = "AWS authentication requires a valid Date or x-amz-date header"
	if a.Date = first(h, "X-Amz-Date"); a.Date != "" {
		if a.Time, err = time.Parse(timeLayout, a.Date); err != nil {
			return refuse(BadDate, noDate)
		}
	} else {
		date := first(h, "Date")
		if a.Time, err = http.ParseTime(date); err != nil {
			if a.Time, err = time.Parse(timeLayout, date); err != nil {
				return refuse(BadDate, noDate)
			}
		}
		a.Date = a.Time.UTC().Format(timeLayout)
	}
	if a.Date[:8] != a.Day {
		return refuse(Malformed, "Invalid credential date \""+a.Day+"\". This date is not the same as X-Amz-Date: \""+a.Date[:8]+"\".")
	}
	return nil
}

func checkPayload(p string) error {
	switch p {
	case UnsignedPayload, SignedChunks, SignedTrailer, UnsignedTrailer:
		return nil
	}
	if isHex64(p) {
		return nil
	}
	return refuse(BadPayload, "x-amz-content-sha256 must be "+UnsignedPayload+", "+UnsignedTrailer+", "+SignedChunks+", "+
		SignedTrailer+" or a valid sha256 value.")
}

func isHex64(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// CheckTime refuses a request whose time is too far from now.
func (a *Auth) CheckTime(now time.Time) error {
	if a.Presigned {
		switch {
		case a.Time.After(now.Add(MaxSkew)):
			return refuse(NotYetValid, "Request is not yet valid")
		case now.After(a.Time.Add(a.Expires)):
			return refuse(Expired, "Request has expired")
		}
		return nil
	}
	if d := now.Sub(a.Time); d > MaxSkew || d < -MaxSkew {
		return refuse(Skewed, "The difference between the request time and the current time is too large.")
	}
	return nil
}
