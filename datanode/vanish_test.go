package datanode

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"cairn"
)

// A drive whose directory was removed a moment before the end has nothing to save: its data is synced or gone, and a
// checkpoint only shortens the next start.
func TestCloseAfterTheDirectoryVanished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drive")
	n, err := Open(Config{Cluster: cairn.ClusterID{1}, Node: cairn.NodeID{2}, Log: slog.New(slog.DiscardHandler),
		Drives: []DriveConfig{{Path: path, Create: true}}, SegmentBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	st := n.Statuses()
	if len(st) != 1 || st[0].State != cairn.DriveOK {
		t.Fatalf("got %+v, want one drive that is ok", st)
	}
	done := make(chan error, 1)
	h := &cairn.ShardHeader{ID: cairn.ShardID{Volume: 1, Blob: 1}, Epoch: 1, Profile: cairn.Profile{K: 1}, Unit: 1 << 16, BlobLen: 3}
	n.Append(t.Context(), st[0].ID, h, []byte("abc"), func(err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("close: %v, want none", err)
	}
}
