// Package web holds the dashboard as it is sent to browsers: the built page in dist, made from src and vendor by the nested
// module in build (`make web`). It is committed, so that building cairn needs neither Node nor a bundler, and `make web-check`
// finds a page that was not built anew after its sources changed.
//
// It owns the files and the headers that they are sent with. It knows nothing of the API that the page asks; package admin
// serves both.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed dist
var dist embed.FS

// policy lets the page load its own files and nothing else: no inline script or style, no other origin, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// file is one file in both forms that it is sent in.
type file struct {
	name        string
	plain, gzip []byte
	etag        string
}

// Handler serves the page at "/" and its files below "/assets/". It compresses them once.
func Handler() http.Handler {
	files := map[string]*file{}
	err := fs.WalkDir(dist, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := dist.ReadFile(name)
		if err != nil {
			return err
		}
		at := "/assets/" + strings.TrimPrefix(name, "dist/")
		if at == "/assets/index.html" {
			at = "/"
		}
		files[at] = newFile(name, b)
		return nil
	})
	if err != nil {
		panic("web: the embedded page cannot be read: " + err.Error())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := files[r.URL.Path]
		if f == nil {
			http.NotFound(w, r)
			return
		}
		f.serve(w, r)
	})
}

func newFile(name string, b []byte) *file {
	var z bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&z, gzip.BestCompression) // the level is a valid one
	zw.Write(b)                                            // to memory
	zw.Close()
	sum := sha256.Sum256(b)
	return &file{name: name, plain: b, gzip: z.Bytes(), etag: `"` + hex.EncodeToString(sum[:8]) + `"`}
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(f.name)))
	if strings.HasSuffix(f.name, ".js") {
		h.Set("Content-Type", "text/javascript; charset=utf-8") // the system's table may say otherwise
	}
	h.Set("Cache-Control", "no-cache") // kept, and asked about: a new version shows at once
	h.Set("Vary", "Accept-Encoding")
	h.Set("Etag", f.etag)
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.gzip
	}
	w.Write(body) // the client may be gone: there is nobody left to tell
}

// GzipBytes is how much a browser loads for the page, compressed.
func GzipBytes() (n int) {
	for _, name := range []string{"dist/index.html", "dist/app.js", "dist/app.css"} {
		b, err := dist.ReadFile(name)
		if err != nil {
			return 0
		}
		n += len(newFile(name, b).gzip)
	}
	return n
}
