package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cairn"
	"cairn/admin"
	"cairn/meta"
	"cairn/scrub"
)

// What a scrub's job is about, as its subject says.
const (
	scrubAll    = "everything"
	scrubDrive  = "drive "
	scrubBucket = "bucket "
	scrubObject = "object "
)

// StartScrub begins a check as a job, or joins the one of the same scope.
func (f *facts) StartScrub(ctx context.Context, scope admin.ScrubScope) (cairn.Job, error) {
	subject, err := f.scrubSubject(ctx, scope)
	if err != nil {
		return cairn.Job{}, err
	}
	j, err := f.parts.meta.CreateJob(ctx, cairn.JobScrub, subject)
	if !errors.Is(err, cairn.ErrExists) {
		return j, err
	}
	all, lerr := f.parts.meta.Jobs(ctx)
	if lerr != nil {
		return j, lerr
	}
	for _, j := range all {
		if j.Kind == cairn.JobScrub && j.Subject == subject && !j.Ended() {
			return j, nil
		}
	}
	return j, err // it has ended just now; ask again
}

// scrubSubject refuses what is not there.
func (f *facts) scrubSubject(ctx context.Context, scope admin.ScrubScope) (string, error) {
	refuse := func(what, why string, kind error) (string, error) {
		return "", &cairn.Error{Op: "server.scrub", Subject: what, Err: fmt.Errorf("%s: %w", why, kind)}
	}
	switch {
	case scope.Drive != "":
		d, err := f.findDrive(scope.Drive)
		if err != nil {
			return "", err
		}
		if !d.State.Readable() {
			return refuse(scope.Drive, fmt.Sprintf("the drive is %s, so nothing can be checked: bring it back first, or see `cairn status`", d.State), cairn.ErrPrecondition)
		}
		return scrubDrive + d.ID.String(), nil
	case scope.Key != "":
		if _, err := f.parts.meta.Version(ctx, meta.VersionRef{Bucket: scope.Bucket, Key: scope.Key}); err != nil {
			if errors.Is(err, cairn.ErrNotFound) {
				return refuse(scope.Bucket+"/"+scope.Key, "no such object: check its bucket and key, byte for byte", cairn.ErrNotFound)
			}
			return "", err
		}
		return scrubObject + scope.Bucket + "/" + scope.Key, nil
	case scope.Bucket != "":
		if _, err := f.parts.meta.Bucket(ctx, scope.Bucket); err != nil {
			if errors.Is(err, cairn.ErrNotFound) {
				return refuse(scope.Bucket, "no such bucket: `cairn bucket ls` lists them", cairn.ErrNotFound)
			}
			return "", err
		}
		return scrubBucket + scope.Bucket, nil
	}
	return scrubAll, nil
}

// Findings returns the open findings and the history.
func (f *facts) Findings(ctx context.Context, max int) ([]cairn.Finding, error) {
	return f.parts.meta.Findings(ctx, max)
}

// scrubRunner does what a scrub's job says.
type scrubRunner struct{ p *parts }

// Run looks at all that the subject names.
func (r scrubRunner) Run(ctx context.Context, j cairn.Job, report func(cairn.Progress)) error {
	c := scrub.Check{Name: j.ID.String()}
	var err error
	if name, ok := strings.CutPrefix(j.Subject, scrubDrive); ok {
		c.Drive, err = cairn.ParseID(name)
	} else if name, ok := strings.CutPrefix(j.Subject, scrubBucket); ok {
		c.Content = bucketContent{r.p.meta, name}
	} else if name, ok := strings.CutPrefix(j.Subject, scrubObject); ok {
		bucket, key, _ := strings.Cut(name, "/")
		c.Content = objectContent{r.p.meta, meta.VersionRef{Bucket: bucket, Key: key}}
	} else if j.Subject != scrubAll {
		err = &cairn.Error{Op: "server.scrub", Subject: j.Subject, Err: fmt.Errorf("not known to this version: %w", cairn.ErrInvalid)}
	}
	if err != nil {
		return err
	}
	return r.p.scrubber.Check(ctx, c, report)
}

// Cancel forgets how far the check was, unless it is to go on.
func (r scrubRunner) Cancel(ctx context.Context, j cairn.Job) error {
	if j.Wish != cairn.WishCancel {
		return nil
	}
	return r.p.scrubber.Forget(ctx, j.ID.String())
}

// bucketContent are the blobs of all versions in a bucket. (Those of parts of uploads under way are left to checks of
// everything.)
type bucketContent struct {
	meta   *meta.Store
	bucket string
}

// Bytes is what the bucket's statistics say.
func (b bucketContent) Bytes(ctx context.Context) (int64, error) {
	st, err := b.meta.Stats(ctx, b.bucket)
	return st.Bytes, err
}

const contentPage = 100 // versions whose blobs are checked at a time

// Blobs lists the blobs of a page of versions. A place is "ID/KEY" of the last version of the page before.
func (b bucketContent) Blobs(ctx context.Context, place string) (refs []cairn.BlobRef, next string, err error) {
	id, key, _ := strings.Cut(place, "/")
	page, err := b.meta.ListVersions(ctx, meta.ListVersions{Bucket: b.bucket, AfterKey: key, AfterID: id, Max: contentPage})
	if err != nil {
		return nil, "", err
	}
	for _, v := range page.Versions {
		if v.DeleteMarker {
			continue
		}
		more, err := blobsOf(ctx, b.meta, meta.VersionRef{Bucket: b.bucket, Key: v.Key, ID: v.ID, Null: v.Null})
		if err != nil && !errors.Is(err, cairn.ErrNotFound) { // deleted since it was listed
			return nil, "", err
		}
		refs = append(refs, more...)
	}
	if page.More {
		next = page.NextID + "/" + page.NextKey
	}
	return refs, next, nil
}

// objectContent are the blobs of one version.
type objectContent struct {
	meta *meta.Store
	ref  meta.VersionRef
}

// Bytes is the sum of the blobs.
func (o objectContent) Bytes(ctx context.Context) (n int64, err error) {
	refs, err := blobsOf(ctx, o.meta, o.ref)
	for _, ref := range refs {
		n += ref.Length
	}
	return n, err
}

// Blobs returns all of them.
func (o objectContent) Blobs(ctx context.Context, _ string) ([]cairn.BlobRef, string, error) {
	refs, err := blobsOf(ctx, o.meta, o.ref)
	return refs, "", err
}

// blobsOf lists what a version is made of; one that is kept in the metadata has none.
func blobsOf(ctx context.Context, m *meta.Store, ref meta.VersionRef) ([]cairn.BlobRef, error) {
	v, err := m.Version(ctx, ref)
	return v.Layout.Blobs, err
}

var _ admin.Scrubs = (*facts)(nil)
