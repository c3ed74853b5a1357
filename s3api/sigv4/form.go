package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"time"
)

// POST forms carry a policy and a signature of its text, instead of a signature of the request.
//
// Source: "Authenticating Requests: Browser-Based Uploads Using POST (AWS Signature Version 4)" in the Amazon S3 API Reference.

// FromForm reads the credentials of a form; get returns a field's value by its name in lower case. A form's own policy says how
// long it is good, so the date decides about the key only.
func FromForm(get func(name string) string, region string) (Auth, error) {
	a := Auth{Payload: UnsignedPayload, Scope: get("x-amz-credential"), Signature: get("x-amz-signature"),
		Date: get("x-amz-date"), Token: get("x-amz-security-token")}
	if alg := get("x-amz-algorithm"); alg != algorithm {
		return a, refuse(MalformedQuery, "X-Amz-Algorithm only supports \""+algorithm+"\"")
	}
	if err := a.checkForms(Mismatch); err != nil {
		return a, err
	}
	if err := a.readScope(MalformedQuery); err != nil {
		return a, err
	}
	if err := a.checkScope(region, MalformedQuery); err != nil {
		return a, err
	}
	var err error
	if a.Time, err = time.Parse(timeLayout, a.Date); err != nil || a.Date[:8] != a.Day {
		return a, refuse(MalformedQuery, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\" and of the credential's day")
	}
	return a, nil
}

// VerifyText checks the signature of a text, a form's policy in base64.
func (v *Verifier) VerifyText(a *Auth, secret, text string) error {
	key := v.signingKey(a, secret)
	want := key.hexSum([]byte(text))
	if subtle.ConstantTimeCompare(want[:], []byte(a.Signature)) != 1 {
		return &Error{Reason: Mismatch, StringToSign: text,
			Detail: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	}
	return nil
}

// VerifyTextV2 checks the signature of a form's policy by Signature Version 2, which old clients still make.
func VerifyTextV2(secret, text, signature string) error {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(text))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if subtle.ConstantTimeCompare([]byte(want), []byte(signature)) != 1 {
		return &Error{Reason: Mismatch, StringToSign: text,
			Detail: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	}
	return nil
}
