package meta

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"cairn"
)

// CommitBench is what BenchmarkCommits measured.
type CommitBench struct {
	Voters     int           `json:"voters"`
	Clients    int           `json:"clients"`
	ValueBytes int           `json:"value_bytes"`
	Commits    int           `json:"commits"`
	PerSecond  float64       `json:"commits_per_sec"`
	P50        time.Duration `json:"p50_ns"`
	P99        time.Duration `json:"p99_ns"`
}

// maxBenchSamples bounds the latencies that one client keeps.
const maxBenchSamples = 1 << 20

// BenchmarkCommits measures how many PutVersion commits with inline bodies of valueBytes a store of its own reaches with
// the given number of voters, one in each of the first dirs, and clients, each waiting for its commit before the next. It
// runs for about d, uses a directory that it makes in each dir, and removes it.
func BenchmarkCommits(ctx context.Context, dirs []string, voters, clients, valueBytes int, d time.Duration) (res CommitBench, err error) {
	const op = "meta.bench"
	if voters > len(dirs) || clients < 1 || valueBytes < 0 {
		return res, fail(op, "", invalid("%d voters in %d directories, %d clients", voters, len(dirs), clients))
	}
	cfg := Config{Cluster: cairn.NewID(), Voters: voters}
	for _, dir := range dirs[:voters] {
		home, err := os.MkdirTemp(dir, "cairn-bench-")
		if err != nil {
			return res, fail(op, dir, err)
		}
		defer os.RemoveAll(home)
		cfg.Homes = append(cfg.Homes, Home{Drive: cairn.NewID(), Dir: filepath.Join(home), Usable: true})
	}
	s, err := Open(cfg)
	if err != nil {
		return res, fail(op, "", err)
	}
	defer func() {
		if e := s.Close(); err == nil {
			err = fail(op, "", e)
		}
	}()
	if _, err = s.CreateBucket(ctx, cairn.Bucket{Name: "bench"}); err != nil {
		return res, err
	}
	res = CommitBench{Voters: voters, Clients: clients, ValueBytes: valueBytes}
	return res, s.benchClients(ctx, &res, d)
}

func (s *Store) benchClients(ctx context.Context, res *CommitBench, d time.Duration) error {
	start := time.Now()
	var wg sync.WaitGroup
	samples := make([][]time.Duration, res.Clients)
	errs := make([]error, res.Clients)
	for c := range res.Clients {
		wg.Go(func() { samples[c], errs[c] = s.benchClient(ctx, c, res.ValueBytes, start.Add(d)) })
	}
	wg.Wait()
	elapsed := time.Since(start)
	all := slices.Concat(samples...)
	slices.Sort(all)
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	if res.Commits = len(all); res.Commits > 0 {
		res.P50, res.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	res.PerSecond = float64(res.Commits) / elapsed.Seconds()
	return nil
}

func (s *Store) benchClient(ctx context.Context, client, valueBytes int, end time.Time) (took []time.Duration, err error) {
	r := PutVersion{Version: cairn.Version{Bucket: "bench", Size: int64(valueBytes), ETag: "9e107d9d372bb6826bd81d3542a419d6",
		Layout: cairn.Layout{Inline: make([]byte, valueBytes)}}}
	for i := 0; len(took) < maxBenchSamples; i++ {
		began := time.Now()
		if began.After(end) {
			break
		}
		r.Version.Key = fmt.Sprintf("client%03d/%09d", client, i)
		if _, err := s.PutVersion(ctx, r); err != nil {
			return took, err
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}
