package s3api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/object"
)

// getObject is GetObject and HeadObject, whose headers are the same.
func (c *call) getObject() error {
	if err := c.noBody(); err != nil {
		return err
	}
	ref, err := c.ref()
	if err != nil {
		return err
	}
	o, err := c.srv.cfg.Objects.Open(c.r.Context(), ref)
	if err != nil {
		return err
	}
	defer o.Close()
	v := &o.Version
	if err := c.stillMay(v); err != nil {
		return err
	}
	if v.DeleteMarker {
		return c.markerNotAllowed(v)
	}
	if err := c.unlock(o); err != nil {
		return err
	}
	if ref.Null {
		c.set("X-Amz-Version-Id", "null")
	}
	c.describe(v)
	if done, err := c.checkRead(v); done || err != nil {
		return err
	}
	return c.sendObject(o)
}

// markerNotAllowed answers for a delete marker that is named by its ID: it can only be deleted.
func (c *call) markerNotAllowed(v *cairn.Version) error {
	modified := v.Modified.UTC().Format(http.TimeFormat)
	return errMethodNotAllowed.with("", field{"Method", c.r.Method}, field{"ResourceType", "DeleteMarker"}).
		withHeader("Allow", "DELETE").withHeader("X-Amz-Delete-Marker", "true").
		withHeader("X-Amz-Version-Id", shownVersionID(v)).withHeader("Last-Modified", modified)
}

// describe sets the headers that go with every answer about a version, a 304 included.
func (c *call) describe(v *cairn.Version) {
	h := c.w.Header()
	values := make([]string, 3) // one allocation for the headers that every answer has
	values[0] = `"` + v.ETag + `"`
	values[1] = v.Modified.UTC().Format(http.TimeFormat)
	h["Etag"] = values[0:1:1]
	h["Last-Modified"] = values[1:2:2]
	h["Accept-Ranges"] = acceptRanges
	c.setVersion(v)
	c.showEncryption(&v.Encryption)
	for name, value := range v.Headers {
		if strings.HasPrefix(name, metaPrefix) {
			name = strings.ToLower(name) // as S3 sends it: some SDKs hand the name on as it comes over the wire
		}
		h[name] = []string{value}
	}
	if _, ok := v.Headers["Content-Type"]; !ok {
		h["Content-Type"] = defaultType
	}
	if v.Class != "" {
		c.set("X-Amz-Storage-Class", v.Class)
	}
	if v.Lock != (cairn.Lock{}) {
		c.setLock(v)
	}
	c.setExpiry(v)
	if len(v.Tags) > 0 {
		c.set("X-Amz-Tagging-Count", strconv.Itoa(len(v.Tags)))
	}
}

var (
	acceptRanges = []string{"bytes"}
	defaultType  = []string{"binary/octet-stream"}
)

// overrides are the query parameters that change headers of the answer.
var overrides = [...]struct{ param, header string }{
	{"response-content-type", "Content-Type"},
	{"response-content-language", "Content-Language"},
	{"response-expires", "Expires"},
	{"response-cache-control", "Cache-Control"},
	{"response-content-disposition", "Content-Disposition"},
	{"response-content-encoding", "Content-Encoding"},
}

// applyOverrides honours response-… parameters, which S3 takes from signed requests only.
func (c *call) applyOverrides() error {
	for i := range c.query {
		if !strings.HasPrefix(c.query[i].Key, "response-") {
			continue
		}
		for _, o := range overrides {
			if c.query[i].Key != o.param {
				continue
			}
			if c.who.Anonymous() {
				return errInvalidRequest.with("Request specific response headers cannot be used for anonymous GET requests.")
			}
			c.set(o.header, c.query[i].Value)
		}
	}
	return nil
}

func (c *call) sendObject(o *object.Object) error {
	v := &o.Version
	if err := c.applyOverrides(); err != nil {
		return err
	}
	r, partial, err := c.chooseRange(v)
	if err != nil {
		return err
	}
	h := c.w.Header()
	if !partial && strings.EqualFold(c.header("X-Amz-Checksum-Mode"), "ENABLED") {
		setChecksums(h, v.Checksums, true)
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		c.set("Content-Range", contentRange(r, v.Size))
	}
	h["Content-Length"] = []string{strconv.FormatInt(r.length, 10)}
	if c.r.Method == http.MethodHead {
		c.WriteHeader(status)
		return nil
	}
	// The status goes out with the first byte: until then a store that cannot read the object can still say so.
	return c.stream(o, status, r)
}

// stream writes the range. An error before the first byte becomes an error answer, a later one breaks the connection off.
func (c *call) stream(o *object.Object, status int, r byteRange) error {
	w := lateStatus{c: c, status: status}
	if err := o.WriteRange(c.r.Context(), &w, r.off, r.length); err != nil {
		if !w.begun {
			h := c.w.Header()
			for _, name := range []string{"Content-Range", "Accept-Ranges", "X-Amz-Checksum-Type"} {
				delete(h, name)
			}
		}
		return err
	}
	if !w.begun {
		c.WriteHeader(status)
	}
	return nil
}

type lateStatus struct {
	c      *call
	status int
	begun  bool
}

// Write implements io.Writer.
func (w *lateStatus) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.c.WriteHeader(w.status)
	}
	return w.c.Write(p)
}

func contentRange(r byteRange, size int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = strconv.AppendInt(b, r.off, 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, r.off+r.length-1, 10)
	b = append(b, '/')
	return string(strconv.AppendInt(b, size, 10))
}

// chooseRange applies partNumber, or Range under If-Range.
func (c *call) chooseRange(v *cairn.Version) (r byteRange, partial bool, err error) {
	whole := byteRange{0, v.Size}
	header := c.header("Range")
	if number, ok := c.query.lookup("partNumber"); ok {
		if header != "" {
			return whole, false, errInvalidRequest.with("Cannot specify both Range header and partNumber query parameter")
		}
		return c.choosePart(v, number)
	}
	if header == "" || !c.ifRange(v) {
		return whole, false, nil
	}
	r, ok, err := parseRange(header, v.Size)
	if err != nil {
		c.set("Content-Range", "bytes */"+itoa(v.Size))
		return r, false, errInvalidRange.with("", field{"ActualObjectSize", itoa(v.Size)}, field{"RangeRequested", header})
	}
	if !ok {
		return whole, false, nil
	}
	return r, true, nil
}

// ifRange tells whether a Range counts: If-Range names the version's ETag or its exact date, or is absent.
func (c *call) ifRange(v *cairn.Version) bool {
	s := c.header("If-Range")
	if s == "" {
		return true
	}
	if t, err := http.ParseTime(s); err == nil {
		return v.Modified.Truncate(time.Second).Equal(t)
	}
	return !strings.HasPrefix(s, "W/") && bareETag(s) == v.ETag
}

// choosePart finds the bytes of one part. An object that was not uploaded in parts is its own part 1.
func (c *call) choosePart(v *cairn.Version, s string) (r byteRange, partial bool, err error) {
	number, err := parsePartNumber(s)
	if err != nil {
		return r, false, err
	}
	if len(v.Parts) == 0 {
		if number != 1 {
			return r, false, errInvalidPart.with("The requested partnumber is not satisfiable")
		}
		return byteRange{0, v.Size}, v.Size > 0, nil
	}
	c.set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(v.Parts)))
	for _, p := range v.Parts {
		if p.Number == number {
			r.length = p.Size
			return r, r.length > 0, nil
		}
		r.off += p.Size
	}
	return r, false, errInvalidPart.with("The requested partnumber is not satisfiable")
}

func parsePartNumber(s string) (int, error) {
	n, err := parseOffset(s)
	if err != nil || n < 1 || n > object.MaxParts {
		return 0, errInvalidArgument.with("Part number must be an integer between 1 and 10000, inclusive",
			field{"ArgumentName", "partNumber"}, field{"ArgumentValue", s})
	}
	return int(n), nil
}
