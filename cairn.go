// Package cairn holds the vocabulary that every other package shares: identifiers, records and error kinds. It has no
// behaviour beyond parsing and printing them, and imports the standard library only.
//
// The words are those of ARCHITECTURE.md: an object has versions; a version lists blobs; a blob lives in a volume and is
// cut into stripes of k data and m parity units; slot i of the volume holds unit i of every stripe: the blob's shard.
package cairn

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// DriveID names a drive for its whole life; it is written into the drive's format file.
type DriveID [16]byte

// NodeID names a data node process and its directory.
type NodeID [16]byte

// ClusterID names the cluster that a drive or node belongs to.
type ClusterID [16]byte

// NewID returns 16 random bytes for any of the identifiers above.
func NewID() (id [16]byte) {
	rand.Read(id[:]) // never fails since Go 1.24
	return id
}

// ParseID reads the form that the identifiers print: 32 hexadecimal digits.
func ParseID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, &Error{Op: "parse id", Subject: s, Err: fmt.Errorf("want 32 hexadecimal digits: %w", ErrInvalid)}
	}
	return [16]byte(b), nil
}

func (id DriveID) String() string   { return hex.EncodeToString(id[:]) }
func (id NodeID) String() string    { return hex.EncodeToString(id[:]) }
func (id ClusterID) String() string { return hex.EncodeToString(id[:]) }

// IsZero tells whether the identifier is unset.
func (id DriveID) IsZero() bool { return id == DriveID{} }

// MarshalText prints the identifier for JSON and logs.
func (id DriveID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (id *DriveID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// MarshalText prints the identifier for JSON and logs.
func (id NodeID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (id *NodeID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// MarshalText prints the identifier for JSON and logs.
func (id ClusterID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (id *ClusterID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// VolumeID names a volume. It is never used again.
type VolumeID uint64

// BlobID names a blob. Identifiers are leased from meta in rising ranges and never used again, so that "older than the
// orphan watermark" is a comparison of numbers (see meta.OrphanWatermark).
type BlobID uint64

// Epoch counts the changes of a volume's slots; a write with an older epoch than the drive has seen is refused.
type Epoch uint64

func (v VolumeID) String() string { return "v" + strconv.FormatUint(uint64(v), 10) }
func (b BlobID) String() string   { return "b" + strconv.FormatUint(uint64(b), 10) }

// BlobRef locates one blob and tells its length in bytes (1 … MaxBlobBytes).
type BlobRef struct {
	Volume VolumeID `json:"volume"`
	Blob   BlobID   `json:"blob"`
	Length int64    `json:"length"`
}

// String prints "v7/b123".
func (r BlobRef) String() string { return r.Volume.String() + "/" + r.Blob.String() }

// MaxBlobBytes is the most that one blob holds; longer objects and parts are several blobs.
const MaxBlobBytes = 64 << 20

// ShardID names one shard: a blob's share on a volume's slot.
type ShardID struct {
	Volume VolumeID `json:"volume"`
	Blob   BlobID   `json:"blob"`
	Slot   uint8    `json:"slot"`
}

// String prints "v7/b123.4".
func (s ShardID) String() string {
	return s.Volume.String() + "/" + s.Blob.String() + "." + strconv.Itoa(int(s.Slot))
}

// MaxShards bounds k+m of a profile.
const MaxShards = 64

// Profile is an erasure code: K data and M parity shards; any M of the K+M may be lost.
type Profile struct {
	K int `json:"k"`
	M int `json:"m"`
}

// ParseProfile reads "k+m", e.g. "4+2".
func ParseProfile(s string) (Profile, error) {
	ks, ms, ok := strings.Cut(s, "+")
	k, err1 := strconv.Atoi(ks)
	m, err2 := strconv.Atoi(ms)
	p := Profile{K: k, M: m}
	if !ok || err1 != nil || err2 != nil {
		return Profile{}, &Error{Op: "parse profile", Subject: s, Err: fmt.Errorf("want data+parity, e.g. 4+2: %w", ErrInvalid)}
	}
	return p, p.Validate()
}

// Validate refuses a profile that no code serves.
func (p Profile) Validate() error {
	if p.K < 1 || p.M < 0 || p.K+p.M > MaxShards {
		return &Error{Op: "profile", Subject: p.String(),
			Err: fmt.Errorf("want 1 or more data shards, 0 or more parity shards, %d in all at most: %w", MaxShards, ErrInvalid)}
	}
	return nil
}

// Width is the number of slots, K+M.
func (p Profile) Width() int { return p.K + p.M }

// String prints "k+m".
func (p Profile) String() string { return strconv.Itoa(p.K) + "+" + strconv.Itoa(p.M) }

// MarshalText prints "k+m" for JSON and logs.
func (p Profile) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (p *Profile) UnmarshalText(b []byte) (err error) {
	*p, err = ParseProfile(string(b))
	return err
}
