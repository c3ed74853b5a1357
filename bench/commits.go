package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cairn/meta"
)

// commits measures metadata alone: inline puts of 512 bytes with 1, 3 and 5 voters, each on a directory of its own,
// and with 3 voters on nodes of their own.
func (s *suite) commits(ctx context.Context) error {
	var dirs []string
	for i := range 5 {
		dir := filepath.Join(s.dir, fmt.Sprintf("voter%d", i+1))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		dirs = append(dirs, dir)
	}
	for _, voters := range []int{1, 3, 5} {
		for _, clients := range []int{1, 16, 64} {
			if s.cfg.Short && clients != 16 {
				continue
			}
			r, err := meta.BenchmarkCommits(ctx, dirs, voters, clients, 512, time.Second)
			if err != nil {
				return err
			}
			// One sync of each voter's log must come before an answer, and serves all who wait for it.
			s.add(fmt.Sprintf("commits_%d_voters_%d", voters, clients), r.PerSecond, "1/s", s.limits.SyncsPerSec*float64(clients), 0)
		}
	}
	return s.nodeCommits(ctx, dirs)
}

// nodeCommits measures the same with three voters that reach each other over the loopback, as on three nodes.
func (s *suite) nodeCommits(ctx context.Context, dirs []string) error {
	for _, clients := range []int{1, 16, 64} {
		if s.cfg.Short && clients != 16 {
			continue
		}
		r, err := meta.BenchmarkNodeCommits(ctx, dirs, 3, clients, 512, time.Second)
		if err != nil {
			return err
		}
		s.add(fmt.Sprintf("commits_3_nodes_%d", clients), r.PerSecond, "1/s", s.limits.SyncsPerSec*float64(clients), 0)
	}
	return nil
}
