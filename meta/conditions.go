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

func matches(etags []string, etag string) bool {
	return slices.Contains(etags, "*") || slices.Contains(etags, etag)
}
