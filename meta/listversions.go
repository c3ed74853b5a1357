package meta

import (
	"bytes"
	"context"
	"fmt"

	"cairn"
	"cairn/meta/replica"
)

// ListVersions returns one page of all versions and delete markers, by key and then newest first. Errors: ErrNotFound
// (*BucketError), ErrInvalid (AfterID without AfterKey or not an ID).
func (s *Store) ListVersions(ctx context.Context, r ListVersions) (p VersionPage, err error) {
	err = s.read(ctx, s.groups.of(0, r.Prefix), func(w *replica.View) error {
		b, err := readBucket(w, r.Bucket)
		if err != nil {
			return err
		}
		p = VersionPage{}
		l := &versionLister{w: w, bucket: b, r: &r, limit: min(r.Max, maxListed), page: &p}
		if l.limit <= 0 {
			return nil
		}
		return l.run()
	})
	return p, fail("meta.list versions", r.Bucket, err)
}

// versionLister merges the families of current and older versions, key by key.
type versionLister struct {
	w      *replica.View
	bucket cairn.Bucket
	r      *ListVersions
	limit  int
	page   *VersionPage
	skipID cairn.VersionID // within AfterKey: only versions older than this one; 0 for none
}

func (l *versionLister) run() error {
	from, err := l.start()
	if err != nil {
		return err
	}
	base := l.bucket.ID
	end := after(key1(famCurrent, base))
	return l.w.Walk(objectKey(famCurrent, base, from), end, func(cur replica.Cursor) error {
		oldFrom := appendEscapedPrefix(key1(famOlder, base), from)
		return l.w.Walk(oldFrom, after(key1(famOlder, base)), func(old replica.Cursor) error {
			return l.merge(cur, old)
		})
	})
}

// start returns the first key of interest, and notes what to skip within it.
func (l *versionLister) start() (string, error) {
	r := l.r
	if r.AfterKey == "" {
		if r.AfterID != "" {
			return "", invalid("a version ID marker needs a key marker")
		}
		return r.Prefix, nil
	}
	s := listStart(r.Prefix, r.Delimiter, r.AfterKey)
	switch {
	case s.skip:
		if next := after([]byte(s.key)); next != nil {
			return string(next), nil
		}
		return s.key, nil
	case !s.after:
		return s.key, nil
	case r.AfterID == "":
		return s.key + "\x00", nil
	}
	id, err := l.markerID()
	l.skipID = id
	return s.key, err
}

// markerID resolves the version ID marker within AfterKey.
func (l *versionLister) markerID() (cairn.VersionID, error) {
	if l.r.AfterID != "null" {
		return cairn.ParseVersionID(l.r.AfterID)
	}
	v, err := findVersion(l.w, l.bucket, VersionRef{Bucket: l.bucket.Name, Key: l.r.AfterKey, Null: true})
	if err != nil {
		return 0, fmt.Errorf("version ID marker: %w: %w", err, cairn.ErrInvalid)
	}
	return v.v.ID, nil
}

// appendEscapedPrefix escapes a key without ending it: the place where keys that are not before it begin.
func appendEscapedPrefix(b []byte, key string) []byte {
	b = appendEscaped(b, key)
	return b[:len(b)-2]
}

func (l *versionLister) merge(cur, old replica.Cursor) error {
	for cur.Valid() || old.Valid() {
		key, fromCur, err := l.nextKey(cur, old)
		if err != nil {
			return err
		}
		if len(key) < len(l.r.Prefix) || key[:len(l.r.Prefix)] != l.r.Prefix {
			return nil // keys are sorted: nothing with the prefix follows
		}
		if prefix := commonPrefix(key, l.r.Prefix, l.r.Delimiter); prefix != "" {
			if l.full() {
				return nil
			}
			l.page.Prefixes = append(l.page.Prefixes, prefix)
			l.page.NextKey, l.page.NextID = prefix, ""
			l.seekBehind(cur, old, prefix)
			continue
		}
		if done, err := l.key(cur, old, key, fromCur); done || err != nil {
			return err
		}
	}
	return nil
}

func (l *versionLister) full() bool {
	if len(l.page.Versions)+len(l.page.Prefixes) < l.limit {
		return false
	}
	l.page.More = true
	return true
}

func (l *versionLister) seekBehind(cur, old replica.Cursor, prefix string) {
	if cur.Valid() {
		cur.SeekGE(after(objectKey(famCurrent, l.bucket.ID, prefix)))
	}
	if old.Valid() {
		old.SeekGE(after(appendEscapedPrefix(key1(famOlder, l.bucket.ID), prefix)))
	}
}

// nextKey returns the smaller of the two cursors' keys, and whether the current family has it.
func (l *versionLister) nextKey(cur, old replica.Cursor) (string, bool, error) {
	var oldKey string
	if old.Valid() {
		k, _, ok := cutEscaped(old.Key()[9:])
		if !ok {
			return "", false, corruptRow("older version's key")
		}
		if oldKey = k; !cur.Valid() {
			return oldKey, false, nil
		}
	}
	curKey := cur.Key()[9:]
	if old.Valid() && bytes.Compare([]byte(oldKey), curKey) < 0 {
		return oldKey, false, nil
	}
	return string(curKey), true, nil
}

// key lists one key's versions; done when the page is full.
func (l *versionLister) key(cur, old replica.Cursor, key string, hasCurrent bool) (done bool, err error) {
	newest := true
	if hasCurrent {
		row, err := cur.Value()
		if err != nil {
			return true, err
		}
		if done, err := l.add(key, row, newest); done || err != nil {
			return true, err
		}
		newest = false
		cur.Next()
	}
	prefix := escapedKey(famOlder, l.bucket.ID, key)
	for ; old.Valid() && bytes.HasPrefix(old.Key(), prefix); old.Next() {
		row, err := old.Value()
		if err != nil {
			return true, err
		}
		if done, err := l.add(key, row, newest); done || err != nil {
			return true, err
		}
		newest = false
	}
	return false, nil
}

func (l *versionLister) add(key string, row []byte, latest bool) (done bool, err error) {
	r, err := decodeVersion(row)
	if err != nil {
		return true, err
	}
	if l.skipID != 0 && key == l.r.AfterKey && r.v.ID >= l.skipID {
		return false, nil
	}
	if l.full() {
		return true, nil
	}
	named(&r, l.bucket.Name, key)
	l.page.Versions = append(l.page.Versions, r.v)
	l.page.Latest = append(l.page.Latest, latest)
	l.page.NextKey, l.page.NextID = key, r.v.ID.String()
	if r.v.Null {
		l.page.NextID = "null"
	}
	return false, nil
}
