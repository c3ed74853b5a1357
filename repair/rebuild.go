package repair

import (
	"context"
	"errors"
	"fmt"

	"cairn"
)

// target is a shard that a drive should hold.
type target struct {
	slot  uint8
	drive cairn.DriveID
	from  cairn.DriveID // a drive that may hold the shard itself, to be copied; zero: decode it
}

// check says how closely a shard is looked at before it is left as it is.
type check uint8

const (
	checkIndex check = iota // the drive knows it, with the right length
	checkBytes              // every byte was read and matches its checksum
)

// rebuild makes sure that every target holds its shard of a blob, and returns how many bytes it wrote. What it wrote is
// durable and has been read back.
func (r *Repairer) rebuild(ctx context.Context, v cairn.Volume, row cairn.BlobRow, targets []target, how check) (int64, error) {
	size := shardLength(v.Profile, v.Unit, row.Ref.Length)
	var lacking []target
	for _, t := range targets {
		ok, err := r.holds(ctx, t, row.Ref, size, how)
		if err != nil {
			return 0, err
		}
		if !ok {
			lacking = append(lacking, t)
		}
	}
	if len(lacking) == 0 {
		return 0, nil
	}
	if err := r.copyOrDecode(ctx, v, row, lacking, size); err != nil {
		return 0, err
	}
	for _, t := range lacking {
		id := cairn.ShardID{Volume: v.ID, Blob: row.Ref.Blob, Slot: t.slot}
		if err := r.cfg.Shards.Verify(ctx, t.drive, id); err != nil {
			return 0, fmt.Errorf("reading back %s: %w", id, err)
		}
	}
	return size * int64(len(lacking)), nil
}

// holds tells whether a drive has a shard; an error means that it could not be found out.
func (r *Repairer) holds(ctx context.Context, t target, ref cairn.BlobRef, size int64, how check) (bool, error) {
	id := cairn.ShardID{Volume: ref.Volume, Blob: ref.Blob, Slot: t.slot}
	info, err := r.cfg.Shards.Stat(ctx, t.drive, id)
	if err == nil && info.Length == size && how == checkBytes {
		err = r.cfg.Shards.Verify(ctx, t.drive, id)
	}
	switch {
	case err == nil:
		return info.Length == size, nil
	case errors.Is(err, cairn.ErrNotFound), errors.Is(err, cairn.ErrCorrupt):
		return false, nil
	}
	return false, err
}

// copyOrDecode copies the one lacking shard from the drive that still holds it, and decodes whatever cannot be had so.
func (r *Repairer) copyOrDecode(ctx context.Context, v cairn.Volume, row cairn.BlobRow, lacking []target, size int64) error {
	if len(lacking) != 1 || lacking[0].from.IsZero() {
		return r.write(ctx, v, row, lacking, size)
	}
	err := r.copy(ctx, v, row, lacking[0], size)
	switch {
	case errors.Is(err, cairn.ErrNotFound), errors.Is(err, cairn.ErrCorrupt), errors.Is(err, cairn.ErrInvalid),
		errors.Is(err, cairn.ErrUnavailable):
		// ErrUnavailable may have been the target's: then decoding meets it again.
		return r.write(ctx, v, row, lacking, size)
	}
	return err
}

// copy writes a shard that it reads, verified, from another drive.
func (r *Repairer) copy(ctx context.Context, v cairn.Volume, row cairn.BlobRow, t target, size int64) (err error) {
	w := r.writer(v, row, t, size)
	defer func() {
		if err != nil {
			w.abort()
		}
	}()
	piece := make([]byte, min(size, pieceBytes))
	for off := int64(0); off < size; {
		p := piece[:min(size-off, pieceBytes)]
		if err := r.cfg.Shards.ReadAt(ctx, t.from, w.header.ID, p, off); err != nil {
			return err
		}
		if err := w.write(ctx, p); err != nil {
			return err
		}
		off += int64(len(p))
		r.progress.wrote(int64(len(p)))
	}
	return w.commit(ctx)
}

func (r *Repairer) writer(v cairn.Volume, row cairn.BlobRow, t target, size int64) *shardWriter {
	bucket, key := splitOwner(row.Owner)
	return newShardWriter(r.cfg.Shards, t.drive, cairn.ShardHeader{
		ID:    cairn.ShardID{Volume: v.ID, Blob: row.Ref.Blob, Slot: t.slot},
		Epoch: v.Epoch, Profile: v.Profile, Unit: v.Unit, BlobLen: row.Ref.Length,
		Owner: cairn.Owner{Bucket: bucket, Key: key},
	}, size)
}

// write rebuilds the lacking shards in one pass over k others.
func (r *Repairer) write(ctx context.Context, v cairn.Volume, row cairn.BlobRow, lacking []target, size int64) (err error) {
	writers := make(map[uint8]*shardWriter, len(lacking))
	missing := make([]uint8, len(lacking))
	for i, t := range lacking {
		writers[t.slot] = r.writer(v, row, t, size)
		missing[i] = t.slot
	}
	defer func() {
		if err != nil {
			for _, w := range writers {
				w.abort()
			}
		}
	}()
	err = r.cfg.Blobs.Reconstruct(ctx, row.Ref, v, missing, func(slot uint8, p []byte) error {
		if err := writers[slot].write(ctx, p); err != nil {
			return err
		}
		r.progress.wrote(int64(len(p)))
		return nil
	})
	if err != nil {
		return err
	}
	for _, w := range writers {
		if err := w.commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// splitOwner undoes "bucket/key"; a bucket's name holds no slash.
func splitOwner(s string) (bucket, key string) {
	for i := range len(s) {
		if s[i] == '/' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
