package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"cairn/admin"
	"cairn/erasure"
	"cairn/internal/process"
)

const (
	limitShard   = 4 << 20   // of the shards that repairRate rebuilds
	limitSpace   = 128 << 20 // of each of its files
	limitWorkers = 4         // shards that it rebuilds at once
	loadBytes    = 1 << 20
	loadClients  = 4
)

// repairRate is what a store can do at best to rebuild shards of 4+2: read four files past the page cache, decode a fifth
// shard, write it directly over space that was written before, and sync each shard. It returns rebuilt bytes per second.
func repairRate(ctx context.Context, dir string) (float64, error) {
	const k = 4
	var codes erasure.Codes
	code, err := codes.Get(erasure.Scheme{K: k, M: 2})
	if err != nil {
		return 0, err
	}
	files := make([]*os.File, k+1)
	for i := range files {
		path := filepath.Join(dir, "repair"+strconv.Itoa(i))
		if files[i], err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC|syscall.O_DIRECT, 0o600); err != nil {
			return 0, err
		}
		defer os.Remove(path)
		defer files[i].Close()
		if err := fillFile(files[i]); err != nil {
			return 0, err
		}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, limitWorkers)
	start := time.Now()
	for w := range limitWorkers {
		wg.Go(func() {
			units := make([][]byte, k+2)
			for i := range k + 1 {
				units[i] = alignedBuffer(mib)
			}
			for ctx.Err() == nil && errs[w] == nil && time.Since(start) < 2*limitTime {
				errs[w] = rebuildShard(code, files, units, next.Add(1)*limitShard%limitSpace)
			}
		})
	}
	wg.Wait()
	return float64(next.Load()) * limitShard / time.Since(start).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

func fillFile(f *os.File) error {
	buf := alignedBuffer(mib)
	for off := int64(0); off < limitSpace; off += mib {
		if _, err := f.WriteAt(buf, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

// rebuildShard reads a shard's worth of all files but the last, decodes into the last, and syncs it.
func rebuildShard(code *erasure.Code, files []*os.File, units [][]byte, at int64) error {
	last := len(files) - 1
	want := make([]bool, len(units))
	want[last] = true
	for off := at; off < at+limitShard; off += mib {
		var wg sync.WaitGroup
		errs := make([]error, last)
		for i, f := range files[:last] {
			wg.Go(func() { _, errs[i] = f.ReadAt(units[i], off) })
		}
		wg.Wait()
		units[last] = units[last][:0]
		if err := errors.Join(append(errs, code.Reconstruct(units, want))...); err != nil {
			return err
		}
		if _, err := files[last].WriteAt(units[last], off); err != nil {
			return err
		}
	}
	return syscall.Fdatasync(int(files[last].Fd()))
}

// besideRepair measures clients while all is well, and again while a drive's shards are rebuilt as fast as that may go.
func (s *suite) besideRepair(ctx context.Context) error {
	if err := s.running(ctx); err != nil {
		return err
	}
	var throttle admin.Throttle
	if err := s.ask(ctx, "/api/v1/repair/throttle", &throttle); err != nil {
		return err
	}
	if _, err := s.load(ctx, Load{Op: OpGet, Size: lossObjectBytes, Clients: 1, For: time.Millisecond, Keep: true}); err != nil {
		return err
	}
	for _, op := range []Op{OpGet, OpPut} {
		l := Load{Op: op, Size: loadBytes, Clients: loadClients, For: s.cellTime(), Keep: true}
		if op == OpGet { // the same bytes, as warm, in both measurements
			if _, err := s.load(ctx, Load{Op: op, Size: loadBytes, Clients: loadClients, For: coldLimit, Keep: true, Once: true}); err != nil {
				return err
			}
			l.Reuse = true
		}
		if err := s.compareBesideRepair(ctx, l, float64(throttle.Drive.Floor)); err != nil {
			return err
		}
	}
	return errors.Join(s.bench.Clean(ctx, Load{Op: OpGet, Size: lossObjectBytes}), s.bench.Clean(ctx, Load{Op: OpGet, Size: loadBytes}))
}

// compareBesideRepair runs a load without and with repair beside it. floor is what repair may always do, in bytes per second.
func (s *suite) compareBesideRepair(ctx context.Context, l Load, floor float64) error {
	idle, err := s.load(ctx, l)
	if err != nil {
		return err
	}
	const lost = 4
	before, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(s.driveDir(lost)); err != nil {
		return err
	}
	if _, err := s.rebuilt(ctx, before, lost, 1); err != nil {
		return err
	}
	type moved struct {
		rate float64
		err  error
	}
	during := make(chan moved, 1)
	watch, stop := context.WithCancel(ctx)
	go func() {
		rate, err := s.repairMoves(watch, lost)
		during <- moved{rate, err}
	}()
	busy, err := s.load(ctx, l)
	stop()
	m := <-during
	if err := errors.Join(err, m.err); err != nil {
		return err
	}
	name := fmt.Sprintf("%s_%s_%d", l.Op, SizeText(l.Size), l.Clients)
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	s.add("p99_idle_"+name, ms(idle.P99), "ms", 0, 0)
	s.add("p99_repair_"+name, ms(busy.P99), "ms", ms(idle.P99), 2*ms(idle.P99))
	// What is rebuilt is written and read back: on its drive twice as many bytes move.
	s.add("repair_beside_"+name, m.rate/mib, "MiB/s", 0, floor/2/mib)
	return s.healed(ctx)
}

// rebuilt waits until a new drive at the path has live bytes, and returns how many.
func (s *suite) rebuilt(ctx context.Context, before admin.Status, drive int, least int64) (int64, error) {
	for start := time.Now(); time.Since(start) < healTimeout; time.Sleep(lossPoll) {
		st, err := s.status(ctx)
		if err != nil {
			return 0, err
		}
		for _, d := range st.Drives {
			if d.Path == s.driveDir(drive) && d.ID != driveAt(before, d.Path) && d.LiveBytes >= least {
				return d.LiveBytes, nil
			}
		}
	}
	return 0, fmt.Errorf("nothing was rebuilt within %v", healTimeout)
}

// repairMoves measures how fast repair goes until ctx ends or all is rebuilt: the growth of its job's count.
func (s *suite) repairMoves(ctx context.Context, drive int) (float64, error) {
	var first, last admin.Status
	for {
		asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
		st, err := s.status(asked)
		cancel()
		if err != nil {
			return 0, err
		}
		if first.Now.IsZero() {
			first = st
		}
		if grown(last, st, s.driveDir(drive)) > 0 {
			last = st
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * lossPoll):
			if st.Health != admin.HealthOK {
				continue
			}
		}
		took := last.Now.Sub(first.Now).Seconds()
		if took <= 0 {
			return 0, nil
		}
		return float64(grown(first, last, s.driveDir(drive))) / took, nil
	}
}

// grown is by how much the live bytes at a path are more in b than in a.
func grown(a, b admin.Status, path string) (n int64) {
	for _, d := range b.Drives {
		if d.Path == path {
			n += d.LiveBytes
		}
	}
	for _, d := range a.Drives {
		if d.Path == path {
			n -= d.LiveBytes
		}
	}
	return n
}

// healed waits until all is well again.
func (s *suite) healed(ctx context.Context) error {
	for start := time.Now(); ; time.Sleep(lossPoll) {
		st, err := s.status(ctx)
		if err != nil {
			return err
		}
		if st.Health == admin.HealthOK {
			return nil
		}
		if time.Since(start) > healTimeout {
			return fmt.Errorf("not healed after %v: %s %q", healTimeout, st.Health, st.Reasons)
		}
	}
}

// ask gets what the server's admin API has at a path.
func (s *suite) ask(ctx context.Context, path string, answer any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.server.AdminURL()+path, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(process.AccessKey, process.SecretKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}
