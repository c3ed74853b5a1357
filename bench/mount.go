package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"cairn/internal/process"
)

// The mount's stage: the same objects through `cairn mount`, through the mounts of others, and through clients that do
// nothing but fetch, from the same server in the same run.
const (
	mountKey     = "weights/model.safetensors"
	mountWarmKey = "weights/warm.safetensors"
	mountMemory  = 256 << 20 // the default of cairn mount --memory
	mountBeyond  = 128 << 20 // what its process may hold beside that
	mountRounds  = 3
	mountWorkers = 8       // of the bare client
	mountRange   = 8 << 20 // that it asks for at a time
	listedFiles  = 10_000
	oneWay       = 100 * time.Millisecond // of the slow link for the time to the first byte
)

// mountBench is what the stage keeps.
type mountBench struct {
	*suite
	dir             string
	cold, warm, rnd int64 // sizes of the objects
	peak            int64 // of the mounts' memory
}

// mounts measures the mounted model cache.
func (s *suite) mounts(ctx context.Context) error {
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		fmt.Fprintln(s.cfg.Out, "SKIPPED: the mount's rows need root and /dev/fuse")
		return nil
	}
	m := &mountBench{suite: s, dir: filepath.Join(s.dir, "mounts"), cold: 2 << 30, warm: 4 << 30, rnd: 1 << 30}
	if s.cfg.Short {
		m.cold, m.warm, m.rnd = 256<<20, 256<<20, 128<<20
	}
	if err := os.Mkdir(m.dir, 0o755); err != nil {
		return err
	}
	if err := s.start(ctx, "--data", filepath.Join(m.dir, "data"), "--drives", "6", "--profile", "4+2"); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{m.store, m.coldReads, m.randomOrder, m.warmReads, m.firstByte, m.listing, m.others} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	s.add("mount_peak_rss", float64(m.peak)/mib, "MiB", (mountMemory+mountBeyond)/mib, (mountMemory+mountBeyond)/mib)
	return nil
}

// store puts the objects that are mounted.
func (m *mountBench) store(ctx context.Context) error {
	for _, o := range []struct {
		key  string
		size int64
	}{{mountKey, m.cold}, {"weights/random.safetensors", m.rnd}, {mountWarmKey, m.warm}} {
		if err := m.putLarge(ctx, o.key, o.size); err != nil {
			return err
		}
	}
	return m.settle(ctx)
}

// mounted runs do over a fresh mount with an empty cache, and ends the mount.
func (m *mountBench) mounted(ctx context.Context, endpoint string, do func(*mounting) error) error {
	cache, err := os.MkdirTemp(m.dir, "cache")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	mt, err := m.mount(ctx, "cairn", cache, endpoint)
	if err != nil {
		return err
	}
	err = do(mt)
	peak, perr := process.PeakRSS(mt.cmd.Process.Pid)
	m.peak = max(m.peak, peak)
	return errors.Join(err, perr, mt.end())
}

// spent is how long something took and what processor time it cost: ours, the server's, the mount's.
type spent struct {
	time time.Duration
	cpu  time.Duration
}

// spend measures do; pids are the processes beside this one that work for it.
func spend(do func() error, pids ...int) (spent, error) {
	cpu := func() (sum time.Duration, err error) {
		var r unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
			return 0, err
		}
		sum = time.Duration(r.Utime.Nano() + r.Stime.Nano())
		for _, p := range pids {
			c, err := process.CPU(p)
			if err != nil {
				return 0, err
			}
			sum += c
		}
		return sum, nil
	}
	before, err := cpu()
	if err != nil {
		return spent{}, err
	}
	start := time.Now()
	if err := do(); err != nil {
		return spent{}, err
	}
	took := time.Since(start)
	after, err := cpu()
	return spent{took, after - before}, err
}

// better keeps the faster and the cheaper of what several rounds needed.
func (s *spent) better(other spent) {
	if s.time == 0 || other.time < s.time {
		s.time = other.time
	}
	if s.cpu == 0 || other.cpu < s.cpu {
		s.cpu = other.cpu
	}
}

func (s spent) rate(bytes int64) float64 { return float64(bytes) / mib / s.time.Seconds() }

func (s spent) perGiB(bytes int64) float64 { return s.cpu.Seconds() / (float64(bytes) / (1 << 30)) }

// coldReads compares the first read of an object through the mount with a bare client that fetches its ranges at once.
func (m *mountBench) coldReads(ctx context.Context) error {
	var bare, cold spent
	for i := range mountRounds + 1 {
		b, err := spend(func() error { return m.bareGet(ctx, mountKey, m.cold) }, m.server.PID())
		if err != nil {
			return err
		}
		if i == 0 {
			continue // it found the server's drives cold
		}
		bare.better(b)
		err = m.mounted(ctx, m.server.Endpoint(), func(mt *mounting) error {
			c, err := spend(func() error { return readWhole(filepath.Join(mt.dir, mountKey), m.cold) }, m.server.PID(), mt.pid())
			cold.better(c)
			return err
		})
		if err != nil {
			return err
		}
	}
	m.add("mount_cold_read", cold.rate(m.cold), "MiB/s", bare.rate(m.cold), 0.9*bare.rate(m.cold))
	m.add("mount_cold_read_cpu", cold.perGiB(m.cold), "s/GiB", bare.perGiB(m.cold), 1.15*bare.perGiB(m.cold))
	return nil
}

// randomOrder maps weights and touches their tensors in random order, as loaders do, and compares with a read in order.
func (m *mountBench) randomOrder(ctx context.Context) error {
	const key = "weights/random.safetensors"
	var inOrder, random spent
	for range mountRounds {
		for _, c := range []struct {
			into *spent
			read func(string, int64) error
		}{{&inOrder, readWhole}, {&random, touchTensors}} {
			err := m.mounted(ctx, m.server.Endpoint(), func(mt *mounting) error {
				t, err := spend(func() error { return c.read(filepath.Join(mt.dir, key), m.rnd) })
				c.into.better(t)
				return err
			})
			if err != nil {
				return err
			}
		}
	}
	m.add("mount_cold_mmap_random", random.rate(m.rnd), "MiB/s", inOrder.rate(m.rnd), 0.8*inOrder.rate(m.rnd))
	return nil
}

// warmReads compares reads of a file that is wholly cached with reads of the plain file in the cache's file system.
func (m *mountBench) warmReads(ctx context.Context) error {
	return m.mounted(ctx, m.server.Endpoint(), func(mt *mounting) error {
		shown := filepath.Join(mt.dir, mountWarmKey)
		if err := readWhole(shown, m.warm); err != nil {
			return err
		}
		plain, err := mt.cachedFile(ctx)
		if err != nil {
			return err
		}
		daemon, err := process.CPU(mt.pid())
		if err != nil {
			return err
		}
		for _, c := range []struct {
			name string
			read func(string, int64) error
		}{{"read", readWhole}, {"read_4_threads", readQuarters}, {"mmap", touchAll}} {
			for _, drop := range []bool{true, false} {
				var direct, through spent
				for range mountRounds {
					for _, side := range []struct {
						path string
						into *spent
					}{{plain, &direct}, {shown, &through}} {
						if drop {
							if err := dropPages(plain); err != nil {
								return err
							}
						}
						t, err := spend(func() error { return c.read(side.path, m.warm) })
						if err != nil {
							return err
						}
						side.into.better(t)
					}
				}
				name := "mount_warm_" + c.name
				if drop {
					name += "_from_disk"
				}
				m.add(name, through.rate(m.warm), "MiB/s", direct.rate(m.warm), 0.95*direct.rate(m.warm))
			}
		}
		after, err := process.CPU(mt.pid())
		m.add("mount_warm_daemon_cpu", ms(after-daemon), "ms", 0, 0)
		return err
	})
}

// firstByte measures how many round trips of a slow link lie between the open of a file that was never seen and its first bytes.
func (m *mountBench) firstByte(ctx context.Context) error {
	link, err := slowLink(m.server.S3Addr, oneWay)
	if err != nil {
		return err
	}
	defer link.close()
	return m.mounted(ctx, "http://"+link.addr(), func(mt *mounting) error {
		t, err := spend(func() error { return readSome(filepath.Join(mt.dir, mountKey), m.cold/2, 4096) })
		m.add("mount_first_byte", float64(t.time)/float64(2*oneWay), "trips", 0, 2)
		return err
	})
}

// listing compares `ls -l` of a large directory with the listing calls that it needs.
func (m *mountBench) listing(ctx context.Context) error {
	n := listedFiles
	if m.cfg.Short {
		n /= 10
	}
	if err := m.putSmall(ctx, "many/", n); err != nil {
		return err
	}
	var bare, shown spent
	for range mountRounds {
		b, err := spend(func() error { return m.bareList(ctx, "many/", n) })
		if err != nil {
			return err
		}
		bare.better(b)
		err = m.mounted(ctx, m.server.Endpoint(), func(mt *mounting) error {
			t, err := spend(func() error { return listLong(filepath.Join(mt.dir, "many"), n) })
			shown.better(t)
			return err
		})
		if err != nil {
			return err
		}
	}
	m.add(fmt.Sprintf("mount_ls_%d", n), ms(shown.time), "ms", ms(bare.time), 0)
	return nil
}

// others reads the same object through other mounts of S3, where their programs are here.
func (m *mountBench) others(ctx context.Context) error {
	for _, name := range []string{"s3fs", "rclone"} {
		if !installed(name) {
			fmt.Fprintf(m.cfg.Out, "SKIPPED: mount_cold_read of %s: the Debian package %s is not installed\n", name, name)
			continue
		}
		if err := m.other(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (m *mountBench) other(ctx context.Context, name string) error {
	cache, err := os.MkdirTemp(m.dir, "cache")
	if err != nil {
		return err
	}
	defer os.RemoveAll(cache)
	mt, err := m.mount(ctx, name, cache, m.server.Endpoint())
	if err != nil {
		return err
	}
	path := filepath.Join(mt.dir, mountKey)
	cold, err := spend(func() error { return readWhole(path, m.cold) }, m.server.PID(), mt.pid())
	var warm spent
	for range mountRounds {
		if err == nil {
			var w spent
			w, err = spend(func() error { return readWhole(path, m.cold) })
			warm.better(w)
		}
	}
	peak, perr := process.PeakRSS(mt.pid())
	if err := errors.Join(err, perr, mt.end()); err != nil {
		return err
	}
	m.add(name+"_cold_read", cold.rate(m.cold), "MiB/s", 0, 0)
	m.add(name+"_cold_read_cpu", cold.perGiB(m.cold), "s/GiB", 0, 0)
	m.add(name+"_warm_read", warm.rate(m.cold), "MiB/s", 0, 0)
	m.add(name+"_peak_rss", float64(peak)/mib, "MiB", 0, 0)
	return nil
}

// bareGet fetches an object by parallel ranges and drops the bytes: what no client of this server can beat by much.
func (m *mountBench) bareGet(ctx context.Context, key string, size int64) error {
	all, ctx := errgroup.WithContext(ctx)
	next := make(chan int64)
	all.Go(func() error {
		defer close(next)
		for off := int64(0); off < size; off += mountRange {
			select {
			case next <- off:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range mountWorkers {
		all.Go(func() error {
			c, err := newConn(m.server.Endpoint(), m.bench.cfg.Credentials)
			if err != nil {
				return err
			}
			defer c.close()
			for off := range next {
				rng := fmt.Sprintf("Range: bytes=%d-%d\r\n", off, min(off+mountRange, size)-1)
				if err := c.do(ctx, request{method: "GET", path: "/" + m.bench.cfg.Bucket + "/" + key, header: rng}, nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

var errShort = errors.New("fewer bytes than were stored")

// waitFor asks ok until it says yes, the process has ended, or ctx has.
func waitFor(ctx context.Context, ended <-chan struct{}, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(lossPoll)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ended:
			return fmt.Errorf("%s: the process has ended: %w", what, syscall.ESRCH)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		}
	}
	return nil
}
