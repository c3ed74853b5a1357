package s3api

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"cairn"
	"cairn/meta"
	"cairn/object"
)

// storedHeaders are the system headers that S3 keeps with an object and returns with it.
var storedHeaders = [...]string{"Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
	"Expires", "X-Amz-Website-Redirect-Location"}

const (
	maxUserMetadata = 2 << 10 // bytes of names and values together
	maxTags         = 10
	maxTagKey       = 128 // characters
	maxTagValue     = 256
)

// attributes reads what a client attaches to an object, and refuses what Cairn would have to ignore.
func (c *call) attributes() (a object.Attributes, err error) {
	if err = c.refuseUnserved(); err != nil {
		return a, err
	}
	if c.owner, a.ACL, err = c.ownership(); err != nil {
		return a, err
	}
	if a.Class, err = storageClass(c.header("X-Amz-Storage-Class")); err != nil {
		return a, err
	}
	if a.Lock, err = c.lock(); err != nil {
		return a, err
	}
	if tagging := c.header("X-Amz-Tagging"); tagging != "" {
		if a.Tags, err = parseTagHeader(tagging); err != nil {
			return a, err
		}
	}
	a.Headers, err = c.metadata()
	return a, err
}

// metadata collects the headers that are kept with an object.
func (c *call) metadata() (map[string]string, error) {
	kept := make(map[string]string, 4)
	for _, name := range storedHeaders {
		if v := c.header(name); v != "" {
			kept[name] = v
		}
	}
	if enc, ok := kept["Content-Encoding"]; ok {
		if enc = withoutChunked(enc); enc == "" {
			delete(kept, "Content-Encoding")
		} else {
			kept["Content-Encoding"] = enc
		}
	}
	total := 0
	for name, values := range c.r.Header {
		if strings.HasPrefix(name, metaPrefix) {
			v := strings.Join(values, ",")
			total += len(name) - len(metaPrefix) + len(v)
			kept[name] = v
		}
	}
	if total > maxUserMetadata {
		return nil, errMetadataTooLarge.with("", field{"Size", itoa(int64(total))}, field{"MaxSizeAllowed", itoa(maxUserMetadata)})
	}
	return kept, nil
}

// withoutChunked strips aws-chunked, which describes the transfer and not the object.
func withoutChunked(encoding string) string {
	if !strings.Contains(encoding, "aws-chunked") {
		return encoding
	}
	var rest []string
	for one := range strings.SplitSeq(encoding, ",") {
		if one = strings.TrimSpace(one); one != "" && one != "aws-chunked" {
			rest = append(rest, one)
		}
	}
	return strings.Join(rest, ",")
}

// storageClass accepts the classes that promise immediate access; Cairn keeps the name and gives all of them the bucket's
// profile. "" is STANDARD.
func storageClass(name string) (string, error) {
	switch name {
	case "", "STANDARD":
		return "", nil
	case "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR":
		return name, nil
	}
	return "", errInvalidStorageClass.with("", field{"StorageClassRequested", name})
}

// refuseUnserved refuses headers that ask for what is not there: locks where none can be made. Storing the object
// without them would be a broken promise.
func (c *call) refuseUnserved() error {
	for name := range c.r.Header {
		switch {
		case !strings.HasPrefix(name, "X-Amz-"):
		case strings.HasPrefix(name, lockPrefix) && !c.op.locks:
			return errInvalidArgument.with("This operation does not lock objects.", field{"ArgumentName", strings.ToLower(name)})
		case name == "X-Amz-Write-Offset-Bytes" && c.op.name != "PutObject":
			return errInvalidArgument.with("Only PutObject appends.", field{"ArgumentName", "x-amz-write-offset-bytes"})
		}
	}
	return nil
}

// parseTagHeader reads x-amz-tagging: tags as a query string.
func parseTagHeader(s string) (map[string]string, error) {
	values, err := url.ParseQuery(s)
	if err != nil {
		return nil, errInvalidArgument.with("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query "+
			"parameters without tag name duplicates.", field{"ArgumentName", "x-amz-tagging"})
	}
	tags := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) != 1 {
			return nil, errInvalidTag.with("Cannot provide multiple Tags with the same key")
		}
		tags[k] = v[0]
	}
	return tags, checkTags(tags, maxTags)
}

func checkTags(tags map[string]string, max int) error {
	if len(tags) > max {
		return errInvalidTag.with("The number of tags cannot be greater than " + itoa(int64(max)))
	}
	for k, v := range tags {
		if k == "" || utf8.RuneCountInString(k) > maxTagKey || !tagText(k) || strings.HasPrefix(k, "aws:") {
			return errInvalidTag.with("The TagKey you have provided is invalid", field{"TagKey", k})
		}
		if utf8.RuneCountInString(v) > maxTagValue || !tagText(v) {
			return errInvalidTag.with("The TagValue you have provided is invalid", field{"TagKey", k})
		}
	}
	return nil
}

// tagText tells whether a tag's key or value is of the characters that S3 allows: letters, digits and blanks of any script,
// and a few signs.
func tagText(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) && !unicode.IsSpace(r) &&
			!strings.ContainsRune("+-=._:/@", r) {
			return false
		}
	}
	return true
}

// conditions reads If-Match and If-None-Match of a change.
func (c *call) conditions() meta.Conditions {
	return meta.Conditions{IfMatch: etagList(c.header("If-Match")), IfNoneMatch: etagList(c.header("If-None-Match"))}
}

// etagList splits a list of entity tags. S3 takes them without quotes too; a weak tag compares as its value, since the
// versions of an object are immutable.
func etagList(s string) []string {
	if s == "" {
		return nil
	}
	var out []string
	for one := range strings.SplitSeq(s, ",") {
		if one = bareETag(one); one != "" {
			out = append(out, one)
		}
	}
	return out
}

func bareETag(s string) string {
	s = strings.TrimPrefix(strings.TrimSpace(s), "W/")
	return strings.Trim(s, `"`)
}

// setVersion adds x-amz-version-id where versions are something that a client can ask for.
func (c *call) setVersion(v *cairn.Version) {
	if id := clientVersionID(v); id != "" {
		c.set("X-Amz-Version-Id", id)
	}
}

// clientVersionID is the identifier that S3 shows: none in a bucket that never kept versions.
func clientVersionID(v *cairn.Version) string {
	if !v.Versioned || v.ID == 0 {
		return ""
	}
	return shownVersionID(v)
}

// shownVersionID is the identifier in listings, where S3 always prints one.
func shownVersionID(v *cairn.Version) string {
	if v.Null {
		return "null"
	}
	return v.ID.String()
}
