package scrub

import (
	"slices"
	"testing"

	"cairn"
)

func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		want, have     []cairn.BlobID
		lacking, extra []cairn.BlobID
	}{
		{},
		{want: []cairn.BlobID{1, 2, 3}, have: []cairn.BlobID{1, 2, 3}},
		{want: []cairn.BlobID{1, 2, 3}, lacking: []cairn.BlobID{1, 2, 3}},
		{have: []cairn.BlobID{1, 2, 3}, extra: []cairn.BlobID{1, 2, 3}},
		{want: []cairn.BlobID{1, 3, 5}, have: []cairn.BlobID{2, 3, 6}, lacking: []cairn.BlobID{1, 5}, extra: []cairn.BlobID{2, 6}},
	} {
		var rows []cairn.BlobRow
		for _, b := range tt.want {
			rows = append(rows, cairn.BlobRow{Ref: cairn.BlobRef{Blob: b}})
		}
		var infos []cairn.ShardInfo
		for _, b := range tt.have {
			infos = append(infos, cairn.ShardInfo{ID: cairn.ShardID{Blob: b}})
		}
		lacking, extra := compare(rows, infos)
		var l, e []cairn.BlobID
		for _, ref := range lacking {
			l = append(l, ref.Blob)
		}
		for _, info := range extra {
			e = append(e, info.ID.Blob)
		}
		if !slices.Equal(l, tt.lacking) || !slices.Equal(e, tt.extra) {
			t.Errorf("compare(%v, %v) = %v, %v, want %v, %v", tt.want, tt.have, l, e, tt.lacking, tt.extra)
		}
	}
}

func TestPlaceNext(t *testing.T) {
	slots := []cairn.VolumeSlot{{Volume: 1, Slot: 5}, {Volume: 2, Slot: 0}, {Volume: 2, Slot: 1}, {Volume: 9, Slot: 0}}
	for _, tt := range []struct {
		at   place
		want []cairn.VolumeID
	}{
		{place{}, []cairn.VolumeID{1, 2, 2, 9}},
		{place{Volume: 1, Slot: 5, Blob: 7}, []cairn.VolumeID{1, 2, 2, 9}},
		{place{Volume: 2, Slot: 1}, []cairn.VolumeID{2, 9}},
		{place{Volume: 3}, []cairn.VolumeID{9}},
		{place{Volume: 9, Slot: 1}, nil},
	} {
		var got []cairn.VolumeID
		for _, s := range tt.at.next(slots) {
			got = append(got, s.Volume)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("from %+v: %v, want %v", tt.at, got, tt.want)
		}
	}
}
