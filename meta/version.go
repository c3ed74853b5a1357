package meta

import (
	"context"
	"errors"
	"fmt"

	"cairn"
	"cairn/meta/replica"
)

// Version returns a version with its whole layout. A delete marker is returned as such only when asked for by ID or as
// null; a current delete marker is ErrNotFound. Errors: ErrNotFound (*BucketError if there is no bucket).
func (s *Store) Version(ctx context.Context, ref VersionRef) (v cairn.Version, err error) {
	g := s.groups.of(0, ref.Key)
	for range maxAttempts {
		err = s.read(ctx, g, func(w *replica.View) error {
			b, err := readBucket(w, ref.Bucket)
			if err != nil {
				return err
			}
			r, err := findVersion(w, b, ref)
			if err != nil {
				return err
			}
			v, err = wholeVersion(w, b.ID, ref.Key, r)
			v.Versioned = b.Version != cairn.VersioningOff
			if ref.ID == 0 && !ref.Null && err == nil {
				err = s.rules.setExpiry(&b, &v)
			}
			return err
		})
		if !errors.Is(err, errVanished) {
			break // else it was replaced between two reads: its successor is there now
		}
	}
	return v, fail("meta.version", ref.Bucket+"/"+ref.Key, err)
}

// findVersion returns a version's row, without what has rows of its own.
func findVersion(w *replica.View, b cairn.Bucket, ref VersionRef) (*versionRow, error) {
	byID := ref.ID != 0 || ref.Null
	row, found, err := w.Get(objectKey(famCurrent, b.ID, ref.Key), nil)
	if err != nil {
		return nil, err
	}
	if found {
		r, err := decodeVersion(row)
		if err != nil {
			return nil, err
		}
		if !byID || ref.Null && r.v.Null || !ref.Null && r.v.ID == ref.ID {
			return named(&r, b.Name, ref.Key), nil
		}
	}
	if !byID {
		return nil, hidden(w, b, ref.Key)
	}
	id := ref.ID
	if ref.Null {
		row, err := getRow(w, objectKey(famNull, b.ID, ref.Key))
		if err != nil {
			return nil, err
		}
		n, err := decodeNumber(row)
		if err != nil {
			return nil, err
		}
		id = cairn.VersionID(n)
	}
	if row, err = getRow(w, olderKey(b.ID, ref.Key, id)); err != nil {
		return nil, err
	}
	r, err := decodeVersion(row)
	return named(&r, b.Name, ref.Key), err
}

// MarkerError is an ErrNotFound: a delete marker is the key's newest version.
type MarkerError struct{ Marker cairn.Version }

// Error names the marker.
func (e *MarkerError) Error() string {
	return fmt.Sprintf("delete marker %s: %v", e.Marker.ID, cairn.ErrNotFound)
}

// Unwrap returns cairn.ErrNotFound.
func (e *MarkerError) Unwrap() error { return cairn.ErrNotFound }

// hidden is the error for a key without a current version: it tells of the delete marker if there is one.
func hidden(w *replica.View, b cairn.Bucket, key string) error {
	if b.Version == cairn.VersioningOff {
		return cairn.ErrNotFound
	}
	r, err := newestOlder(w, b.ID, key, 0)
	if err != nil {
		return err
	}
	if r == nil || !r.v.DeleteMarker {
		return cairn.ErrNotFound // or one was removed between two reads
	}
	return &MarkerError{named(r, b.Name, key).v}
}

func named(r *versionRow, bucket, key string) *versionRow {
	r.v.Bucket, r.v.Key = bucket, key
	return r
}

// wholeVersion adds to a row what it leaves to others.
func wholeVersion(w *replica.View, bucket uint64, key string, r *versionRow) (cairn.Version, error) {
	v := r.v
	if err := readDetail(w, bucket, key, r, &v); err != nil {
		return v, err
	}
	var err error
	if v.Tags, err = decodeTags(r.tags); err != nil {
		return v, err
	}
	if r.inline {
		body, found, err := w.Get(versionKey(famInline, bucket, key, v.ID), nil)
		if err != nil {
			return v, err
		}
		if !found {
			return v, errVanished
		}
		v.Layout.Inline = body
	}
	return v, nil
}
