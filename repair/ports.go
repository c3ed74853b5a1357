package repair

import (
	"context"

	"cairn"
)

// Meta is what repair needs of the metadata service: linearizable reads, committed changes. *meta.Store is one.
type Meta interface {
	Rows
	References
	Queue
	Sealer
}

// References tells what is still wanted.
type References interface {
	// BlobRefs tells for each blob whether a version or part still refers to it.
	BlobRefs(ctx context.Context, refs []cairn.BlobRef) ([]bool, error)
}

// Rows reads volumes and their blobs, and changes slots.
type Rows interface {
	Volume(ctx context.Context, id cairn.VolumeID) (cairn.Volume, error)
	Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error)
	// VolumeStats returns the number of blobs in a volume and the sum of their lengths in bytes.
	VolumeStats(ctx context.Context, id cairn.VolumeID) (blobs, bytes int64, err error)
	// Blobs returns up to max referenced blobs of a volume with IDs above after, in order.
	Blobs(ctx context.Context, v cairn.VolumeID, after cairn.BlobID, max int) ([]cairn.BlobRow, error)
	// SwapSlot fails with ErrPrecondition if the volume is not as the request says; it returns the new row.
	SwapSlot(ctx context.Context, r cairn.SwapSlot) (cairn.Volume, error)
}

// Sealer ends a volume's time of taking new blobs.
type Sealer interface {
	SealVolume(ctx context.Context, id cairn.VolumeID) error
}

// Queue is the persisted queue of damage.
type Queue interface {
	// AddDamage records findings; one that is there already (by Shard) stays as it is.
	AddDamage(ctx context.Context, found []cairn.Damage) error
	Damage(ctx context.Context, max int) ([]cairn.Damage, error)
	// ResolveDamage takes findings out of the queue; the history keeps what became of them.
	ResolveDamage(ctx context.Context, outcome cairn.Outcome, done []cairn.ShardID) error
	// RetryDamage counts a failed attempt: Tries rises, Note says why.
	RetryDamage(ctx context.Context, d cairn.Damage) error
}

// Shards reaches the drives. *datanode.Node is one; Append and Create are those of blob.Shards.
type Shards interface {
	Writer
	Checker
}

// Writer stores and removes shards; the rules are those of blob.Shards.
type Writer interface {
	Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error))
	Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (cairn.ShardWriter, error)
	Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error
	// Fence makes a drive refuse writes to a volume with an older epoch.
	Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error
}

// Checker looks at shards.
type Checker interface {
	// Stat is from memory: ErrNotFound, ErrUnavailable.
	Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error)
	// Verify reads every byte of a shard and checks it: ErrNotFound, ErrCorrupt, ErrUnavailable.
	Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error
	// ReadAt fills p from byte off of the shard's data, verified.
	ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error
}

// Blobs rebuilds shards. *blob.Store is one.
type Blobs interface {
	// Reconstruct reads verified shards of a blob from slots other than missing, and hands the bytes of the missing ones to
	// sink, each slot's in order; p is sink's only until it returns. ErrLost or ErrUnavailable if fewer than k others can
	// be read.
	Reconstruct(ctx context.Context, ref cairn.BlobRef, v cairn.Volume, missing []uint8, sink func(slot uint8, p []byte) error) error
}

// Drives tells what the drives can do now and where a slot may go. *membership.View is one.
type Drives interface {
	Drives() []cairn.Drive
	// Replace names a writable drive outside the volume for one of its slots; false if there is none.
	Replace(v cairn.Volume, slot uint8) (cairn.DriveID, bool)
	// Volume with fresh set brings a changed volume into the cache that readers and writers use.
	Volume(ctx context.Context, id cairn.VolumeID, fresh bool) (cairn.Volume, error)
}
