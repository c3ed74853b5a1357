package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"cairn/mount"
	"cairn/mount/cache"
)

const (
	envMountCache  = "CAIRN_CACHE"
	checkPatience  = 10 * time.Second
	defaultS3      = "http://127.0.0.1:9000"
	leastCacheSize = 64 << 20
)

// s3Flags say which store is read, and as whom.
type s3Flags struct {
	endpoint, region, data string
}

func (f *s3Flags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "S3 endpoint (default $AWS_ENDPOINT_URL or "+defaultS3+")")
	c.Flags().StringVar(&f.region, "region", "", "region to sign for (default $AWS_REGION or us-east-1)")
	c.Flags().StringVar(&f.data, "data", "", "a server's directory, for its saved root credentials (default: $AWS_ACCESS_KEY_ID and the like)")
}

// store makes the client for a bucket and checks that it answers.
func (f *s3Flags) store(ctx context.Context, bucket string) (*mount.S3, error) {
	cfg := mount.S3Config{Endpoint: firstOf(f.endpoint, os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), defaultS3),
		Bucket: bucket, Region: firstOf(f.region, os.Getenv("AWS_REGION"), "us-east-1"), AccessKey: os.Getenv("AWS_ACCESS_KEY_ID"),
		SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), Session: os.Getenv("AWS_SESSION_TOKEN")}
	if f.data != "" || cfg.AccessKey == "" && os.Getenv(envAccessKey) != "" {
		cred, err := clientCredentials(f.data, os.Getenv)
		if err != nil {
			return nil, err
		}
		cfg.AccessKey, cfg.SecretKey, cfg.Session = cred.AccessKey, cred.SecretKey, ""
	}
	s, err := mount.NewS3(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	switch err := s.Check(ctx); {
	case errors.Is(err, mount.ErrAbsent):
		return nil, fmt.Errorf("no bucket %s at %s: make it, or check --endpoint: %w", bucket, cfg.Endpoint, err)
	case errors.Is(err, mount.ErrRefused):
		return nil, fmt.Errorf("%s does not let key %q list %s: check the credentials and the policy: %w", cfg.Endpoint, cfg.AccessKey, bucket, err)
	case err != nil:
		return nil, fmt.Errorf("%s does not answer: check --endpoint: %w", cfg.Endpoint, err)
	}
	return s, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// cacheFlags say where the cache is.
type cacheFlags struct{ dir string }

func (f *cacheFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.dir, "cache", "", "cache directory (default $"+envMountCache+" or cairn in the user's cache directory)")
}

func (f *cacheFlags) path() (string, error) {
	if d := firstOf(f.dir, os.Getenv(envMountCache)); d != "" {
		return filepath.Abs(d)
	}
	d, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("name the cache directory with --cache: %w", err)
	}
	return filepath.Join(d, "cairn"), nil
}

// bucketURL reads s3://BUCKET[/PREFIX].
func bucketURL(s string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, "s3://")
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !ok || bucket == "" {
		return "", "", fmt.Errorf("%q: want s3://BUCKET or s3://BUCKET/PREFIX", s)
	}
	return bucket, prefix, nil
}

// mountOptions are the flags of cairn mount.
type mountOptions struct {
	s3       s3Flags
	cache    cacheFlags
	size     byteSize
	free     byteSize
	memory   byteSize
	ttl      time.Duration
	patience time.Duration
	others   bool
	peers    peerFlags
	prefetch string
}

func mountCommand() *cobra.Command {
	o := mountOptions{memory: 256 << 20}
	c := &cobra.Command{
		Use:   "mount s3://BUCKET[/PREFIX] DIR",
		Short: "Show a bucket as read-only files, through a cache on the local disk, until it is stopped or unmounted",
		Long: `Show a bucket as read-only files, through a cache on the local disk, until it is stopped or unmounted.

Files that are wholly cached are opened by the kernel itself (FUSE passthrough; as root, kernel 6.9 or later), at the
speed of the cache's disk. Weights (.safetensors, .gguf, .pt, .bin and the like), and whatever is read in order, are fetched
ahead, and with the index of a checkpoint (.index.json) the files that it names. Keys that no path can hold are at DIR/.cairn/key/ESCAPED-KEY (every byte but letters, digits, - _ . ~ as %XX; pieces of
200 bytes are directories). The command stays in the foreground; SIGTERM unmounts.`,
		Args: usageArgs(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error { return runMount(c, &o, args[0], args[1]) },
	}
	o.s3.register(c)
	o.cache.register(c)
	c.Flags().Var(&o.size, "cache-size", "most that the cache holds, e.g. 500GiB (default 80% of what its disk has free)")
	c.Flags().Var(&o.free, "cache-free", "what the cache's disk must keep free (default 1GiB, at most a tenth of the disk)")
	c.Flags().Var(&o.memory, "memory", "memory for fetches under way, at least 64MiB")
	c.Flags().DurationVar(&o.ttl, "metadata-ttl", 10*time.Second, "how long names and sizes are believed")
	c.Flags().DurationVar(&o.patience, "patience", 2*time.Minute, "how long a read waits for the store before it is an I/O error")
	c.Flags().StringVar(&o.prefetch, "prefetch", "auto", "auto: weights, what an index of them names, and what is read in order are fetched ahead; off: nothing is")
	o.peers.register(c)
	c.Flags().BoolVar(&o.others, "allow-other", false, "let other users read")
	c.AddCommand(mountStatusCommand())
	return c
}

func runMount(c *cobra.Command, o *mountOptions, from, dir string) error {
	bucket, prefix, err := bucketURL(from)
	if err != nil {
		return usageError(c, err)
	}
	if prefix != "" && !strings.HasSuffix(prefix, "/") {
		prefix += "/"
	}
	if o.size != 0 && o.size < leastCacheSize {
		return usageError(c, fmt.Errorf("--cache-size %v: at least 64MiB", o.size.String()))
	}
	if o.prefetch != "auto" && o.prefetch != "off" {
		return usageError(c, fmt.Errorf("--prefetch %s: want auto or off", o.prefetch))
	}
	store, err := o.s3.store(c.Context(), bucket)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
	path, err := o.cache.path()
	if err != nil {
		return err
	}
	peers, err := o.peers.config(store.Endpoint())
	if err != nil {
		return usageError(c, err)
	}
	held, err := cache.Open(cache.Config{Dir: path, LimitBytes: int64(o.size), FloorBytes: int64(o.free), Logger: log})
	if err != nil {
		return errors.Join(err, closeListener(peers.Listener))
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	m, err := mount.New(store, held, mount.Config{Dir: dir, Name: from, Prefix: prefix, MemoryBytes: int64(o.memory),
		MetadataTTL: o.ttl, Patience: o.patience, AllowOther: o.others, NoPrefetch: o.prefetch == "off", Peers: peers, Logger: log})
	if err != nil {
		return errors.Join(err, held.Close())
	}
	fmt.Fprintf(c.ErrOrStderr(), "%s is mounted at %s; cache %s\n", from, dir, path)
	control := &mount.Control{Cache: held, Mount: m}
	all, ctx := errgroup.WithContext(c.Context())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	all.Go(func() error {
		defer stop() // unmounted by somebody else: nothing is left to control
		return m.Run(ctx)
	})
	all.Go(func() error { return control.Serve(ctx, path) })
	return errors.Join(all.Wait(), held.Close())
}

func mountStatusCommand() *cobra.Command {
	var output outputFlag
	var where cacheFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the mount over a cache directory does: bytes by source, open files, evictions",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := where.path()
			if err != nil {
				return err
			}
			var s mount.Status
			if err := askOwner(c.Context(), dir, "GET", "/status", func(line []byte) error { return unmarshal(line, &s) }); err != nil {
				return fmt.Errorf("no mount answers for the cache %s (name another with --cache): %w", dir, err)
			}
			return output.print(c.OutOrStdout(), s, func() string { return mountText(s) })
		},
	}
	output.register(c)
	where.register(c)
	return c
}

func mountText(s mount.Status) string {
	pass := "the kernel opens cached files itself"
	if !s.Passthrough {
		pass = "cached files pass through this process (not root, or a kernel before 6.9)"
	}
	peers := ""
	if s.Peers > 0 {
		peers = fmt.Sprintf("\npeers: %d others; %s from them, %s to them, %d failures", s.Peers, bytesText(s.FromPeers), bytesText(s.ToPeers), s.PeerFails)
	}
	return fmt.Sprintf("%s at %s, process %d, since %s: %s\nread: %s from the store, %s from the cache, %s from memory; %d open files\n"+
		"fetches: %d, retried %d, failed %d\ncache: %s of %s in %d files, %d of them whole; %d evicted, %d damaged, %d times no room",
		s.Name, s.Dir, s.PID, s.Since.Format(time.RFC3339), pass, bytesText(s.FromStore), bytesText(s.FromCache), bytesText(s.FromMemory),
		s.OpenFiles, s.Fetches, s.Retries, s.Failures, bytesText(s.Cache.HeldBytes), bytesText(s.Cache.LimitBytes), s.Cache.Files,
		s.Cache.Published, s.Cache.Evictions, s.Cache.Damaged, s.Cache.NoRoom) + peers
}

func unmountCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unmount DIR",
		Short: "End the mount at a directory, that of a dead process too; open files keep it until they are closed",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE:  func(_ *cobra.Command, args []string) error { return mount.Unmount(args[0]) },
	}
}
