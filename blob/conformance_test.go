package blob_test

import (
	"testing"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
)

func TestMemoryConforms(t *testing.T) {
	blobtest.Shards(t, func(t *testing.T) (blob.Shards, cairn.DriveID) {
		drive := cairn.DriveID(cairn.NewID())
		m := &blobtest.Memory{Drives: []cairn.DriveID{drive}}
		t.Cleanup(m.Wait)
		return m, drive
	})
}
