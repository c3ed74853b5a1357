package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"cairn"
)

const (
	stateName    = "cairn.json"
	lockName     = "lock"
	stateVersion = 1
	// memberVersion is the format of a member's file: a program that knows of one process only must not start on it.
	memberVersion = 2
)

// State is what DIR/cairn.json keeps between starts.
type State struct {
	Version int             `json:"version"` // of this file's format
	Cluster cairn.ClusterID `json:"cluster"`
	Node    cairn.NodeID    `json:"node"`
	// Made lists the drive directories that are below DIR (by name) and belong to Cairn alone: one that vanishes is made anew.
	Made []string `json:"made,omitempty"`
	// Named lists the drives that a person named (absolute paths): these are never created.
	Named   []string      `json:"named,omitempty"`
	Profile cairn.Profile `json:"profile"` // of new volumes
	// Formatted: a write has succeeded once, so metadata exists; it is never begun anew on empty drives.
	Formatted bool `json:"formatted"`
	// Member tells how the process takes part in a cluster of several; nil if it is the whole store.
	Member *Member `json:"member,omitempty"`
}

// DriveDir is one drive's directory.
type DriveDir struct {
	Path string
	Make bool // create it when it is absent
}

// Drives lists all drive directories of a process whose directory is dir.
func (s State) Drives(dir string) []DriveDir {
	var ds []DriveDir
	for _, name := range s.Made {
		ds = append(ds, DriveDir{Path: filepath.Join(dir, name), Make: true})
	}
	for _, path := range s.Named {
		ds = append(ds, DriveDir{Path: path})
	}
	return ds
}

// Wish is what a command line asks for; zero values leave things as they are.
type Wish struct {
	Drives  int      // directories to make below DIR; default 6, unless drives are named
	Named   []string // paths of real disks
	Profile cairn.Profile
}

const defaultDrives = 6

// Settle reconciles what is asked for with what an earlier start wrote down (nil on the first start): pure but for new
// identifiers. Drives can be added; taking one away is refused, since its shards would be.
func Settle(old *State, w Wish) (State, error) {
	s, err := settleDrives(old, w)
	if err != nil {
		return State{}, err
	}
	total := len(s.Made) + len(s.Named)
	if s.Profile.Width() == 0 {
		s.Profile = DefaultProfile(total)
	}
	if err := s.Profile.Validate(); err != nil {
		return State{}, err
	}
	if min := 1 + s.Profile.Tolerance(); total < min {
		return State{}, &cairn.Error{Op: "server.settle",
			Err: fmt.Errorf("profile %s needs at least %d drives, there are %d: %w", s.Profile, min, total, cairn.ErrInvalid)}
	}
	return s, nil
}

// settleDrives is Settle without the profile's own rules.
func settleDrives(old *State, w Wish) (State, error) {
	refuse := func(format string, args ...any) (State, error) {
		return State{}, &cairn.Error{Op: "server.settle", Err: fmt.Errorf(format+": %w", append(args, cairn.ErrInvalid)...)}
	}
	if w.Drives < 0 || w.Drives > maxDrives || len(w.Named) > maxDrives {
		return refuse("want at most %d drives", maxDrives)
	}
	if w.Drives > 0 && len(w.Named) > 0 {
		return refuse("--drives makes directories below the data directory and --drive names disks: give one of them")
	}
	s := State{Version: stateVersion}
	if old == nil {
		s.Cluster, s.Node = cairn.NewID(), cairn.NewID()
		if len(w.Named) == 0 && w.Drives == 0 {
			w.Drives = defaultDrives
		}
	} else {
		s = *old
		s.Made, s.Named = slices.Clone(old.Made), slices.Clone(old.Named)
		if w.Drives > 0 && w.Drives < len(s.Made) {
			return refuse("--drives %d, but this store has %d: drives cannot be taken away by a flag, their shards would be gone", w.Drives, len(s.Made))
		}
		for _, had := range s.Named {
			if len(w.Named) > 0 && !slices.Contains(w.Named, had) {
				return refuse("drive %s belongs to this store and is not named by --drive any more; name all drives (an absent one may be named), or none to keep the list", had)
			}
		}
	}
	for i := len(s.Made); i < w.Drives; i++ {
		s.Made = append(s.Made, "drive"+strconv.Itoa(i+1))
	}
	for _, path := range w.Named {
		if !slices.Contains(s.Named, path) {
			s.Named = append(s.Named, path)
		}
	}
	if w.Profile.Width() > 0 {
		s.Profile = w.Profile
	}
	return s, nil
}

// maxDrives bounds the drives of one process.
const maxDrives = 128

// DefaultProfile is the profile of a new store with n drives when none is asked for: two parity shards from four drives
// on, one on two and three, none on a single drive.
func DefaultProfile(n int) cairn.Profile {
	switch {
	case n >= 6:
		return cairn.Profile{K: 4, M: 2}
	case n >= 4:
		return cairn.Profile{K: n - 2, M: 2}
	case n >= 2:
		return cairn.Profile{K: n - 1, M: 1}
	}
	return cairn.Profile{K: 1}
}

// Directory is a process's own directory, locked.
type Directory struct {
	Path  string
	lock  *os.File
	State *State // nil before the first Save
}

// OpenDirectory creates dir if needed, locks it, and reads its state. If another process holds it, the error is an
// ErrUnavailable that names it.
func OpenDirectory(dir string) (*Directory, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, &cairn.Error{Op: "server.open", Subject: dir, Err: err}
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return nil, &cairn.Error{Op: "server.open", Subject: dir, Err: err}
	}
	d := &Directory{Path: dir, lock: lock}
	if err := d.load(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// lockFile takes the lock that the kernel drops when the process ends, however it ends, and writes the process's ID
// into the file for whoever comes second.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		f.Close()
		return nil, fmt.Errorf("in use by the process with PID %s: %w", strings.TrimSpace(string(holder)), cairn.ErrUnavailable)
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Directory) load() error {
	path := filepath.Join(d.Path, stateName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &cairn.Error{Op: "server.open", Subject: path, Err: err}
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return &cairn.Error{Op: "server.open", Subject: path, Err: fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)}
	}
	if s.Version < stateVersion || s.Version > memberVersion {
		return &cairn.Error{Op: "server.open", Subject: path,
			Err: fmt.Errorf("format version %d, this binary knows %d to %d: %w", s.Version, stateVersion, memberVersion, cairn.ErrInvalid)}
	}
	d.State = &s
	return nil
}

// Save replaces the state on disk. A crash leaves the old or the new one.
func (d *Directory) Save(s State) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(d.Path, stateName), append(b, '\n')); err != nil {
		return err
	}
	d.State = &s
	return nil
}

// Close lets the directory go.
func (d *Directory) Close() error { return d.lock.Close() }
