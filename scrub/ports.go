package scrub

import (
	"context"
	"time"

	"cairn"
)

// Meta is what scrub needs of the metadata service: linearizable reads, committed changes. *meta.Store is one.
type Meta interface {
	Rows
	References
	Queue
	Settings
}

// Rows lists volumes and what they should hold.
type Rows interface {
	Volume(ctx context.Context, id cairn.VolumeID) (cairn.Volume, error)
	Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error)
	// Blobs returns up to max referenced blobs of a volume with IDs above after, in order.
	Blobs(ctx context.Context, v cairn.VolumeID, after cairn.BlobID, max int) ([]cairn.BlobRow, error)
}

// References tells what is still wanted, and what never will be.
type References interface {
	// BlobRefs tells for each blob (by volume and number) whether a version or part refers to it.
	BlobRefs(ctx context.Context, refs []cairn.BlobRef) ([]bool, error)
	// AdvanceOrphanWatermark commits that blobs leased before the time are never referenced for the first time any more,
	// and returns the smallest number that still may be.
	AdvanceOrphanWatermark(ctx context.Context, leasedBefore time.Time) (cairn.BlobID, error)
}

// Queue takes and lists damage, and keeps the history of findings.
type Queue interface {
	AddDamage(ctx context.Context, found []cairn.Damage) error
	Damage(ctx context.Context, max int) ([]cairn.Damage, error)
	// AddFindings records what is no damage to be repaired; TrimFindings forgets the oldest resolved ones but keep.
	AddFindings(ctx context.Context, found []cairn.Finding) error
	TrimFindings(ctx context.Context, keep int) error
}

// Settings keeps small named rows: here the places at which walks stand. Config fails with ErrNotFound if there is none.
type Settings interface {
	PutConfig(ctx context.Context, name string, value []byte) error
	Config(ctx context.Context, name string) ([]byte, error)
}

// Drives looks into drives. *datanode.Node is one.
type Drives interface {
	Statuses() []cairn.DriveStatus
	Lister
	Checker
}

// Lister tells what drives hold, by their indexes.
type Lister interface {
	// Slots lists what a drive holds, List its shards of one slot with numbers above after, in order.
	Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error)
	List(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8, after cairn.BlobID, max int) ([]cairn.ShardInfo, error)
	// Digest sums up the blobs of which a drive holds the shard of a slot.
	Digest(ctx context.Context, drive cairn.DriveID, v cairn.VolumeID, slot uint8) (cairn.BlobSet, error)
}

// Checker looks at single shards.
type Checker interface {
	Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error)
	// Verify reads every byte of a shard: ErrNotFound, ErrCorrupt, ErrUnavailable, ErrOverloaded.
	Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error
}

// Orphans removes shards that were proven to belong to nothing. *datanode.Node is one.
type Orphans interface {
	Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error
}
