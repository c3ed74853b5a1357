package cairn

import "time"

// Volume is an ordered row of slots, each on a drive in another failure domain (as far as there are that many). Blobs
// live in volumes; only repair, drain and rebalance change a slot, and each change raises the epoch.
type Volume struct {
	ID      VolumeID    `json:"id"`
	Profile Profile     `json:"profile"`
	Unit    int64       `json:"unit_bytes"` // stripe unit in bytes, a multiple of 64 KiB
	Epoch   Epoch       `json:"epoch"`
	State   VolumeState `json:"state"`
	Slots   []DriveID   `json:"slots"` // len = Profile.Width(); slots 0..K-1 hold data, then come local parities, then global ones
}

// VolumeState tells whether a volume takes new blobs.
type VolumeState uint8

// The states of a volume.
const (
	VolumeOpen   VolumeState = iota // takes new blobs
	VolumeSealed                    // full or superseded: read, repaired, emptied, never written
)

// String prints the state's name.
func (s VolumeState) String() string { return [...]string{"open", "sealed"}[s&1] }

// MarshalText prints the state's name for JSON.
func (s VolumeState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (s *VolumeState) UnmarshalText(b []byte) error {
	*s = VolumeOpen
	if string(b) == "sealed" {
		*s = VolumeSealed
	}
	return nil
}

// DriveState is what a drive can do now. The order is from best to worst.
type DriveState uint8

// The states of a drive. Each is shown to operators under its own name.
const (
	DriveOK       DriveState = iota // reads and writes
	DriveFull                       // reads; no space for new shards
	DriveReadOnly                   // reads; the file system refuses writes
	DriveHung                       // operations do not return in time
	DriveFailing                    // answers with I/O errors
	DriveMissing                    // the directory or its format file is not there
)

var driveStateNames = [...]string{"ok", "full", "read-only", "hung", "failing", "missing"}

// String prints the state's name.
func (s DriveState) String() string {
	if int(s) < len(driveStateNames) {
		return driveStateNames[s]
	}
	return "unknown"
}

// MarshalText prints the state's name for JSON.
func (s DriveState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (s *DriveState) UnmarshalText(b []byte) error {
	for i, n := range driveStateNames {
		if n == string(b) {
			*s = DriveState(i)
			return nil
		}
	}
	return &Error{Op: "parse drive state", Subject: string(b), Err: ErrInvalid}
}

// Readable tells whether shards can be read from a drive in this state.
func (s DriveState) Readable() bool { return s <= DriveReadOnly }

// Writable tells whether shards can be written to a drive in this state.
func (s DriveState) Writable() bool { return s == DriveOK }

// Drive is the committed record of a drive: who it is, where it sits, what is known of it.
type Drive struct {
	ID         DriveID    `json:"id"`
	Node       NodeID     `json:"node"`
	Path       string     `json:"path"`
	State      DriveState `json:"state"`
	StateSince time.Time  `json:"state_since"`
	Reason     string     `json:"reason,omitempty"` // why the state is not ok
	// Retired: this identity never comes back (the drive was replaced by an empty one at its path, or removed). Its slots
	// are to be rebuilt elsewhere.
	Retired bool `json:"retired,omitempty"`
	// Draining: the drive is being emptied by an operator's wish and takes no new slots.
	Draining   bool     `json:"draining,omitempty"`
	Domains    []string `json:"domains,omitempty"` // failure domains, widest first: zone, rack, node
	TotalBytes int64    `json:"total_bytes"`
	FreeBytes  int64    `json:"free_bytes"`
}

// ShardHeader goes before every shard on disk: enough to rebuild the index from the segments, and the names of objects
// from the shards.
type ShardHeader struct {
	ID      ShardID
	Epoch   Epoch
	Profile Profile
	Unit    int64 // stripe unit of the blob in bytes
	BlobLen int64 // length of the blob in bytes
	Owner   Owner
}

// Owner tells what a blob belongs to. It is a hint for disaster recovery and for operators, not a reference: a copy or a
// completed upload owns blobs that still name their first owner.
type Owner struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Upload string `json:"upload,omitempty"` // upload ID, if the blob was written for a part
	Part   int    `json:"part,omitempty"`   // part number, 0 for none
	Offset int64  `json:"offset"`           // where the blob begins in the object or part, in bytes
}

// ShardInfo is what a drive knows of a shard without reading its data.
type ShardInfo struct {
	ID     ShardID `json:"id"`
	Epoch  Epoch   `json:"epoch"`
	Length int64   `json:"length"` // bytes of shard data
	// Path and Offset locate the first data byte in a segment file.
	Path   string    `json:"path,omitempty"`
	Offset int64     `json:"offset"`
	Time   time.Time `json:"time"` // when it was appended
}

// SwapSlot points one slot of a volume at another drive and raises the epoch. It fails with ErrPrecondition unless the
// volume is still at Epoch with Old in that slot.
type SwapSlot struct {
	Volume VolumeID
	Slot   uint8
	Epoch  Epoch
	Old    DriveID
	New    DriveID
}

// BlobRow is a reference row: what a volume's slots are expected to hold.
type BlobRow struct {
	Ref   BlobRef
	Count int64  // how many versions and parts list it
	Owner string // "bucket/key" of the first owner, for people
}

// BlobSet sums up a set of blobs of one volume, in any order: two sets that differ have different sums, but for chance
// (2^-64).
type BlobSet struct {
	Count int64  `json:"count"`
	Sum   uint64 `json:"sum"`
}

// Add takes a blob in, once. The mixing is the finalizer of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom
// number generators", 2014).
func (s *BlobSet) Add(b BlobID) {
	x := uint64(b) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	s.Count++
	s.Sum += x ^ x>>31
}

// VolumeSlot tells what a drive holds of one slot of one volume.
type VolumeSlot struct {
	Volume VolumeID `json:"volume"`
	Slot   uint8    `json:"slot"`
	Shards int64    `json:"shards"`
	Bytes  int64    `json:"bytes"` // of shard data
}

// DriveStatus is what a data node measures of a drive that it owns.
type DriveStatus struct {
	ID     DriveID    `json:"id"` // zero while the drive was never seen at this path
	Path   string     `json:"path"`
	State  DriveState `json:"state"`
	Since  time.Time  `json:"since"`
	Reason string     `json:"reason,omitempty"`
	// Replaced lists identities that were at this path before and whose data is gone for good (Path was made anew).
	Replaced    []DriveID     `json:"replaced,omitempty"`
	TotalBytes  int64         `json:"total_bytes"`
	FreeBytes   int64         `json:"free_bytes"` // what new shards may still take
	LiveBytes   int64         `json:"live_bytes"` // shard data and headers that are referenced by the index
	DeadBytes   int64         `json:"dead_bytes"` // waiting for compaction
	Shards      int64         `json:"shards"`
	ReadErrors  int64         `json:"read_errors"`
	WriteErrors int64         `json:"write_errors"`
	Corruptions int64         `json:"corruptions"`     // checksum mismatches seen
	ReadLatency time.Duration `json:"read_latency_ns"` // moving average
	SyncLatency time.Duration `json:"sync_latency_ns"` // moving average
	// Background is the pace of background work on the drive, NodeBackground on all drives of its node together.
	Background     Pace `json:"background"`
	NodeBackground Pace `json:"node_background"`
}
