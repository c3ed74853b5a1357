package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cairn/bench"
)

// benchFlags choose the loads of `cairn bench`.
type benchFlags struct {
	endpoint string
	data     string
	bucket   string
	sizes    []string
	clients  []int
	ops      []string
	duration time.Duration
	maxBytes string
	objects  int
}

func benchCommand() *cobra.Command {
	var output outputFlag
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench",
		Short: "Load an S3 endpoint and measure it",
		Long: "Run one load after another for each operation, size and number of clients, and print what each reached.\n" +
			"Every byte that is read back is checked. Objects are removed after each load.",
		Example: "  cairn bench --ops put,get --sizes 4KiB,1MiB --clients 1,16 --duration 5s",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return runBench(c, f, output) },
	}
	output.register(c)
	c.Flags().StringVar(&f.endpoint, "endpoint", "http://127.0.0.1:9000", "S3 endpoint (plain HTTP)")
	c.Flags().StringVar(&f.data, "data", defaultData, "the server's directory, for its saved root credentials")
	c.Flags().StringVar(&f.bucket, "bucket", "bench", "bucket to work in; made if absent")
	c.Flags().StringSliceVar(&f.sizes, "sizes", []string{"4KiB", "1MiB", "16MiB"}, "object sizes (range: bytes per range)")
	c.Flags().IntSliceVar(&f.clients, "clients", []int{1, 16}, "numbers of clients at once")
	c.Flags().StringSliceVar(&f.ops, "ops", []string{"put", "get"}, "loads: put, get, range, list, delete, mixed")
	c.Flags().DurationVar(&f.duration, "duration", 5*time.Second, "time of each load")
	c.Flags().StringVar(&f.maxBytes, "max-bytes", "1GiB", "object bytes that a load may keep stored")
	c.Flags().IntVar(&f.objects, "max-objects", 20_000, "objects that a load may keep stored")
	c.AddCommand(benchSuiteCommand())
	return c
}

func runBench(c *cobra.Command, f benchFlags, output outputFlag) error {
	loads, maxSize, err := f.loads()
	if err != nil {
		return usageError(c, err)
	}
	maxBytes, err := parseSize(f.maxBytes)
	if err != nil {
		return usageError(c, err)
	}
	cred, err := clientCredentials(f.data, os.Getenv)
	if err != nil {
		return err
	}
	b, err := bench.New(c.Context(), bench.Config{
		Endpoint: f.endpoint, Credentials: bench.Credentials{AccessKey: cred.AccessKey, SecretKey: cred.SecretKey},
		Bucket: f.bucket, MaxBytes: maxBytes, MaxObjects: f.objects, MaxObjectBytes: maxSize,
	})
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if !output.json() {
		fmt.Fprintln(out, bench.Header)
	}
	failed := int64(0)
	for _, l := range loads {
		r, err := b.Run(c.Context(), l)
		if err != nil {
			return err
		}
		failed += r.Errors
		if output.json() { // one line a load, as they finish
			if err := json.NewEncoder(out).Encode(r); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(out, r)
	}
	if failed > 0 {
		return fmt.Errorf("%d operations failed", failed)
	}
	return nil
}

// loads multiplies the flags out. List and delete have no sizes of their own.
func (f benchFlags) loads() (loads []bench.Load, maxSize int, err error) {
	maxSize = 1 << 20
	for _, name := range f.ops {
		op, err := bench.ParseOp(strings.TrimSpace(name))
		if err != nil {
			return nil, 0, err
		}
		sizes := f.sizes
		if op == bench.OpList || op == bench.OpDelete {
			sizes = []string{"0"}
		}
		for _, text := range sizes {
			size, err := parseSize(text)
			if err != nil {
				return nil, 0, err
			}
			maxSize = max(maxSize, int(size))
			if op == bench.OpRange {
				maxSize = max(maxSize, 16*int(size))
			}
			for _, n := range f.clients {
				loads = append(loads, bench.Load{Op: op, Size: int(size), Clients: n, For: f.duration})
			}
		}
	}
	return loads, maxSize, nil
}
