package meta

import (
	"context"
	"fmt"

	"cairn"
	"cairn/events"
	"cairn/meta/replica"
)

// PartError is an ErrPrecondition that is about one part of a CompleteUpload: it was never uploaded, or has another ETag.
type PartError struct {
	Number int
	Reason string
}

// Error names the part.
func (e *PartError) Error() string { return fmt.Sprintf("invalid part %d: %s", e.Number, e.Reason) }

// Unwrap returns cairn.ErrPrecondition.
func (e *PartError) Unwrap() error { return cairn.ErrPrecondition }

// CompleteUpload turns parts into a version. Repeating a completed one answers with the same version while it is the
// key's current one. Errors: ErrNotFound (*BucketError, *UploadError), ErrPrecondition (*PartError, conditions),
// ErrInvalid (parts not in rising order), and what Build returns.
func (s *Store) CompleteUpload(ctx context.Context, r CompleteUpload) (v cairn.Version, err error) {
	const op = "meta.complete upload"
	subject := r.Bucket + "/" + r.Key
	g := s.groups.of(0, r.Key)
	lock := s.locks.of(0, r.Key)
	lock.Lock()
	defer lock.Unlock()
	done := false
	_, err = s.change(ctx, g, r.RequestID, func(t *txn) error {
		b, err := t.bucket(r.Bucket)
		if err != nil {
			return err
		}
		u, err := t.upload(b, r.Key, r.Upload)
		if isNotFound(err) {
			done, err = completedBefore(t.view, b, &r, err)
			return err
		}
		if err != nil {
			return err
		}
		v, err = t.complete(b, u, &r)
		return err
	})
	if err == nil && done {
		return s.Version(ctx, VersionRef{Bucket: r.Bucket, Key: r.Key})
	}
	return v, fail(op, subject, err)
}

// completedBefore tells whether the key's current version came from this upload; if not, it returns missing.
func completedBefore(w *replica.View, b cairn.Bucket, r *CompleteUpload, missing error) (bool, error) {
	v, err := findVersion(w, b, VersionRef{Bucket: r.Bucket, Key: r.Key})
	switch {
	case isNotFound(err):
		return false, missing
	case err != nil:
		return false, err
	case v.upload != r.Upload:
		return false, missing
	}
	return true, nil
}

func (t *txn) complete(b cairn.Bucket, u cairn.Upload, r *CompleteUpload) (v cairn.Version, err error) {
	stored, err := t.parts(b, u.ID)
	if err != nil {
		return v, err
	}
	chosen, err := choose(stored, r.Parts)
	if err != nil {
		return v, err
	}
	obj, err := t.object(b, r.Key)
	if err != nil {
		return v, err
	}
	if err := r.If.check(obj.version()); err != nil {
		return v, err
	}
	if v, err = r.Build(u, chosen); err != nil {
		return v, err
	}
	v.Bucket, v.Key = r.Bucket, r.Key
	if v.Layout, v.Size, err = join(chosen); err != nil {
		return v, err
	}
	// What the parts held passes to the version; the rest is released.
	for i := range stored {
		t.unlink(stored[i].Layout.Blobs)
	}
	if err := t.link(v.Layout.Blobs, nil, ""); err != nil {
		return v, err
	}
	obj.event = events.CreatedComplete
	if err := obj.put(&v, u.ID); err != nil {
		return v, err
	}
	obj.done()
	return v, t.closeUpload(b, u, stored)
}

// choose returns the stored parts that the client named.
func choose(stored []cairn.Part, want []CompletePart) ([]cairn.Part, error) {
	if len(want) == 0 {
		return nil, invalid("no parts")
	}
	byNumber := make(map[int]*cairn.Part, len(stored))
	for i := range stored {
		byNumber[stored[i].Number] = &stored[i]
	}
	out := make([]cairn.Part, 0, len(want))
	for i, w := range want {
		if i > 0 && w.Number <= want[i-1].Number {
			return nil, invalid("part %d follows part %d", w.Number, want[i-1].Number)
		}
		p := byNumber[w.Number]
		switch {
		case p == nil:
			return nil, &PartError{w.Number, "it was not uploaded"}
		case p.ETag != w.ETag:
			return nil, &PartError{w.Number, fmt.Sprintf("its ETag is %s, not %s", p.ETag, w.ETag)}
		}
		out = append(out, *p)
	}
	return out, nil
}

// join makes one layout of the parts'. Parts inline and in blobs do not mix: there is no place for bytes between blobs.
func join(parts []cairn.Part) (l cairn.Layout, size int64, err error) {
	for i := range parts {
		size += parts[i].Size
		l.Blobs = append(l.Blobs, parts[i].Layout.Blobs...)
		l.Inline = append(l.Inline, parts[i].Layout.Inline...)
	}
	if len(l.Inline) > 0 && len(l.Blobs) > 0 {
		return l, 0, invalid("some parts are inline, some in blobs")
	}
	return l, size, nil
}
