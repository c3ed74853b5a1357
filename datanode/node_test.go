package datanode_test

import (
	"log/slog"
	"net/http/httptest"
	"testing"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
	"cairn/datanode"
	"cairn/internal/vfs"
)

func open(t *testing.T, cfg datanode.Config) *datanode.Node {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	n, err := datanode.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func TestShardsOnDisk(t *testing.T) {
	blobtest.Shards(t, func(t *testing.T) (blob.Shards, cairn.DriveID) {
		n := open(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: t.TempDir()}}, SegmentBytes: 8 << 20})
		return n, n.Statuses()[0].ID
	})
}

func TestShardsInMemory(t *testing.T) {
	blobtest.Shards(t, func(t *testing.T) (blob.Shards, cairn.DriveID) {
		n := open(t, datanode.Config{FS: vfs.NewMem(), SegmentBytes: 8 << 20,
			Drives: []datanode.DriveConfig{{Path: "/drive", Create: true}}})
		return n, n.Statuses()[0].ID
	})
}

func TestShardsOverHTTP(t *testing.T) {
	blobtest.Shards(t, func(t *testing.T) (blob.Shards, cairn.DriveID) {
		n := open(t, datanode.Config{Drives: []datanode.DriveConfig{{Path: t.TempDir()}}, SegmentBytes: 8 << 20})
		server := httptest.NewServer(datanode.NewServer(n))
		t.Cleanup(server.Close)
		c, err := datanode.NewClient(datanode.ClientConfig{URL: server.URL, HTTP: server.Client()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c, n.Statuses()[0].ID
	})
}
