package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cairn/admin"
)

const (
	lossObjectBytes = 16 << 20
	healTimeout     = 2 * time.Minute
	lossPoll        = 20 * time.Millisecond
)

// lostDrive removes a drive's directory under load-free conditions and measures the time to the first rebuilt byte, the time
// until all is well again, and the rate between them.
func (s *suite) lostDrive(ctx context.Context) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	if _, err := s.load(ctx, Load{Op: OpGet, Size: lossObjectBytes, Clients: 1, For: time.Millisecond, Keep: true}); err != nil {
		return err
	}
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	limit, err := repairRate(ctx, s.dir)
	if err != nil {
		return err
	}
	gone := time.Now()
	if err := os.RemoveAll(s.driveDir(2)); err != nil {
		return err
	}
	var first, last time.Duration // when the first bytes were there, and when the last
	var least, most int64
	for {
		st, err := s.status(ctx)
		if err != nil {
			return err
		}
		// Live bytes at the path are zero until repair puts the first shard there.
		for _, d := range st.Drives {
			if d.Path != s.driveDir(2) || d.ID == driveAt(before, d.Path) || d.LiveBytes <= most {
				continue
			}
			if last, most = time.Since(gone), d.LiveBytes; first == 0 {
				first, least = last, most
			}
		}
		if first > 0 && st.Health == admin.HealthOK {
			break
		}
		if time.Since(gone) > healTimeout {
			return fmt.Errorf("not healed after %v: %s %q", healTimeout, st.Health, st.Reasons)
		}
		time.Sleep(lossPoll)
	}
	all := time.Since(gone)
	s.add("first_repaired_byte", first.Seconds(), "s", 0, 2)
	s.add("healed", all.Seconds(), "s", 0, 0)
	s.add("repair_rate", float64(most-least)/mib/max(last-first, time.Millisecond).Seconds(), "MiB/s", limit/mib, 0.7*limit/mib)
	return s.bench.Clean(ctx, Load{Op: OpGet, Size: lossObjectBytes})
}

func driveAt(st admin.Status, path string) string {
	for _, d := range st.Drives {
		if d.Path == path {
			return d.ID
		}
	}
	return ""
}

// degraded compares reads with all drives to reads with two of six unplugged: named drives, which are never made anew.
func (s *suite) degraded(ctx context.Context) error {
	args := []string{"--data", filepath.Join(s.dir, "named"), "--profile", "4+2"}
	var drives []string
	for i := range 6 {
		d := filepath.Join(s.dir, fmt.Sprintf("disk%d", i+1))
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
		drives = append(drives, d)
		args = append(args, "--drive", d)
	}
	if err := s.start(ctx, args...); err != nil {
		return err
	}
	for _, size := range []int{1 << 20, lossObjectBytes} {
		// Both sides of the comparison read what the page cache has.
		for _, l := range []Load{{For: time.Millisecond}, {For: coldLimit, Reuse: true, Once: true}} {
			l.Op, l.Size, l.Clients, l.Keep = OpGet, size, 16, true
			if _, err := s.load(ctx, l); err != nil {
				return err
			}
		}
	}
	healthy := map[int]float64{}
	for _, size := range []int{1 << 20, lossObjectBytes} {
		r, err := s.load(ctx, Load{Op: OpGet, Size: size, Clients: 16, For: s.cellTime(), Keep: true, Reuse: true})
		if err != nil {
			return err
		}
		healthy[size] = r.MiBPerSec
	}
	for _, d := range drives[:2] {
		if err := os.Rename(d, d+".unplugged"); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second) // until the drives are known to be missing
	for _, size := range []int{1 << 20, lossObjectBytes} {
		r, err := s.load(ctx, Load{Op: OpGet, Size: size, Clients: 16, For: s.cellTime(), Keep: true, Reuse: true})
		if err != nil {
			return err
		}
		s.add(fmt.Sprintf("degraded_get_%s_16", SizeText(size)), r.MiBPerSec, "MiB/s", healthy[size], 0.9*healthy[size])
	}
	return nil
}

// status asks the server's admin API.
func (s *suite) status(ctx context.Context) (st admin.Status, err error) {
	err = s.ask(ctx, "/api/v1/status", &st)
	return st, err
}
