package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Presigned URLs of Signature Version 2. S3 still takes them in its oldest regions, and boto3 still makes them by default
// for an endpoint of one's own. Of Version 2 this form and that of POST forms (form.go) are spoken, no headers.
//
// Source: "Signing and authenticating REST requests (AWS signature version 2)" in the Amazon S3 User Guide.

// AuthV2 is what a presigned URL of Version 2 claims.
type AuthV2 struct {
	AccessKey string
	Signature string // base64 of 20 bytes
	Expires   time.Time
	expires   string
}

// IsPresignedV2 tells whether the query claims credentials of Signature Version 2.
func IsPresignedV2(query []Param) bool {
	q := params(query)
	return q.get("AWSAccessKeyId") != "" || q.get("Signature") != ""
}

// FromQueryV2 reads the parameters of a presigned URL of Version 2.
func FromQueryV2(query []Param) (AuthV2, error) {
	var a AuthV2
	for _, p := range query {
		to := map[string]*string{"AWSAccessKeyId": &a.AccessKey, "Signature": &a.Signature, "Expires": &a.expires}[p.Key]
		if to == nil {
			continue
		}
		if *to != "" {
			return a, refuse(MalformedQuery, "The parameter "+p.Key+" may be given once only.")
		}
		*to = p.Value
	}
	seconds, err := strconv.ParseInt(a.expires, 10, 64)
	if a.AccessKey == "" || a.Signature == "" || err != nil || seconds < 0 {
		return a, refuse(MalformedQuery, "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
	}
	a.Expires = time.Unix(seconds, 0)
	return a, nil
}

// CheckTime refuses a URL that has expired, or that lives longer than one of Version 4 may.
func (a *AuthV2) CheckTime(now time.Time) error {
	switch {
	case now.After(a.Expires):
		return refuse(Expired, "Request has expired")
	case a.Expires.After(now.Add(MaxExpires + MaxSkew)):
		return refuse(MalformedQuery, "Expires must be less than a week from now")
	}
	return nil
}

// Verify checks the signature. resource is the path as S3 names it, "/bucket/key", escaped as it was received.
func (a *AuthV2) Verify(secret, resource string, m *Message) error {
	toSign := a.stringToSign(resource, m)
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(toSign))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if subtle.ConstantTimeCompare([]byte(want), []byte(a.Signature)) != 1 {
		return &Error{Reason: Mismatch, StringToSign: toSign,
			Detail: "The request signature we calculated does not match the signature you provided. Check your key and signing method."}
	}
	return nil
}

func (a *AuthV2) stringToSign(resource string, m *Message) string {
	var b strings.Builder
	b.WriteString(m.Method + "\n" + first(m.Header, "Content-Md5") + "\n" + first(m.Header, "Content-Type") + "\n" + a.expires + "\n")
	b.WriteString(amzHeadersV2(m.Header))
	b.WriteString(resource)
	mark := byte('?')
	for _, p := range subResourcesV2(m.Query) {
		b.WriteByte(mark)
		mark = '&'
		b.WriteString(p.Key)
		if p.Value != "" {
			b.WriteString("=" + p.Value)
		}
	}
	return b.String()
}

// amzHeadersV2 are the x-amz- headers and parameters, sorted, a line each.
func amzHeadersV2(h http.Header) string {
	var lines []string
	for name, values := range h {
		if strings.HasPrefix(name, "X-Amz-") {
			lines = append(lines, strings.ToLower(name)+":"+strings.TrimSpace(strings.Join(values, ","))+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// subResourcesV2 are the parameters that Version 2 signs; all others it leaves open.
func subResourcesV2(query []Param) []Param {
	var out []Param
	for _, p := range query {
		if slices.Contains(signedV2, p.Key) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Param) int { return strings.Compare(a.Key, b.Key) })
	return out
}

var signedV2 = []string{"accelerate", "acl", "analytics", "attributes", "cors", "defaultObjectAcl", "delete", "encryption", "inventory",
	"intelligent-tiering", "legal-hold", "lifecycle", "location", "logging", "metrics", "notification", "object-lock", "ownershipControls",
	"partNumber", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "response-cache-control",
	"response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type",
	"response-expires", "restore", "retention", "select", "select-type", "tagging", "torrent", "uploadId", "uploads", "versionId",
	"versioning", "versions", "website"}
