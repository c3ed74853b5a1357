package cairn

import (
	"strconv"
	"time"
)

// Bucket is the committed record of a bucket.
type Bucket struct {
	Name    string     `json:"name"`
	ID      uint64     `json:"id"` // never used again, so rows of a deleted bucket cannot appear in its successor
	Created time.Time  `json:"created"`
	Owner   string     `json:"owner"`            // account that made it
	Profile Profile    `json:"profile,omitzero"` // zero: the cluster's default
	Version Versioning `json:"versioning"`       // whether overwritten versions are kept
	Lock    BucketLock `json:"lock,omitzero"`
	// QuotaBytes is how many bytes all versions may hold together, 0 for any number.
	QuotaBytes int64   `json:"quota_bytes,omitempty"`
	Configs    Configs `json:"configs,omitempty"` // S3 sub-resources, by their query name ("cors", "policy" …), as received
}

// Configs holds a bucket's S3 sub-resources by name.
type Configs map[string]string

// Versioning is a bucket's versioning state as S3 defines it.
type Versioning uint8

// The versioning states.
const (
	VersioningOff Versioning = iota
	VersioningEnabled
	VersioningSuspended
)

// String prints S3's name of the state, "" when versioning was never enabled.
func (v Versioning) String() string { return [...]string{"", "Enabled", "Suspended", ""}[v&3] }

// VersionID orders the versions of one key: the later commit has the larger number. It prints as 16 hexadecimal digits;
// S3's "null" version carries a number too, and the flag Version.Null.
type VersionID uint64

// String prints the identifier that S3 clients see.
func (v VersionID) String() string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[15-i] = digits[v&15]
		v >>= 4
	}
	return string(b[:])
}

// ParseVersionID reads what String printed.
func ParseVersionID(s string) (VersionID, error) {
	v, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, &Error{Op: "parse version id", Subject: s, Err: ErrInvalid}
	}
	return VersionID(v), nil
}

// Version is one immutable commit under a key: all that a GET or HEAD needs. It never names a drive.
type Version struct {
	Bucket       string    `json:"bucket"`
	Key          string    `json:"key"`
	ID           VersionID `json:"version_id"`
	Null         bool      `json:"null,omitempty"` // the version that S3 calls "null"
	DeleteMarker bool      `json:"delete_marker,omitempty"`
	Size         int64     `json:"size"`
	Modified     time.Time `json:"modified"`
	Owner        string    `json:"owner,omitempty"`
	// ETag without quotes: hexadecimal MD5, or MD5 of the parts' MD5s and "-N" for a multipart object.
	ETag      string            `json:"etag"`
	Checksums []Checksum        `json:"checksums,omitempty"`
	Headers   map[string]string `json:"headers,omitempty"` // canonical header name → value: Content-Type …, X-Amz-Meta-*
	Tags      map[string]string `json:"tags,omitempty"`
	Class     string            `json:"storage_class,omitempty"` // "" is STANDARD
	ACL       string            `json:"acl,omitempty"`           // access control list as s3api wrote it; "": its owner's alone
	Parts     []PartInfo        `json:"parts,omitempty"`         // of a multipart object, in order
	Layout    Layout            `json:"layout"`
	Lock      Lock              `json:"lock,omitzero"`
	// Versioned tells that the bucket keeps versions or once did: S3 then shows a null version's ID too. It is not stored.
	Versioned bool `json:"-"`
	// Expires is when a lifecycle rule ends the version's time as the current one, and ExpiryRule its ID; zero for never,
	// and not stored.
	Expires    time.Time `json:"-"`
	ExpiryRule string    `json:"-"`
	// Encryption tells how the bytes of Layout are sealed. Size, ETag and Checksums are of the plain ones (ETag: see object).
	Encryption Encryption `json:"encryption,omitzero"`
}

// Layout tells where a version's or part's bytes are: inline, or in blobs one after another.
type Layout struct {
	Inline []byte    `json:"-"`
	Blobs  []BlobRef `json:"blobs,omitempty"`
}

// PartInfo keeps of a part what S3 still tells after the upload is complete.
type PartInfo struct {
	Number    int        `json:"number"`
	Size      int64      `json:"size"`
	Checksums []Checksum `json:"checksums,omitempty"`
	Salt      []byte     `json:"salt,omitempty"` // of a sealed part: each is a sealed body of its own
}

// Upload is an open multipart session. What the finished version will carry is fixed when the upload is created.
type Upload struct {
	Bucket        string            `json:"bucket"`
	Key           string            `json:"key"`
	ID            string            `json:"id"`
	Created       time.Time         `json:"created"`
	Owner         string            `json:"owner,omitempty"`
	Headers       map[string]string `json:"headers,omitempty"`
	Tags          map[string]string `json:"tags,omitempty"`
	Class         string            `json:"storage_class,omitempty"`
	Lock          Lock              `json:"lock,omitzero"`
	ACL           string            `json:"acl,omitempty"`
	ChecksumAlgo  ChecksumAlgo      `json:"checksum_algorithm,omitempty"`
	ChecksumWhole bool              `json:"checksum_full_object,omitempty"` // FULL_OBJECT rather than COMPOSITE
	// Expires is when a lifecycle rule, ExpiryRule, aborts the upload; zero for never. Known when it is created, not stored.
	Expires    time.Time  `json:"-"`
	ExpiryRule string     `json:"-"`
	Encryption Encryption `json:"encryption,omitzero"`
}

// Part is one numbered piece of an upload.
type Part struct {
	Number    int        `json:"number"` // 1 … 10,000
	Size      int64      `json:"size"`
	ETag      string     `json:"etag"` // hexadecimal MD5
	Modified  time.Time  `json:"modified"`
	Checksums []Checksum `json:"checksums,omitempty"`
	Salt      []byte     `json:"salt,omitempty"` // the part is sealed; nil: its bytes are plain
	// Encryption is the upload's, told to whoever stores a part. It is not kept with the part.
	Encryption Encryption `json:"-"`
	Layout     Layout     `json:"layout"`
}

// ChecksumAlgo is one of S3's additional checksums, under S3's own name.
type ChecksumAlgo string

// The algorithms of S3's x-amz-checksum family.
const (
	CRC32     ChecksumAlgo = "CRC32"
	CRC32C    ChecksumAlgo = "CRC32C"
	CRC64NVME ChecksumAlgo = "CRC64NVME"
	SHA1      ChecksumAlgo = "SHA1"
	SHA256    ChecksumAlgo = "SHA256"
)

// Checksum is a value of the x-amz-checksum family, raw (not base64).
type Checksum struct {
	Algo  ChecksumAlgo `json:"algorithm"`
	Value []byte       `json:"value"`
	// Parts is the number of parts that a COMPOSITE checksum was made of; 0 means FULL_OBJECT.
	Parts int `json:"parts,omitempty"`
}
