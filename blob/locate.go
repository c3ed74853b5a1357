package blob

import (
	"context"
	"sync"

	"cairn"
)

// Place tells where one shard of a blob is, or should be.
type Place struct {
	Shard cairn.ShardID    `json:"shard"`
	Drive cairn.DriveID    `json:"drive"`
	State cairn.DriveState `json:"drive_state"`
	Info  cairn.ShardInfo  `json:"info,omitzero"`
	Err   error            `json:"-"` // why Info is unknown: ErrNotFound, ErrUnavailable …; nil if the drive has the shard
}

// Locate asks every slot's drive for its shard of a blob, for operators. The answer has a Place for each slot, in order; a
// drive that does not answer is told in Place.Err. Nothing is read or verified.
func (s *Store) Locate(ctx context.Context, ref cairn.BlobRef) (cairn.Volume, []Place, error) {
	stater, ok := s.shards.(Stater)
	if !ok {
		return cairn.Volume{}, nil, &cairn.Error{Op: "blob.locate", Subject: ref.String(), Err: cairn.ErrInvalid}
	}
	vol, err := s.cfg.Volumes.Volume(ctx, ref.Volume, true)
	if err != nil {
		return cairn.Volume{}, nil, &cairn.Error{Op: "blob.locate", Subject: ref.String(), Err: err}
	}
	places := make([]Place, len(vol.Slots))
	var asked sync.WaitGroup
	for i, drive := range vol.Slots {
		p := &places[i]
		p.Shard = cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: uint8(i)}
		p.Drive, p.State = drive, s.cfg.Volumes.DriveState(drive)
		if !p.State.Readable() {
			p.Err = &cairn.Error{Op: "blob.locate", Subject: p.Shard.String(), Err: cairn.ErrUnavailable}
			continue
		}
		asked.Go(func() { p.Info, p.Err = stater.Stat(ctx, drive, p.Shard) })
	}
	asked.Wait()
	return vol, places, nil
}
