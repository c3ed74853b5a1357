package s3api

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/meta"
	"cairn/object"
	"cairn/s3api/sigv4"
)

// call is one request under way. It is the http.ResponseWriter that passes through the router, so that handlers get it
// without a detour over the request's context. Used by one goroutine.
type call struct {
	srv   *Server
	w     http.ResponseWriter
	r     *http.Request
	op    *operation
	start time.Time
	id    [1]string // x-amz-request-id

	target
	query params
	auth  sigv4.Auth
	seed  sigv4.Seed
	who   iam.Identity      // zero: anonymous
	known bool              // who was found out before the request came here (ServeAs)
	owner string            // of what the request writes, once attributes read it
	asked question          // the last one put to the policies
	tags  map[string]string // that the request brings, for policies
	// implied: the question is about what headers add to a write, not about an action of its own.
	implied bool
	absent  string // the key that the question is about whose absence may be told, "" for another question
	form    bool   // a POST form, which carries its own credentials

	in       inbound
	admitted bool
	status   int // of the answer, 0 while there is none
	code     string
	out      int64
	// clientGone: a write to the client failed, so what goes wrong from then on is not ours.
	clientGone bool
}

// Header implements http.ResponseWriter.
func (c *call) Header() http.Header { return c.w.Header() }

// WriteHeader implements http.ResponseWriter.
func (c *call) WriteHeader(status int) {
	c.status = status
	c.w.WriteHeader(status)
}

// Write implements http.ResponseWriter; it gives up on a client that does not take a piece within StallTimeout.
func (c *call) Write(p []byte) (n int, err error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	d, _ := c.w.(writeDeadliner)
	for {
		if d != nil {
			d.SetWriteDeadline(time.Now().Add(c.srv.cfg.StallTimeout)) // a connection that is gone says so at the write
		}
		m, err := c.w.Write(p[:min(len(p), writePiece)])
		c.out += int64(m)
		n += m
		if p = p[m:]; err != nil || len(p) == 0 {
			c.clientGone = c.clientGone || err != nil
			return n, err
		}
	}
}

// writePiece is what a client must take within StallTimeout, in bytes: large enough that a piece costs nothing, small enough
// for a slow link.
const writePiece = 256 << 10

type (
	readDeadliner  interface{ SetReadDeadline(time.Time) error }
	writeDeadliner interface{ SetWriteDeadline(time.Time) error }
)

// read parses what every request has: target, query, headers that may not come twice.
func (c *call) read() (err error) {
	if err = guard(c.r); err != nil {
		return err
	}
	if c.r.TLS != nil && len(c.r.TransferEncoding) > 0 {
		// Below TLS nobody sees whether there was a Content-Length, too, so nothing that follows on the connection is
		// believed (RFC 9112, section 6.1).
		c.set("Connection", "close")
	}
	var rawQuery string
	if c.target, rawQuery, err = parseTarget(c.r.RequestURI, c.r.Host, c.srv.cfg.Domains); err != nil {
		return err
	}
	c.query, err = parseQuery(rawQuery, nil)
	c.r.URL.Opaque = levelNames[c.level()]
	return err
}

// header returns the first value of a header given in canonical form.
func (c *call) header(name string) string {
	if v := c.r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (c *call) set(name, value string) { c.w.Header()[name] = []string{value} }

func (c *call) opName() string {
	if c.op == nil {
		return ""
	}
	return c.op.name
}

// ref names the version that the request is about.
func (c *call) ref() (meta.VersionRef, error) {
	return versionRef(c.bucket, c.key, c.query.get("versionId"), c.query.has("versionId"))
}

func versionRef(bucket, key, id string, given bool) (meta.VersionRef, error) {
	ref := meta.VersionRef{Bucket: bucket, Key: key}
	switch {
	case !given:
	case id == "null":
		ref.Null = true
	case id == "":
		return ref, errInvalidArgument.with("Version id cannot be the empty string", field{"ArgumentName", "versionId"})
	default:
		var err error
		if ref.ID, err = cairn.ParseVersionID(id); err != nil || ref.ID == 0 {
			return ref, errInvalidArgument.with("Invalid version id specified", field{"ArgumentName", "versionId"},
				field{"ArgumentValue", id})
		}
	}
	return ref, nil
}

// noContent answers with a status and no body.
func (c *call) noContent(status int) error {
	if status == http.StatusOK {
		c.w.Header()["Content-Length"] = zeroLength
	}
	c.WriteHeader(status)
	return nil
}

var (
	zeroLength = []string{"0"}
	typeXML    = []string{"application/xml"}
)

// sendXML answers 200 with a rendered document.
func (c *call) sendXML(doc []byte) error {
	h := c.w.Header()
	h["Content-Type"] = typeXML
	h["Content-Length"] = []string{strconv.Itoa(len(doc))}
	c.WriteHeader(http.StatusOK)
	_, err := c.Write(doc)
	return err
}

// render lets write append to a pooled buffer and sends what it made.
func (c *call) render(write func(b []byte) []byte) error {
	buf := c.srv.buffers.Get().(*[]byte)
	*buf = write(append((*buf)[:0], xmlHeader...))
	err := c.sendXML(*buf)
	if cap(*buf) <= maxPooledBuffer {
		c.srv.buffers.Put(buf)
	}
	return err
}

// maxPooledBuffer keeps one giant listing from pinning its memory for ever.
const maxPooledBuffer = 1 << 20

// fail answers with an error. If the answer has begun, it breaks the connection off instead, so that the client sees a short
// body and not a whole one.
func (c *call) fail(err error) {
	if c.in.err != nil && !isAPIError(err) {
		err = c.in.err // the layers below may have wrapped or replaced what the body's reader said
	}
	api, known := translate(c.notFound(c.hideAbsence(err)))
	c.code = api.code
	if c.status != 0 {
		level := slog.LevelWarn
		if c.clientGone {
			level = slog.LevelDebug
		}
		c.srv.cfg.Logger.Log(c.r.Context(), level, "answer broken off", "op", c.opName(), "bucket", c.bucket, "key", c.key, "err", err,
			"request_id", c.id[0])
		panic(http.ErrAbortHandler)
	}
	if !known || api.status == http.StatusInternalServerError {
		c.srv.cfg.Logger.Error("request failed", "op", c.opName(), "bucket", c.bucket, "key", c.key, "err", err,
			"request_id", c.id[0])
	}
	c.in.abandon()
	c.writeError(api)
}

func isAPIError(err error) bool {
	var api *apiError
	return errors.As(err, &api)
}

// notFound says which of S3's not-found errors a plain ErrNotFound is.
func (c *call) notFound(err error) error {
	if cairn.Kind(err) != cairn.ErrNotFound || isAPIError(err) {
		return err
	}
	if errors.Is(err, object.ErrNoSuchBucket) && c.header("X-Amz-Copy-Source") == "" { // of a copy it may be the source's
		return errNoSuchBucket.with("", field{"BucketName", c.bucket})
	}
	for _, row := range kindTable {
		if row.kind == cairn.ErrNotFound {
			break
		}
		if errors.Is(err, row.kind) {
			return err
		}
	}
	switch {
	case c.key == "":
		return errNoSuchBucket.with("", field{"BucketName", c.bucket})
	case c.query.has("versionId"):
		return noSuchVersion(c.key, c.query.get("versionId"))
	}
	var hidden *meta.MarkerError
	if errors.As(err, &hidden) && hidden.Marker.Key == c.key && hidden.Marker.Bucket == c.bucket {
		return errNoSuchKey.with("", field{"Key", c.key}).withHeader("X-Amz-Delete-Marker", "true").
			withHeader("X-Amz-Version-Id", shownVersionID(&hidden.Marker))
	}
	return errNoSuchKey.with("", field{"Key", c.key})
}

func noSuchVersion(key, id string) error {
	return errNoSuchVersion.with("", field{"Key", key}, field{"VersionId", id})
}

func (c *call) writeError(e *apiError) {
	h := c.w.Header()
	for _, name := range []string{"Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Cache-Control"} {
		delete(h, name)
	}
	for _, f := range e.header {
		h[f.name] = []string{f.value}
	}
	h["Content-Type"] = typeXML
	if c.r.Method == http.MethodHead || e.status == http.StatusNotModified {
		c.WriteHeader(e.status)
		return
	}
	b := append([]byte(nil), xmlHeader...)
	b = append(b, "<Error>"...)
	b = appendElement(b, "Code", e.code)
	b = appendElement(b, "Message", e.message)
	for _, f := range e.extra {
		b = appendElement(b, f.name, f.value)
	}
	b = appendElement(b, "Resource", c.path)
	b = appendElement(b, "RequestId", c.id[0])
	b = appendElement(b, "HostId", c.srv.hostID[0])
	b = append(b, "</Error>"...)
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	c.WriteHeader(e.status)
	c.Write(b) // the client may be gone: there is nobody left to tell
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

func base64String(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
