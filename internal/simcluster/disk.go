package simcluster

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a node's file system in memory. Syncing the Raft log takes time, may stall, fail, or lie; everything else is
// instantaneous. What was not synced may be lost with the power.
type disk struct {
	vfs.FS // mem
	sim    *Sim
	node   int
	mem    *vfs.MemFS
	rng    *rand.Rand // of one appender at a time; guarded by mu

	mu      sync.Mutex
	stalled chan struct{} // closed when the stall is over; nil if there is none
	fail    int           // syncs that shall fail
	lies    bool
	dead    bool // the node's process is gone: nobody sees what still happens here
}

const (
	leastSync = 100 * time.Microsecond
	mostSync  = 500 * time.Microsecond
)

var errDisk = errors.New("injected disk error")

func newDisk(s *Sim, node int, mem *vfs.MemFS, life uint64) *disk {
	return &disk{FS: mem, sim: s, node: node, mem: mem, rng: s.rng("disk", uint64(node), life)}
}

// stall holds all syncs back, or lets them go on.
func (d *disk) stall(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case on && d.stalled == nil && !d.dead:
		d.stalled = make(chan struct{})
	case !on && d.stalled != nil:
		close(d.stalled)
		d.stalled = nil
	}
}

// failNext lets the next sync fail.
func (d *disk) failNext() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = 1
}

// lie makes syncs say that they are done when they have not begun: a planted bug.
func (d *disk) lie() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lies = true
}

// crash returns what the disk holds after the node's end: everything that was written (the process was killed), or what was
// synced and by chance more (the power went).
func (d *disk) crash(power bool, rng *rand.Rand) *vfs.MemFS {
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng}
	if power && d.lies {
		cfg.UnsyncedDataPercent = 0
	} else if power {
		cfg.UnsyncedDataPercent = []int{0, 0, 50, 90}[rng.IntN(4)]
	}
	after := d.mem.CrashClone(cfg)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	if d.stalled != nil {
		close(d.stalled)
		d.stalled = nil
	}
	return after
}

// sync is one sync of a log file: its time, then what it does, then the answer.
func (d *disk) sync(name string, f func() error) error {
	d.mu.Lock()
	dead := d.dead
	wait := leastSync + time.Duration(d.rng.Int64N(int64(mostSync-leastSync)))
	d.mu.Unlock()
	if dead {
		return f()
	}
	time.Sleep(d.sim.lone(wait))
	for {
		d.mu.Lock()
		stalled := d.stalled
		d.mu.Unlock()
		if stalled == nil {
			break
		}
		<-stalled
	}
	d.mu.Lock()
	fails, lies := d.fail > 0, d.lies
	if fails {
		d.fail--
	}
	d.mu.Unlock()
	d.sim.Trace.add("sync", uint64(d.node), 0, []byte(name))
	switch {
	case fails:
		return &faultError{name}
	case lies:
		return nil
	}
	return f()
}

type faultError struct{ name string }

// Error names the file.
func (e *faultError) Error() string { return "sync " + e.name + ": " + errDisk.Error() }

// Unwrap makes it an I/O error.
func (e *faultError) Unwrap() error { return syscall.EIO }

// OpenReadWrite implements vfs.FS: so the segments of logs are opened.
func (d *disk) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, category, opts...)
	if err != nil || !strings.Contains(name, "/log/") {
		return f, err
	}
	return &logFile{File: f, disk: d, name: name}, nil
}

type logFile struct {
	vfs.File
	disk *disk
	name string
}

// Sync implements vfs.File.
func (f *logFile) Sync() error { return f.disk.sync(f.name, f.File.Sync) }

// SyncData implements vfs.File.
func (f *logFile) SyncData() error { return f.disk.sync(f.name, f.File.SyncData) }

// List implements vfs.FS, in order: memory has none.
func (d *disk) List(dir string) ([]string, error) {
	names, err := d.FS.List(dir)
	slices.Sort(names)
	return names, err
}
