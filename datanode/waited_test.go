package datanode_test

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"cairn"
	"cairn/blob"
	"cairn/datanode"
	"cairn/internal/vfs"
)

// A read tells that its bytes were not in memory, also when they came from another node, and tells nothing when they were.
func TestReadsTellWhetherTheyWaited(t *testing.T) {
	id := cairn.ShardID{Volume: 1, Blob: 1}
	p := make([]byte, 100_000)
	put := func(n *datanode.Node) (drive cairn.DriveID) {
		drive = n.Statuses()[0].ID
		done := make(chan error, 1)
		n.Append(t.Context(), drive, &cairn.ShardHeader{ID: id, Epoch: 1, Profile: cairn.Profile{K: 1}, Unit: 64 << 10,
			BlobLen: int64(len(p))}, p, func(err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		return drive
	}
	waited := func(s blob.Shards, drive cairn.DriveID) bool {
		var w atomic.Bool
		if err := s.ReadAt(cairn.NoteWaits(context.Background(), &w), drive, id, p, 0); err != nil {
			t.Fatal(err)
		}
		return w.Load()
	}
	inMemory := open(t, datanode.Config{FS: vfs.NewMem(), SegmentBytes: 8 << 20,
		Drives: []datanode.DriveConfig{{Path: "/drive", Create: true}}})
	if drive := put(inMemory); !waited(inMemory, drive) {
		t.Error("a file system that cannot tell: the read did not say that it waited")
	}
	onDisk := open(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: t.TempDir()}}, SegmentBytes: 8 << 20})
	drive := put(onDisk)
	server := httptest.NewServer(datanode.NewServer(onDisk))
	defer server.Close()
	c, err := datanode.NewClient(datanode.ClientConfig{URL: server.URL, HTTP: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !waited(c, drive) {
		t.Error("a read from another node did not say that it waited")
	}
	for range 10 {
		if !waited(onDisk, drive) {
			return // the reads before brought the bytes into the page cache
		}
	}
	t.Skip("SKIPPED: reads on this file system always wait for the disk")
}
