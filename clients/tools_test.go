//go:build clients

package clients

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cairn/internal/process"
)

func TestAWSCLI(t *testing.T) {
	b := newBench(t, "awscli", "aws")
	b.env = append(b.env, "AWS_PAGER=")
	aws := func(args ...string) (string, error) {
		return b.run("aws", append([]string{"--endpoint-url", b.server.Endpoint()}, args...)...)
	}
	b.check("mb", func() error { _, err := aws("s3", "mb", "s3://bucket"); return err })
	out := filepath.Join(b.dir, "out")
	for _, key := range keys(t) {
		b.check("key "+brief(key), func() error {
			want := []byte(key)
			if _, err := aws("s3api", "put-object", "--bucket", "bucket", "--key", key, "--body", b.file("in", want)); err != nil {
				return err
			}
			if _, err := aws("s3api", "get-object", "--bucket", "bucket", "--key", key, out); err != nil {
				return err
			}
			return same(out, want)
		})
	}
	for _, n := range sizes {
		b.check(fmt.Sprintf("cp of %d bytes", n), func() error {
			want := body(n)
			if _, err := aws("s3", "cp", "--no-progress", b.file("in", want), "s3://bucket/sized"); err != nil {
				return err
			}
			if _, err := aws("s3", "cp", "--no-progress", "s3://bucket/sized", out); err != nil {
				return err
			}
			return same(out, want)
		})
	}
	b.check("ranges", func() error {
		want := body(10_000)
		if _, err := aws("s3api", "put-object", "--bucket", "bucket", "--key", "ranges", "--body", b.file("in", want)); err != nil {
			return err
		}
		for _, r := range []struct {
			header   string
			from, to int
		}{{"bytes=0-0", 0, 1}, {"bytes=10-19", 10, 20}, {"bytes=9990-", 9990, 10_000}, {"bytes=-7", 9993, 10_000}, {"bytes=9000-99999", 9000, 10_000}} {
			if _, err := aws("s3api", "get-object", "--bucket", "bucket", "--key", "ranges", "--range", r.header, out); err != nil {
				return err
			}
			if err := same(out, want[r.from:r.to]); err != nil {
				return fmt.Errorf("%s: %w", r.header, err)
			}
		}
		return nil
	})
	b.check("sync there and back", func() error {
		tree := b.tree("tree", 60)
		if _, err := aws("s3", "sync", "--no-progress", tree, "s3://bucket/tree/"); err != nil {
			return err
		}
		back := filepath.Join(b.dir, "back")
		if _, err := aws("s3", "sync", "--no-progress", "s3://bucket/tree/", back); err != nil {
			return err
		}
		return b.equalTrees(tree, back)
	})
	b.check("rb --force", func() error { _, err := aws("s3", "rb", "--force", "s3://bucket"); return err })
}

func TestBoto3(t *testing.T) {
	b := newBench(t, "boto3", "python3")
	if _, err := b.run("python3", "-c", "import boto3"); err != nil {
		fmt.Println("SKIP boto3: the package python3-boto3 is not installed and could not be had")
		t.Skip("no boto3")
	}
	b.script("python3", here(t, "boto.py"), here(t, "keys.json"))
}

func TestJavaScript(t *testing.T) {
	b := newBench(t, "aws-sdk-js", "node", "npm")
	for _, name := range []string{"package.json", "package-lock.json", "cases.mjs"} {
		text, err := os.ReadFile(filepath.Join("js", name))
		if err != nil {
			t.Fatal(err)
		}
		b.file(name, text)
	}
	keysFile := here(t, "keys.json")
	if _, err := b.run("npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"); err != nil {
		fmt.Printf("SKIP aws-sdk-js: npm could not install it: %s\n", firstLine(err.Error()))
		t.Skip("npm ci failed")
	}
	b.script("node", "cases.mjs", keysFile)
}

func TestS3cmd(t *testing.T) {
	b := newBench(t, "s3cmd", "s3cmd")
	config := b.file("s3cfg", fmt.Appendf(nil, "[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\n",
		process.AccessKey, process.SecretKey, b.server.S3Addr, b.server.S3Addr))
	s3cmd := func(args ...string) (string, error) {
		return b.run("s3cmd", append([]string{"-c", config, "--no-progress"}, args...)...)
	}
	b.check("mb", func() error { _, err := s3cmd("mb", "s3://bucket"); return err })
	out := filepath.Join(b.dir, "out")
	for _, key := range keys(t) {
		if strings.HasSuffix(key, "/") || strings.HasPrefix(key, " ") {
			continue // s3cmd takes the first for a folder to put the file into, and strips the second
		}
		b.check("key "+brief(key), func() error {
			want := []byte(key)
			if _, err := s3cmd("put", b.file("in", want), "s3://bucket/"+key); err != nil {
				return err
			}
			if _, err := s3cmd("get", "--force", "s3://bucket/"+key, out); err != nil {
				return err
			}
			return same(out, want)
		})
	}
	for _, n := range sizes {
		b.check(fmt.Sprintf("%d bytes", n), func() error {
			want := body(n)
			if _, err := s3cmd("put", b.file("in", want), "s3://bucket/sized"); err != nil {
				return err
			}
			if _, err := s3cmd("get", "--force", "s3://bucket/sized", out); err != nil {
				return err
			}
			return same(out, want)
		})
	}
	b.check("sync there and back", func() error {
		tree := b.tree("tree", 40)
		if _, err := s3cmd("sync", tree+"/", "s3://bucket/tree/"); err != nil {
			return err
		}
		back := filepath.Join(b.dir, "back")
		if err := os.Mkdir(back, 0o755); err != nil {
			return err
		}
		if _, err := s3cmd("sync", "s3://bucket/tree/", back+"/"); err != nil {
			return err
		}
		return b.equalTrees(tree, back)
	})
	b.check("info, cp, mv, del, rb", func() error {
		for _, args := range [][]string{{"info", "s3://bucket/sized"}, {"cp", "s3://bucket/sized", "s3://bucket/copy"},
			{"mv", "s3://bucket/copy", "s3://bucket/moved"}, {"del", "--recursive", "--force", "s3://bucket"}, {"rb", "s3://bucket"}} {
			if _, err := s3cmd(args...); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
		}
		return nil
	})
}

func TestRclone(t *testing.T) {
	b := newBench(t, "rclone", "rclone")
	b.env = append(b.env, "RCLONE_CONFIG_STORE_TYPE=s3", "RCLONE_CONFIG_STORE_PROVIDER=Other", "RCLONE_CONFIG_STORE_ENV_AUTH=true",
		"RCLONE_CONFIG_STORE_ENDPOINT="+b.server.Endpoint(), "RCLONE_CONFIG_STORE_REGION="+region)
	tree := b.tree("tree", 1000)
	b.check("sync of 1,000 small files", func() error { _, err := b.run("rclone", "sync", tree, "store:bucket/tree"); return err })
	b.check("check --download", func() error { _, err := b.run("rclone", "check", "--download", tree, "store:bucket/tree"); return err })
	b.check("check by hash", func() error { _, err := b.run("rclone", "check", tree, "store:bucket/tree"); return err })
	b.check("sync again moves nothing", func() error {
		out, err := b.run("rclone", "sync", "-v", "--use-json-log", tree, "store:bucket/tree")
		if err == nil && strings.Contains(out, "Copied") {
			err = errors.New("it copied again: " + firstLine(out))
		}
		return err
	})
	for _, n := range sizes {
		b.check(fmt.Sprintf("%d bytes", n), func() error {
			want := body(n)
			if _, err := b.run("rclone", "copyto", b.file("in", want), "store:bucket/sized"); err != nil {
				return err
			}
			out := filepath.Join(b.dir, "out")
			if _, err := b.run("rclone", "copyto", "store:bucket/sized", out); err != nil {
				return err
			}
			return same(out, want)
		})
	}
	b.check("a stream of 12 MiB by rcat", func() error {
		cmd := exec.CommandContext(t.Context(), "rclone", "rcat", "store:bucket/stream")
		want := body(12 << 20)
		cmd.Env, cmd.Stdin = b.env, bytes.NewReader(want)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %s", err, out)
		}
		got, err := b.run("rclone", "cat", "store:bucket/stream")
		if err == nil && got != string(want) {
			err = fmt.Errorf("%d bytes came back", len(got))
		}
		return err
	})
	b.check("server-side copy and purge", func() error {
		if _, err := b.run("rclone", "copy", "store:bucket/tree", "store:bucket/copy"); err != nil {
			return err
		}
		if _, err := b.run("rclone", "check", "store:bucket/tree", "store:bucket/copy"); err != nil {
			return err
		}
		_, err := b.run("rclone", "purge", "store:bucket/copy")
		return err
	})
}

func TestRestic(t *testing.T) {
	b := newBench(t, "restic", "restic")
	b.env = append(b.env, "RESTIC_REPOSITORY=s3:"+b.server.Endpoint()+"/backups/repo", "RESTIC_PASSWORD=password")
	tree := b.tree("tree", 200)
	b.file("tree/big", body(30<<20))
	restored := filepath.Join(b.dir, "restored")
	for _, c := range []struct {
		name string
		args []string
	}{
		{"init", []string{"init"}}, {"backup", []string{"backup", tree}}, {"check --read-data", []string{"check", "--read-data"}},
		{"backup again", []string{"backup", tree}}, {"snapshots", []string{"snapshots"}},
		{"restore", []string{"restore", "latest", "--target", restored}},
		{"forget --prune", []string{"forget", "--keep-last", "1", "--prune"}}, {"check after prune", []string{"check"}},
	} {
		b.check(c.name, func() error {
			_, err := b.run("restic", c.args...)
			if err == nil && c.name == "restore" {
				err = b.equalTrees(tree, filepath.Join(restored, tree))
			}
			return err
		})
	}
}

func TestS3fs(t *testing.T) {
	b := newBench(t, "s3fs", "s3fs", "fusermount", "aws")
	if _, err := os.Stat("/dev/fuse"); err != nil {
		fmt.Println("SKIP s3fs: there is no /dev/fuse")
		t.Skip("no FUSE")
	}
	if _, err := b.run("aws", "--endpoint-url", b.server.Endpoint(), "s3", "mb", "s3://bucket"); err != nil {
		t.Fatal(err)
	}
	passwd := b.file("passwd", []byte(process.AccessKey+":"+process.SecretKey))
	if err := os.Chmod(passwd, 0o600); err != nil {
		t.Fatal(err)
	}
	mount := filepath.Join(b.dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	b.check("mount", func() error {
		_, err := b.run("s3fs", "bucket", mount, "-o", "passwd_file="+passwd, "-o", "url="+b.server.Endpoint(), "-o", "use_path_request_style")
		return err
	})
	defer func() {
		if _, err := b.run("fusermount", "-u", mount); err != nil {
			t.Error(err)
		}
	}()
	tree := b.tree("tree", 40)
	b.check("copy a tree in", func() error { _, err := b.run("cp", "-r", tree, filepath.Join(mount, "tree")); return err })
	b.check("read it back", func() error { return b.equalTrees(tree, filepath.Join(mount, "tree")) })
	for _, n := range sizes {
		b.check(fmt.Sprintf("%d bytes", n), func() error {
			want := body(n)
			path := filepath.Join(mount, "sized")
			if err := os.WriteFile(path, want, 0o644); err != nil {
				return err
			}
			return same(path, want)
		})
	}
	b.check("append, rename, truncate, unlink", func() error {
		path := filepath.Join(mount, "file")
		if err := os.WriteFile(path, []byte("one"), 0o644); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, werr := f.WriteString(" two")
		if err := errors.Join(werr, f.Close(), os.Rename(path, path+" moved"), same(path+" moved", []byte("one two"))); err != nil {
			return err
		}
		// Through an open file: by name alone, s3fs 1.90 uploads zeros that it made up, and never reads the object.
		if f, err = os.OpenFile(path+" moved", os.O_RDWR, 0); err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(3), f.Close(), same(path+" moved", []byte("one")), os.Remove(path+" moved")); err != nil {
			return err
		}
		if _, err := os.Stat(path + " moved"); !os.IsNotExist(err) {
			return fmt.Errorf("removed, and still there: %v", err)
		}
		return nil
	})
}

// tree makes n small files in folders, some with names that need escaping.
func (b *bench) tree(name string, n int) string {
	b.t.Helper()
	odd := []string{"with blank", "plus+", "per%cent", "ünïcode-世界", "semi;colon", "q?ery", "hash#", "and&", "eq=ual", "tilde~"}
	for i := range n {
		b.file(fmt.Sprintf("%s/dir %d/%s %d", name, i%7, odd[i%len(odd)], i), body(i*37%9000+1))
	}
	return filepath.Join(b.dir, name)
}

// equalTrees compares two directories.
func (b *bench) equalTrees(want, got string) error {
	_, err := b.run("diff", "-r", want, got)
	return err
}
