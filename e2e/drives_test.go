//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/admin"
	"cairn/internal/process"
)

func (s *store) credentials() *credentials.Credentials {
	return credentials.NewStaticV4(process.AccessKey, process.SecretKey, "")
}

// namedDrives makes n directories and the flags that name them.
func namedDrives(t *testing.T, n int) (paths, flags []string) {
	t.Helper()
	dir := t.TempDir()
	for i := range n {
		p := filepath.Join(dir, fmt.Sprintf("disk%d", i+1))
		if err := os.Mkdir(p, 0o755); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
		flags = append(flags, "--drive", p)
	}
	return paths, flags
}

// samples stores a few objects of all kinds of sizes and returns a check of them.
func (s *store) samples(prefix string) (check func()) {
	s.t.Helper()
	bodies := map[string][]byte{}
	for i, size := range []int{0, 100, 9 << 10, unit + 1, 3*stripe + 17, 20 << 20} {
		key := prefix + "/" + strconv.Itoa(size)
		bodies[key] = content(uint64(i+77), size)
		s.mustPut(key, bodies[key])
	}
	return func() {
		s.t.Helper()
		for key, want := range bodies {
			if got, err := s.read(s.t.Context(), key); err != nil || !bytes.Equal(got, want) {
				s.t.Errorf("%s: %d bytes, want %d, %v", key, len(got), len(want), err)
			}
		}
	}
}

func driveState(st admin.Status, path string) string {
	for _, d := range st.Drives {
		if d.Path == path {
			return d.State.String()
		}
	}
	return "unlisted"
}

// TestNamedDrives: an absent path is missing and is not created; its return is healed; two of six gone for good leave the
// store writing as 2+2 and saying what it needs; an empty directory is taken over and filled.
func TestNamedDrives(t *testing.T) {
	paths, flags := namedDrives(t, 6)
	s := start(t, flags...)
	check := s.samples("before")
	for _, p := range paths[1:3] {
		if err := os.Rename(p, p+".unplugged"); err != nil {
			t.Fatal(err)
		}
	}
	st := s.waitStatus(20*time.Second, "two missing", func(st admin.Status) bool {
		return driveState(st, paths[1]) == "missing" && driveState(st, paths[2]) == "missing" && st.Health == admin.HealthAtRisk
	})
	if st.Needs != "2 more drives" {
		t.Errorf("needs %q, want 2 more drives", st.Needs)
	}
	check()
	narrow := s.samples("narrow")
	if got := s.show("narrow/20971520").Blobs[0].Profile.String(); got != "2+2" {
		t.Errorf("with four drives left a new object is stored as %s, want 2+2", got)
	}
	for _, p := range paths[1:3] {
		if _, err := os.Stat(p); !os.IsNotExist(err) {
			t.Errorf("the absent path %s was created", p)
		}
	}
	// One comes back as it was; the other is replaced by an empty disk.
	if err := os.Rename(paths[1]+".unplugged", paths[1]); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(paths[2], 0o755); err != nil {
		t.Fatal(err)
	}
	s.waitHealthy(healWithin)
	check()
	narrow()
	// The healed store bears the loss of two others.
	for _, p := range paths[4:6] {
		if err := os.Rename(p, p+".unplugged"); err != nil {
			t.Fatal(err)
		}
	}
	s.waitStatus(20*time.Second, "two others missing", func(st admin.Status) bool {
		return driveState(st, paths[4]) == "missing" && driveState(st, paths[5]) == "missing"
	})
	check()
	narrow()
}

// TestSecondServerIsRefused: the lock names its holder, also when that was started by somebody else.
func TestSecondServerIsRefused(t *testing.T) {
	s := start(t)
	cmd := exec.Command(program(t), "server", "--data", s.dir, "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("PID %d", s.server.PID())) {
		t.Errorf("got %v, %s, want a refusal that names PID %d", err, out, s.server.PID())
	}
	s.samples("after")()
}

// TestRestartKeepsEverything: an orderly stop ends with exit code 0, and a start on the same directory has it all.
func TestRestartKeepsEverything(t *testing.T) {
	s := start(t)
	check := s.samples("a")
	cluster := s.status().Cluster
	for range 2 {
		if err := s.server.Stop(); err != nil {
			t.Fatal(err)
		}
		s.run()
		check()
	}
	st := s.status()
	if st.Cluster != cluster || len(st.Drives) != 6 {
		t.Errorf("got cluster %s with %d drives, want %s with 6", st.Cluster, len(st.Drives), cluster)
	}
	s.waitHealthy(healWithin)
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(t), "server", "--data", s.dir, "--drives", "5")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot be taken away") {
		t.Errorf("fewer drives: got %v, %s, want a refusal", err, out)
	}
	s.run()
	check()
}

// TestCommandLine: credentials are made once and kept private, and the other subcommands find them.
func TestCommandLine(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program(t), "server", "--data", dir, "--drives", "3", "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{}
	out := &lines{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("after SIGINT: %v: %s", err, out)
		}
	}()
	admin := out.after(t, "admin  ")
	access := out.after(t, "AWS_ACCESS_KEY_ID=")
	info, err := os.Stat(filepath.Join(dir, "credentials"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("credentials: %v, %v, want mode 0600", info, err)
	}
	kept, err := os.ReadFile(filepath.Join(dir, "credentials"))
	if err != nil || !strings.Contains(string(kept), access) {
		t.Errorf("the printed key %s is not in the file (%v)", access, err)
	}
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"status", 0, "health    ok"},
		{"status -o json", 0, `"health": "ok"`},
		{"scrub start --wait", 0, "clean"},
		{"scrub status -o json", 0, `"findings": 0`},
		{"repair status", 0, "idle"},
		{"object show no-such/thing", 1, ""},
		{"object show", 2, ""},
		{"status --nonsense", 2, ""},
	} {
		args := append(strings.Fields(tt.args), "--data", dir, "--admin", admin)
		c := exec.Command(program(t), args...)
		c.Env = []string{}
		b, _ := c.CombinedOutput()
		if got := c.ProcessState.ExitCode(); got != tt.code || !strings.Contains(string(b), tt.want) {
			t.Errorf("cairn %s: exit code %d, %s; want %d, %q", tt.args, got, b, tt.code, tt.want)
		}
	}
	c := exec.Command(program(t), "status", "--admin", admin)
	c.Env = []string{"CAIRN_ROOT_ACCESS_KEY=" + access, "CAIRN_ROOT_SECRET_KEY=wrong-secret-key"}
	if b, err := c.CombinedOutput(); err == nil {
		t.Errorf("a wrong secret is let in: %s", b)
	}
}

// TestStatusFields: what `cairn status -o json` promises is there.
func TestStatusFields(t *testing.T) {
	s := start(t)
	s.samples("x")
	out, code := s.cli("status", "-o", "json")
	var fields map[string]json.RawMessage
	if err := json.Unmarshal([]byte(out), &fields); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	for _, name := range []string{"health", "blobs_by_spare", "drives", "capacity", "scrub", "repair", "voters", "volumes"} {
		if len(fields[name]) == 0 {
			t.Errorf("no %q in the status", name)
		}
	}
	var spare map[string]int
	if err := json.Unmarshal(fields["blobs_by_spare"], &spare); err != nil || spare["2"] != 4 {
		t.Errorf("blobs_by_spare: got %s, want 4 blobs with 2 spare (%v)", fields["blobs_by_spare"], err)
	}
	if n := len(s.status().Voters); n != 5 {
		t.Errorf("got %d metadata voters, want 5", n)
	}
	out, code = s.cli("object", "show", bucket+"/x/20971520", "-o", "json")
	var o admin.Object
	if err := json.Unmarshal([]byte(out), &o); err != nil || code != 0 || len(o.Blobs) != 1 || len(o.Blobs[0].Shards) != 6 {
		t.Errorf("object show: exit code %d, %v: %s", code, err, out)
	}
}

// TestAllDrivesReplacedIsNotAFreshStart (I4): a store whose drives have all vanished while it was stopped does not begin anew
// as if nothing had been stored; it says why it is not ready.
func TestAllDrivesReplacedIsNotAFreshStart(t *testing.T) {
	s := start(t)
	s.samples("x")()
	if err := s.server.Stop(); err != nil {
		t.Fatal(err)
	}
	for n := range 6 {
		if err := os.Rename(s.drive(n+1), s.drive(n+1)+".away"); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program(t), "server", "--data", s.dir, "--s3-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out := &lines{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.after(t, "not ready yet")
	if strings.Contains(out.String(), "S3  ") {
		t.Errorf("a store without its drives greets as if it were ready: %s", out)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for n := range 6 { // the disks are put back
		if err := os.RemoveAll(s.drive(n + 1)); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(s.drive(n+1)+".away", s.drive(n+1)); err != nil {
			t.Fatal(err)
		}
	}
	s.run()
	for _, size := range []int{0, 100, 9 << 10, unit + 1, 3*stripe + 17, 20 << 20} {
		if _, err := s.read(t.Context(), fmt.Sprintf("x/%d", size)); err != nil {
			t.Error(err)
		}
	}
	s.waitHealthy(healWithin)
}
