package cairn

import "time"

// DamageKind tells what is wrong with a shard or slot.
type DamageKind uint8

// The kinds of damage.
const (
	DamageMissing DamageKind = iota // the drive has no such shard, though meta expects it
	DamageCorrupt                   // its bytes do not match their checksums, or do not decode
	DamageSkipped                   // the write was acknowledged without this slot (straggler or sick drive)
	DamageSlot                      // the whole slot is to be rebuilt: its drive is gone; Blob is 0
	DamageMove                      // nothing is wrong: the whole slot is to leave a drive that still serves it; Blob is 0
)

var damageKindNames = [...]string{"missing", "corrupt", "skipped", "slot", "move"}

// String prints the kind's name.
func (k DamageKind) String() string {
	if int(k) < len(damageKindNames) {
		return damageKindNames[k]
	}
	return "unknown"
}

// MarshalText prints the kind's name for JSON.
func (k DamageKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText printed.
func (k *DamageKind) UnmarshalText(b []byte) error {
	for i, n := range damageKindNames {
		if n == string(b) {
			*k = DamageKind(i)
			return nil
		}
	}
	return &Error{Op: "parse damage", Subject: string(b), Err: ErrInvalid}
}

// Damage is one finding: a shard (or, with Blob 0, a whole slot) that is not what it should be. Findings are
// deduplicated by Shard.
type Damage struct {
	Shard ShardID    `json:"shard"`
	Kind  DamageKind `json:"kind"`
	Drive DriveID    `json:"drive"` // where it was seen
	Found time.Time  `json:"found"`
	By    string     `json:"by"` // "read", "write", "scrub", "drive"
	Note  string     `json:"note,omitempty"`
	Tries int        `json:"tries,omitempty"`
	// RetryAt: after a failed attempt nothing is tried before this time.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// To is the drive that a DamageMove wants the slot on; zero leaves the choice to repair.
	To DriveID `json:"to,omitzero"`
	// Pass is how far the rebuilding of a whole slot has come, so that a restart goes on from there.
	Pass SlotPass `json:"pass,omitzero"`
}

// SlotPass is a place in a pass over the blobs of a volume: every blob up to After has been seen while the volume was at
// Epoch. It holds for the same target only.
type SlotPass struct {
	Epoch Epoch   `json:"epoch"`
	To    DriveID `json:"to,omitzero"` // the drive that the slot is copied to; zero if it is filled where it is
	After BlobID  `json:"after"`
	Blobs int64   `json:"blobs"`
	Bytes int64   `json:"bytes"` // of the blobs that were passed
}

// Progress describes long work. One record feeds CLI, admin API and metrics.
type Progress struct {
	State      string    `json:"state"` // "idle", "running", "paused", "waiting"
	Reason     string    `json:"reason,omitempty"`
	Started    time.Time `json:"started,omitzero"`
	Finished   time.Time `json:"finished,omitzero"`
	DoneBytes  int64     `json:"done_bytes"`
	TotalBytes int64     `json:"total_bytes"`
	DoneBlobs  int64     `json:"done_blobs"`
	TotalBlobs int64     `json:"total_blobs"`
	// RateBytesPerSec is a moving average over the last ten seconds or so.
	RateBytesPerSec float64       `json:"rate_bytes_per_sec"`
	ETA             time.Duration `json:"eta_ns,omitempty"`
	LastError       string        `json:"last_error,omitempty"`
	// Found counts the damage that a scrub came by, Unchecked the shards that it could not look at (their drive did not
	// answer, or was not there). Only with none of either it came out clean.
	Found     int64 `json:"found,omitempty"`
	Unchecked int64 `json:"unchecked,omitempty"`
}
