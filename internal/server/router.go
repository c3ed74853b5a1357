package server

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"cairn"
	"cairn/datanode"
)

// shards reaches shards on drives: a node's own store, or its client. It is what blob, repair and scrub ask of a router.
type shards interface {
	Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error))
	Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (cairn.ShardWriter, error)
	ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error
	Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error)
	Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error
	List(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8, after cairn.BlobID, limit int) ([]cairn.ShardInfo, error)
	Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error)
	Digest(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8) (cairn.BlobSet, error)
	Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error
	Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error
}

// owners tells on which node a drive is. *membership.View is one.
type owners interface {
	Drives() []cairn.Drive
	Owner(id cairn.DriveID) (cairn.NodeID, bool)
}

// router sends every call to the node that has the drive: this one, or another over the interconnect. A drive whose node is
// not known is unavailable, never empty.
type router struct {
	local  *datanode.Node
	self   cairn.NodeID
	owners owners
	peers  datanode.Peers

	mu      sync.RWMutex
	clients map[cairn.NodeID]*datanode.Client
}

func newRouter(local *datanode.Node, self cairn.NodeID, owners owners, peers datanode.Peers) *router {
	return &router{local: local, self: self, owners: owners, peers: peers, clients: map[cairn.NodeID]*datanode.Client{}}
}

// at finds who has the drive.
func (r *router) at(drive cairn.DriveID) (shards, error) {
	node, ok := r.owners.Owner(drive)
	// What another node has and this one sees as well is a copy (of a disk, or of a directory): nothing may go there.
	if (!ok || node == r.self) && r.local.Has(drive) {
		return r.local, nil
	}
	if !ok || node == r.self {
		return nil, &cairn.Error{Op: "server.route", Subject: drive.String(), Err: fmt.Errorf("no node is known to have the drive: %w", cairn.ErrUnavailable)}
	}
	r.mu.RLock()
	c, ok := r.clients[node]
	r.mu.RUnlock()
	if ok {
		return c, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok = r.clients[node]; ok {
		return c, nil
	}
	c, err := datanode.NewClient(datanode.ClientConfig{Peers: r.peers, Node: node, Prefix: "/data"})
	if err != nil {
		return nil, err
	}
	r.clients[node] = c
	return c, nil
}

// Close waits for the calls to other nodes that are under way.
func (r *router) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, c := range r.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// Statuses lists the drives of all nodes: this one's as measured now, the others' as committed.
func (r *router) Statuses() []cairn.DriveStatus {
	all := r.local.Statuses()
	for _, d := range r.owners.Drives() {
		if d.Node == r.self || d.Retired {
			continue
		}
		all = append(all, cairn.DriveStatus{ID: d.ID, Path: d.Path, State: d.State, Since: d.StateSince, Reason: d.Reason,
			TotalBytes: d.TotalBytes, FreeBytes: d.FreeBytes})
	}
	return all
}

// Append stores one whole shard; see blob.Shards.
func (r *router) Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error)) {
	s, err := r.at(drive)
	if err != nil {
		done(err)
		return
	}
	s.Append(ctx, drive, h, data, done)
}

// Create starts a shard that is written in pieces; see blob.Shards.
func (r *router) Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (cairn.ShardWriter, error) {
	s, err := r.at(drive)
	if err != nil {
		return nil, err
	}
	return s.Create(ctx, drive, h, size)
}

// ReadAt reads a range of a shard, verified; see blob.Shards.
func (r *router) ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error {
	s, err := r.at(drive)
	if err != nil {
		return err
	}
	return s.ReadAt(ctx, drive, id, p, off)
}

// Stat describes a shard; see datanode.Node.Stat.
func (r *router) Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error) {
	s, err := r.at(drive)
	if err != nil {
		return cairn.ShardInfo{}, err
	}
	return s.Stat(ctx, drive, id)
}

// Verify has a whole shard read and checked where it is; see datanode.Node.Verify.
func (r *router) Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	s, err := r.at(drive)
	if err != nil {
		return err
	}
	return s.Verify(ctx, drive, id)
}

// List describes shards of one slot; see datanode.Node.List.
func (r *router) List(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8, after cairn.BlobID, limit int) ([]cairn.ShardInfo, error) {
	s, err := r.at(drive)
	if err != nil {
		return nil, err
	}
	return s.List(ctx, drive, volume, slot, after, limit)
}

// Slots tells which slots a drive holds; see datanode.Node.Slots.
func (r *router) Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error) {
	s, err := r.at(drive)
	if err != nil {
		return nil, err
	}
	return s.Slots(ctx, drive)
}

// Digest sums up the blobs of one slot; see datanode.Node.Digest.
func (r *router) Digest(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8) (cairn.BlobSet, error) {
	s, err := r.at(drive)
	if err != nil {
		return cairn.BlobSet{}, err
	}
	return s.Digest(ctx, drive, volume, slot)
}

// Delete removes shards durably; see datanode.Node.Delete.
func (r *router) Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error {
	s, err := r.at(drive)
	if err != nil {
		return err
	}
	return s.Delete(ctx, drive, ids)
}

// Fence refuses writes under an older epoch; see datanode.Node.Fence.
func (r *router) Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error {
	s, err := r.at(drive)
	if err != nil {
		return err
	}
	return s.Fence(ctx, drive, volume, epoch)
}
