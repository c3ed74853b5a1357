package admin

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"cairn"
	"cairn/iam"
)

// Objects serves S3 requests whose sender is known without a signature. *s3api.Server is one.
type Objects interface {
	// ServeAs answers a request as if who had signed it. The request's target is that of S3: "/bucket/key?query".
	ServeAs(w http.ResponseWriter, r *http.Request, who iam.Identity)
}

// serveS3 hands a request below /s3/ to the S3 frontend, as whoever is logged in: the same code checks the same policies for
// browsers and S3 clients. What comes back is data of clients, so it is no page of ours: it may run nothing (the policy that
// every answer has), and is saved rather than shown.
func (s *Server) serveS3(w http.ResponseWriter, r *http.Request) {
	id, err := s.identify(r)
	if err == nil {
		err = s.authorize(&id, actionConsole)
	}
	if err == nil && s.cfg.Objects == nil {
		err = &cairn.Error{Op: "admin.s3", Err: cairn.ErrUnavailable}
	}
	if err != nil {
		fail(w, r, err)
		return
	}
	_, rest, ok := strings.Cut(r.RequestURI, s3Route)
	if !ok || !strings.HasPrefix(r.RequestURI, s3Route) {
		fail(w, r, &cairn.Error{Op: "admin.s3", Subject: r.RequestURI, Err: cairn.ErrInvalid})
		return
	}
	if len(r.TransferEncoding) > 0 { // no browser sends it, and a proxy may read such a request in another way
		fail(w, r, &cairn.Error{Op: "admin.s3", Err: fmt.Errorf("a body needs a Content-Length: %w", cairn.ErrInvalid)})
		return
	}
	w.Header().Set("Content-Disposition", "attachment")
	bare := r.Clone(r.Context())
	bare.RequestURI = "/" + rest
	bare.Host = "" // the host names no bucket here
	bare.Header.Del("Cookie")
	bare.Header.Del("Authorization")
	answer := &observed{ResponseWriter: w, status: http.StatusOK}
	defer answer.SetWriteDeadline(time.Time{}) // the next request on the connection is not the frontend's
	s.cfg.Objects.ServeAs(answer, bare, id)
	if bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, s3Route), "/"); bucket != "" && audited(r, key) {
		var result error
		if answer.status/100 != 2 {
			result = &cairn.Error{Op: "s3", Err: statusError(answer.status)}
		}
		s.audit(r, id, "s3:"+r.Method, subjectOf(r), result)
	}
}

// audited tells which of a browser's S3 requests leave a record: changes of buckets, and deletions.
func audited(r *http.Request, key string) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return false
	case http.MethodDelete:
		return true
	}
	return key == ""
}

type statusError int

func (e statusError) Error() string { return http.StatusText(int(e)) }

// observed remembers an answer's status.
type observed struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (o *observed) WriteHeader(status int) {
	o.status = status
	o.ResponseWriter.WriteHeader(status)
}

// SetReadDeadline and SetWriteDeadline let the frontend give up on a client that stalls.
func (o *observed) SetReadDeadline(t time.Time) error {
	return http.NewResponseController(o.ResponseWriter).SetReadDeadline(t)
}

// SetWriteDeadline is SetReadDeadline's counterpart.
func (o *observed) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(o.ResponseWriter).SetWriteDeadline(t)
}

// Flush implements http.Flusher.
func (o *observed) Flush() { http.NewResponseController(o.ResponseWriter).Flush() }
