//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn"
	"cairn/admin"
	"cairn/internal/process"
)

const bucket = "models"

// program is the program under test.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("CAIRN_BINARY")
	if path == "" {
		t.Fatal("CAIRN_BINARY does not name the binary: run make test-e2e")
	}
	return path
}

// store is a running server with its directory and a stock client.
type store struct {
	t      *testing.T
	dir    string
	args   []string
	server *process.Server
	s3     *minio.Client
}

// start runs a server on a new directory; args go behind --data.
func start(t *testing.T, args ...string) *store {
	t.Helper()
	s := &store{t: t, dir: filepath.Join(t.TempDir(), "data"), args: args}
	t.Cleanup(s.cleanup)
	s.run()
	s.makeBucket()
	return s
}

func (s *store) makeBucket() {
	s.t.Helper()
	if err := s.s3.MakeBucket(s.t.Context(), bucket, minio.MakeBucketOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// run starts the process, also again after it was stopped or killed.
func (s *store) run() {
	s.t.Helper()
	args := append([]string{"--data", s.dir}, s.args...)
	if s.server != nil { // the same addresses, so that clients find it again
		args = append(args, "--s3-addr", s.server.S3Addr, "--admin-addr", s.server.AdminAddr)
	}
	p, err := process.Start(s.t.Context(), process.Options{Binary: program(s.t), Args: args})
	if err != nil {
		s.t.Fatal(err)
	}
	s.server = p
	s.s3, err = minio.New(p.S3Addr, &minio.Options{Creds: credentials.NewStaticV4(process.AccessKey, process.SecretKey, "")})
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *store) cleanup() {
	if s.server == nil {
		return
	}
	if s.t.Failed() {
		s.t.Logf("the server's log:\n%s", s.server.Log())
	}
	select {
	case <-s.server.Exited():
	default:
		if err := s.server.Stop(); err != nil {
			s.t.Error(err)
		}
	}
}

// drive is the path of the n-th drive directory, from 1.
func (s *store) drive(n int) string { return filepath.Join(s.dir, fmt.Sprintf("drive%d", n)) }

// ask calls the admin API.
func (s *store) ask(ctx context.Context, method, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, s.server.AdminURL()+path, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(process.AccessKey, process.SecretKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return json.Unmarshal(b, v)
}

func (s *store) status() admin.Status {
	s.t.Helper()
	var st admin.Status
	if err := s.ask(s.t.Context(), "GET", "/api/v1/status", &st); err != nil {
		s.t.Fatal(err)
	}
	return st
}

// waitStatus polls until ok accepts a status.
func (s *store) waitStatus(within time.Duration, what string, ok func(admin.Status) bool) admin.Status {
	s.t.Helper()
	began := time.Now()
	for {
		st := s.status()
		if ok(st) {
			s.t.Logf("%s after %v", what, time.Since(began).Round(10*time.Millisecond))
			return st
		}
		if time.Since(began) > within {
			b, _ := json.MarshalIndent(st, "", " ")
			s.t.Fatalf("not %s after %v: %s", what, within, b)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// waitHealthy waits until everything has full redundancy again.
func (s *store) waitHealthy(within time.Duration) {
	s.t.Helper()
	s.waitStatus(within, "healthy", func(st admin.Status) bool { return st.Health == admin.HealthOK })
}

// waitNoticed waits until the loss of drives shows: their identities are not those of before any more, or they are not ok.
func (s *store) waitNoticed(before admin.Status, paths ...string) {
	s.t.Helper()
	was := map[string]string{}
	for _, d := range before.Drives {
		was[d.Path] = d.ID
	}
	s.waitStatus(20*time.Second, "loss noticed", func(st admin.Status) bool {
		n := 0
		for _, d := range st.Drives {
			if slices.Contains(paths, d.Path) && (d.ID != was[d.Path] || d.State.String() != "ok") {
				n++
			}
		}
		return n == len(paths)
	})
}

// show finds an object's shards.
func (s *store) show(key string) admin.Object {
	s.t.Helper()
	var o admin.Object
	path := "/api/v1/objects/" + bucket + "/" + (&url.URL{Path: key}).EscapedPath() + "/shards"
	if err := s.ask(s.t.Context(), "GET", path, &o); err != nil {
		s.t.Fatal(err)
	}
	return o
}

// scrub runs one full pass.
func (s *store) scrub() admin.Scrub {
	s.t.Helper()
	began := time.Now()
	for {
		var check admin.Scrubbing
		if err := s.ask(s.t.Context(), "POST", "/api/v1/scrub", &check); err != nil {
			s.t.Fatal(err)
		}
		job := check.Job
		for !job.Ended() {
			if time.Since(began) > 2*time.Minute {
				s.t.Fatalf("the check did not end: %+v", job)
			}
			time.Sleep(50 * time.Millisecond)
			if err := s.ask(s.t.Context(), "GET", fmt.Sprintf("/api/v1/jobs/%d", job.ID), &job); err != nil {
				s.t.Fatal(err)
			}
		}
		if job.Created.After(began) { // else it was under way, and may have seen what was there before
			if job.State != cairn.JobDone {
				s.t.Fatalf("the check failed: %+v", job)
			}
			break
		}
	}
	var now admin.Scrub
	if err := s.ask(s.t.Context(), "GET", "/api/v1/scrub", &now); err != nil {
		s.t.Fatal(err)
	}
	return now
}

// cli runs another subcommand of the binary against this server.
func (s *store) cli(args ...string) (stdout string, code int) {
	s.t.Helper()
	cmd := exec.Command(program(s.t), args...)
	cmd.Env = []string{"CAIRN_ADMIN=" + s.server.AdminURL(), "CAIRN_ROOT_ACCESS_KEY=" + process.AccessKey,
		"CAIRN_ROOT_SECRET_KEY=" + process.SecretKey}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if stderr.Len() > 0 {
		s.t.Logf("cairn %s: %s", strings.Join(args, " "), stderr.String())
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// removeAll deletes a directory that a process still writes into.
func removeAll(t *testing.T, dir string) {
	t.Helper()
	for range 100 {
		err := os.RemoveAll(dir)
		if err == nil {
			return
		}
		if !errors.Is(err, fs.ErrExist) && !strings.Contains(err.Error(), "not empty") {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s fills faster than it can be deleted", dir)
}
