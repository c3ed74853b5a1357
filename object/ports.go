package object

import (
	"context"
	"io"
	"time"

	"cairn"
	"cairn/meta"
)

// Meta is what the object layer needs of the metadata service. Reads are linearizable; changes are atomic, durable on a
// quorum of voters when the call returns, and safe to retry with the same RequestID. *meta.Store is one.
type Meta interface {
	CreateBucket(ctx context.Context, b cairn.Bucket) (cairn.Bucket, error) // ErrExists
	Bucket(ctx context.Context, name string) (cairn.Bucket, error)          // ErrNotFound
	Buckets(ctx context.Context) ([]cairn.Bucket, error)
	DeleteBucket(ctx context.Context, name string) error // ErrNotEmpty while versions or uploads exist
	// UpdateBucket applies change to the row and commits it; change may run more than once.
	UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (cairn.Bucket, error)
	Stats(ctx context.Context, bucket string) (meta.BucketStats, error)

	PutVersion(ctx context.Context, r meta.PutVersion) (cairn.Version, error)
	// Version returns the row with its whole layout; a delete marker is returned as such, with no error, only when asked
	// for by ID; a current delete marker is ErrNotFound.
	Version(ctx context.Context, ref meta.VersionRef) (cairn.Version, error)
	DeleteVersion(ctx context.Context, r meta.DeleteVersion) (meta.Deleted, error)
	// DeleteVersions commits many deletions of one bucket in as few commits as possible; results and errors by index.
	DeleteVersions(ctx context.Context, rs []meta.DeleteVersion) ([]meta.Deleted, []error)
	// UpdateVersion changes tags and lock of a committed version.
	UpdateVersion(ctx context.Context, r meta.UpdateVersion) (cairn.Version, error)
	// Rename gives a version another key of its bucket.
	Rename(ctx context.Context, r meta.Rename) (cairn.Version, error)
	List(ctx context.Context, r meta.List) (meta.Page, error)
	ListVersions(ctx context.Context, r meta.ListVersions) (meta.VersionPage, error)

	CreateUpload(ctx context.Context, u cairn.Upload) (cairn.Upload, error) // assigns ID and Created
	Upload(ctx context.Context, bucket, key, id string) (cairn.Upload, error)
	PutPart(ctx context.Context, r meta.PutPart) (cairn.Part, error)
	Parts(ctx context.Context, bucket, key, id string, after, max int) (parts []cairn.Part, more bool, err error)
	CompleteUpload(ctx context.Context, r meta.CompleteUpload) (cairn.Version, error)
	AbortUpload(ctx context.Context, bucket, key, id string) error
	ListUploads(ctx context.Context, r meta.ListUploads) (meta.UploadPage, error)
	// StaleUploads returns up to max uploads, of any bucket, that were created before t.
	StaleUploads(ctx context.Context, t time.Time, max int) ([]cairn.Upload, error)

	// ExpireDue lets lifecycle rules act on at most max due rows; Due is 0 when nothing more is due.
	ExpireDue(ctx context.Context, now time.Time, max int) (meta.Expired, error)
	// Reindex carries the jobs on that changed lifecycle rules leave, by at most max rows; false when none is left.
	Reindex(ctx context.Context, max int) (more bool, err error)

	// Garbage returns up to max outbox rows after the given blob, released before t.
	Garbage(ctx context.Context, after cairn.BlobRef, before time.Time, max int) ([]meta.Garbage, error)
	// ClearGarbage removes outbox rows whose shards are gone.
	ClearGarbage(ctx context.Context, refs []cairn.BlobRef) error
}

// Keys makes, wraps and opens data keys. *sse.Keys is one.
type Keys interface {
	// New makes a data key and the record that goes with it, without a salt.
	New(ctx context.Context, want cairn.EncryptionWish) (dataKey []byte, rec cairn.Encryption, err error)
	// Wrap makes the record of a data key under another scheme or master key.
	Wrap(ctx context.Context, want cairn.EncryptionWish, dataKey []byte) (cairn.Encryption, error)
	// Open returns a record's data key. customerKey is for objects under a client's key, nil for all others.
	Open(ctx context.Context, rec cairn.Encryption, customerKey []byte) ([]byte, error)
	// Rewrap wraps a record's data key under the newest version of its master key; changed is false if it is so already.
	Rewrap(ctx context.Context, rec cairn.Encryption) (_ cairn.Encryption, changed bool, err error)
}

// Blobs is what the object layer needs of the blob store. *blob.Store is one.
type Blobs interface {
	// Put reads r.Body and stores it as one blob per cairn.MaxBlobBytes (smaller ones if the size is unknown). On error
	// it has discarded what it wrote, as far as the drives can be reached; the rest are orphans.
	Put(ctx context.Context, r cairn.BlobPut) ([]cairn.NewBlob, error)
	// Get writes length bytes from offset off of the blobs' concatenation to w, verified, decoding where needed. Bytes
	// reach w in order; on error those written so far were right.
	Get(ctx context.Context, blobs []cairn.BlobRef, off, length int64, w io.Writer) error
	// Discard deletes the shards of blobs that were never referenced. Best effort: scrub finds what stays.
	Discard(ctx context.Context, blobs []cairn.NewBlob)
	// Delete removes the shards of a released blob from every slot that can be reached; a slot that cannot is left to
	// scrub. An error means that it should be tried again.
	Delete(ctx context.Context, refs []cairn.BlobRef) error
}
