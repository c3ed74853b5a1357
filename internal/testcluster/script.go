package testcluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn"
	"cairn/admin"
)

// RunScript runs a script against a new cluster. A script is blocks of commands, each followed by "----" and what the
// commands print; with rewrite set the file is written anew with what they print now.
//
//	cluster [drives=6] [profile=4+2] [named]    the first command
//	bucket B                                    makes a bucket
//	put B/K size=1MiB                           stores bytes that its name and the number of the put determine
//	get B/K                                     reads and compares with the last put that was acknowledged
//	copy B/K B/K2, delete B/K, list B [prefix]
//	lose drive=N                                deletes the drive's directory
//	unplug drive=N, plug drive=N                moves it away and back
//	shards B/K                                  counts shards by state
//	wait health=ok|healing|at-risk|lost         polls for at most a minute
//	wait drive=N state=missing
//	scrub                                       one full pass; prints nothing but its end
//	status                                      health and needs
//	restart
//
// Lines that begin with # are comments.
func RunScript(t *testing.T, path string, rewrite bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, bodies: map[string][]byte{}}
	var out strings.Builder
	for i, block := range strings.Split(strings.TrimRight(string(text), "\n"), "\n\n") {
		commands, want, ok := strings.Cut(block, "\n----")
		if !ok {
			out.WriteString(block + "\n\n") // comments only
			continue
		}
		got := s.block(commands)
		if want = strings.TrimPrefix(want, "\n"); got != strings.TrimRight(want, "\n") && !rewrite {
			t.Fatalf("%s, block %d:\n%s\ngot:\n%s\nwant:\n%s", path, i+1, commands, got, want)
		}
		out.WriteString(strings.TrimRight(commands+"\n----\n"+got, "\n") + "\n\n")
	}
	if rewrite {
		if err := os.WriteFile(path, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const scriptPatience = time.Minute

// script is a run of one.
type script struct {
	t      *testing.T
	c      *Cluster
	puts   uint64
	bodies map[string][]byte // what each key was put with last
}

func (s *script) block(commands string) string {
	var out []string
	for line := range strings.Lines(commands) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, err := s.command(line)
		if err != nil {
			text = strings.TrimSpace(text + " error: " + brief(err))
		}
		if text != "" {
			out = append(out, text)
		}
	}
	return strings.Join(out, "\n")
}

// brief names S3 errors by their code: texts hold identifiers that differ from run to run.
func brief(err error) string {
	var r minio.ErrorResponse
	if errors.As(err, &r) {
		return r.Code
	}
	return err.Error()
}

// command runs one line.
func (s *script) command(line string) (string, error) {
	f := strings.Fields(line)
	arg := func(i int) string {
		if i < len(f) {
			return f[i]
		}
		return ""
	}
	if f[0] != "cluster" && s.c == nil {
		s.t.Fatalf("%q comes before cluster", line)
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	switch f[0] {
	case "cluster":
		return "", s.start(f[1:])
	case "bucket":
		return "", s.c.S3.MakeBucket(ctx, arg(1), minio.MakeBucketOptions{})
	case "put":
		return s.put(ctx, arg(1), option(f, "size"))
	case "get":
		return s.get(ctx, arg(1))
	case "copy":
		return s.copy(ctx, arg(1), arg(2))
	case "delete":
		bucket, key, _ := strings.Cut(arg(1), "/")
		return "", s.c.S3.RemoveObject(ctx, bucket, key, minio.RemoveObjectOptions{})
	case "list":
		return s.list(ctx, arg(1), arg(2))
	case "lose", "unplug", "plug":
		return "", s.harm(f[0], option(f, "drive"))
	case "shards":
		return s.shards(arg(1))
	case "wait":
		return s.wait(option(f, "health"), option(f, "drive"), option(f, "state"))
	case "scrub":
		return s.scrub()
	case "status":
		st, err := s.c.Status()
		return strings.TrimSpace(string(st.Health) + " " + st.Needs), err
	case "restart":
		s.c.Restart()
		return "", nil
	}
	s.t.Fatalf("unknown command %q", line)
	return "", nil
}

// option returns the value of name=value among the words.
func option(words []string, name string) string {
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, name+"="); ok {
			return v
		}
	}
	return ""
}

func (s *script) start(words []string) (err error) {
	cfg := Config{Named: slices.Contains(words, "named")}
	if v := option(words, "drives"); v != "" {
		if cfg.Drives, err = strconv.Atoi(v); err != nil {
			return err
		}
	}
	if v := option(words, "profile"); v != "" {
		if cfg.Profile, err = cairn.ParseProfile(v); err != nil {
			return err
		}
	}
	s.c = Start(s.t, cfg)
	return nil
}

func sizeOf(text string) (int, error) {
	unit := 1
	for suffix, n := range map[string]int{"KiB": 1 << 10, "MiB": 1 << 20} {
		if rest, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = rest, n
		}
	}
	n, err := strconv.Atoi(text)
	return n * unit, err
}

func (s *script) put(ctx context.Context, name, sizeText string) (string, error) {
	size, err := sizeOf(sizeText)
	if err != nil {
		return "", err
	}
	s.puts++
	seed := sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(name), s.puts))
	body := make([]byte, size)
	rand.NewChaCha8(seed).Read(body)
	bucket, key, _ := strings.Cut(name, "/")
	if _, err := s.c.S3.PutObject(ctx, bucket, key, bytes.NewReader(body), int64(size), minio.PutObjectOptions{}); err != nil {
		return "", err
	}
	s.bodies[name] = body
	return "", nil
}

func (s *script) get(ctx context.Context, name string) (string, error) {
	bucket, key, _ := strings.Cut(name, "/")
	o, err := s.c.S3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return "", err
	}
	defer o.Close()
	got, err := io.ReadAll(o)
	if err != nil {
		return "", err
	}
	if want, ok := s.bodies[name]; !ok || !bytes.Equal(got, want) {
		return "WRONG BYTES", nil
	}
	return "ok", nil
}

func (s *script) copy(ctx context.Context, from, to string) (string, error) {
	fromBucket, fromKey, _ := strings.Cut(from, "/")
	toBucket, toKey, _ := strings.Cut(to, "/")
	_, err := s.c.S3.CopyObject(ctx, minio.CopyDestOptions{Bucket: toBucket, Object: toKey},
		minio.CopySrcOptions{Bucket: fromBucket, Object: fromKey})
	if err == nil {
		s.bodies[to] = s.bodies[from]
	}
	return "", err
}

func (s *script) list(ctx context.Context, bucket, prefix string) (string, error) {
	var keys []string
	for o := range s.c.S3.ListObjects(ctx, bucket, minio.ListObjectsOptions{Prefix: prefix}) {
		if o.Err != nil {
			return "", o.Err
		}
		keys = append(keys, o.Key)
	}
	return strings.Join(keys, "\n"), nil
}

func (s *script) harm(how, drive string) error {
	n, err := strconv.Atoi(drive)
	if err != nil {
		return err
	}
	path := s.c.Drive(n)
	switch how {
	case "unplug":
		return os.Rename(path, path+".unplugged")
	case "plug":
		return os.Rename(path+".unplugged", path)
	}
	before, err := s.c.Status()
	if err != nil {
		return err
	}
	for range 100 { // the server may add files while they are deleted
		if err = os.RemoveAll(path); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	return s.until(func(st admin.Status) bool { return driveID(st, path) != driveID(before, path) })
}

func driveID(st admin.Status, path string) string {
	for _, d := range st.Drives {
		if d.Path == path && d.State == cairn.DriveOK {
			return d.ID
		}
	}
	return ""
}

// until polls the status until ok accepts one.
func (s *script) until(ok func(admin.Status) bool) error {
	var st admin.Status
	for began := time.Now(); time.Since(began) < scriptPatience; time.Sleep(20 * time.Millisecond) {
		var err error
		if st, err = s.c.Status(); err != nil {
			return err
		}
		if ok(st) {
			return nil
		}
	}
	return fmt.Errorf("still %s %q, %d findings queued", st.Health, st.Reasons, st.Repair.Queued)
}

func (s *script) wait(health, drive, state string) (string, error) {
	if health != "" {
		return "", s.until(func(st admin.Status) bool { return string(st.Health) == health })
	}
	n, err := strconv.Atoi(drive)
	if err != nil {
		return "", err
	}
	return "", s.until(func(st admin.Status) bool {
		return slices.ContainsFunc(st.Drives, func(d admin.Drive) bool { return d.Path == s.c.Drive(n) && d.State.String() == state })
	})
}

func (s *script) shards(name string) (string, error) {
	var o admin.Object
	if err := s.c.Admin(http.MethodGet, "/api/v1/objects/"+name+"/shards?verify=1", &o); err != nil {
		return "", err
	}
	if len(o.Blobs) == 0 {
		return fmt.Sprintf("inline %d", o.Inline), nil
	}
	var out []string
	for _, b := range o.Blobs {
		counts := map[string]int{}
		for _, sh := range b.Shards {
			counts[sh.State]++
		}
		line := b.Profile.String()
		for _, state := range []string{"ok", "missing", "corrupt", "unreachable"} {
			if counts[state] > 0 {
				line += fmt.Sprintf(" %s=%d", state, counts[state])
			}
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n"), nil
}

func (s *script) scrub() (string, error) {
	var before, now admin.Scrub
	if err := s.c.Admin(http.MethodGet, "/api/v1/scrub", &before); err != nil {
		return "", err
	}
	if err := s.c.Admin(http.MethodPost, "/api/v1/scrub", &now); err != nil {
		return "", err
	}
	return "", s.until(func(st admin.Status) bool { return st.Scrub.Passes > before.Passes })
}
