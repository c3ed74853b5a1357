package s3api

import (
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Values implements iam.Values: the condition keys of S3 and the global ones that a request has.
// Source: "Actions, resources, and condition keys for Amazon S3" in the Service Authorization Reference.
func (q *question) Values(key string) []string {
	if name, tag, ok := strings.Cut(key, "/"); ok {
		return q.tagValue(name, tag)
	}
	service, name, _ := strings.Cut(key, ":")
	switch service {
	case "aws":
		return q.global(name)
	case "s3":
		if values, ok := q.ofOperation(name); ok {
			return values
		}
		return q.ofHeader(name)
	}
	return nil
}

func some(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (q *question) global(name string) []string {
	c := q.c
	switch name {
	case "sourceip":
		return some(c.sourceIP())
	case "securetransport":
		return []string{strconv.FormatBool(c.r.TLS != nil)}
	case "useragent":
		return some(c.header("User-Agent"))
	case "referer":
		return some(c.header("Referer"))
	case "currenttime":
		return []string{c.start.UTC().Format(time.RFC3339)}
	case "epochtime":
		return []string{strconv.FormatInt(c.start.Unix(), 10)}
	case "requestedregion":
		return []string{c.srv.cfg.Region}
	case "viaawsservice":
		return []string{"false"}
	}
	return nil
}

// sourceIP is the client's address: the connection's, or, behind proxies that the configuration trusts, the last one of
// X-Forwarded-For that is not such a proxy.
func (c *call) sourceIP() string {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return ""
	}
	hops := strings.Split(strings.Join(c.r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && c.srv.trusts(host); i-- {
		if hop := strings.TrimSpace(hops[i]); hop != "" {
			host = hop
		}
	}
	return host
}

func (s *Server) trusts(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(s.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}

// ofOperation gives the keys that are not a header of the same name; ok tells whether it is one of them.
func (q *question) ofOperation(name string) (values []string, ok bool) {
	c := q.c
	switch name {
	case "prefix", "delimiter", "max-keys":
		if c.absent != "" && name == "prefix" {
			return []string{c.absent}, true
		}
		if v, has := c.query.lookup(name); has && c.op.level == bucket && q.r.Key == "" {
			return []string{v}, true
		}
		return nil, true
	case "versionid":
		return some(q.version), true
	case "x-amz-copy-source":
		return some(copySourceName(c.header("X-Amz-Copy-Source"))), true
	case "requestobjecttagkeys":
		tags := c.requestTags()
		if len(tags) == 0 {
			return nil, true
		}
		return slices.Sorted(maps.Keys(tags)), true
	case "signatureversion":
		switch {
		case c.who.Anonymous():
			return nil, true
		case c.auth.Scope == "":
			return []string{"AWS"}, true
		}
		return []string{"AWS4-HMAC-SHA256"}, true
	case "signatureage":
		if c.auth.Time.IsZero() {
			return nil, true
		}
		return []string{strconv.FormatInt(c.start.Sub(c.auth.Time).Milliseconds(), 10)}, true
	case "authtype":
		return some(c.authType()), true
	case "tlsversion":
		if c.r.TLS == nil {
			return nil, true
		}
		return some(strings.TrimPrefix(tls.VersionName(c.r.TLS.Version), "TLS ")), true
	case "object-lock-remaining-retention-days":
		until, err := time.Parse(time.RFC3339, c.header("X-Amz-Object-Lock-Retain-Until-Date"))
		if err != nil {
			return nil, true
		}
		return []string{strconv.FormatInt(int64(until.Sub(c.start).Hours()/24), 10)}, true
	case "object-lock-mode", "object-lock-legal-hold", "object-lock-retain-until-date":
		return some(c.header(http.CanonicalHeaderKey("x-amz-" + name))), true
	}
	return nil, false
}

func (c *call) authType() string {
	switch {
	case c.who.Anonymous():
		return ""
	case c.form:
		return "POST"
	case c.auth.Presigned:
		return "REST-QUERY-STRING"
	}
	return "REST-HEADER"
}

// ofHeader gives the keys that are headers: "x-amz-acl", "if-match", "x-amz-grant-read" …
func (q *question) ofHeader(name string) []string {
	if !strings.HasPrefix(name, "x-amz-") && name != "if-match" && name != "if-none-match" {
		return nil
	}
	return q.c.r.Header[http.CanonicalHeaderKey(name)]
}

// tagValue gives the keys that end in the name of a tag.
func (q *question) tagValue(name, tag string) []string {
	tags := map[string]string(nil)
	switch name {
	case "s3:requestobjecttag":
		tags = q.c.requestTags()
	case "s3:existingobjecttag":
		if q.r.Key == "" {
			return nil
		}
		if v, err := q.object(); err == nil && v != nil {
			tags = v.Tags
		}
	}
	if v, ok := tags[tag]; ok {
		return []string{v}
	}
	return nil
}

// requestTags are the tags that a request brings, in its header or, once it was read, in its document.
func (c *call) requestTags() map[string]string {
	if c.tags == nil {
		if header := c.header("X-Amz-Tagging"); header != "" {
			c.tags, _ = parseTagHeader(header) // what cannot be read is refused by the operation
		}
	}
	return c.tags
}

// copySourceName is a copy source as policies name it: "bucket/key", without version.
func copySourceName(header string) string {
	name, _, _ := strings.Cut(header, "?")
	if decoded, err := unescape(name, false); err == nil {
		name = decoded
	}
	return strings.TrimPrefix(name, "/")
}
