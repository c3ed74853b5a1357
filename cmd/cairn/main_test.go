package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/admin"
)

func TestExitCodes(t *testing.T) {
	t.Setenv(envAccessKey, "")
	t.Setenv(envSecretKey, "")
	none := t.TempDir()
	for _, tt := range []struct {
		args string
		code int
		out  string
	}{
		{"", 0, "Usage"},
		{"version", 0, "cairn"},
		{"version -o json", 0, `"go"`},
		{"version -o yaml", 2, "text or json"},
		{"nonsense", 2, "unknown command"},
		{"scrub", 2, "subcommand"},
		{"object show", 2, "1 arg"},
		{"object show bucket", 2, "BUCKET/KEY"},
		{"server --profile 4-2", 2, "data+parity"},
		{"server --log-level loud", 2, "loud"},
		{"bench --ops fly --data " + none, 2, "want put"},
		{"bench --sizes 4Q --data " + none, 2, "size"},
		{"status --data " + none, 1, envAccessKey},
	} {
		var out bytes.Buffer
		if got := run(context.Background(), strings.Fields(tt.args), nil, &out, &out); got != tt.code || !strings.Contains(out.String(), tt.out) {
			t.Errorf("cairn %s: got %d, %q, want %d, %q", tt.args, got, out.String(), tt.code, tt.out)
		}
	}
}

func TestCredentialsAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	none := func(string) string { return "" }
	first, made, err := serverCredentials(dir, none)
	if err != nil || !made || len(first.AccessKey) != 20 || len(first.SecretKey) != 40 {
		t.Fatalf("got %+v, %t, %v, want new keys of 20 and 40 characters", first, made, err)
	}
	info, err := os.Stat(filepath.Join(dir, credentialsName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("got mode %v, %v, want 0600", info.Mode(), err)
	}
	again, made, err := serverCredentials(dir, none)
	if err != nil || made || again != first {
		t.Errorf("second start: got %+v, %t, %v, want the same keys", again, made, err)
	}
	env := map[string]string{envAccessKey: "mine", envSecretKey: "my-secret"}
	fromEnv, made, err := serverCredentials(dir, func(n string) string { return env[n] })
	if err != nil || made || fromEnv.AccessKey != "mine" {
		t.Errorf("environment: got %+v, %t, %v", fromEnv, made, err)
	}
	if kept, made, err := serverCredentials(dir, none); err != nil || made || kept != fromEnv {
		t.Errorf("a restart without the environment's: got %+v, %t, %v, want %+v", kept, made, err, fromEnv)
	}
	delete(env, envSecretKey)
	if _, _, err := serverCredentials(dir, func(n string) string { return env[n] }); err == nil {
		t.Error("half a pair in the environment is taken")
	}
	if err := os.WriteFile(filepath.Join(dir, credentialsName), []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, made, err := serverCredentials(dir, none); err == nil || made {
		t.Error("a broken credentials file is replaced: clients would lose access without a word")
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "4KiB": 4096, "4k": 4096, "1.5MiB": 3 << 19, "2G": 2 << 30, "7B": 7} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "4Q", "4KiBB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}

func TestStatusText(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	text := statusText(admin.Status{
		Health: admin.HealthAtRisk, Reasons: []string{"Two drives are gone."}, Needs: "2 more drives",
		Profile: cairn.Profile{K: 4, M: 2}, Now: now, Started: now.Add(-time.Hour),
		BlobsBySpare: map[int]int64{0: 5, 2: 7, -1: 1},
		Drives:       []admin.Drive{{ID: strings.Repeat("ab", 16), Path: "/mnt/a", State: cairn.DriveMissing, Since: now.Add(-time.Minute), Reason: "no such directory"}},
		Voters:       []admin.Voter{{ID: 7, State: "up", Leader: true, Path: "/mnt/a/meta"}},
		Repair:       admin.Repair{Progress: cairn.Progress{State: "waiting"}, Queued: 3, Waiting: "needs 1 more drive"},
	})
	for _, want := range []string{"at-risk", "Two drives are gone.", "2 more drives", "1 LOST, 5 with 0 spare, 7 with 2 spare",
		"abababab  missing  1m0s", "no such directory", "leader", "3 queued; waiting: needs 1 more drive", "up 1h0m0s"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}
