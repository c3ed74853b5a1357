package web

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// maxGzipBytes is what the whole page may weigh on the wire.
const maxGzipBytes = 120 << 10

func TestPageIsSmallAndWhole(t *testing.T) {
	if n := GzipBytes(); n < 20<<10 || n > maxGzipBytes {
		t.Errorf("the page is %d bytes compressed, want at most %d and not nothing", n, maxGzipBytes)
	}
	h := Handler()
	for path, want := range map[string]string{"/": "text/html", "/assets/app.js": "text/javascript", "/assets/app.css": "text/css", "/assets/licenses.txt": "text/plain"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), want) || w.Body.Len() == 0 {
			t.Errorf("%s: %d %s, want %s", path, w.Code, w.Header().Get("Content-Type"), want)
		}
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", w.Header().Get("Etag"))
		again := httptest.NewRecorder()
		if h.ServeHTTP(again, r); again.Code != 304 {
			t.Errorf("%s again: %d, want 304", path, again.Code)
		}
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequest("GET", "/assets/../web.go", nil)); w.Code != 404 {
		t.Errorf("a file that is not of the page: %d", w.Code)
	}
}

// TestPageNeedsNoInlineScript: the policy that it is sent with would stop one.
func TestPageNeedsNoInlineScript(t *testing.T) {
	b, err := dist.ReadFile("dist/index.html")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	if strings.Count(page, "<script") != strings.Count(page, `<script type="module" src="/assets/`) || strings.Contains(page, "<style") || strings.Contains(page, " style=") {
		t.Error("the page has an inline script or style")
	}
}
