package blob

import (
	"context"
	"fmt"

	"cairn"
)

// Reconstruct computes shards of a blob from any k others, for repair. The row of the volume is the caller's: missing
// slots are not read. sink gets each missing shard's bytes in order, in pieces of a multiple of 64 KiB but for the last;
// p is valid until sink returns. The memory does not grow with the blob.
//
// Errors: sink's; ErrLost, ErrUnavailable, ErrOverloaded as for Get; ErrInvalid for slots that the volume does not have.
func (s *Store) Reconstruct(ctx context.Context, ref cairn.BlobRef, vol cairn.Volume, missing []uint8,
	sink func(slot uint8, p []byte) error) error {
	if err := s.reconstruct(ctx, ref, vol, missing, sink); err != nil {
		return &cairn.Error{Op: "blob.reconstruct", Subject: ref.String(), Err: err}
	}
	return nil
}

func (s *Store) reconstruct(ctx context.Context, ref cairn.BlobRef, vol cairn.Volume, missing []uint8,
	sink func(slot uint8, p []byte) error) error {
	r, err := s.openBlobIn(ctx, ref, &vol)
	if err != nil {
		return err
	}
	r.refresh.Do(func() {}) // the caller's row is the one that counts
	var want uint64
	for _, slot := range missing {
		if int(slot) >= len(r.slots) {
			return fmt.Errorf("slot %d of %s: %w", slot, vol.Profile, cairn.ErrInvalid)
		}
		want |= 1 << slot
		r.slots[slot].health, r.slots[slot].err = slotBad, errToRebuild
	}
	var at int64
	end := r.g.ShardLen()
	return r.fetch(func() *row {
		if at >= end || want == 0 {
			return nil
		}
		n := min(hotBytes, end-at)
		row := r.newRow(at, n, want)
		at += n
		return row
	}, func(row *row) error {
		for _, slot := range missing {
			if err := sink(slot, row.bufs[slot].b[:row.n]); err != nil {
				return err
			}
		}
		return nil
	})
}

var errToRebuild = fmt.Errorf("to be rebuilt: %w", cairn.ErrNotFound)
