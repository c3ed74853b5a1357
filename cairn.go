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

// Profile is an erasure code: K data and M parity shards. With Local 0 any M of the K+M may be lost. Otherwise the code is
// locally repairable: the first Local parity shards are each of one group of the data, and a shard that is the only one
// lost of its group is rebuilt from that group alone; see package erasure.
type Profile struct {
	K     int
	M     int
	Local int // how many of the M are local: 0, or LocalGroups
}

// The limits of locally repairable profiles.
const (
	LocalGroups    = 2
	maxLocalData   = 30 // data shards
	maxLocalGlobal = 2  // parity shards that are not local
)

// ParseProfile reads "k+m", e.g. "4+2", or "k+local+global", e.g. "12+2+2".
func ParseProfile(s string) (Profile, error) {
	parts := strings.Split(s, "+")
	n := make([]int, len(parts))
	for i, part := range parts {
		v, err := strconv.Atoi(part)
		if err != nil || len(parts) < 2 || len(parts) > 3 || len(parts) == 3 && v == 0 {
			return Profile{}, &Error{Op: "parse profile", Subject: s, Err: fmt.Errorf(
				"want data+parity, e.g. 4+2, or data+local+global, e.g. 12+2+2: %w", ErrInvalid)}
		}
		n[i] = v
	}
	p := Profile{K: n[0], M: n[1]}
	if len(n) == 3 {
		p.M, p.Local = n[1]+n[2], n[1]
	}
	return p, p.Validate()
}

// Validate refuses a profile that no code serves.
func (p Profile) Validate() error {
	bad := func(format string, args ...any) error {
		return &Error{Op: "profile", Subject: p.String(), Err: fmt.Errorf(format+": %w", append(args, ErrInvalid)...)}
	}
	switch global := p.M - p.Local; {
	case p.K < 1 || p.M < 0 || p.K+p.M > MaxShards:
		return bad("want 1 or more data shards, 0 or more parity shards, %d in all at most", MaxShards)
	case p.Local == 0:
	case p.Local != LocalGroups || p.K%LocalGroups != 0 || p.K > maxLocalData:
		return bad("want %d local parity shards, and an even number of data shards, %d at most", LocalGroups, maxLocalData)
	case global < 1 || global > maxLocalGlobal:
		return bad("want 1 to %d global parity shards", maxLocalGlobal)
	}
	return nil
}

// Tolerance is the number of shards that may be lost, whichever they are. (A locally repairable code survives some larger
// losses too.)
func (p Profile) Tolerance() int {
	if p.Local == 0 {
		return p.M
	}
	return p.M - p.Local + 1 // the first loss in a group costs none of the global parities
}

// WriteQuorum is the least number of durable shards that acknowledges a write: as many as it takes that one more of them
// may be lost, whichever that is; all of them if the profile tolerates no loss.
func (p Profile) WriteQuorum() int { return p.Width() - max(p.Tolerance()-1, 0) }

// Width is the number of slots, K+M.
func (p Profile) Width() int { return p.K + p.M }

// String prints what ParseProfile reads.
func (p Profile) String() string {
	if p.Local == 0 {
		return strconv.Itoa(p.K) + "+" + strconv.Itoa(p.M)
	}
	return strconv.Itoa(p.K) + "+" + strconv.Itoa(p.Local) + "+" + strconv.Itoa(p.M-p.Local)
}

// MarshalText prints the profile for JSON and logs.
func (p Profile) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (p *Profile) UnmarshalText(b []byte) (err error) {
	*p, err = ParseProfile(string(b))
	return err
}
