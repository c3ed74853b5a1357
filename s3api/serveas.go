package s3api

import (
	"net/http"
	"time"

	"cairn/iam"
)

// ServeAs answers a request as if who had signed it: the caller has made sure who makes it. What a request says of credentials
// itself is not looked at; policies are asked as ever. The request's RequestURI is the target of S3, in path style.
func (s *Server) ServeAs(w http.ResponseWriter, r *http.Request, who iam.Identity) {
	c := &call{srv: s, w: w, r: r, start: time.Now(), known: true, who: who}
	s.serve(c)
}
