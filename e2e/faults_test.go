//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"cairn/admin"
)

const diskBytes = 3 << 30 // sparse

// disk is an ext4 file system in a file, mounted by way of a loop device. The drive is a directory on it, so that an
// unmounted disk is an absent path, and not an empty one to take over.
type disk struct {
	t     *testing.T
	image string
	loop  string
	point string // where it is mounted
	path  string // the drive
}

// disks makes and mounts n of them, or skips the test where that is not possible.
func disks(t *testing.T, n int) (ds []*disk, flags []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting file systems needs root")
	}
	for _, tool := range []string{"losetup", "mkfs.ext4", "mount", "umount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIPPED: no %s on this machine", tool)
		}
	}
	dir := t.TempDir()
	for i := range n {
		d := &disk{t: t, image: filepath.Join(dir, fmt.Sprintf("image%d", i+1)), point: filepath.Join(dir, fmt.Sprintf("disk%d", i+1))}
		d.path = filepath.Join(d.point, "cairn")
		f, err := os.Create(d.image)
		if err == nil {
			err = f.Truncate(diskBytes)
			f.Close()
		}
		if err == nil {
			err = os.Mkdir(d.point, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		d.must("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", d.image)
		out, err := exec.Command("losetup", "--find", "--show", d.image).CombinedOutput()
		if err != nil {
			t.Skipf("SKIPPED: no loop devices here: %v: %s", err, out)
		}
		d.loop = strings.TrimSpace(string(out))
		t.Cleanup(d.remove)
		d.mount()
		if err := os.Mkdir(d.path, 0o755); err != nil {
			t.Fatal(err)
		}
		ds = append(ds, d)
		flags = append(flags, "--drive", d.path)
	}
	return ds, flags
}

func (d *disk) must(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func (d *disk) mount() {
	d.t.Helper()
	d.must("mount", "-o", "errors=remount-ro", d.loop, d.point)
}

func (d *disk) unmount() {
	d.t.Helper()
	d.must("umount", "--lazy", d.point)
}

// remove runs when the test has ended and the server with it.
func (d *disk) remove() {
	exec.Command("umount", "--lazy", d.point).Run()
	if out, err := exec.Command("losetup", "--detach", d.loop).CombinedOutput(); err != nil {
		d.t.Logf("losetup --detach %s: %v: %s", d.loop, err, out)
	}
}

// breakReadOnly makes the kernel believe that the file system is damaged: it goes read-only under its users' feet, as it
// does on real disks that begin to fail.
func (d *disk) breakReadOnly() {
	d.t.Helper()
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(d.loop), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("1"), 0o200); err != nil {
		d.t.Skipf("SKIPPED: the kernel cannot be told to fail a file system: %v", err)
	}
}

// shutDown makes every further operation of the file system an I/O error, without flushing anything (EXT4_IOC_SHUTDOWN).
func (d *disk) shutDown() {
	d.t.Helper()
	const ioctlShutdown, noLogFlush = 0x8004587d, 2
	f, err := os.Open(d.point)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	how := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), ioctlShutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		d.t.Skipf("SKIPPED: the kernel cannot shut a file system down: %v", errno)
	}
}

// repairAndMount brings the disk back as it was: a new mount after a check of the file system.
func (d *disk) repairAndMount() {
	d.t.Helper()
	d.unmount()
	deadline := time.Now().Add(20 * time.Second)
	for {
		// The server may hold files of the lazy mount for a moment; the device is free when it has let them go.
		check := exec.Command("e2fsck", "-fy", d.loop)
		out, err := check.CombinedOutput()
		if code := check.ProcessState.ExitCode(); code == 0 || code == 1 { // 1: errors were corrected
			break
		}
		if time.Now().After(deadline) {
			d.t.Fatalf("e2fsck %s: %v: %s", d.loop, err, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
	d.mount()
}

// subset is every n-th file of a set.
func subset(files []file, n int) (few []file) {
	for i := 0; i < len(files); i += n {
		few = append(few, files[i])
	}
	return few
}

// TestDrivesGoReadOnly (I1, I2): two of six file systems go read-only under load. Reads and writes go on; when the disks are
// back, the store heals, and bears the loss of two others.
func TestDrivesGoReadOnly(t *testing.T) {
	testSickDisks(t, "read-only", (*disk).breakReadOnly)
}

// TestDrivesGiveIOErrors does the same with two file systems whose every operation fails.
func TestDrivesGiveIOErrors(t *testing.T) {
	testSickDisks(t, "failing", (*disk).shutDown)
}

func testSickDisks(t *testing.T, state string, harm func(*disk)) {
	ds, flags := disks(t, 6)
	s := start(t, flags...)
	files := subset(goTree(t), 4)
	s.traffic(files, func() {
		harm(ds[0])
		harm(ds[3])
		s.waitStatus(20*time.Second, "two sick", func(st admin.Status) bool {
			return driveState(st, ds[0].path) == state && driveState(st, ds[3].path) == state
		})
	})
	each(t, files, s.check)
	if st := s.status(); st.Health != admin.HealthAtRisk || st.Needs != "2 more drives" {
		t.Errorf("got %s, needs %q, want at-risk and 2 more drives", st.Health, st.Needs)
	}
	ds[0].repairAndMount()
	ds[3].repairAndMount()
	s.waitHealthy(healWithin)
	each(t, files, s.check)
	for _, d := range []*disk{ds[1], ds[4]} {
		d.unmount()
	}
	s.waitStatus(20*time.Second, "two others unmounted", func(st admin.Status) bool {
		return driveState(st, ds[1].path) == "missing" && driveState(st, ds[4].path) == "missing"
	})
	each(t, files, s.check)
}
