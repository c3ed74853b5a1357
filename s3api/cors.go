package s3api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"cairn"
)

// corsDoc is a bucket's CORS configuration.
type corsDoc struct {
	CORSRule []corsRule
}

type corsRule struct {
	ID            string
	AllowedOrigin []string
	AllowedMethod []string
	AllowedHeader []string
	ExposeHeader  []string
	MaxAgeSeconds *int
}

const maxCORSRules = 100

func (c *call) putCORS() error {
	if err := c.needDigest(); err != nil {
		return err
	}
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	var d corsDoc
	if err := decodeXML(doc, "CORSConfiguration", &d); err != nil {
		return err
	}
	if len(d.CORSRule) == 0 || len(d.CORSRule) > maxCORSRules {
		return errMalformedXML
	}
	for i := range d.CORSRule {
		if err := d.CORSRule[i].check(); err != nil {
			return err
		}
	}
	stored, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if err := c.changeAccess(func(configs cairn.Configs) { configs[corsConfig] = string(stored) }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusOK)
}

func (r *corsRule) check() error {
	if len(r.AllowedOrigin) == 0 || len(r.AllowedMethod) == 0 || len(r.ID) > 255 {
		return errMalformedXML
	}
	for _, m := range r.AllowedMethod {
		if !slices.Contains([]string{"GET", "PUT", "HEAD", "POST", "DELETE"}, m) {
			return errInvalidRequest.with("Found unsupported HTTP method in CORS config. Unsupported method is " + m)
		}
	}
	for _, o := range r.AllowedOrigin {
		if strings.Count(o, "*") > 1 {
			return errInvalidRequest.with("AllowedOrigin \"" + o + "\" can not have more than one wildcard.")
		}
	}
	for _, h := range r.AllowedHeader {
		if strings.Count(h, "*") > 1 {
			return errInvalidRequest.with("AllowedHeader \"" + h + "\" can not have more than one wildcard.")
		}
	}
	for _, h := range r.ExposeHeader {
		if strings.Contains(h, "*") {
			return errInvalidRequest.with("ExposeHeader \"" + h + "\" contains wildcard. We currently do not support wildcard for ExposeHeader.")
		}
	}
	return nil
}

func (c *call) getCORS() error {
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if a.cors == nil {
		return missing("NoSuchCORSConfiguration", "The CORS configuration does not exist").with("", field{"BucketName", c.bucket})
	}
	return c.render(func(b []byte) []byte {
		b = append(b, `<CORSConfiguration xmlns="`+xmlNamespace+`">`...)
		for i := range a.cors.CORSRule {
			b = a.cors.CORSRule[i].append(b)
		}
		return append(b, "</CORSConfiguration>"...)
	})
}

func (r *corsRule) append(b []byte) []byte {
	b = append(b, "<CORSRule>"...)
	if r.ID != "" {
		b = appendElement(b, "ID", r.ID)
	}
	for _, list := range []struct {
		name   string
		values []string
	}{
		{"AllowedHeader", r.AllowedHeader}, {"AllowedMethod", r.AllowedMethod}, {"AllowedOrigin", r.AllowedOrigin},
		{"ExposeHeader", r.ExposeHeader},
	} {
		for _, v := range list.values {
			b = appendElement(b, list.name, v)
		}
	}
	if r.MaxAgeSeconds != nil {
		b = appendInt(b, "MaxAgeSeconds", int64(*r.MaxAgeSeconds))
	}
	return append(b, "</CORSRule>"...)
}

func (c *call) deleteCORS() error {
	if err := c.changeAccess(func(configs cairn.Configs) { delete(configs, corsConfig) }, nil); err != nil {
		return err
	}
	return c.noContent(http.StatusNoContent)
}

// match finds the first rule for an origin, a method and the headers that a browser asks about.
func (d *corsDoc) match(origin, method string, headers []string) *corsRule {
	for i := range d.CORSRule {
		r := &d.CORSRule[i]
		if !slices.Contains(r.AllowedMethod, method) || !slices.ContainsFunc(r.AllowedOrigin, func(p string) bool { return oneStar(p, origin, false) }) {
			continue
		}
		refused := slices.ContainsFunc(headers, func(h string) bool {
			return !slices.ContainsFunc(r.AllowedHeader, func(p string) bool { return oneStar(p, h, true) })
		})
		if !refused {
			return r
		}
	}
	return nil
}

// oneStar matches a pattern with at most one star.
func oneStar(pattern, s string, fold bool) bool {
	if fold {
		pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	}
	head, tail, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	return len(s) >= len(head)+len(tail) && strings.HasPrefix(s, head) && strings.HasSuffix(s, tail)
}

// allow writes what a browser wants to read before it hands an answer to its page.
func (r *corsRule) allow(h http.Header, origin string) {
	if slices.Contains(r.AllowedOrigin, "*") {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else {
		h["Access-Control-Allow-Origin"] = []string{origin}
		h["Access-Control-Allow-Credentials"] = []string{"true"}
	}
	h["Access-Control-Allow-Methods"] = []string{strings.Join(r.AllowedMethod, ", ")}
	if len(r.ExposeHeader) > 0 {
		h["Access-Control-Expose-Headers"] = []string{strings.Join(r.ExposeHeader, ", ")}
	}
	if r.MaxAgeSeconds != nil {
		h["Access-Control-Max-Age"] = []string{strconv.Itoa(*r.MaxAgeSeconds)}
	}
	h["Vary"] = []string{"Origin, Access-Control-Request-Headers, Access-Control-Request-Method"}
}

// crossOrigin adds CORS headers to the answer of a request that a browser makes for a page of another origin. An error's answer
// has them too.
func (c *call) crossOrigin() {
	origin := c.header("Origin")
	if origin == "" || c.bucket == "" {
		return
	}
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil || a.cors == nil {
		return
	}
	method := c.header("Access-Control-Request-Method") // S3 goes by it on any request that has it
	if method == "" {
		method = c.r.Method
	}
	if r := a.cors.match(origin, method, nil); r != nil {
		r.allow(c.w.Header(), origin)
	}
}

// preflight answers a browser's question whether a page of another origin may make a request. It needs no signature: a browser
// sends none.
func (c *call) preflight() error {
	origin, method := c.header("Origin"), c.header("Access-Control-Request-Method")
	if origin == "" {
		return newError(http.StatusBadRequest, "BadRequest", "Insufficient information. Origin request header needed.")
	}
	if !slices.Contains([]string{"GET", "PUT", "HEAD", "POST", "DELETE"}, method) {
		return newError(http.StatusBadRequest, "BadRequest", "Invalid Access-Control-Request-Method: "+method)
	}
	refused := newError(http.StatusForbidden, "AccessForbidden", "CORSResponse: This CORS request is not allowed. This is usually because "+
		"the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted "+
		"by the resource's CORS spec.").with("", field{"Method", method}, field{"ResourceType", strings.ToUpper(levelNames[c.level()])})
	if c.bucket == "" {
		return refused
	}
	a, err := c.srv.access(c.r.Context(), c.bucket)
	if err != nil {
		return err
	}
	if a.cors == nil {
		return refused.with("CORSResponse: CORS is not enabled for this bucket.")
	}
	var headers []string
	for h := range strings.SplitSeq(strings.Join(c.r.Header["Access-Control-Request-Headers"], ","), ",") {
		if h = strings.TrimSpace(h); h != "" {
			headers = append(headers, h)
		}
	}
	r := a.cors.match(origin, method, headers)
	if r == nil {
		return refused
	}
	r.allow(c.w.Header(), origin)
	if len(headers) > 0 {
		c.set("Access-Control-Allow-Headers", strings.ToLower(strings.Join(headers, ", ")))
	}
	return c.noContent(http.StatusOK)
}
