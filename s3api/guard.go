package s3api

import (
	"net/http"
	"strings"
)

// guard refuses what net/http lets through and what could mean two things to two readers: headers that decide about
// identity, framing or meaning and come twice, and Content-Length beside Transfer-Encoding.
func guard(r *http.Request) error {
	for name, values := range r.Header {
		if len(values) > 1 && onlyOnce(name) {
			return errInvalidRequest.with("The header " + strings.ToLower(name) + " may be given once only.")
		}
	}
	if len(r.TransferEncoding) == 0 {
		return nil
	}
	if c, ok := r.Context().Value(connKey{}).(*conn); ok && !c.plainChunked(r.RequestURI) {
		return errInvalidRequest.with("A request may not have both Content-Length and Transfer-Encoding.")
	}
	return nil
}

// onlyOnce knows the headers (in canonical form) whose repetition is refused: all of S3's own except user metadata and lists.
func onlyOnce(name string) bool {
	switch name {
	case "Authorization", "Date", "Content-Md5", "Content-Length", "Content-Type", "Content-Encoding", "Host", "Range",
		"Expect", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range":
		return true
	}
	return strings.HasPrefix(name, "X-Amz-") && !strings.HasPrefix(name, metaPrefix) && !strings.HasSuffix(name, "-Object-Attributes")
}

const metaPrefix = "X-Amz-Meta-"
