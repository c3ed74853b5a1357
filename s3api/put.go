package s3api

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/meta"
	"cairn/object"
)

func (c *call) putObject() error {
	what, err := c.attributes()
	if err != nil {
		return err
	}
	if err := c.needLockDigest(what.Lock); err != nil {
		return err
	}
	body, size, want, err := c.openBody()
	if err != nil {
		return err
	}
	encrypt, err := c.encryptionWish()
	if err != nil {
		return err
	}
	put := object.Put{
		Bucket: c.bucket, Key: c.key, Owner: c.owner,
		Body: body, Size: size, What: what, Want: want, If: c.conditions(), Encrypt: encrypt,
	}
	v, err := c.store(put)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h["Etag"] = []string{`"` + v.ETag + `"`}
	setChecksums(h, v.Checksums, true)
	c.setVersion(&v)
	c.setExpiry(&v)
	c.showEncryption(&v.Encryption)
	return c.noContent(http.StatusOK)
}

// deleteObject also reads the conditions that S3 gives deletions only.
func (c *call) deleteObject() error {
	if err := c.noBody(); err != nil {
		return err
	}
	if c.header("X-Amz-Mfa") != "" {
		return errNotImplemented.with("MFA delete is not available.", field{"Header", "x-amz-mfa"})
	}
	ref, err := c.ref()
	if err != nil {
		return err
	}
	cond, err := c.deleteConditions()
	if err != nil {
		return err
	}
	done, err := c.srv.cfg.Objects.Delete(c.r.Context(), meta.DeleteVersion{Ref: ref, If: cond, Bypass: c.bypass(c.key)})
	if err != nil {
		return err
	}
	if done.DeleteMarker {
		c.set("X-Amz-Delete-Marker", "true")
	}
	if id := deletedVersionID(ref, done); id != "" {
		c.set("X-Amz-Version-Id", id)
	}
	return c.noContent(http.StatusNoContent)
}

func (c *call) deleteConditions() (cond meta.Conditions, err error) {
	cond.IfMatch = etagList(c.header("If-Match"))
	if s := c.header("X-Amz-If-Match-Size"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return cond, errInvalidArgument.with("", field{"ArgumentName", "x-amz-if-match-size"}, field{"ArgumentValue", s})
		}
		cond.IfSize = &n
	}
	if s := c.header("X-Amz-If-Match-Last-Modified-Time"); s != "" {
		t, err := parseTimestamp(s)
		if err != nil {
			return cond, errInvalidArgument.with("", field{"ArgumentName", "x-amz-if-match-last-modified-time"}, field{"ArgumentValue", s})
		}
		cond.IfModified = &t
	}
	return cond, nil
}

// parseTimestamp reads the forms in which SDKs send times.
func parseTimestamp(s string) (time.Time, error) {
	if t, err := http.ParseTime(s); err == nil {
		return t, nil
	}
	return time.Parse(time.RFC3339, s)
}

// deletedVersionID is what S3 answers a deletion with: the version that went, or the marker that came.
func deletedVersionID(ref meta.VersionRef, d meta.Deleted) string {
	switch {
	case ref.Null, d.Null && d.DeleteMarker:
		return "null"
	case ref.ID != 0:
		return ref.ID.String()
	case d.DeleteMarker:
		return d.ID.String()
	}
	return ""
}

// copySource parses x-amz-copy-source: "/bucket/key?versionId=id", percent-encoded, with or without the first slash.
func copySource(s string) (meta.VersionRef, error) {
	bad := errInvalidArgument.with("Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
		field{"ArgumentName", "x-amz-copy-source"}, field{"ArgumentValue", s})
	path, id, versioned := cutVersion(s)
	if len(path) > 0 && path[0] == '/' {
		path = path[1:]
	}
	path, err := unescape(path, false)
	if err != nil {
		return meta.VersionRef{}, bad
	}
	path = strings.TrimPrefix(path, "/") // the slash itself may come escaped, and no bucket begins with one
	t := target{path: path}
	for i := range len(path) {
		if path[i] == '/' {
			t.bucket, t.key = path[:i], path[i+1:]
			break
		}
	}
	if t.bucket == "" || t.key == "" {
		return meta.VersionRef{}, bad
	}
	if err := t.check(); err != nil {
		return meta.VersionRef{}, err
	}
	return versionRef(t.bucket, t.key, id, versioned)
}

// cutVersion takes "?versionId=…" off; any other "?" is part of the key, as S3 has it.
func cutVersion(s string) (path, id string, ok bool) {
	const mark = "?versionId="
	for i := len(s) - len(mark); i >= 0; i-- {
		if s[i:i+len(mark)] == mark {
			return s[:i], s[i+len(mark):], true
		}
	}
	return s, "", false
}

// sourceConditions reads x-amz-copy-source-if-…: a failed one is 412, a 304 makes no sense for a copy.
// seen is told of the source that was found.
func (c *call) sourceConditions(seen *cairn.Version) object.SourceConditions {
	rc := readConditions{
		match: c.header("X-Amz-Copy-Source-If-Match"), noneMatch: c.header("X-Amz-Copy-Source-If-None-Match"),
		modified: c.header("X-Amz-Copy-Source-If-Modified-Since"), unmodified: c.header("X-Amz-Copy-Source-If-Unmodified-Since"),
	}
	return object.SourceConditions{Check: func(v cairn.Version) error {
		*seen = v
		if v.DeleteMarker {
			return errInvalidRequest.with("The source of a copy request may not specifically refer to a delete marker by version id.")
		}
		if rc != (readConditions{}) && rc.evaluate(v.ETag, v.Modified) != holds {
			return errPreconditionFailed
		}
		return nil
	}}
}

// source parses and authorises the source of a copy.
func (c *call) source() (meta.VersionRef, error) {
	from, err := copySource(c.header("X-Amz-Copy-Source"))
	if err != nil {
		return from, err
	}
	action := "s3:GetObject"
	if from.ID != 0 || from.Null {
		action = "s3:GetObjectVersion"
	}
	version := ""
	if from.Null {
		version = "null"
	} else if from.ID != 0 {
		version = from.ID.String()
	}
	if err := c.mayDoVersion(action, from.Bucket, from.Key, version); err != nil {
		return from, err
	}
	return from, c.checkOwner(c.header("X-Amz-Source-Expected-Bucket-Owner"), from.Bucket)
}

func (c *call) copyObject() error {
	if err := c.noBody(); err != nil {
		return err
	}
	from, err := c.source()
	if err != nil {
		return err
	}
	var source cairn.Version
	r := object.Copy{From: from, SourceIf: c.sourceConditions(&source), Bucket: c.bucket, Key: c.key, If: c.conditions()}
	if name := c.header("X-Amz-Checksum-Algorithm"); name != "" {
		if r.Checksum, err = parseAlgo(name); err != nil {
			return err
		}
	}
	if r.Replace, err = c.replacement(from); err != nil {
		return err
	}
	r.Owner = c.owner
	if r.Encrypt, err = c.encryptionWish(); err != nil {
		return err
	}
	if r.SourceKey, err = c.customerKey(sourceKeyPrefix); err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Copy(c.r.Context(), r)
	if err != nil {
		return c.sourceError(err, from)
	}
	c.setVersion(&v)
	c.setExpiry(&v)
	c.showEncryption(&v.Encryption)
	c.setSourceVersion(&source)
	return c.render(func(b []byte) []byte {
		b = append(b, `<CopyObjectResult xmlns="`+xmlNamespace+`">`...)
		b = appendTime(b, "LastModified", v.Modified)
		b = appendETag(b, v.ETag)
		b = appendChecksums(b, v.Checksums, true)
		return append(b, "</CopyObjectResult>"...)
	})
}

// setSourceVersion tells which version was copied, where the source's bucket keeps versions.
func (c *call) setSourceVersion(v *cairn.Version) {
	if id := clientVersionID(v); id != "" {
		c.set("X-Amz-Copy-Source-Version-Id", id)
	}
}

// sourceError names the source, not the destination, where the source is what was not found.
func (c *call) sourceError(err error, from meta.VersionRef) error {
	if cairn.Kind(err) != cairn.ErrNotFound || isAPIError(err) || (from.ID == 0 && !from.Null) {
		return err
	}
	id := "null"
	if !from.Null {
		id = from.ID.String()
	}
	return noSuchVersion(from.Key, id)
}

// replacement resolves the metadata and tagging directives into the attributes of the copy.
func (c *call) replacement(from meta.VersionRef) (func(cairn.Version) object.Attributes, error) {
	headers, err := directive(c.header("X-Amz-Metadata-Directive"), "x-amz-metadata-directive")
	if err != nil {
		return nil, err
	}
	tags, err := directive(c.header("X-Amz-Tagging-Directive"), "x-amz-tagging-directive")
	if err != nil {
		return nil, err
	}
	given, err := c.attributes()
	if err != nil {
		return nil, err
	}
	self := from.Bucket == c.bucket && from.Key == c.key
	classGiven := c.header("X-Amz-Storage-Class") != ""
	if self && from.ID == 0 && !from.Null && !headers && !tags && !classGiven && c.header("X-Amz-Website-Redirect-Location") == "" &&
		c.header("X-Amz-Checksum-Algorithm") == "" && c.header(ssePrefix) == "" && c.header(customerPrefix+"Algorithm") == "" {
		return nil, errInvalidRequest.with("This copy request is illegal because it is trying to copy an object to itself without " +
			"changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	return func(src cairn.Version) object.Attributes {
		a := object.Attributes{Headers: src.Headers, Tags: src.Tags, Class: given.Class, Lock: given.Lock, ACL: given.ACL}
		if headers {
			a.Headers = given.Headers
		}
		if tags {
			a.Tags = given.Tags
		}
		return a
	}, nil
}

// directive tells whether a directive says REPLACE.
func directive(value, name string) (replace bool, err error) {
	switch value {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	}
	return false, errInvalidArgument.with("Unknown directive.", field{"ArgumentName", name}, field{"ArgumentValue", value})
}
