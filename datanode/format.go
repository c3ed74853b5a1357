package datanode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cairn"
	"cairn/internal/vfs"
)

// The format file makes a directory a drive. It is written once, last of all that a new drive needs.
const (
	formatName    = "cairn-drive.json"
	formatVersion = 1
	lockName      = "lock"
)

type format struct {
	Version int           `json:"format"`
	Cluster hexID         `json:"cluster"`
	Node    cairn.NodeID  `json:"node"`
	Drive   cairn.DriveID `json:"drive"`
	Secret  [16]byte      `json:"-"`
	Hex     hexID         `json:"secret"` // makes record headers unguessable
}

// hexID prints as hexadecimal digits.
type hexID [16]byte

func (id hexID) MarshalText() ([]byte, error) { return cairn.DriveID(id).MarshalText() }
func (id *hexID) UnmarshalText(b []byte) error {
	return (*cairn.DriveID)(id).UnmarshalText(b)
}

// errForeign means that the directory belongs to someone else, or to an unknown version.
var errForeign = errors.New("not a drive of this cluster")

// readFormat returns the identity of a drive's directory. The error wraps fs.ErrNotExist if it has none.
func readFormat(fsys vfs.FS, dir string, cluster cairn.ClusterID) (format, error) {
	b, err := readFile(fsys, filepath.Join(dir, formatName))
	if err != nil {
		return format{}, err
	}
	var f format
	if err := json.Unmarshal(b, &f); err != nil {
		return format{}, fmt.Errorf("%s cannot be read: %w: %w", formatName, err, errForeign)
	}
	if f.Version != formatVersion {
		return format{}, fmt.Errorf("format version %d is unknown to this program: %w", f.Version, errForeign)
	}
	if cairn.ClusterID(f.Cluster) != cluster {
		return format{}, fmt.Errorf("belongs to cluster %v: %w", cairn.ClusterID(f.Cluster), errForeign)
	}
	f.Secret = f.Hex
	return f, nil
}

// writeFormat gives an empty directory an identity.
func writeFormat(fsys vfs.FS, dir string, cluster cairn.ClusterID, node cairn.NodeID) (format, error) {
	f := format{Version: formatVersion, Cluster: hexID(cluster), Node: node, Drive: cairn.NewID(), Hex: cairn.NewID()}
	f.Secret = f.Hex
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return f, err
	}
	if err := writeFileAtomic(fsys, filepath.Join(dir, formatName), append(b, '\n')); err != nil {
		return f, err
	}
	return f, fsys.SyncDir(filepath.Dir(filepath.Clean(dir)))
}

// isEmpty tells whether a directory holds nothing but what may be there before it is a drive: a voter's metadata, the
// lock, what mkfs leaves, and what a crash left of an earlier attempt.
func isEmpty(fsys vfs.FS, dir string) (bool, string, error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return false, "", err
	}
	for _, n := range names {
		switch n {
		case "lost+found", "meta", lockName, formatName + ".tmp", probeName:
		case segmentsDir, indexDir:
			inside, err := fsys.ReadDir(filepath.Join(dir, n))
			if err != nil || len(inside) > 0 {
				return false, n, ignoreAbsent(err)
			}
		default:
			return false, n, nil
		}
	}
	return true, "", nil
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }
