package datanode

import (
	"errors"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

// What background work reads and writes is held to the drive's ceiling, and the node's; clients' work is not, and urgent work
// goes at the ceiling when the rest is at its floor.
func TestBackgroundWorkKeepsToItsCeiling(t *testing.T) {
	const size, ceiling = 1 << 20, 4 << 20
	n, err := Open(Config{FS: vfs.NewMem(), SegmentBytes: 64 << 20, Drives: []DriveConfig{{Path: "/a", Create: true}, {Path: "/b", Create: true}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	drive := n.Statuses()[0].ID
	data := make([]byte, size)
	put := func(i int, background bool) {
		t.Helper()
		ctx := t.Context()
		if background {
			ctx = cairn.Background(ctx)
		}
		done := make(chan error, 1)
		n.Append(ctx, drive, &cairn.ShardHeader{ID: cairn.ShardID{Volume: 1, Blob: cairn.BlobID(i + 1)}, Epoch: 1, Profile: cairn.Profile{K: 1}, Unit: 64 << 10,
			BlobLen: size}, data, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range []bool{false, true} {
		limits := cairn.DefaultThrottle()
		band := cairn.Band{Floor: 1 << 20, Ceiling: ceiling}
		if limits.Drive = band; node {
			limits = cairn.DefaultThrottle()
			limits.Node = band
		}
		if err := n.SetThrottle(limits); err != nil {
			t.Fatal(err)
		}
		n.beat(time.Second)
		began := time.Now()
		for i := range 5 {
			put(i, true)
		}
		if err := n.Verify(t.Context(), drive, cairn.ShardID{Volume: 1, Blob: 1}); err != nil {
			t.Fatal(err)
		}
		// A burst of 1 MiB is free; the rest waits. This is a least time: a slow machine only takes longer.
		if took, least := time.Since(began), time.Duration(5*size)*time.Second/ceiling; took < least*9/10 {
			t.Errorf("node %v: 6 MiB took %v, want %v or more", node, took, least)
		}
		if p := n.Statuses()[0].Background; node == (p.Ceiling == ceiling) {
			t.Errorf("the drive tells %+v", p)
		}
	}
	if err := n.SetThrottle(cairn.Throttle{}); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a throttle of nothing: %v", err)
	}
}
