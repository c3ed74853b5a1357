package server

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// homeFS is the file system that metadata voters live on. It never makes a drive's directory, only what is below it: an
// absent one may be an unmounted disk, and must not come into being because a voter was about to move there.
type homeFS struct {
	vfs.FS
	drives []string
}

// MkdirAll makes dir and its parents below the drive that holds it.
func (h homeFS) MkdirAll(dir string, perm os.FileMode) error {
	for _, drive := range h.drives {
		rest, ok := strings.CutPrefix(dir, drive+string(filepath.Separator))
		if !ok {
			continue
		}
		path := drive
		for _, name := range strings.Split(rest, string(filepath.Separator)) {
			path = filepath.Join(path, name)
			// Mkdir, not MkdirAll: it fails when the drive has just gone.
			if err := os.Mkdir(path, perm); err != nil && !errors.Is(err, fs.ErrExist) {
				return err
			}
		}
		return nil
	}
	return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrNotExist} // not on a drive of ours
}
