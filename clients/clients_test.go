//go:build clients

package clients

import (
	"bufio"
	"bytes"
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cairn/internal/process"
)

const region = "us-east-1"

// bench is one client's place: a fresh server, a scratch directory, and the environment that the client finds both by.
type bench struct {
	t      *testing.T
	client string
	server *process.Server
	dir    string
	env    []string
}

// newBench starts a server for a client. need names the programs without which the client is skipped, loudly.
func newBench(t *testing.T, client string, need ...string) *bench {
	t.Helper()
	for _, program := range need {
		if _, err := exec.LookPath(program); err != nil {
			fmt.Printf("SKIP %s: %s is not installed and could not be had\n", client, program)
			t.Skipf("%s is not installed", program)
		}
	}
	binary := os.Getenv("CAIRN_BINARY")
	if binary == "" {
		t.Fatal("CAIRN_BINARY does not name the binary: run make test-clients")
	}
	b := &bench{t: t, client: client, dir: t.TempDir()}
	var err error
	b.server, err = process.Start(t.Context(), process.Options{Binary: binary, Args: []string{"--data", filepath.Join(b.dir, "data")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.server.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, setting := range os.Environ() { // without what this machine wants of the real AWS
		if !strings.HasPrefix(setting, "AWS_") {
			b.env = append(b.env, setting)
		}
	}
	b.env = append(b.env, "HOME="+b.dir, "AWS_ACCESS_KEY_ID="+process.AccessKey, "AWS_SECRET_ACCESS_KEY="+process.SecretKey,
		"AWS_DEFAULT_REGION="+region, "AWS_REGION="+region, "AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null",
		"ENDPOINT="+b.server.Endpoint(), "PYTHONUNBUFFERED=1")
	return b
}

// check runs one case and prints its line.
func (b *bench) check(name string, run func() error) {
	b.t.Helper()
	start := time.Now()
	if err := run(); err != nil {
		b.t.Errorf("%s: %s: %v", b.client, name, err)
		fmt.Printf("FAIL %s: %s: %v\n", b.client, name, firstLine(err.Error()))
		return
	}
	fmt.Printf("PASS %s: %s (%.1f s)\n", b.client, name, time.Since(start).Seconds())
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}

// run runs a program to its end and returns what it printed; stderr goes into the error.
func (b *bench) run(name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = b.env, b.dir, &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%v: %s %s", err, strings.TrimSpace(errs.String()), tail(out.String()))
	}
	return out.String(), nil
}

func tail(s string) string { return s[max(0, len(s)-400):] }

// script runs a program that prints its own lines: "PASS case" or "FAIL case: why". No line at all is a failure, too.
func (b *bench) script(name string, args ...string) {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), name, args...)
	cmd.Env, cmd.Dir = b.env, b.dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	passed := 0
	for sc := bufio.NewScanner(out); sc.Scan(); {
		verdict, what, _ := strings.Cut(sc.Text(), " ")
		switch verdict {
		case "PASS":
			passed++
		case "FAIL":
			b.t.Errorf("%s: %s", b.client, what)
		default:
			continue
		}
		fmt.Printf("%s %s: %s\n", verdict, b.client, what)
	}
	if err := cmd.Wait(); err != nil || passed == 0 {
		fmt.Printf("FAIL %s: the script ended with %v after %d cases\n", b.client, err, passed)
		b.t.Errorf("%s: %v after %d cases: %s", b.client, err, passed, tail(errs.String()))
	}
}

// here is the path of a file beside the tests.
func here(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sizes are the lengths of bodies at which clients and servers change what they do.
var sizes = []int{0, 1, 5<<20 - 1, 5 << 20, 5<<20 + 1, 64<<20 - 1, 64 << 20, 64<<20 + 1}

// keys are what every client must be able to name that takes keys as they stand.
func keys(t *testing.T) (list []string) {
	t.Helper()
	text, err := os.ReadFile("keys.json")
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(list, strings.Repeat("k", 1024), strings.Repeat("s/", 512))
}

// body makes n bytes that another body does not share.
func body(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}).Read(b)
	return b
}

func (b *bench) file(name string, content []byte) string {
	b.t.Helper()
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// same compares a file with what it should hold.
func same(path string, want []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if md5.Sum(got) != md5.Sum(want) {
		return fmt.Errorf("%s holds %d bytes that differ from the %d wanted", path, len(got), len(want))
	}
	return nil
}

func brief(key string) string {
	if len(key) > 40 {
		return fmt.Sprintf("%.20q… (%d bytes)", key, len(key))
	}
	return fmt.Sprintf("%q", key)
}
