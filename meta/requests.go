package meta

import (
	"time"

	"cairn"
)

// PutVersion commits a new version under a key, in one atomic step with the release of what it replaces.
type PutVersion struct {
	// Version is complete but for ID and Null, which the commit assigns by the bucket's versioning state. A zero
	// Modified is set to the time of the proposal.
	Version cairn.Version
	// NewBlobs are those of Version.Layout.Blobs that were written for this commit, with the epoch at which they were
	// written and the slots that were skipped. A blob that is not listed here must be referenced already (a copy).
	NewBlobs []cairn.NewBlob
	If       Conditions
	// Source, if set, is the version that the blobs are copied from; the commit fails with ErrPrecondition if it is gone.
	Source *VersionRef
	// Append tells that the source is what the version was before: no copy, for those who are told of it.
	Append bool
	// RequestID makes a retried proposal take effect once; 0 lets the store draw one.
	RequestID uint64
}

// VersionRef names one version; ID 0 means the current one, whichever it is.
type VersionRef struct {
	Bucket string
	Key    string
	ID     cairn.VersionID
	Null   bool // the version that S3 calls "null"; ID is ignored
}

// Conditions guard a change of a key's current version. Each that is set must hold at the commit.
type Conditions struct {
	// IfNoneMatch: "*" (no current version may exist) or a list of ETags, none of which may be the current one's.
	IfNoneMatch []string
	// IfMatch: "*" (a current version must exist: ErrNotFound if there is none) or a list of ETags, one of which must
	// be the current one's: ErrPrecondition otherwise.
	IfMatch []string
	// IfSize and IfModified belong to conditional deletes; nil means not asked.
	IfSize     *int64
	IfModified *time.Time
}

// DeleteVersion removes the current version (ID 0: in a versioned bucket that adds a delete marker) or a given one.
type DeleteVersion struct {
	Ref VersionRef
	If  Conditions
	// Bypass lifts a GOVERNANCE retention; who may ask for it is not decided here.
	Bypass    bool
	RequestID uint64
}

// Deleted tells what a deletion did.
type Deleted struct {
	Found        bool            // something was removed or hidden
	ID           cairn.VersionID // the version that was removed, or the delete marker that was added
	Null         bool
	DeleteMarker bool // ID is a delete marker (added, or removed by its ID)
}

// List asks for one page of a bucket's current versions, in UTF-8 byte order of keys.
type List struct {
	Bucket    string
	Prefix    string
	Delimiter string // "" for none; any string
	After     string // only keys and common prefixes > After; for a common prefix P, After may be P itself
	Max       int    // of keys and common prefixes together, at most 1,000 (0 means 0 rows)
}

// Page is the answer to List. Versions and Prefixes are each sorted; in the listing they interleave by name.
type Page struct {
	Versions []Listed
	Prefixes []string // common prefixes, each ending with the delimiter
	More     bool
	Next     string // pass as After for the next page: the last key or common prefix of this one
}

// ListVersions asks for one page of all versions, by key and then newest first.
type ListVersions struct {
	Bucket    string
	Prefix    string
	Delimiter string
	AfterKey  string
	AfterID   string // version ID marker within AfterKey, "null" allowed; "" means after all versions of AfterKey
	Max       int
}

// VersionPage is the answer to ListVersions.
type VersionPage struct {
	Versions []cairn.Version
	Latest   []bool // Latest[i]: Versions[i] is its key's current one
	Prefixes []string
	More     bool
	NextKey  string
	NextID   string
}

// PutPart commits one part of an upload; a part of the same number is replaced and its blobs released.
type PutPart struct {
	Bucket, Key, Upload string
	Part                cairn.Part
	NewBlobs            []cairn.NewBlob
	Source              *VersionRef // UploadPartCopy without moving bytes: as in PutVersion
	RequestID           uint64
}

// CompleteUpload turns parts into a version: blobs are counted, not copied. Parts of the upload that are not named are
// released. Repeating a completed one answers with the same version while it is still the key's latest.
type CompleteUpload struct {
	Bucket, Key, Upload string
	// Parts in rising order of numbers, as the client named them. ETag is compared (ErrPrecondition "invalid part");
	// Layout, Size are taken from the stored parts.
	Parts []CompletePart
	// Build makes the version from the stored parts (ETag of ETags, checksums, sizes): pure, called with parts in order.
	Build     func(u cairn.Upload, parts []cairn.Part) (cairn.Version, error)
	If        Conditions
	RequestID uint64
}

// CompletePart is one line of a CompleteMultipartUpload request.
type CompletePart struct {
	Number    int
	ETag      string
	Checksums []cairn.Checksum
}

// ListUploads asks for one page of open uploads, by key and then upload ID.
type ListUploads struct {
	Bucket      string
	Prefix      string
	Delimiter   string
	AfterKey    string
	AfterUpload string
	Max         int
}

// UploadPage is the answer to ListUploads.
type UploadPage struct {
	Uploads    []cairn.Upload
	Prefixes   []string
	More       bool
	NextKey    string
	NextUpload string
}

// SwapSlot and Blob are shared with packages that may not import meta.
type (
	SwapSlot = cairn.SwapSlot
	Blob     = cairn.BlobRow
)

// Garbage is an outbox row: no version lists the blob any more; its shards are to be deleted, then the row is cleared.
type Garbage struct {
	Ref  cairn.BlobRef
	Time time.Time // of the commit that released it
}

// BucketStats are maintained at commit.
type BucketStats struct {
	Objects  int64 `json:"objects"`  // current versions
	Versions int64 `json:"versions"` // all versions and delete markers
	Bytes    int64 `json:"bytes"`    // of all versions
	Uploads  int64 `json:"uploads"`
}
