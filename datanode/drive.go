package datanode

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

const (
	probeName     = "probe"
	maxRetryDelay = 30 * time.Second // between attempts to open a failing drive
)

// drive is one path, and the store that is open there, if any.
type drive struct {
	cfg   Config
	path  string
	make  bool
	stats counters

	emptied bool // the directory was seen empty; used by the monitor alone

	limits *limits // outlives stores, so that an operation that hangs is still seen

	mu       sync.RWMutex
	store    *store // nil unless open
	id       cairn.DriveID
	state    cairn.DriveState
	since    time.Time
	reason   string
	replaced []cairn.DriveID
	lock     io.Closer
	place    [2]vfs.Info // of the directory and its segments directory when it was opened
	usage    vfs.Usage   // when it was last looked at
	retryAt  time.Time   // no attempt to open before
	retries  int
	readErrs errorWindow
}

func newDrive(cfg Config, c DriveConfig) *drive {
	return &drive{cfg: cfg, path: filepath.Clean(c.Path), make: c.Create, limits: newLimits(cfg),
		state: cairn.DriveMissing, since: time.Now(), reason: "not opened yet", readErrs: errorWindow{since: time.Now()}}
}

// setState changes the state; it reports whether that is a change.
func (d *drive) setState(state cairn.DriveState, reason string) {
	d.mu.Lock()
	changed := d.state != state || d.reason != reason
	if d.state != state {
		d.since = time.Now()
	}
	d.state, d.reason = state, reason
	d.mu.Unlock()
	if !changed {
		return
	}
	d.cfg.Log.Info("drive state", "path", d.path, "drive", d.identity(), "state", state, "reason", reason)
	if d.cfg.OnChange != nil {
		d.cfg.OnChange(d.status())
	}
}

func (d *drive) identity() cairn.DriveID {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.id
}

// reader returns the store if the drive can be read now.
func (d *drive) reader() (*store, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.store == nil || !d.state.Readable() {
		return nil, fmt.Errorf("drive is %v (%s): %w", d.state, d.reason, cairn.ErrUnavailable)
	}
	return d.store, nil
}

// writer returns the store if the drive can take new shards now, or deletes if shards is false.
func (d *drive) writer(shards bool) (*store, error) {
	s, err := d.reader()
	if err != nil {
		return nil, err
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	switch {
	case d.state == cairn.DriveReadOnly:
		return nil, fmt.Errorf("drive is %v (%s): %w", d.state, d.reason, cairn.ErrReadOnly)
	case d.state == cairn.DriveFull && shards:
		return nil, fmt.Errorf("drive is %v: %w", d.state, cairn.ErrFull)
	}
	return s, nil
}

// status measures the drive.
func (d *drive) status() cairn.DriveStatus {
	d.mu.RLock()
	st := cairn.DriveStatus{ID: d.id, Path: d.path, State: d.state, Since: d.since, Reason: d.reason,
		Replaced:   append([]cairn.DriveID(nil), d.replaced...),
		ReadErrors: d.stats.readErrors.Load(), WriteErrors: d.stats.writeErrors.Load(),
		Corruptions: d.stats.corruptions.Load(), ReadLatency: time.Duration(d.stats.readLatency.ns.Load()),
		SyncLatency: time.Duration(d.stats.syncLatency.ns.Load()), Background: d.limits.pace.now()}
	s, usage := d.store, d.usage
	d.mu.RUnlock()
	if s != nil {
		s.usage(&st)
		st.TotalBytes = usage.TotalBytes
		st.FreeBytes += max(0, usage.FreeBytes-s.reserveBytes)
	}
	return st
}

// open makes the drive usable if its path is there, and settles its state either way.
func (d *drive) open() {
	s, lock, err := d.tryOpen()
	d.mu.Lock()
	if err == nil {
		if d.id != s.id && !d.id.IsZero() {
			d.replaced = append(d.replaced, d.id)
		}
		d.store, d.lock, d.id = s, lock, s.id
	} else {
		d.retries++
		d.retryAt = time.Now().Add(min(maxRetryDelay, d.cfg.PollEvery<<min(d.retries, 6)))
		if openFailure(err) == cairn.DriveMissing { // cheap to look at, and people wait for it
			d.retryAt = time.Time{}
		}
	}
	d.mu.Unlock()
	switch {
	case err == nil && s.readOnly:
		d.setState(cairn.DriveReadOnly, "file system is mounted read-only")
	case err == nil:
		d.setState(cairn.DriveOK, "")
	default:
		d.setState(openFailure(err), err.Error())
	}
}

// openFailure is the state of a drive that could not be opened.
func openFailure(err error) cairn.DriveState {
	var locked *vfs.LockedError
	switch {
	case absent(err), errors.Is(err, errForeign), errors.As(err, &locked):
		return cairn.DriveMissing
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, cairn.ErrFull):
		return cairn.DriveFull
	}
	return cairn.DriveFailing
}

func (d *drive) tryOpen() (*store, io.Closer, error) {
	fs := d.cfg.FS
	_, err := fs.Stat(d.path)
	if absent(err) && d.make {
		d.emptied = true // nobody is about to remove what we make
		err = fs.Mkdir(d.path)
	}
	if err != nil {
		return nil, nil, err
	}
	lock, err := fs.Lock(filepath.Join(d.path, lockName))
	if err != nil {
		return nil, nil, err
	}
	s, err := d.openLocked()
	if err != nil {
		return nil, nil, errors.Join(err, lock.Close())
	}
	return s, lock, nil
}

func (d *drive) openLocked() (*store, error) {
	f, err := readFormat(d.cfg.FS, d.path, d.cfg.Cluster)
	if absent(err) {
		f, err = d.adopt()
	}
	if err != nil {
		return nil, err
	}
	usage, err := d.cfg.FS.StatFS(d.path)
	if err != nil {
		return nil, err
	}
	readOnly := usage.ReadOnly
	if !readOnly {
		err := d.probe(vfs.Create)
		// A file system that refuses writes since an error may not say so in its mount flags; what it holds can be read.
		readOnly = errors.Is(err, cairn.ErrReadOnly)
		if err != nil && !readOnly && !errors.Is(err, cairn.ErrFull) {
			return nil, fmt.Errorf("probe: %w", err)
		}
	}
	s, err := openStore(d.cfg, d.path, f, readOnly, &d.stats, d.limits)
	if err != nil {
		return nil, err
	}
	place, err := d.look()
	if err != nil {
		return nil, errors.Join(err, s.close(d.cfg.HungAfter, false))
	}
	d.mu.Lock()
	d.place, d.usage = place, usage
	d.mu.Unlock()
	return s, nil
}

// adopt makes an empty directory a new drive.
func (d *drive) adopt() (format, error) {
	empty, what, err := isEmpty(d.cfg.FS, d.path)
	if err != nil {
		return format{}, err
	}
	if !empty {
		return format{}, fmt.Errorf("%s is gone, yet the directory holds %q: %w", formatName, what, errForeign)
	}
	if lost := !d.identity().IsZero(); lost && !d.emptied {
		d.emptied = true // someone may be about to remove the directory, too: look again
		return format{}, fmt.Errorf("%s is gone: %w", formatName, errForeign)
	}
	d.emptied = false
	f, err := writeFormat(d.cfg.FS, d.path, d.cfg.Cluster, d.cfg.Node)
	if err == nil {
		d.cfg.Log.Info("empty directory becomes a drive", "path", d.path, "drive", f.Drive)
	}
	return f, err
}

// look describes the directories that an open drive relies on.
func (d *drive) look() (place [2]vfs.Info, err error) {
	if _, err = d.cfg.FS.Stat(filepath.Join(d.path, formatName)); err != nil {
		return place, err
	}
	for i, dir := range []string{d.path, filepath.Join(d.path, segmentsDir)} {
		info, err := d.cfg.FS.Stat(dir)
		if err != nil {
			return place, err
		}
		place[i] = vfs.Info{Inode: info.Inode, Dev: info.Dev}
	}
	return place, nil
}

// close closes the store, if one is open; save asks for a checkpoint.
func (d *drive) close(save bool) error {
	d.mu.Lock()
	s, lock := d.store, d.lock
	d.store, d.lock = nil, nil
	d.mu.Unlock()
	if s == nil {
		return nil
	}
	return errors.Join(s.close(d.cfg.HungAfter, save), lock.Close())
}
