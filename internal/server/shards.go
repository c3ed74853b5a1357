package server

import (
	"context"
	"errors"

	"cairn"
	"cairn/admin"
	"cairn/erasure"
	"cairn/meta"
)

// Object finds every shard of a version; with verify set it reads and checks each.
func (f *facts) Object(ctx context.Context, ref meta.VersionRef, verify bool) (admin.Object, error) {
	// Meta's own row, not object.Head's: the layout is what this is about.
	v, err := f.parts.meta.Version(ctx, ref)
	if err != nil {
		return admin.Object{}, err
	}
	o := admin.Object{Version: v, Inline: len(v.Layout.Inline), Blobs: []admin.Blob{}}
	paths := f.drivePaths()
	off := int64(0)
	for _, b := range v.Layout.Blobs {
		row, err := f.blob(ctx, b, off, verify, paths)
		if err != nil {
			return admin.Object{}, err
		}
		o.Blobs = append(o.Blobs, row)
		off += b.Length
	}
	return o, nil
}

// blob describes one blob and its shards.
func (f *facts) blob(ctx context.Context, ref cairn.BlobRef, off int64, verify bool, paths map[cairn.DriveID]string) (admin.Blob, error) {
	vol, places, err := f.parts.blobs.Locate(ctx, ref)
	if err != nil {
		return admin.Blob{}, err
	}
	row := admin.Blob{Ref: ref, Offset: off, Profile: vol.Profile, Unit: vol.Unit, Epoch: vol.Epoch}
	var lost uint64
	for i, p := range places {
		s := admin.Shard{Slot: uint8(i), Role: "data", Drive: p.Drive, DrivePath: paths[p.Drive], DriveState: p.State,
			Path: p.Info.Path, Offset: p.Info.Offset, Length: p.Info.Length}
		switch {
		case i >= vol.Profile.K+vol.Profile.Local:
			s.Role = "parity"
		case i >= vol.Profile.K:
			s.Role = "local parity"
		}
		err := p.Err
		if err == nil && verify {
			err = f.parts.shards.Verify(cairn.Background(ctx), p.Drive, p.Shard)
		}
		s.State = shardState(err)
		if err != nil {
			s.Error = err.Error()
			lost |= 1 << i
		}
		row.Shards = append(row.Shards, s)
	}
	row.Spare = erasure.Scheme(vol.Profile).Spare(lost)
	return row, nil
}

func shardState(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, cairn.ErrNotFound):
		return "missing"
	case errors.Is(err, cairn.ErrCorrupt):
		return "corrupt"
	}
	return "unreachable"
}

func (f *facts) drivePaths() map[cairn.DriveID]string {
	paths := make(map[cairn.DriveID]string)
	for _, d := range f.parts.view.Drives() {
		paths[d.ID] = d.Path
	}
	return paths
}
