package admin

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClusterRoutes(t *testing.T) {
	s := newServer(t, &cluster{})
	for _, tt := range []struct {
		method, path string
		root         bool
		code         int
		want         string
	}{
		{"GET", "/api/v1/nodes", true, 200, `"name": "n1"`},
		{"GET", "/api/v1/nodes", false, 401, "root access key"},
		{"POST", "/api/v1/nodes/00000000000000000000000000000001/out", true, 200, `"state": "out"`},
		{"POST", "/api/v1/nodes/00000000000000000000000000000002/out", true, 409, "precondition"},
		{"POST", "/api/v1/nodes/1/out", true, 400, "32 hexadecimal digits"},
		{"POST", "/api/v1/nodes/00000000000000000000000000000001/out", false, 401, "root access key"},
		{"GET", "/api/v1/drives", true, 200, `"path": "/d"`},
		{"GET", "/api/v1/volumes", true, 200, `"id": 1,`},
		{"GET", "/api/v1/volumes?after=v7&max=5", true, 200, `"unit_bytes": 5`},
		{"GET", "/api/v1/volumes?after=x", true, 400, "such as v7"},
		{"GET", "/api/v1/volumes?max=0", true, 400, "want 1 to"},
		{"GET", "/api/v1/volumes/v9", true, 200, `"id": 9`},
		{"GET", "/api/v1/volumes/bad", true, 400, "such as v7"},
		{"PUT", "/api/v1/voters/00000000000000000000000000000001", true, 200, "{}"},
		{"PUT", "/api/v1/voters/1", true, 400, "32 hexadecimal digits"},
		{"DELETE", "/api/v1/voters/00000000000000000000000000000001", true, 409, "precondition"},
		{"DELETE", "/api/v1/voters/00000000000000000000000000000001", false, 401, "root access key"},
		{"GET", "/api/v1/tokens", true, 200, `"id": "k1"`},
		{"POST", "/api/v1/tokens?roles=data&expires=1h", true, 200, `"token": "secret"`},
		{"POST", "/api/v1/tokens?roles=data&expires=1h", false, 401, "root access key"},
		{"POST", "/api/v1/tokens?roles=king&expires=1h", true, 400, "none of meta, data, gateway"},
		{"POST", "/api/v1/tokens?roles=data&expires=900h", true, 400, "up to"},
		{"POST", "/api/v1/tokens?roles=data", true, 400, "want a duration"},
	} {
		r := httptest.NewRequest(tt.method, tt.path, nil)
		if tt.root {
			r.SetBasicAuth("root", "secret")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s as root %v: got %d %s, want %d with %q", tt.method, tt.path, tt.root, w.Code, w.Body, tt.code, tt.want)
		}
	}
}
