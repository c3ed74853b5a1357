package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func TestHomeFSNeverMakesADrive(t *testing.T) {
	there, gone := filepath.Join(t.TempDir(), "there"), filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(there, 0o755); err != nil {
		t.Fatal(err)
	}
	h := homeFS{FS: vfs.Default, drives: []string{there, gone}}
	for range 2 { // making it again is no error
		if err := h.MkdirAll(filepath.Join(there, "meta.new", "state"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(there, "meta.new", "state")); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{filepath.Join(gone, "meta.new"), filepath.Join(gone, "meta.new", "state"), filepath.Join(t.TempDir(), "x")} {
		if err := h.MkdirAll(dir, 0o755); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want that it does not exist", dir, err)
		}
	}
	if _, err := os.Stat(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the absent drive was made: %v", err)
	}
}
