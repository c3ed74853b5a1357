// Package testcluster runs a whole Cairn inside a test process: the same assembly that `cairn server` runs (internal/server),
// on temporary directories and free ports, with a stock S3 client beside it.
//
// It owns the cluster's life, ways to harm it, and a little script language (script.go) for tests that read like what a
// person does. Everything in it is real: no part is replaced by a double. What it does not do is run separate processes;
// package e2e does.
package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn"
	"cairn/admin"
	"cairn/internal/server"
)

const (
	accessKey   = "testcluster-root"
	secretKey   = "testcluster-secret"
	readyWithin = 30 * time.Second
)

// Config of a Cluster. The zero value is six directories of its own with profile 4+2.
type Config struct {
	Drives  int           // default 6
	Profile cairn.Profile // default by the number of drives
	Named   bool          // drives are named disks, which are never created, rather than directories made at need
}

// Cluster is a running store. Its methods are for the test's goroutine.
type Cluster struct {
	t      testing.TB
	dir    string
	wish   server.Wish
	server *server.Server
	stop   func()
	S3     *minio.Client
}

// Start runs a cluster that ends with the test.
func Start(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if cfg.Drives == 0 {
		cfg.Drives = 6
	}
	c := &Cluster{t: t, dir: filepath.Join(t.TempDir(), "data")}
	c.wish = server.Wish{Drives: cfg.Drives, Profile: cfg.Profile}
	if cfg.Named {
		c.wish.Drives = 0
		for n := range cfg.Drives {
			path := filepath.Join(filepath.Dir(c.dir), fmt.Sprintf("disk%d", n+1))
			if err := os.Mkdir(path, 0o755); err != nil {
				t.Fatal(err)
			}
			c.wish.Named = append(c.wish.Named, path)
		}
	}
	c.run()
	t.Cleanup(func() { c.stop() })
	return c
}

// Restart stops the cluster in order and starts it again on the same directories.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.stop()
	c.run()
}

func (c *Cluster) run() {
	c.t.Helper()
	dir, err := server.OpenDirectory(c.dir)
	if err != nil {
		c.t.Fatal(err)
	}
	state, err := server.Settle(dir.State, c.wish)
	if err == nil {
		err = dir.Save(state)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.server, err = server.Open(server.Config{Directory: dir, S3Addr: "127.0.0.1:0", AdminAddr: "127.0.0.1:0",
		AccessKey: accessKey, SecretKey: secretKey})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.server.Run(ctx) }()
	stopped := false
	c.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("the server ended badly: %v", err)
		}
		if err := dir.Close(); err != nil {
			c.t.Error(err)
		}
	}
	wait, giveUp := context.WithTimeout(ctx, readyWithin)
	defer giveUp()
	if err := c.server.WaitReady(wait); err != nil {
		c.stop()
		c.t.Fatalf("not ready: %v", err)
	}
	c.S3, err = minio.New(c.server.S3Addr(), &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, "")})
	if err != nil {
		c.t.Fatal(err)
	}
}

// Drive is the directory of the n-th drive, from 1.
func (c *Cluster) Drive(n int) string {
	if len(c.wish.Named) > 0 {
		return c.wish.Named[n-1]
	}
	return filepath.Join(c.dir, fmt.Sprintf("drive%d", n))
}

// AdminURL is the root of the admin interface.
func (c *Cluster) AdminURL() string { return "http://" + c.server.AdminAddr() }

// Credentials of the root identity.
func (c *Cluster) Credentials() (access, secret string) { return accessKey, secretKey }

// Admin calls the admin API and decodes its answer into v.
func (c *Cluster) Admin(method, path string, v any) error {
	req, err := http.NewRequest(method, "http://"+c.server.AdminAddr()+path, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(accessKey, secretKey)
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

// Status asks for the cluster's status.
func (c *Cluster) Status() (st admin.Status, err error) {
	return st, c.Admin(http.MethodGet, "/api/v1/status", &st)
}
