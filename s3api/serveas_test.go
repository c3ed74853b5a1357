package s3api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"cairn/iam"
)

// TestServeAs: who is known needs no signature, and may do what its policies allow and no more.
func TestServeAs(t *testing.T) {
	r := newRig(t, nil)
	ask := func(method, target string, who iam.Identity) int {
		t.Helper()
		req := httptest.NewRequest(method, target, strings.NewReader(""))
		req.RequestURI, req.Host = target, ""
		req.Header.Set("Content-Length", "0")
		w := httptest.NewRecorder()
		r.srv.ServeAs(w, req, who)
		return w.Code
	}
	_, root, err := r.srv.cfg.Identities.Lookup(testKey, "")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask("PUT", "/as-root", root); got != http.StatusOK {
		t.Errorf("root makes a bucket: %d", got)
	}
	if got := ask("GET", "/as-root?list-type=2", root); got != http.StatusOK {
		t.Errorf("root lists it: %d", got)
	}
	if got := ask("GET", "/as-root?list-type=2", iam.Identity{}); got != http.StatusForbidden {
		t.Errorf("nobody lists it: %d, want 403", got)
	}
	if got := ask("GET", "/as-root?list-type=2", iam.Identity{Account: "x", Name: "x", AccessKey: "y"}); got != http.StatusForbidden {
		t.Errorf("a user without policies lists it: %d, want 403", got)
	}
}
