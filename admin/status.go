package admin

import (
	"time"

	"cairn"
	"cairn/durability"
	"cairn/health"
)

// Status is the answer to GET /api/v1/status: what `cairn status` prints and the dashboard shows.
type Status struct {
	Health  Health   `json:"health"`
	Reasons []string `json:"reasons"`         // why the health is what it is, one sentence each; empty when ok
	Needs   string   `json:"needs,omitempty"` // what a person must add, e.g. "2 more drives"

	Cluster cairn.ClusterID `json:"cluster"`
	Node    cairn.NodeID    `json:"node"`
	Profile cairn.Profile   `json:"profile"` // of new volumes, when enough drives are healthy
	Started time.Time       `json:"started"`
	Now     time.Time       `json:"now"`

	// BlobsBySpare counts blobs by the shards that each may still lose. A negative number of spares is a lost blob.
	BlobsBySpare map[int]int64 `json:"blobs_by_spare"`
	Drives       []Drive       `json:"drives"`
	Capacity     Capacity      `json:"capacity"`
	Volumes      VolumeCounts  `json:"volumes"`
	Voters       []Voter       `json:"voters"`
	Scrub        Scrub         `json:"scrub"`
	Repair       Repair        `json:"repair"`
	Safety       Safety        `json:"safety"`
	Jobs         []cairn.Job   `json:"jobs"` // that have not ended
	// Frozen says why no further node's shards are rebuilt elsewhere by themselves: too many are away at once. Empty: they are.
	Frozen string `json:"frozen,omitempty"`
}

// Drive is one drive of the store, retired identities excepted.
type Drive struct {
	ID         string           `json:"id"`             // empty while the path never held a drive
	Node       string           `json:"node,omitempty"` // its name, in a cluster
	Path       string           `json:"path"`
	State      cairn.DriveState `json:"state"`
	Since      time.Time        `json:"since"`
	Reason     string           `json:"reason,omitempty"`
	TotalBytes int64            `json:"total_bytes"`
	FreeBytes  int64            `json:"free_bytes"`
	LiveBytes  int64            `json:"live_bytes"`
	DeadBytes  int64            `json:"dead_bytes"`
	Shards     int64            `json:"shards"`
	Errors     int64            `json:"errors"`           // read and write errors and checksum mismatches since the start
	Health     *health.Verdict  `json:"health,omitempty"` // none until it was measured for a minute
}

// Capacity sums up the readable drives. Drives that share a file system count its size and free space once.
type Capacity struct {
	TotalBytes  int64 `json:"total_bytes"`
	FreeBytes   int64 `json:"free_bytes"`
	UsedBytes   int64 `json:"used_bytes"`   // live shards on all drives
	UsableBytes int64 `json:"usable_bytes"` // what clients may still store, at the profile of new volumes
}

// VolumeCounts counts volumes.
type VolumeCounts struct {
	Open      int           `json:"open"`
	Sealed    int           `json:"sealed"`
	ByProfile []ProfileRow  `json:"by_profile"`
	BySpare   map[int]int64 `json:"by_spare"` // spare slots on readable drives → volumes
}

// ProfileRow counts the volumes of one profile.
type ProfileRow struct {
	Profile cairn.Profile `json:"profile"`
	Volumes int           `json:"volumes"`
}

// Voter is one member of the metadata group.
type Voter struct {
	ID     uint64 `json:"id"`
	Node   string `json:"node,omitempty"` // that it lives on, in a cluster
	Drive  string `json:"drive"`
	Path   string `json:"path"`
	State  string `json:"state"`
	Leader bool   `json:"leader"`
}

// Repair tells what the repairer does and what waits for it.
type Repair struct {
	cairn.Progress
	Queued  int64  `json:"queued"`            // damage rows
	Waiting string `json:"waiting,omitempty"` // what most of them wait for, e.g. "needs 1 more drive"
	// Oldest is when the oldest damage was found that is not healed yet; zero if there is none.
	Oldest time.Time `json:"oldest_damage,omitzero"`
	// SafeIn is how long it takes until all damage is healed that can be; 0 if there is none, or that is not known.
	SafeIn time.Duration `json:"safe_in_ns"`
}

// Safety is how far the data is from loss, by what was measured of the drives and the model of package durability.
type Safety struct {
	Since   time.Time             `json:"since"`   // when the measuring of drives began
	Classes []durability.Measured `json:"classes"` // of drives, by size
	Outlook []durability.Outlook  `json:"outlook"` // by profile, that of new volumes first
	// Metadata is the share of the time in which a majority of the voters' drives works.
	Metadata float64 `json:"metadata_availability"`
}

// Object is the answer to GET /api/v1/objects/BUCKET/KEY/shards.
type Object struct {
	Version cairn.Version `json:"version"`
	Inline  int           `json:"inline_bytes,omitempty"` // bytes that live in the metadata row; then there are no blobs
	Blobs   []Blob        `json:"blobs"`
}

// Blob is one blob of an object, with all its shards.
type Blob struct {
	Ref     cairn.BlobRef `json:"ref"`
	Offset  int64         `json:"offset"` // where the blob begins in the object
	Profile cairn.Profile `json:"profile"`
	Unit    int64         `json:"unit_bytes"`
	Epoch   cairn.Epoch   `json:"epoch"`
	Spare   int           `json:"spare"` // shards that may still be lost
	Shards  []Shard       `json:"shards"`
}

// Shard is one shard of a blob, where it is, and what it is worth.
type Shard struct {
	Slot       uint8            `json:"slot"`
	Role       string           `json:"role"` // "data", "local parity" or "parity"
	Drive      cairn.DriveID    `json:"drive"`
	DrivePath  string           `json:"drive_path"`
	DriveState cairn.DriveState `json:"drive_state"`
	// State is "ok", "missing" (the drive has no such shard), "unreachable" (the drive does not answer) or, when the bytes
	// were read, "corrupt".
	State  string `json:"state"`
	Path   string `json:"path,omitempty"` // segment file
	Offset int64  `json:"offset"`         // of the first data byte in it
	Length int64  `json:"length"`         // of the shard's data, bytes
	Error  string `json:"error,omitempty"`
}

// VoterUp is the state of a voter that takes part.
const VoterUp = "up"
