//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/minio/minio-go/v7"
)

const transfers = 16 // requests at once of a whole file set

// file is one real file: its key and what it must read as.
type file struct {
	key  string
	path string
	size int64
	sum  [sha256.Size]byte
}

// goTree is every regular file of the Go toolchain: some 15,000 small ones and binaries of tens of MB.
func goTree(t *testing.T) []file {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := tree(t, strings.TrimSpace(string(out)), "go/")
	if len(files) < 5000 {
		t.Fatalf("the Go tree has only %d files", len(files))
	}
	return files
}

// tree lists the regular files below dir with their hashes.
func tree(t *testing.T, dir, prefix string) (files []file) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, file{key: prefix + filepath.ToSlash(rel), path: path, size: int64(len(b)), sum: sha256.Sum256(b)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// put stores one file through the stock client.
func (s *store) put(ctx context.Context, f file) error {
	r, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = s.s3.PutObject(ctx, bucket, f.key, r, f.size, minio.PutObjectOptions{})
	if err != nil {
		return fmt.Errorf("put %s (%d bytes): %w", f.key, f.size, err)
	}
	return nil
}

// check reads one file back and compares its hash.
func (s *store) check(ctx context.Context, f file) error {
	o, err := s.s3.GetObject(ctx, bucket, f.key, minio.GetObjectOptions{})
	if err != nil {
		return fmt.Errorf("get %s: %w", f.key, err)
	}
	defer o.Close()
	h := sha256.New()
	n, err := io.Copy(h, o)
	if err != nil {
		return fmt.Errorf("get %s: after %d of %d bytes: %w", f.key, n, f.size, err)
	}
	if !bytes.Equal(h.Sum(nil), f.sum[:]) {
		return fmt.Errorf("WRONG BYTES: %s: %d bytes, want %d", f.key, n, f.size)
	}
	return nil
}

// each calls do for every file, a few at once, and reports every error.
func each(t *testing.T, files []file, do func(context.Context, file) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range transfers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return
				}
				if err := do(t.Context(), files[i]); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		t.Fatalf("%d of %d failed: %v", len(errs), len(files), errors.Join(errs[:min(5, len(errs))]...))
	}
}

// traffic writes files and, at the same time, reads back what was acknowledged; during is called when a quarter is written.
func (s *store) traffic(files []file, during func()) {
	t := s.t
	t.Helper()
	var mu sync.Mutex
	var acked []file
	var readErrs []error
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				mu.Lock()
				var f file
				if len(acked) > 0 {
					f = acked[rand.IntN(len(acked))]
				}
				mu.Unlock()
				if f.key == "" {
					continue
				}
				if err := s.check(t.Context(), f); err != nil {
					mu.Lock()
					readErrs = append(readErrs, err)
					mu.Unlock()
				}
			}
		})
	}
	var once sync.Once
	var events sync.WaitGroup
	each(t, files, func(ctx context.Context, f file) error {
		if err := s.put(ctx, f); err != nil {
			return err
		}
		mu.Lock()
		acked = append(acked, f)
		n := len(acked)
		mu.Unlock()
		if n >= len(files)/4 {
			once.Do(func() { events.Go(during) })
		}
		return nil
	})
	events.Wait()
	close(stop)
	readers.Wait()
	if len(readErrs) > 0 {
		t.Fatalf("%d reads failed meanwhile: %v", len(readErrs), errors.Join(readErrs[:min(5, len(readErrs))]...))
	}
}
