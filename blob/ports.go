package blob

import (
	"context"

	"cairn"
)

// Shards reaches the shards on all drives that this process can see: the data node's store itself in one process, its
// HTTP client otherwise. Implementations are safe for concurrent use. blob/blobtest holds the conformance suite.
type Shards interface {
	// Append stores one whole shard and calls done exactly once, when the shard is durable or has failed; done may run
	// on any goroutine (also before Append returns) and must not block. data must not change before done runs.
	// Appending a shard that the drive has replaces it. Errors: ErrStaleEpoch, ErrFull, ErrReadOnly, ErrUnavailable
	// (missing, hung, failing drive), ErrOverloaded, ErrCanceled.
	Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error))

	// Create starts a shard that is written in pieces, of size bytes in all (an exact length: the writer knows the
	// blob's length before it starts, or appends in one piece). The errors are those of Append.
	Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (ShardWriter, error)

	// ReadAt fills p from byte off of the shard's data, and has verified the checksums of all that it returns.
	// Errors: ErrNotFound (the drive answers and has no such shard), ErrCorrupt, ErrUnavailable, ErrOverloaded,
	// ErrCanceled, ErrInvalid (the range leaves the shard).
	ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error
}

// ShardWriter is declared in the root, so that repair, which may not import this package, can name it too.
type ShardWriter = cairn.ShardWriter

// Deleter is a second thing that Shards may offer; a Store needs it to remove released blobs.
type Deleter interface {
	// Delete removes shards of one drive; one that is not there is no error. It returns when the removal is durable.
	Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error
}

// Stater is a third: what a drive knows of a shard without reading it. Locate asks for it.
type Stater interface {
	// Stat fails with ErrNotFound if the drive answers and has no such shard, ErrUnavailable if it does not answer.
	Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error)
}

// Volumes tells where blobs live and where new ones go. Safe for concurrent use.
type Volumes interface {
	// Volume returns the row of a volume. With fresh set it is not older than the call; otherwise it may come from a
	// cache. ErrNotFound if there is none.
	Volume(ctx context.Context, id cairn.VolumeID, fresh bool) (cairn.Volume, error)
	// Pick returns an open volume for a new blob and a new blob ID. want is the profile asked for; what comes back may be
	// narrower (the same m) when fewer failure domains are healthy. avoid lists volumes that just failed this writer.
	// ErrUnavailable when no volume can be written at all.
	Pick(ctx context.Context, want cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, cairn.BlobID, error)
	// DriveState tells what is known of a drive now, from memory: readers order their attempts by it, and writers skip
	// slots that cannot be written.
	DriveState(id cairn.DriveID) cairn.DriveState
}

// Detour is a second thing that Volumes may offer, for the moment in which a writer knows of more sick drives than anybody else.
type Detour interface {
	// PickAround is Pick as if the drives could not be written: the volume has no slot on any of them, and is made if there is
	// none. ErrUnavailable when too few drives are left.
	PickAround(ctx context.Context, want cairn.Profile, sick []cairn.DriveID) (cairn.Volume, cairn.BlobID, error)
}

// Damage receives findings of readers and writers. Report never blocks: it drops what does not fit its bounded queue,
// since scrub finds the same later.
type Damage interface {
	Report(d cairn.Damage)
}
