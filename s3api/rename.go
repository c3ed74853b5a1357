package s3api

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"

	"cairn"
	"cairn/meta"
	"cairn/object"
)

// What S3 Express has and both are one commit of metadata here: appending to objects and renaming them.

var (
	errWriteOffset  = newError(http.StatusBadRequest, "InvalidWriteOffset", "The write offset value that you specified does not match the current object size.")
	errTooManyParts = newError(http.StatusBadRequest, "TooManyParts", "You have attempted to add more parts than the maximum of 10000 that are allowed for this object.")
)

// store is the put itself, or an append where x-amz-write-offset-bytes asks for one.
func (c *call) store(put object.Put) (cairn.Version, error) {
	s := c.header("X-Amz-Write-Offset-Bytes")
	if s == "" {
		return c.srv.cfg.Objects.Put(c.r.Context(), put)
	}
	offset, err := parseOffset(s)
	if err != nil {
		return cairn.Version{}, errInvalidArgument.with("The write offset must be a number of bytes.",
			field{"ArgumentName", "x-amz-write-offset-bytes"}, field{"ArgumentValue", s})
	}
	v, err := c.srv.cfg.Objects.Append(c.r.Context(), object.Append{Put: put, Offset: offset})
	if err == nil {
		c.set("X-Amz-Object-Size", itoa(v.Size))
	}
	return v, err
}

const renamePrefix = "X-Amz-Rename-Source"

// renameObject moves an object to the key of the request. Its conditions are about the source and about what is in the way.
func (c *call) renameObject() error {
	if err := c.noBody(); err != nil {
		return err
	}
	from, err := c.renameSource()
	if err != nil {
		return err
	}
	for _, action := range []string{"s3:GetObject", "s3:DeleteObject"} {
		if err := c.mayDo(action, c.bucket, from); err != nil {
			return err
		}
	}
	source := readConditions{match: c.header(renamePrefix + "-If-Match"), noneMatch: c.header(renamePrefix + "-If-None-Match"),
		modified: c.header(renamePrefix + "-If-Modified-Since"), unmodified: c.header(renamePrefix + "-If-Unmodified-Since")}
	target := readConditions{match: c.header("If-Match"), noneMatch: c.header("If-None-Match"),
		modified: c.header("If-Modified-Since"), unmodified: c.header("If-Unmodified-Since")}
	_, err = c.srv.cfg.Objects.Rename(c.r.Context(), meta.Rename{Bucket: c.bucket, From: from, To: c.key, RequestID: c.clientToken(from),
		Check: func(from cairn.Version, to *cairn.Version) error {
			if source.evaluate(from.ETag, from.Modified) != holds || to != nil && target.evaluate(to.ETag, to.Modified) != holds ||
				to == nil && target.match != "" {
				return errPreconditionFailed
			}
			return nil
		}})
	if err != nil {
		return renameError(err, from)
	}
	return c.noContent(http.StatusOK)
}

// renameSource reads x-amz-rename-source: a key, percent-encoded, or "/" and the bucket before it.
func (c *call) renameSource() (string, error) {
	s := c.header(renamePrefix)
	bad := errInvalidArgument.with("The rename source must be a key of the same bucket.",
		field{"ArgumentName", "x-amz-rename-source"}, field{"ArgumentValue", s})
	key, err := unescape(s, false)
	if err != nil {
		return "", bad
	}
	if rest, ok := strings.CutPrefix(key, "/"+c.bucket+"/"); ok {
		key = rest
	}
	t := target{bucket: c.bucket, key: key, path: key}
	if key == "" {
		return "", bad
	}
	return key, t.check()
}

// clientToken makes a rename that is sent again under the same x-amz-client-token take effect once; 0 without one.
func (c *call) clientToken(from string) uint64 {
	token := c.header("X-Amz-Client-Token")
	if token == "" {
		return 0
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{c.who.Account, c.bucket, from, c.key, token}, "\x00")))
	return binary.BigEndian.Uint64(sum[:]) | 1
}

// renameError names the source where that is what was not found.
func renameError(err error, from string) error {
	var gone *meta.BucketError
	if cairn.Kind(err) != cairn.ErrNotFound || isAPIError(err) || errors.As(err, &gone) {
		return err
	}
	return errNoSuchKey.with("", field{"Key", from})
}
