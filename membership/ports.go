package membership

import (
	"context"
	"time"

	"cairn"
)

// Meta is what membership needs of the metadata service: reads are linearizable, changes are committed when the call
// returns. *meta.Store is one.
type Meta interface {
	VolumeRows
	DriveRows
	NodeRows
	Leases
	Findings
}

// VolumeRows reads and changes the committed volumes.
type VolumeRows interface {
	CreateVolume(ctx context.Context, v cairn.Volume) (cairn.Volume, error) // assigns ID; Epoch 1
	Volume(ctx context.Context, id cairn.VolumeID) (cairn.Volume, error)    // ErrNotFound
	// Volumes returns up to max volumes with IDs above after, in order.
	Volumes(ctx context.Context, after cairn.VolumeID, max int) ([]cairn.Volume, error)
	// MapEpoch counts the changes of volumes, drives and nodes.
	MapEpoch(ctx context.Context) (cairn.Epoch, error)
	// ChangedVolumes returns up to max volumes that changed after an epoch of the map, in the order of their last change, and
	// the epoch that is reached with them.
	ChangedVolumes(ctx context.Context, since cairn.Epoch, max int) ([]cairn.Volume, cairn.Epoch, error)
	SealVolume(ctx context.Context, id cairn.VolumeID) error
	// VolumeStats returns the number of blobs in a volume and the sum of their lengths in bytes.
	VolumeStats(ctx context.Context, id cairn.VolumeID) (blobs, bytes int64, err error)
}

// DriveRows reads and changes the committed drives.
type DriveRows interface {
	Drives(ctx context.Context) ([]cairn.Drive, error)
	PutDrives(ctx context.Context, drives []cairn.Drive) error
}

// Leases hands out ranges of blob IDs, rising and never twice.
type Leases interface {
	ReserveBlobIDs(ctx context.Context, n uint64) (first cairn.BlobID, err error)
}

// Findings takes damage; a finding that is there already changes nothing.
type Findings interface {
	AddDamage(ctx context.Context, found []cairn.Damage) error
}

// Node tells what is measured now of the drives of one data node: this process's, from memory. *datanode.Node is one.
type Node interface {
	Statuses() []cairn.DriveStatus
}

// NodeRows reads and changes the committed nodes. *meta.Store is one.
type NodeRows interface {
	Nodes(ctx context.Context) ([]cairn.Node, error)
	// PutNode commits a row if the committed one is at n.Epoch; otherwise ErrPrecondition. It keeps the history.
	PutNode(ctx context.Context, n cairn.Node) (cairn.Node, error)
}

// Prober asks a node directly whether it is well. *rpc.Dialer's side of the interconnect is one.
type Prober interface {
	Probe(ctx context.Context, node cairn.NodeID) (Pulse, error)
}

// Pulse is a node's answer to a probe.
type Pulse struct {
	// ReadLatency is what a read on the node's drives takes on average, as the node measures it; 0 if it does not know.
	ReadLatency time.Duration
}

// Gossip is what other nodes think of a node. *Serf is one.
type Gossip interface {
	Hint(node cairn.NodeID) Hint
	// Changed returns a channel that gets a value, now and then, after hints changed.
	Changed() <-chan struct{}
}
