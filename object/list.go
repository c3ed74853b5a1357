package object

import (
	"context"

	"cairn"
	"cairn/meta"
)

// Delete removes a version, or hides the current one behind a delete marker, by the bucket's versioning state. What was not
// there is no error: Found tells. Errors: ErrNoSuchBucket, a rule on keys, and those of r.If.
func (s *Store) Delete(ctx context.Context, r meta.DeleteVersion) (meta.Deleted, error) {
	if err := checkKey("object.delete", r.Ref.Bucket, r.Ref.Key); err != nil {
		return meta.Deleted{}, err
	}
	d, err := s.cfg.Meta.DeleteVersion(ctx, r)
	return d, explain(err)
}

// DeleteMany is Delete for many versions of one bucket at once, in few commits; results and errors by index. One failure does
// not stop the others.
func (s *Store) DeleteMany(ctx context.Context, rs []meta.DeleteVersion) ([]meta.Deleted, []error) {
	out, errs := make([]meta.Deleted, len(rs)), make([]error, len(rs))
	valid, at := make([]meta.DeleteVersion, 0, len(rs)), make([]int, 0, len(rs))
	for i, r := range rs {
		if errs[i] = checkKey("object.delete", r.Ref.Bucket, r.Ref.Key); errs[i] == nil {
			valid, at = append(valid, r), append(at, i)
		}
	}
	if len(valid) == 0 {
		return out, errs
	}
	done, failed := s.cfg.Meta.DeleteVersions(ctx, valid)
	for j, i := range at {
		out[i], errs[i] = done[j], explain(failed[j])
	}
	return out, errs
}

// Update changes tags and lock of a committed version, and returns the version without its layout. ErrNoSuchBucket,
// ErrNotFound, ErrNoLock, and what r.Change returns.
func (s *Store) Update(ctx context.Context, r meta.UpdateVersion) (cairn.Version, error) {
	if err := checkKey("object.update", r.Ref.Bucket, r.Ref.Key); err != nil {
		return cairn.Version{}, err
	}
	v, err := s.cfg.Meta.UpdateVersion(ctx, r)
	return v, explain(err)
}

// List returns one page of a bucket's current versions.
func (s *Store) List(ctx context.Context, r meta.List) (meta.Page, error) {
	p, err := s.cfg.Meta.List(ctx, r)
	return p, explain(err)
}

// ListVersions returns one page of all of a bucket's versions and delete markers.
func (s *Store) ListVersions(ctx context.Context, r meta.ListVersions) (meta.VersionPage, error) {
	p, err := s.cfg.Meta.ListVersions(ctx, r)
	return p, explain(err)
}

// ListUploads returns one page of a bucket's open uploads.
func (s *Store) ListUploads(ctx context.Context, r meta.ListUploads) (meta.UploadPage, error) {
	p, err := s.cfg.Meta.ListUploads(ctx, r)
	return p, explain(err)
}

// Upload returns an open upload. ErrNoSuchUpload, ErrNoSuchBucket.
func (s *Store) Upload(ctx context.Context, bucket, key, id string) (cairn.Upload, error) {
	u, err := s.cfg.Meta.Upload(ctx, bucket, key, id)
	return u, explain(err)
}

// Parts returns up to max parts of an upload with numbers above after, and whether there are more. ErrNoSuchUpload,
// ErrNoSuchBucket.
func (s *Store) Parts(ctx context.Context, bucket, key, upload string, after, max int) ([]cairn.Part, bool, error) {
	parts, more, err := s.cfg.Meta.Parts(ctx, bucket, key, upload, after, max)
	return parts, more, explain(err)
}
