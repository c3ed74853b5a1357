package datanode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"cairn"
)

// Node is the set of drives of one process. It is a blob.Shards for them. Safe for concurrent use.
type Node struct {
	cfg      Config
	drives   []*drive
	throttle atomic.Pointer[cairn.Throttle]
	pace     *throttle // of all drives' background work together
}

// Open opens every drive that can be opened; the state of the others tells why not. Run keeps watching them. It fails
// with ErrInvalid for a bad Config only.
func Open(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	limits := cairn.DefaultThrottle()
	n := &Node{cfg: cfg, pace: newThrottle(limits.Node, nil)}
	n.throttle.Store(&limits)
	var wg sync.WaitGroup
	for _, c := range cfg.Drives {
		d := newDrive(cfg, c)
		d.limits.pace.node = n.pace
		n.drives = append(n.drives, d)
		wg.Go(d.open)
	}
	wg.Wait()
	return n, nil
}

// Close makes what was acknowledged quick to reopen and closes all drives. Operations that are queued fail with
// ErrUnavailable. Run must have returned.
func (n *Node) Close() error {
	errs := make([]error, len(n.drives))
	var wg sync.WaitGroup
	for i, d := range n.drives {
		wg.Go(func() { errs[i] = d.close(true) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Statuses measures all drives, in the order of Config.Drives.
func (n *Node) Statuses() []cairn.DriveStatus {
	all, pace := make([]cairn.DriveStatus, len(n.drives)), n.pace.now()
	for i, d := range n.drives {
		all[i] = d.status()
		all[i].NodeBackground = pace
	}
	return all
}

// Has tells whether a drive is on this node.
func (n *Node) Has(id cairn.DriveID) bool {
	for _, d := range n.drives {
		if d.identity() == id {
			return true
		}
	}
	return false
}

// find returns the drive with an identity. A node that does not have it cannot tell what it holds: ErrUnavailable.
func (n *Node) find(id cairn.DriveID) (*drive, error) {
	for _, d := range n.drives {
		if d.identity() == id {
			return d, nil
		}
	}
	return nil, fmt.Errorf("drive is not on this node: %w", cairn.ErrUnavailable)
}

func (n *Node) reader(id cairn.DriveID) (*store, error) {
	d, err := n.find(id)
	if err != nil {
		return nil, err
	}
	return d.reader()
}

func (n *Node) writer(id cairn.DriveID, shards bool) (*store, error) {
	d, err := n.find(id)
	if err != nil {
		return nil, err
	}
	return d.writer(shards)
}

// wrap names operation, drive and shard; nil stays nil.
func wrap(op string, drive cairn.DriveID, id cairn.ShardID, err error) error {
	if err == nil {
		return nil
	}
	switch kind := cairn.Kind(err); {
	case kind == nil:
		err = kindOf(err)
	case !errors.Is(err, kind): // a context's end
		err = fmt.Errorf("%w: %w", err, kind)
	}
	return &cairn.Error{Op: "datanode." + op, Subject: id.String() + " on " + drive.String(), Err: err}
}

// Append stores one whole shard; see blob.Shards.
func (n *Node) Append(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, done func(error)) {
	id := h.ID
	finish := func(err error) { done(wrap("append", drive, id, err)) }
	s, err := n.writer(drive, true)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		finish(err)
		return
	}
	s.append(ctx, h, data, finish)
}

// Create starts a shard that is written in pieces; see blob.Shards.
func (n *Node) Create(ctx context.Context, drive cairn.DriveID, h *cairn.ShardHeader, size int64) (cairn.ShardWriter, error) {
	s, err := n.writer(drive, true)
	if err == nil {
		err = ctx.Err()
	}
	var w *stream
	if err == nil {
		w, err = s.create(ctx, h, size)
	}
	if err != nil {
		return nil, wrap("create", drive, h.ID, err)
	}
	return w, nil
}

// ReadAt reads a range of a shard, verified; see blob.Shards.
func (n *Node) ReadAt(ctx context.Context, drive cairn.DriveID, id cairn.ShardID, p []byte, off int64) error {
	s, err := n.reader(drive)
	if err == nil {
		err = s.readAt(ctx, keyOf(id), p, off)
	}
	return wrap("read", drive, id, err)
}

// Stat describes a shard from memory. ErrNotFound if the drive has none, ErrUnavailable if it cannot tell.
func (n *Node) Stat(_ context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error) {
	s, err := n.reader(drive)
	if err != nil {
		return cairn.ShardInfo{}, wrap("stat", drive, id, err)
	}
	info, err := s.stat(keyOf(id))
	return info, wrap("stat", drive, id, err)
}

// List describes up to limit shards of one slot of a volume, with blobs greater than after, in order of blobs.
func (n *Node) List(_ context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8, after cairn.BlobID,
	limit int) ([]cairn.ShardInfo, error) {
	s, err := n.reader(drive)
	if err != nil {
		return nil, wrap("list", drive, cairn.ShardID{Volume: volume, Slot: slot}, err)
	}
	return s.list(group{volume, slot}, after, limit), nil
}

// Digest sums up the blobs of which the drive holds the shard of a slot.
func (n *Node) Digest(_ context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8) (cairn.BlobSet, error) {
	s, err := n.reader(drive)
	if err != nil {
		return cairn.BlobSet{}, wrap("digest", drive, cairn.ShardID{Volume: volume, Slot: slot}, err)
	}
	return s.digest(group{volume, slot}), nil
}

// Slots tells which slots of which volumes the drive holds shards of, in order.
func (n *Node) Slots(_ context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error) {
	s, err := n.reader(drive)
	if err != nil {
		return nil, wrap("slots", drive, cairn.ShardID{}, err)
	}
	slots := s.slots()
	slices.SortFunc(slots, func(a, b cairn.VolumeSlot) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Slot, b.Slot))
	})
	return slots, nil
}

// Verify reads a whole shard, header and data, from the disk itself and checks every byte: ErrCorrupt if one is wrong.
func (n *Node) Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error {
	s, err := n.reader(drive)
	if err == nil {
		err = s.verify(cairn.Background(ctx), keyOf(id))
	}
	return wrap("verify", drive, id, err)
}

// Delete removes shards durably. Those that the drive does not have are deleted already.
func (n *Node) Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error {
	s, err := n.writer(drive, false)
	if err == nil {
		keys := make([]key, len(ids))
		for i, id := range ids {
			keys[i] = keyOf(id)
		}
		err = s.delete(ctx, keys)
	}
	var first cairn.ShardID
	if len(ids) > 0 {
		first = ids[0]
	}
	return wrap("delete", drive, first, err)
}

// Fence refuses, durably and from now on, writes to a volume under an older epoch.
func (n *Node) Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error {
	s, err := n.writer(drive, false)
	if err == nil {
		err = s.fence(ctx, fence{volume, epoch})
	}
	return wrap("fence", drive, cairn.ShardID{Volume: volume}, err)
}
