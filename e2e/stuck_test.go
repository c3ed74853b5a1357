//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"cairn/admin"
)

// freezeLimit is when a frozen disk thaws whatever becomes of the test: processes that wait for it cannot be killed.
const freezeLimit = 90 * time.Second

// freeze makes every write to the disk hang until thaw.
func (d *disk) freeze() {
	d.t.Helper()
	if _, err := exec.LookPath("fsfreeze"); err != nil {
		d.t.Skip("SKIPPED: no fsfreeze on this machine")
	}
	// The timer is a process of its own, armed before there is anything to undo.
	alarm := exec.Command("sh", "-c", fmt.Sprintf("sleep %d; exec fsfreeze --unfreeze %s", int(freezeLimit.Seconds()), d.point))
	alarm.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := alarm.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		syscall.Kill(-alarm.Process.Pid, syscall.SIGKILL) // its group: the shell and its sleep
		alarm.Wait()
	})
	// Before the above, and before the server is stopped, which may wait for the disk.
	d.t.Cleanup(func() { exec.Command("fsfreeze", "--unfreeze", d.point).Run() })
	if out, err := exec.Command("fsfreeze", "--freeze", d.point).CombinedOutput(); err != nil {
		d.t.Skipf("SKIPPED: the file system cannot be frozen: %v: %s", err, out)
	}
}

func (d *disk) thaw() {
	d.t.Helper()
	d.must("fsfreeze", "--unfreeze", d.point)
}

// fill takes all space that the disk has left.
func (d *disk) fill() {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	var at int64
	for step := int64(1 << 30); step >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		default:
			d.t.Fatal(err)
		}
	}
}

func (d *disk) empty() {
	d.t.Helper()
	if err := os.Remove(d.ballast()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *disk) ballast() string { return filepath.Join(d.point, "ballast") }

// TestDriveHangs (I1, I2): a disk stops to answer writes, without an error, and goes on as if nothing had been.
func TestDriveHangs(t *testing.T) {
	testStuckDisk(t, "hung", func(_ *store, d *disk) { d.freeze() }, (*disk).thaw)
}

// TestDriveIsFull (I1, I2): a disk has no space left, not a block, and then has again.
func TestDriveIsFull(t *testing.T) {
	testStuckDisk(t, "full", func(s *store, d *disk) {
		d.fill()
		s.mustPut("filler", content(99, 200<<20)) // the drive's own segments have some room yet
	}, (*disk).empty)
}

// testStuckDisk brings one of six disks into a state from which it returns by itself: reads and writes go on throughout,
// nothing acknowledged is lost, and afterwards the store bears the loss of two other disks.
func testStuckDisk(t *testing.T, state string, harm func(*store, *disk), undo func(*disk)) {
	ds, flags := disks(t, 6)
	s := start(t, flags...)
	files := subset(goTree(t), 8)
	sick := ds[2]
	s.traffic(files, func() {
		harm(s, sick)
		st := s.waitStatus(time.Minute, state, func(st admin.Status) bool { return driveState(st, sick.path) == state })
		for _, d := range st.Drives {
			switch {
			case d.Path == sick.path && d.Reason == "":
				t.Errorf("the drive is %s without a reason", state)
			case d.Path != sick.path && d.State.String() != "ok":
				t.Errorf("another drive is %s: %s", d.State, d.Reason)
			}
		}
	})
	each(t, files, s.check)
	check := s.samples("meanwhile")
	check()
	if got := driveState(s.status(), sick.path); got != state {
		t.Errorf("after writes and reads around it the drive is %s, want %s", got, state)
	}
	undo(sick)
	s.waitStatus(time.Minute, "ok again", func(st admin.Status) bool { return driveState(st, sick.path) == "ok" })
	s.waitHealthy(healWithin)
	for _, d := range []*disk{ds[0], ds[4]} {
		d.unmount()
	}
	s.waitStatus(20*time.Second, "two others unmounted", func(st admin.Status) bool {
		return driveState(st, ds[0].path) == "missing" && driveState(st, ds[4].path) == "missing"
	})
	each(t, files, s.check)
	check()
}
