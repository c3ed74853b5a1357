package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"cairn/internal/process"
)

// SuiteConfig configures RunSuite.
type SuiteConfig struct {
	Binary  string // cairn itself
	Dir     string // where data goes, removed at the end; "" means the system's temporary directory
	Results string // file for the rows as JSON; "" for none
	Short   bool   // a tenth of the matrix, in about a minute
	Only    string // the one stage to run, "" for all
	Out     io.Writer
	Log     io.Writer // progress
}

// Row is one line of the suite's table. Limit is what this machine does at best for the same kind of work, measured in the
// same run, and Ratio is Value/Limit; both are 0 where nothing limits. Aim is what we want, 0 for nothing in particular.
type Row struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Limit float64 `json:"limit"`
	Ratio float64 `json:"ratio"`
	Aim   float64 `json:"aim,omitempty"`
}

// suite is one run of the benchmark.
type suite struct {
	cfg    SuiteConfig
	dir    string
	limits Limits
	rows   []Row
	server *process.Server
	bench  *Bench
	errors []error
}

// RunSuite measures the machine, then a real server on six drives of one disk with profile 4+2, and writes the table. It
// returns an error if anything could not be measured or any operation failed; slowness is no error.
func RunSuite(ctx context.Context, cfg SuiteConfig) ([]Row, error) {
	dir, err := os.MkdirTemp(cfg.Dir, "cairn-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	s := &suite{cfg: cfg, dir: dir}
	fmt.Fprintf(cfg.Out, "%-28s %12s %-8s %12s %7s %9s\n", "NAME", "VALUE", "UNIT", "LIMIT", "RATIO", "AIM")
	ran := false
	for _, stage := range []struct {
		name string
		run  func(context.Context) error
	}{{"machine limits", s.measureLimits}, {"commits", s.commits}, {"matrix", s.matrix}, {"lost drive", s.lostDrive},
		{"beside repair", s.besideRepair}, {"degraded reads", s.degraded}, {"mount", s.mounts}} {
		if cfg.Only != "" && cfg.Only != stage.name {
			continue
		}
		ran = true
		start := time.Now()
		if err := stage.run(ctx); err != nil {
			s.errors = append(s.errors, fmt.Errorf("%s: %w", stage.name, err))
		}
		fmt.Fprintf(cfg.Log, "%s: %v\n", stage.name, time.Since(start).Round(time.Millisecond))
		if ctx.Err() != nil {
			break
		}
	}
	s.stop()
	if !ran {
		return nil, fmt.Errorf("no stage is called %q", cfg.Only)
	}
	return s.rows, errors.Join(append(s.errors, s.save())...)
}

// add prints and keeps a row.
func (s *suite) add(name string, value float64, unit string, limit, aim float64) {
	r := Row{Name: name, Value: value, Unit: unit, Limit: limit, Aim: aim}
	if limit > 0 {
		r.Ratio = value / limit
	}
	s.rows = append(s.rows, r)
	text := func(v float64, format string) string {
		if v == 0 {
			return "-"
		}
		return fmt.Sprintf(format, v)
	}
	number := "%.0f"
	if value < 100 {
		number = "%.2f"
	}
	fmt.Fprintf(s.cfg.Out, "%-28s %12s %-8s %12s %7s %9s\n", name, fmt.Sprintf(number, value), unit, text(limit, number),
		text(r.Ratio, "%.2f"), text(aim, number))
}

func (s *suite) save() error {
	if s.cfg.Results == "" {
		return nil
	}
	b, err := json.MarshalIndent(s.rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(s.cfg.Results, append(b, '\n'), 0o644)
}

// cellTime is how long each load of the matrix runs.
func (s *suite) cellTime() time.Duration {
	if s.cfg.Short {
		return time.Second
	}
	return 3 * time.Second
}

const mib = 1 << 20

func (s *suite) measureLimits(ctx context.Context) (err error) {
	if s.limits, err = MeasureLimits(ctx, s.dir); err != nil {
		return err
	}
	l := s.limits
	s.add("limit_md5_1_core", l.MD5/mib, "MiB/s", 0, 0)
	s.add("limit_crc32c_1_core", l.CRC32C/mib, "MiB/s", 0, 0)
	s.add("limit_encode_4+2_1_core", l.Encode/mib, "MiB/s", 0, 0)
	s.add("limit_loopback", l.Loopback/mib, "MiB/s", 0, 0)
	s.add("limit_fdatasync_1_file", l.SyncsPerSec, "1/s", 0, 0)
	s.add("limit_fdatasync_6_files", l.SyncsPerSec6, "1/s", 0, 0)
	s.add("limit_direct_write", l.DirectWrite/mib, "MiB/s", 0, 0)
	for _, c := range []int{1, 16} {
		s.add(fmt.Sprintf("limit_http_get_4KiB_%d", c), l.BareGetSmall[c], "1/s", 0, 0)
		s.add(fmt.Sprintf("limit_http_put_4KiB_%d", c), l.BarePutSmall[c], "1/s", 0, 0)
		s.add(fmt.Sprintf("limit_http_get_16MiB_%d", c), l.BareGetLarge[c]/mib, "MiB/s", 0, 0)
		s.add(fmt.Sprintf("limit_http_put_16MiB_%d", c), l.BarePutLarge[c]/mib, "MiB/s", 0, 0)
	}
	return nil
}

// start runs a server on a directory of the suite's and points the loads at it.
func (s *suite) start(ctx context.Context, args ...string) (err error) {
	s.stop()
	s.server, err = process.Start(ctx, process.Options{Binary: s.cfg.Binary, Args: append(args, "--log-level", "warn"), Log: s.cfg.Log})
	if err != nil {
		return err
	}
	s.bench, err = New(ctx, Config{Endpoint: s.server.Endpoint(), MaxBytes: 1 << 30, MaxObjects: 20_000,
		Credentials: Credentials{AccessKey: process.AccessKey, SecretKey: process.SecretKey}})
	return err
}

// running makes sure that the matrix's server runs: a stage that runs alone starts it.
func (s *suite) running(ctx context.Context) error {
	if s.server != nil {
		return nil
	}
	return s.start(ctx, "--data", filepath.Join(s.dir, "data"), "--drives", "6", "--profile", "4+2")
}

func (s *suite) stop() {
	if s.server == nil {
		return
	}
	if err := s.server.Stop(); err != nil {
		s.errors = append(s.errors, err)
	}
	s.server = nil
}

// load runs one load; failed operations become an error of the suite.
func (s *suite) load(ctx context.Context, l Load) (Result, error) {
	r, err := s.bench.Run(ctx, l)
	if err == nil && r.Errors > 0 {
		s.errors = append(s.errors, fmt.Errorf("%s %s x%d: %d operations failed: %s", l.Op, SizeText(l.Size), l.Clients, r.Errors, r.LastError))
	}
	return r, err
}

// driveDir is the n-th drive below the data directory of the matrix.
func (s *suite) driveDir(n int) string {
	return filepath.Join(s.dir, "data", fmt.Sprintf("drive%d", n))
}
