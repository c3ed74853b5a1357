package blob

import (
	"context"
	"errors"
	"sync"
	"time"

	"cairn"
)

// removeLimit is how long a removal waits for a drive; what it did not get to is left to scrub, or tried again.
const removeLimit = 10 * time.Second

// Discard deletes the shards of blobs that were never referenced. Best effort: scrub finds what stays. It goes on when
// ctx has ended, since a client that went away is the usual reason for it.
func (s *Store) Discard(ctx context.Context, blobs []cairn.NewBlob) {
	if len(blobs) == 0 {
		return
	}
	refs := make([]cairn.BlobRef, len(blobs))
	for i, b := range blobs {
		refs[i] = b.Ref
	}
	if err := s.Delete(context.WithoutCancel(ctx), refs); err != nil {
		s.cfg.Logger.Info("shards of a failed write were left for scrub", "blobs", len(blobs), "err", err)
	}
}

// Delete removes the shards of released blobs from every slot that can be reached; a slot that cannot is left to scrub.
// An error means that it should be tried again. Deleting twice is no error.
func (s *Store) Delete(ctx context.Context, refs []cairn.BlobRef) error {
	byVolume := make(map[cairn.VolumeID][]cairn.ShardID)
	for _, r := range refs {
		byVolume[r.Volume] = append(byVolume[r.Volume], cairn.ShardID{Volume: r.Volume, Blob: r.Blob})
	}
	byDrive := make(map[cairn.DriveID][]cairn.ShardID)
	for id, shards := range byVolume {
		vol, err := s.cfg.Volumes.Volume(ctx, id, false)
		if errors.Is(err, cairn.ErrNotFound) {
			continue // a volume goes only when it is empty
		} else if err != nil {
			return &cairn.Error{Op: "blob.delete", Subject: id.String(), Err: err}
		}
		addShards(byDrive, vol, shards)
	}
	return s.removeFrom(ctx, byDrive)
}

// remove deletes what a failed attempt left in a volume, as far as it can.
func (s *Store) remove(ctx context.Context, vol cairn.Volume, blobs []cairn.ShardID) {
	byDrive := make(map[cairn.DriveID][]cairn.ShardID)
	addShards(byDrive, vol, blobs)
	if err := s.removeFrom(context.WithoutCancel(ctx), byDrive); err != nil {
		s.cfg.Logger.Info("shards of a failed write were left for scrub", "volume", vol.ID, "err", err)
	}
}

// addShards lists every slot's shard of the blobs under the slot's drive.
func addShards(byDrive map[cairn.DriveID][]cairn.ShardID, vol cairn.Volume, blobs []cairn.ShardID) {
	for slot, drive := range vol.Slots {
		for _, id := range blobs {
			id.Slot = uint8(slot)
			byDrive[drive] = append(byDrive[drive], id)
		}
	}
}

// removeFrom asks all drives at once, and waits for none longer than removeLimit. There are no more of them than slots
// in the volumes concerned.
func (s *Store) removeFrom(ctx context.Context, byDrive map[cairn.DriveID][]cairn.ShardID) error {
	ctx, cancel := context.WithTimeout(ctx, removeLimit)
	defer cancel()
	var mu sync.Mutex
	var failed error
	ended := make(chan struct{}, len(byDrive))
	asked := 0
	for drive, ids := range byDrive {
		if !s.cfg.Volumes.DriveState(drive).Readable() || s.drives.get(drive).stuckWrites.Load() > 0 {
			continue
		}
		asked++
		s.late.Add(1)
		go func() {
			defer s.late.Done()
			if err := s.deleter.Delete(ctx, drive, ids); err != nil && !leftToScrub(err) {
				mu.Lock()
				failed = err
				mu.Unlock()
			}
			ended <- struct{}{}
		}()
	}
	for range asked {
		select {
		case <-ended:
		case <-ctx.Done():
			return &cairn.Error{Op: "blob.delete", Err: ctx.Err()}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if failed != nil {
		return &cairn.Error{Op: "blob.delete", Err: failed}
	}
	return nil
}

// leftToScrub tells whether a drive cannot be reached for longer than a retry would wait.
func leftToScrub(err error) bool {
	switch cairn.Kind(err) {
	case cairn.ErrUnavailable, cairn.ErrReadOnly, cairn.ErrNotFound:
		return true
	}
	return false
}
