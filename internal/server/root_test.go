package server

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cairn"
)

// asks tells how a node's admin interface answers to credentials.
func (n *testNode) asks(access, secret string) int {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, "http://"+n.srv.AdminAddr()+"/api/v1/status", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.SetBasicAuth(access, secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A node that only stores data keeps none of the cluster's secrets, and its admin interface takes the cluster's root credentials
// all the same.
func TestDataNodeKnowsTheClustersRoot(t *testing.T) {
	root := t.TempDir()
	first := mustStart(t, filepath.Join(root, "first"), Enlist{Name: "first", Drives: Wish{Profile: cairn.Profile{K: 1}}})
	first.waitReady()
	data := first.join("data", cairn.RoleData)
	end := time.Now().Add(patience)
	for { // failed logins are counted, so the row is waited for first
		if _, err := readRoot(t.Context(), data.srv.parts.meta); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond) // a poll across nodes
	}
	if code := data.asks(testAccess, testSecret); code != http.StatusOK {
		t.Errorf("the cluster's root credentials: %d", code)
	}
	for name, with := range map[string][2]string{"a wrong secret": {testAccess, "x"}, "a wrong key": {"x", testSecret}, "none": {"", ""}} {
		if code := data.asks(with[0], with[1]); code != http.StatusUnauthorized && code != http.StatusForbidden {
			t.Errorf("%s: %d", name, code)
		}
	}
	for _, name := range []string{"credentials", sealKeyName} {
		if _, err := os.Stat(filepath.Join(data.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it keeps %s: %v", name, err)
		}
	}
}

func TestRootRow(t *testing.T) {
	r, err := newRootRow("key", "secret")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		access, secret string
		want           bool
	}{{"key", "secret", true}, {"key", "Secret", false}, {"", "secret", false}, {"key", "", false}} {
		if got := r.matches(tt.access, tt.secret); got != tt.want {
			t.Errorf("%s, %s: got %v", tt.access, tt.secret, got)
		}
	}
	if (rootRow{}).matches("", "") {
		t.Error("no row matches no credentials")
	}
}
