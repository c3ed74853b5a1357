package bench

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Credentials sign the requests of a load.
type Credentials struct {
	AccessKey string
	SecretKey string
	Region    string // "" means us-east-1
}

const unsignedPayload = "UNSIGNED-PAYLOAD"

// signer makes SigV4 Authorization headers for one credential, host and connection. It keeps the day's signing key and is
// used by one goroutine. The scheme is "Signature Version 4" of the S3 API reference, with an unsigned payload.
type signer struct {
	cred  Credentials
	host  string
	day   string
	key   []byte
	canon []byte // scratch
}

func newSigner(cred Credentials, host string) *signer {
	if cred.Region == "" {
		cred.Region = "us-east-1"
	}
	return &signer{cred: cred, host: host}
}

// appendHeaders appends the Host, date, content hash and Authorization lines for one request. path is escaped already and
// query is in canonical order.
func (s *signer) appendHeaders(dst []byte, method, path, query string, now time.Time) []byte {
	stamp := now.UTC().Format("20060102T150405Z")
	day := stamp[:8]
	if day != s.day {
		s.day, s.key = day, signingKey(s.cred, day)
	}
	c := s.canon[:0]
	c = append(c, method...)
	c = append(c, '\n')
	c = append(c, path...)
	c = append(c, '\n')
	c = append(c, query...)
	c = append(c, "\nhost:"...)
	c = append(c, s.host...)
	c = append(c, "\nx-amz-content-sha256:"+unsignedPayload+"\nx-amz-date:"...)
	c = append(c, stamp...)
	c = append(c, "\n\nhost;x-amz-content-sha256;x-amz-date\n"+unsignedPayload...)
	sum := sha256.Sum256(c)

	scope := day + "/" + s.cred.Region + "/s3/aws4_request"
	c = append(c[:0], "AWS4-HMAC-SHA256\n"...)
	c = append(c, stamp...)
	c = append(c, '\n')
	c = append(c, scope...)
	c = append(c, '\n')
	c = hex.AppendEncode(c, sum[:])
	s.canon = c
	mac := hmacSHA256(s.key, c)

	dst = append(dst, "Host: "...)
	dst = append(dst, s.host...)
	dst = append(dst, "\r\nX-Amz-Content-Sha256: "+unsignedPayload+"\r\nX-Amz-Date: "...)
	dst = append(dst, stamp...)
	dst = append(dst, "\r\nAuthorization: AWS4-HMAC-SHA256 Credential="...)
	dst = append(dst, s.cred.AccessKey...)
	dst = append(dst, '/')
	dst = append(dst, scope...)
	dst = append(dst, ",SignedHeaders=host;x-amz-content-sha256;x-amz-date,Signature="...)
	dst = hex.AppendEncode(dst, mac)
	return append(dst, "\r\n"...)
}

func signingKey(cred Credentials, day string) []byte {
	k := hmacSHA256([]byte("AWS4"+cred.SecretKey), []byte(day))
	k = hmacSHA256(k, []byte(cred.Region))
	k = hmacSHA256(k, []byte("s3"))
	return hmacSHA256(k, []byte("aws4_request"))
}

func hmacSHA256(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}
