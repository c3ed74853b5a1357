package meta

import (
	"context"

	"cairn"
	"cairn/meta/replica"
)

// maxPart is S3's highest part number.
const maxPart = 10000

// Validate refuses what cannot be committed.
func (r *PutPart) Validate() error {
	if r.Part.Number < 1 || r.Part.Number > maxPart {
		return invalid("part number %d", r.Part.Number)
	}
	size := int64(len(r.Part.Layout.Inline))
	for _, b := range r.Part.Layout.Blobs {
		size += b.Length
	}
	want := r.Part.Size
	if r.Part.Salt != nil {
		want = cairn.SealedSize(want)
	}
	if size != want {
		return invalid("layout of %d bytes for a part of %d", size, r.Part.Size)
	}
	return nil
}

// PutPart commits a part; one of the same number is replaced and its blobs released. Errors: as PutVersion, and
// *UploadError (ErrNotFound).
func (s *Store) PutPart(ctx context.Context, r PutPart) (cairn.Part, error) {
	const op = "meta.put part"
	subject := r.Bucket + "/" + r.Key
	p := r.Part
	if err := r.Validate(); err != nil {
		return p, fail(op, subject, err)
	}
	g := s.groups.of(0, r.Key)
	if o, ok, err := s.repeated(ctx, g, r.RequestID); err != nil || ok {
		if err == nil {
			p, err = decodePart(o.Result)
			p.Layout = r.Part.Layout
		}
		return p, fail(op, subject, err)
	}
	_, err := s.change(ctx, g, r.RequestID, func(t *txn) error {
		b, err := t.bucket(r.Bucket)
		if err != nil {
			return err
		}
		if _, err := t.upload(b, r.Key, r.Upload); err != nil {
			return err
		}
		if err := t.fits(&b, p.Size); err != nil {
			return err
		}
		if err := t.source(r.Source); err != nil {
			return err
		}
		key := partKey(b.ID, r.Upload, p.Number)
		row, found, err := t.get(key)
		if err != nil {
			return err
		}
		if found {
			old, err := decodePart(row)
			if err != nil {
				return err
			}
			t.unlink(old.Layout.Blobs)
		}
		if err := t.link(p.Layout.Blobs, r.NewBlobs, subject); err != nil {
			return err
		}
		p = r.Part
		if p.Modified.IsZero() {
			p.Modified = t.now
		}
		t.batch.Put(key, encodePart(&p))
		t.batch.Touch(partPrefix(b.ID, r.Upload)) // whoever read all parts must see this one
		short := p
		short.Layout = cairn.Layout{}
		t.batch.Result = encodePart(&short)
		return nil
	})
	return p, fail(op, subject, err)
}

// parts reads all parts of an upload; the decision then rests on there being no others.
func (t *txn) parts(b cairn.Bucket, upload string) ([]cairn.Part, error) {
	prefix := partPrefix(b.ID, upload)
	t.batch.Check(prefix)
	parts, _, err := walkParts(t.view, prefix, 0, maxPart)
	return parts, err
}

// walkParts returns up to max parts whose number is above after.
func walkParts(w *replica.View, prefix []byte, above, max int) (parts []cairn.Part, more bool, err error) {
	from := append(prefix[:len(prefix):len(prefix)], byte((above+1)>>8), byte(above+1))
	if above >= maxPart {
		return nil, false, nil
	}
	err = w.Walk(from, after(prefix), func(c replica.Cursor) error {
		for ; c.Valid(); c.Next() {
			if len(parts) == max {
				more = true
				return nil
			}
			row, err := c.Value()
			if err != nil {
				return err
			}
			p, err := decodePart(row)
			if err != nil {
				return err
			}
			parts = append(parts, p)
		}
		return nil
	})
	return parts, more, err
}

// Parts returns up to max parts of an upload whose number is above after, in order. Errors: ErrNotFound (*BucketError,
// *UploadError).
func (s *Store) Parts(ctx context.Context, bucket, key, id string, after, max int) (parts []cairn.Part, more bool, err error) {
	err = s.read(ctx, s.groups.of(0, key), func(w *replica.View) error {
		b, _, err := readUpload(w, bucket, key, id)
		if err != nil {
			return err
		}
		parts, more, err = walkParts(w, partPrefix(b.ID, id), after, max)
		return err
	})
	return parts, more, fail("meta.parts", bucket+"/"+key, err)
}
