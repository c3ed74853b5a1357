package meta_test

import (
	"slices"
	"testing"

	"cairn"
	"cairn/meta"
)

// Each change of a volume, drive or node raises the map's epoch, and a volume is told of once, where it changed last.
func TestClusterMapChanges(t *testing.T) {
	s := newStore(t, 1)
	last := cairn.Epoch(0)
	rises := func(what string) {
		t.Helper()
		at, err := s.MapEpoch(t.Context())
		if err != nil || at <= last {
			t.Fatalf("%s: the epoch is %d, %v, before %d", what, at, err, last)
		}
		last = at
	}
	check := func(since cairn.Epoch, max int, want ...cairn.VolumeID) cairn.Epoch {
		t.Helper()
		list, at, err := s.ChangedVolumes(t.Context(), since, max)
		var got []cairn.VolumeID
		for _, v := range list {
			got = append(got, v.ID)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("after %d: got %v, %v, want %v", since, got, err, want)
		}
		return at
	}
	check(0, 10)
	for range 5 {
		_, err := s.CreateVolume(t.Context(), cairn.Volume{Profile: cairn.Profile{K: 1, M: 1}, Unit: 64 << 10,
			Slots: []cairn.DriveID{cairn.NewID(), cairn.NewID()}})
		if err != nil {
			t.Fatal(err)
		}
		rises("a new volume")
	}
	if at := check(0, 10, 1, 2, 3, 4, 5); at != last {
		t.Errorf("reached %d, want %d", at, last)
	}
	at := check(0, 2, 1, 2) // page by page
	at = check(at, 2, 3, 4)
	at = check(at, 2, 5)
	check(at, 2)
	if err := s.SealVolume(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	rises("a sealed volume")
	v, err := s.Volume(t.Context(), 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SwapSlot(t.Context(), meta.SwapSlot{Volume: 4, Slot: 1, Epoch: v.Epoch, Old: v.Slots[1], New: cairn.NewID()}); err != nil {
		t.Fatal(err)
	}
	rises("a swapped slot")
	check(at, 10, 2, 4)
	check(0, 10, 1, 3, 5, 2, 4)
	drive := cairn.DriveID(cairn.NewID())
	if err := s.PutDrives(t.Context(), []cairn.Drive{{ID: drive}}); err != nil {
		t.Fatal(err)
	}
	rises("a drive")
	if err := s.SetDraining(t.Context(), drive, true); err != nil {
		t.Fatal(err)
	}
	rises("a drive that is drained")
	n, err := s.PutNode(t.Context(), sampleNode("n1"))
	if err != nil {
		t.Fatal(err)
	}
	rises("a node")
	if _, err := s.RemoveNode(t.Context(), n.ID, n.Epoch, "x"); err != nil {
		t.Fatal(err)
	}
	rises("a removed node")
	check(last, 10)
}
