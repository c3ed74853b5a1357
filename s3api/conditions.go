package s3api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"cairn"
)

// readConditions are the If-… headers of a GET, HEAD or copy source.
type readConditions struct {
	match, noneMatch string
	modified         string // If-Modified-Since
	unmodified       string // If-Unmodified-Since
}

// verdict of read conditions.
type condition uint8

const (
	holds       condition = iota
	notModified           // 304
	failed                // 412
)

// evaluate applies the order of precedence of RFC 9110, section 13.2.2. Dates that cannot be read count as absent.
func (rc readConditions) evaluate(etag string, modified time.Time) condition {
	modified = modified.Truncate(time.Second)
	if rc.match != "" {
		if !etagMatches(rc.match, etag) {
			return failed
		}
	} else if t, err := http.ParseTime(rc.unmodified); err == nil && modified.After(t) {
		return failed
	}
	if rc.noneMatch != "" {
		if etagMatches(rc.noneMatch, etag) {
			return notModified
		}
	} else if t, err := http.ParseTime(rc.modified); err == nil && !modified.After(t) {
		return notModified
	}
	return holds
}

func etagMatches(list, etag string) bool {
	tags := etagList(list)
	return slices.Contains(tags, "*") || slices.Contains(tags, etag)
}

// checkRead answers the conditions of a GET or HEAD. done means that the answer, a 304, is given.
func (c *call) checkRead(v *cairn.Version) (done bool, err error) {
	h := c.r.Header
	if len(h["If-Match"])+len(h["If-None-Match"])+len(h["If-Modified-Since"])+len(h["If-Unmodified-Since"]) == 0 {
		return false, nil
	}
	rc := readConditions{match: c.header("If-Match"), noneMatch: c.header("If-None-Match"),
		modified: c.header("If-Modified-Since"), unmodified: c.header("If-Unmodified-Since")}
	switch rc.evaluate(v.ETag, v.Modified) {
	case failed:
		which := "If-Match"
		if rc.match == "" {
			which = "If-Unmodified-Since"
		}
		return false, errPreconditionFailed.with("", field{"Condition", which})
	case notModified:
		c.WriteHeader(http.StatusNotModified)
		return true, nil
	}
	return false, nil
}

// byteRange is a part of an object.
type byteRange struct{ off, length int64 }

// parseRange reads a Range header (RFC 9110, section 14) for an object of size bytes. ok is false where the header is to be
// ignored: another unit, several ranges, bad syntax. A range that the object does not have is errInvalidRange.
func parseRange(s string, size int64) (r byteRange, ok bool, err error) {
	spec, isBytes := strings.CutPrefix(s, "bytes=")
	first, last, isRange := strings.Cut(strings.TrimSpace(spec), "-")
	if !isBytes || !isRange {
		return r, false, nil
	}
	if first == "" {
		n, err := parseOffset(last)
		switch {
		case err != nil:
			return r, false, nil
		case n == 0 || size == 0:
			return r, false, errInvalidRange
		}
		n = min(n, size)
		return byteRange{size - n, n}, true, nil
	}
	from, err := parseOffset(first)
	if err != nil {
		return r, false, nil
	}
	to := size - 1
	if last != "" {
		if to, err = parseOffset(last); err != nil || to < from {
			return r, false, nil
		}
		to = min(to, size-1)
	}
	if from >= size {
		return r, false, errInvalidRange
	}
	return byteRange{from, to - from + 1}, true, nil
}

// parseOffset reads digits only; a number beyond int64 is as good as the largest one.
func parseOffset(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 1<<63 - 1, nil
	}
	return n, nil
}
