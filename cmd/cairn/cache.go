package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cairn/mount"
	"cairn/mount/cache"
)

func cacheCommand() *cobra.Command {
	return group("cache", "Look after a mount's cache, whether it is mounted or not",
		cacheOpCommand("ls", "List cached files, the least recently used first"),
		cacheOpCommand("verify", "Compare cached files with their checksums; damaged ones are fetched again (exit code 1 if there were any)"),
		cacheOpCommand("evict", "Remove cached files that nobody has open"),
		cacheOpCommand("pin", "Keep cached files from being evicted"),
		cacheOpCommand("unpin", "Let cached files be evicted again"),
		cacheWarmCommand())
}

func cacheOpCommand(op, short string) *cobra.Command {
	var output outputFlag
	var where cacheFlags
	var all bool
	c := &cobra.Command{
		Use:   op + " [s3://BUCKET[/PREFIX]]",
		Short: short,
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var bucket, prefix string
			if len(args) > 0 {
				var err error
				if bucket, prefix, err = bucketURL(args[0]); err != nil {
					return usageError(c, err)
				}
			} else if op == "evict" && !all {
				return usageError(c, errors.New("name what to evict as s3://BUCKET[/PREFIX], or take --all"))
			}
			dir, err := where.path()
			if err != nil {
				return err
			}
			lines, err := cacheOp(c.Context(), dir, op, bucket, prefix)
			if err != nil {
				return err
			}
			if err := output.print(c.OutOrStdout(), lines, func() string { return cacheText(lines) }); err != nil {
				return err
			}
			for _, l := range lines {
				if l.Error != "" || op == "verify" && l.Result != "good" {
					return &exitError{Code: exitFailed}
				}
			}
			return nil
		},
	}
	output.register(c)
	where.register(c)
	if op == "evict" {
		c.Flags().BoolVar(&all, "all", false, "evict everything")
	}
	return c
}

// cacheOp asks the process that owns the cache directory; when there is none it opens the directory itself.
func cacheOp(ctx context.Context, dir, op, bucket, prefix string) ([]mount.Line, error) {
	lines := []mount.Line{}
	query := url.Values{"bucket": {bucket}, "prefix": {prefix}}
	err := askOwner(ctx, dir, "POST", "/cache/"+op+"?"+query.Encode(), func(b []byte) error {
		var l mount.Line
		if err := unmarshal(b, &l); err != nil {
			return err
		}
		lines = append(lines, l)
		return nil
	})
	if !errors.Is(err, errNoOwner) {
		return lines, err
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("no cache: %w", err)
	}
	c, err := cache.Open(cache.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	err = (&mount.Control{Cache: c}).Do(ctx, op, bucket, prefix, func(l mount.Line) error {
		lines = append(lines, l)
		return nil
	})
	return lines, errors.Join(err, c.Close())
}

func cacheText(lines []mount.Line) string {
	var b strings.Builder
	for _, l := range lines {
		state := "partial"
		if l.Published {
			state = "whole"
		}
		if l.Pinned {
			state += ", pinned"
		}
		if l.Open {
			state += ", open"
		}
		fmt.Fprintf(&b, "%10s  %s  %s/%s  (%s)", bytesText(l.Size), l.Used.Format(time.DateTime), l.Endpoint, l.Key, state)
		if what := firstOf(l.Error, l.Result); what != "" {
			fmt.Fprintf(&b, "  %s", what)
		}
		b.WriteByte('\n')
	}
	if len(lines) == 0 {
		return "nothing is cached"
	}
	return b.String()
}

func cacheWarmCommand() *cobra.Command {
	var output outputFlag
	var where cacheFlags
	var s3 s3Flags
	var quiet bool
	c := &cobra.Command{
		Use:   "warm s3://BUCKET[/PREFIX]",
		Short: "Fetch every object below a prefix into the cache",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			bucket, prefix, err := bucketURL(args[0])
			if err != nil {
				return usageError(c, err)
			}
			dir, err := where.path()
			if err != nil {
				return err
			}
			var p mount.WarmProgress
			tell := func(now mount.WarmProgress) error {
				p = now
				if !quiet {
					fmt.Fprintf(c.ErrOrStderr(), "\r%s of %s, %d of %d objects   ", bytesText(p.DoneBytes), bytesText(p.Bytes), p.DoneObjects, p.Objects)
				}
				return nil
			}
			err = cacheWarm(c.Context(), dir, &s3, bucket, prefix, tell)
			if !quiet {
				fmt.Fprintln(c.ErrOrStderr())
			}
			if err != nil {
				return err
			}
			if err := output.print(c.OutOrStdout(), p, func() string { return warmText(p) }); err != nil {
				return err
			}
			if p.SkippedBytes > 0 {
				return fmt.Errorf("no room in the cache for %s: raise --cache-size of the mount, or evict", bytesText(p.SkippedBytes))
			}
			return nil
		},
	}
	output.register(c)
	where.register(c)
	s3.register(c)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no progress")
	return c
}

func warmText(p mount.WarmProgress) string {
	return fmt.Sprintf("%d objects, %s, are cached", p.DoneObjects, bytesText(p.DoneBytes))
}

func cacheWarm(ctx context.Context, dir string, s3 *s3Flags, bucket, prefix string, tell func(mount.WarmProgress) error) error {
	query := url.Values{"bucket": {bucket}, "prefix": {prefix}}
	err := askOwner(ctx, dir, "POST", "/warm?"+query.Encode(), func(b []byte) error {
		var p mount.WarmProgress
		if err := unmarshal(b, &p); err != nil {
			return err
		}
		return tell(p)
	})
	if !errors.Is(err, errNoOwner) {
		return err
	}
	store, err := s3.store(ctx, bucket)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	c, err := cache.Open(cache.Config{Dir: dir, Logger: log})
	if err != nil {
		return err
	}
	return errors.Join(mount.Warm(ctx, store, c, prefix, log, tell), c.Close())
}

// errNoOwner tells that no process answers for a cache directory.
var errNoOwner = errors.New("no process owns the cache directory")

// askOwner sends a request to the control socket in dir and hands each line of the answer to line. An answer that is a
// stream must end in a line that says so.
func askOwner(ctx context.Context, dir, method, path string, line func([]byte) error) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, mount.SocketName))
	}, DisableKeepAlives: true}}
	req, err := http.NewRequestWithContext(ctx, method, "http://cache"+path, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return errNoOwner
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return errors.New(strings.TrimSpace(string(b)))
	}
	s := bufio.NewScanner(resp.Body)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var end struct {
			Done  bool   `json:"done"`
			Error string `json:"error"`
			Key   string `json:"key"`
		}
		if err := unmarshal(s.Bytes(), &end); err != nil {
			return err
		}
		switch {
		case end.Done:
			return nil
		case end.Error != "" && end.Key == "":
			return errors.New(end.Error)
		}
		if err := line(s.Bytes()); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil || method == "GET" {
		return err
	}
	return fmt.Errorf("the answer was cut off: %w", io.ErrUnexpectedEOF)
}

func unmarshal(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the owner of the cache answered %q: %w", b, err)
	}
	return nil
}
