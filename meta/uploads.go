package meta

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"cairn"
	"cairn/meta/replica"
)

// UploadError is an ErrNotFound that is about an upload.
type UploadError struct{ Upload string }

// Error names the upload.
func (e *UploadError) Error() string {
	return fmt.Sprintf("upload %q: %v", e.Upload, cairn.ErrNotFound)
}

// Unwrap returns cairn.ErrNotFound.
func (e *UploadError) Unwrap() error { return cairn.ErrNotFound }

// upload reads an upload's row, on which the decision then rests.
func (t *txn) upload(b cairn.Bucket, key, id string) (cairn.Upload, error) {
	row, found, err := t.get(uploadKey(b.ID, key, id))
	if err != nil {
		return cairn.Upload{}, err
	}
	if !found {
		return cairn.Upload{}, &UploadError{id}
	}
	u, err := decodeUpload(row)
	u.Bucket, u.Key, u.ID = b.Name, key, id
	return u, err
}

// newUploadID makes IDs that sort by time, since S3 lists the uploads of a key so.
func newUploadID(now time.Time) string {
	var random [8]byte
	rand.Read(random[:]) // never fails since Go 1.24
	return hex.EncodeToString(append(appendID(nil, uint64(now.UnixNano())), random[:]...))
}

// CreateUpload opens an upload and assigns ID and Created. Errors: ErrNotFound (*BucketError), ErrInvalid.
func (s *Store) CreateUpload(ctx context.Context, u cairn.Upload) (cairn.Upload, error) {
	const op = "meta.create upload"
	subject := u.Bucket + "/" + u.Key
	if err := validKey(u.Key); err != nil {
		return u, fail(op, subject, err)
	}
	_, err := s.change(ctx, s.groups.of(0, u.Key), 0, func(t *txn) error {
		b, err := t.bucket(u.Bucket)
		if err != nil {
			return err
		}
		u.Created, u.ID = t.now, newUploadID(t.now)
		t.batch.Put(uploadKey(b.ID, u.Key, u.ID), encodeUpload(&u))
		t.batch.Put(ageKey(u.Created.UnixNano(), b.ID, u.Key, u.ID), []byte(b.Name))
		rules, err := t.rules.of(&b)
		if err != nil {
			return err
		}
		if u.Expires, u.ExpiryRule = rules.AbortDue(u.Key, u.Created); !u.Expires.IsZero() {
			t.batch.Put(dueRow(u.Expires, b.ID, u.Key, dueUpload, u.ID), []byte(b.Name))
		}
		t.count(b.ID, 0, 0, 0, 1)
		return nil
	})
	return u, fail(op, subject, err)
}

// Upload returns an open upload. Errors: ErrNotFound (*BucketError, *UploadError).
func (s *Store) Upload(ctx context.Context, bucket, key, id string) (u cairn.Upload, err error) {
	err = s.read(ctx, s.groups.of(0, key), func(w *replica.View) error {
		var b cairn.Bucket
		if b, u, err = readUpload(w, bucket, key, id); err != nil {
			return err
		}
		rules, err := s.rules.of(&b)
		u.Expires, u.ExpiryRule = rules.AbortDue(key, u.Created)
		return err
	})
	return u, fail("meta.upload", bucket+"/"+key, err)
}

func readUpload(w *replica.View, bucket, key, id string) (b cairn.Bucket, u cairn.Upload, err error) {
	if b, err = readBucket(w, bucket); err != nil {
		return b, u, err
	}
	row, found, err := w.Get(uploadKey(b.ID, key, id), nil)
	if err == nil && !found {
		err = &UploadError{id}
	}
	if err != nil {
		return b, u, err
	}
	u, err = decodeUpload(row)
	u.Bucket, u.Key, u.ID = bucket, key, id
	return b, u, err
}

// StaleUploads returns up to max uploads, of any bucket, that were created before t, oldest first. Those that a lifecycle rule of
// their bucket will abort are not among them, however old: the rule decides.
func (s *Store) StaleUploads(ctx context.Context, before time.Time, max int) (list []cairn.Upload, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		ruled := s.rules.aborts(w)
		return w.Walk([]byte{famAge}, key1(famAge, uint64(before.UnixNano())), func(c replica.Cursor) error {
			for ; c.Valid() && len(list) < max; c.Next() {
				k := c.Key()
				if len(k) < 17 {
					return corruptRow("upload's age key")
				}
				nanos, _ := decodeNumber(k[1:9])
				key, id, ok := cutEscaped(k[17:])
				if !ok {
					return corruptRow("upload's age key")
				}
				name, err := c.Value()
				if err != nil {
					return err
				}
				u := cairn.Upload{Bucket: string(name), Key: key, ID: string(id), Created: time.Unix(0, int64(nanos)).UTC()}
				if yes, err := ruled(&u); err != nil {
					return err
				} else if !yes {
					list = append(list, u)
				}
			}
			return nil
		})
	})
	return list, fail("meta.stale uploads", "", err)
}

// ListUploads returns one page of open uploads, by key and then by ID, which is by age. Errors: ErrNotFound (*BucketError).
func (s *Store) ListUploads(ctx context.Context, r ListUploads) (p UploadPage, err error) {
	limit := min(r.Max, maxListed)
	err = s.read(ctx, s.groups.of(0, r.Prefix), func(w *replica.View) error {
		b, err := readBucket(w, r.Bucket)
		if err != nil || limit <= 0 {
			return err
		}
		p = UploadPage{}
		from := uploadsFrom(b.ID, &r)
		to := after(appendEscapedPrefix(key1(famUpload, b.ID), r.Prefix))
		if from == nil || bytes.Compare(from, to) >= 0 {
			return nil
		}
		return w.Walk(from, to, func(c replica.Cursor) error { return listUploads(c, b, &r, limit, &p) })
	})
	if !p.More {
		p.NextKey, p.NextUpload = "", ""
	}
	return p, fail("meta.list uploads", r.Bucket, err)
}

// uploadsFrom returns where a page of uploads begins.
func uploadsFrom(bucket uint64, r *ListUploads) []byte {
	base := key1(famUpload, bucket)
	if r.AfterKey == "" {
		return appendEscapedPrefix(base, r.Prefix)
	}
	s := listStart(r.Prefix, r.Delimiter, r.AfterKey)
	switch {
	case s.skip:
		return after(appendEscapedPrefix(base, s.key))
	case !s.after:
		return appendEscapedPrefix(base, s.key)
	case r.AfterUpload == "":
		return after(appendEscaped(base, s.key))
	}
	return append(uploadKey(bucket, s.key, r.AfterUpload), 0)
}

func listUploads(c replica.Cursor, b cairn.Bucket, r *ListUploads, limit int, p *UploadPage) error {
	for c.Valid() {
		key, id, ok := cutEscaped(c.Key()[9:])
		if !ok {
			return corruptRow("upload's key")
		}
		if len(p.Uploads)+len(p.Prefixes) == limit {
			p.More = true
			return nil
		}
		if prefix := commonPrefix(key, r.Prefix, r.Delimiter); prefix != "" {
			p.Prefixes = append(p.Prefixes, prefix)
			p.NextKey, p.NextUpload = prefix, ""
			c.SeekGE(after(appendEscapedPrefix(key1(famUpload, b.ID), prefix)))
			continue
		}
		row, err := c.Value()
		if err != nil {
			return err
		}
		u, err := decodeUpload(row)
		if err != nil {
			return err
		}
		u.Bucket, u.Key, u.ID = b.Name, key, string(id)
		p.Uploads = append(p.Uploads, u)
		p.NextKey, p.NextUpload = key, u.ID
		c.Next()
	}
	return nil
}

// AbortUpload ends an upload and releases its parts. Errors: ErrNotFound (*BucketError, *UploadError).
func (s *Store) AbortUpload(ctx context.Context, bucket, key, id string) error {
	_, err := s.change(ctx, s.groups.of(0, key), 0, func(t *txn) error {
		b, err := t.bucket(bucket)
		if err != nil {
			return err
		}
		u, err := t.upload(b, key, id)
		if err != nil {
			return err
		}
		return t.abort(b, u)
	})
	return fail("meta.abort upload", bucket+"/"+key, err)
}

// abort ends an upload and releases its parts.
func (t *txn) abort(b cairn.Bucket, u cairn.Upload) error {
	parts, err := t.parts(b, u.ID)
	if err != nil {
		return err
	}
	for i := range parts {
		t.unlink(parts[i].Layout.Blobs)
	}
	return t.closeUpload(b, u, parts)
}

// closeUpload removes an upload's rows.
func (t *txn) closeUpload(b cairn.Bucket, u cairn.Upload, parts []cairn.Part) error {
	t.batch.Delete(uploadKey(b.ID, u.Key, u.ID))
	t.batch.Delete(ageKey(u.Created.UnixNano(), b.ID, u.Key, u.ID))
	for _, p := range parts {
		t.batch.Delete(partKey(b.ID, u.ID, p.Number))
	}
	t.count(b.ID, 0, 0, 0, -1)
	rules, err := t.rules.of(&b)
	if err != nil {
		return err
	}
	if due, _ := rules.AbortDue(u.Key, u.Created); !due.IsZero() {
		t.batch.Delete(dueRow(due, b.ID, u.Key, dueUpload, u.ID))
	}
	return nil
}
