package object

import (
	"io"

	"cairn"
	"cairn/meta"
)

// Put is a request to store one object. The commit happens only after every declared digest was found right.
type Put struct {
	Bucket string
	Key    string
	Owner  string // account that will own the version
	Body   io.Reader
	Size   int64 // -1 if the client did not tell
	What   Attributes
	Want   Digests
	If     meta.Conditions
	// Encrypt is what the client asks for; the zero value leaves it to the bucket's rule.
	Encrypt cairn.EncryptionWish
}

// Attributes are what a client attaches to an object.
type Attributes struct {
	Headers map[string]string // canonical name → value: Content-Type, Cache-Control, …, X-Amz-Meta-*
	Tags    map[string]string
	ACL     string // access control list, as the frontend writes it
	Class   string // storage class, "" for STANDARD
	Lock    cairn.Lock
}

// Digests are what the client declared of a body. Each that is set is verified before the commit: a mismatch is a
// *DigestError and nothing is stored.
type Digests struct {
	MD5    []byte // Content-MD5
	SHA256 []byte // x-amz-content-sha256 of a signed payload
	// Checksum is the x-amz-checksum value; with an algorithm and no Value it is only computed and stored.
	Checksum cairn.Checksum
	// Trailer, if set, is called once after the body's end and gives the checksum that arrived behind it (an empty Algo
	// for none).
	Trailer func() (cairn.Checksum, error)
}

// DigestError tells which declared digest did not match. It is an ErrInvalid.
type DigestError struct {
	Name      string // "Content-MD5", "x-amz-content-sha256", or the checksum algorithm
	Got, Want []byte
}

// Error says what was declared and what arrived.
func (e *DigestError) Error() string { return e.Name + " does not match the bytes received" }

// Unwrap returns cairn.ErrInvalid.
func (e *DigestError) Unwrap() error { return cairn.ErrInvalid }

// PutPart is a request to store one part of an upload.
type PutPart struct {
	Bucket string
	Key    string
	Upload string
	Number int
	Body   io.Reader
	Size   int64
	Want   Digests
	// CustomerKey opens the data key of an upload under a client's key, nil for all others.
	CustomerKey []byte
}

// Copy makes a version from another one without moving bytes.
type Copy struct {
	From     meta.VersionRef
	SourceIf SourceConditions
	Bucket   string
	Key      string
	Owner    string
	// Replace, if set, is used instead of the source's attributes (x-amz-metadata-directive and x-amz-tagging-directive
	// are resolved by the frontend into whole Attributes).
	Replace func(source cairn.Version) Attributes
	// Checksum asks for another algorithm than the source carries ("" keeps the source's): that reads the bytes once.
	Checksum cairn.ChecksumAlgo
	If       meta.Conditions
	// Encrypt is as in Put: the source's encryption is not inherited. SourceKey opens a source under a client's key.
	Encrypt   cairn.EncryptionWish
	SourceKey []byte
}

// SourceConditions guard a copy (x-amz-copy-source-if-*).
type SourceConditions struct {
	// Check returns nil if the copy may go on with this source version.
	Check func(source cairn.Version) error
}

// CopyPart makes a part from a range of a version (UploadPartCopy). Ranges on blob borders move no bytes.
type CopyPart struct {
	From     meta.VersionRef
	SourceIf SourceConditions
	Off, Len int64 // Len -1: to the end
	Bucket   string
	Key      string
	Upload   string
	Number   int
	// CustomerKey is as in PutPart, SourceKey as in Copy.
	CustomerKey []byte
	SourceKey   []byte
}

// Complete is a CompleteMultipartUpload request.
type Complete struct {
	Bucket string
	Key    string
	Upload string
	Parts  []meta.CompletePart
	Want   cairn.Checksum // declared whole-object or composite checksum, empty Algo for none
	Size   int64          // x-amz-mp-object-size, -1 if not declared
	If     meta.Conditions
}
