package server

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"cairn"
)

func TestSettle(t *testing.T) {
	six, err := Settle(nil, Wish{})
	if err != nil {
		t.Fatal(err)
	}
	disks, err := Settle(nil, Wish{Named: []string{"/a", "/b", "/c", "/d"}})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		old     *State
		wish    Wish
		drives  int
		profile string
		refused bool
	}{
		{"first start", nil, Wish{}, 6, "4+2", false},
		{"one drive", nil, Wish{Drives: 1}, 1, "1+0", false},
		{"three drives", nil, Wish{Drives: 3}, 3, "2+1", false},
		{"four disks", nil, Wish{Named: []string{"/a", "/b", "/c", "/d"}}, 4, "2+2", false},
		{"wider than the drives", nil, Wish{Drives: 5, Profile: cairn.Profile{K: 4, M: 2}}, 5, "4+2", false},
		{"fewer drives than one data and all parity", nil, Wish{Drives: 2, Profile: cairn.Profile{K: 4, M: 2}}, 0, "", true},
		{"both kinds of drives", nil, Wish{Drives: 2, Named: []string{"/a"}}, 0, "", true},
		{"restart", &six, Wish{}, 6, "4+2", false},
		{"more drives", &six, Wish{Drives: 8}, 8, "4+2", false},
		{"fewer drives", &six, Wish{Drives: 5}, 0, "", true},
		{"another profile", &six, Wish{Profile: cairn.Profile{K: 2, M: 2}}, 6, "2+2", false},
		{"disks beside directories", &six, Wish{Named: []string{"/x"}}, 7, "4+2", false},
		{"disks kept", &disks, Wish{}, 4, "2+2", false},
		{"a disk added", &disks, Wish{Named: []string{"/a", "/b", "/c", "/d", "/e"}}, 5, "2+2", false},
		{"a disk not named any more", &disks, Wish{Named: []string{"/a", "/b", "/c"}}, 0, "", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Settle(tt.old, tt.wish)
			if tt.refused {
				if !errors.Is(err, cairn.ErrInvalid) {
					t.Fatalf("got %+v, %v, want a refusal", got, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n := len(got.Drives("/data")); n != tt.drives || got.Profile.String() != tt.profile {
				t.Errorf("got %d drives, %s, want %d, %s", n, got.Profile, tt.drives, tt.profile)
			}
			if tt.old != nil && (got.Cluster != tt.old.Cluster || got.Node != tt.old.Node) {
				t.Error("identifiers changed")
			}
		})
	}
}

func TestDirectoryKeepsState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	want, err := Settle(d.State, Wish{})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Save(want); err != nil {
		t.Fatal(err)
	}
	d.Close()
	d, err = OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.State == nil || d.State.Cluster != want.Cluster || len(d.State.Made) != 6 {
		t.Errorf("got %+v, want %+v", d.State, want)
	}
}

// TestDirectoryHeldByAnother runs this test binary a second time on a directory that this process holds.
func TestDirectoryHeldByAnother(t *testing.T) {
	if dir := os.Getenv("CAIRN_TEST_LOCK_DIR"); dir != "" {
		_, err := OpenDirectory(dir)
		if err == nil {
			t.Fatal("the directory could be opened twice")
		}
		os.Stdout.WriteString(err.Error())
		return
	}
	dir := t.TempDir()
	d, err := OpenDirectory(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestDirectoryHeldByAnother$")
	cmd.Env = append(os.Environ(), "CAIRN_TEST_LOCK_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PID "+strconv.Itoa(os.Getpid())) {
		t.Errorf("got %v, %s, want a refusal that names PID %d", err, out, os.Getpid())
	}
}
