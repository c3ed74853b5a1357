package meta

import (
	"fmt"
	"slices"

	"cairn"
)

// check tells whether the conditions hold for the version that they are about (nil: there is none).
func (c *Conditions) check(v *cairn.Version) error {
	if len(c.IfNoneMatch) > 0 && v != nil && matches(c.IfNoneMatch, v.ETag) {
		return fmt.Errorf("If-None-Match: %w", cairn.ErrPrecondition)
	}
	if v == nil && (len(c.IfMatch) > 0 || c.IfSize != nil || c.IfModified != nil) {
		return fmt.Errorf("a condition is about a version that does not exist: %w", cairn.ErrNotFound)
	}
	switch {
	case len(c.IfMatch) > 0 && !matches(c.IfMatch, v.ETag):
		return fmt.Errorf("If-Match: %w", cairn.ErrPrecondition)
	case c.IfSize != nil && *c.IfSize != v.Size:
		return fmt.Errorf("size: %w", cairn.ErrPrecondition)
	case c.IfModified != nil && c.IfModified.Unix() != v.Modified.Unix():
		return fmt.Errorf("last modified: %w", cairn.ErrPrecondition) // S3 tells and takes whole seconds
	}
	return nil
}

// checkDelete is check for the deletion of a key. v is what is current, nil if there is nothing; hidden tells that a delete marker
// is newest. If-Match demands an object. Size and time come from directory buckets, where deleting what is gone already is no
// error: something that is hidden, though, is neither of the size nor of the time that was asked for.
func (c *Conditions) checkDelete(v *cairn.Version, hidden bool) error {
	switch {
	case v != nil:
		return c.check(v)
	case hidden && (len(c.IfMatch) > 0 || c.IfSize != nil || c.IfModified != nil):
		return fmt.Errorf("a condition is about an object that is deleted: %w", cairn.ErrPrecondition)
	case len(c.IfMatch) > 0:
		return fmt.Errorf("a condition is about a version that does not exist: %w", cairn.ErrNotFound)
	}
	return nil
}

func matches(etags []string, etag string) bool {
	return slices.Contains(etags, "*") || slices.Contains(etags, etag)
}
