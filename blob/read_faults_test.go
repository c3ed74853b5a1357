package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
)

// latency makes reads take a time of their drive's, in fake time; hung drives answer when release is closed. A jitter of
// nanoseconds keeps any two from ending at the same instant. Reads of drives that are named wait for their disks.
func (r *rig) latency(of map[cairn.DriveID]time.Duration, other time.Duration, release chan struct{}) {
	r.setFault(func(ctx context.Context, c blobtest.Call) error {
		if c.Op != blobtest.OpRead {
			return nil
		}
		d, ok := of[c.Drive]
		if ok {
			cairn.Waited(ctx)
		} else {
			d = other
		}
		if d == hung {
			<-release
			return nil
		}
		time.Sleep(d + time.Duration(rand.IntN(1000)))
		return nil
	})
}

const hung = time.Duration(-1)

// timed reads all of the blobs and says how long it took.
func (r *rig) timed(blobs []cairn.NewBlob, off int64, data []byte) time.Duration {
	r.t.Helper()
	start := time.Now()
	got, err := r.get(blobs, off, int64(len(data)))
	if err != nil || !bytes.Equal(got, data) {
		r.t.Errorf("get: %v, first difference at %d", err, diff(got, data))
	}
	return time.Since(start)
}

// A hung drive never stalls a read beyond the hedge: the first read goes around it after the floor, or, without any
// budget, after the hang limit; those that follow go elsewhere at once.
func TestHungDrive(t *testing.T) {
	for _, size := range []int{1000, unit, 9 << 20} {
		for _, slot := range []int{0, 3} {
			for _, budget := range []float64{0.05, 1e-9} {
				t.Run(fmt.Sprintf("%d/slot %d/budget %v", size, slot, budget), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						r := newRig(t, p42, func(c *blob.Config) { c.HedgeBudget = budget })
						data := noise(size)
						blobs := r.put(data)
						if budget < 0.01 {
							r.spendHedges(blobs, data)
						}
						release := make(chan struct{})
						drive, _ := r.at(blobs[0], slot)
						r.latency(map[cairn.DriveID]time.Duration{drive: hung}, time.Millisecond, release)
						holds := slot == 0 || size > 3*unit
						limit := 60 * time.Millisecond
						if budget < 0.01 {
							limit = 600 * time.Millisecond
						}
						took := r.timed(blobs, 0, data)
						if long := time.Duration(size>>18) * 20 * time.Millisecond; took > limit+long || holds && took < 20*time.Millisecond {
							t.Errorf("first read took %v, want 20 ms to %v", took, limit+long)
						}
						again := r.timed(blobs, 0, data)
						if want := time.Duration(1+size>>18) * 20 * time.Millisecond; again > want {
							t.Errorf("second read took %v, want at most %v", again, want)
						}
						close(release)
						if got := r.damage.take(); got != nil {
							t.Errorf("reported %q", got)
						}
					})
				})
			}
		}
	}
}

// spendHedges uses the budget up.
func (r *rig) spendHedges(blobs []cairn.NewBlob, data []byte) {
	r.t.Helper()
	drive, _ := r.at(blobs[0], 0)
	for range 20 {
		r.latency(map[cairn.DriveID]time.Duration{drive: 100 * time.Millisecond}, time.Millisecond, nil)
		r.timed(blobs, 0, data)
		time.Sleep(time.Minute) // until the drive is forgiven, and its strikes are forgotten
	}
}

// A slow drive is read around within the budget; when that is spent, readers wait for it.
func TestHedgeBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(unit / 2)
		blobs := r.put(data)
		slow, _ := r.at(blobs[0], 0)
		r.latency(map[cairn.DriveID]time.Duration{slow: 200 * time.Millisecond}, time.Millisecond, nil)
		quick, waited := 0, 0
		for range 40 {
			if r.timed(blobs, 0, data[:100]) < 100*time.Millisecond {
				quick++
			} else {
				waited++
			}
			time.Sleep(time.Minute) // each time the drive is tried anew
		}
		if quick < 10 || quick > 20 || waited == 0 {
			t.Errorf("%d reads were hedged and %d waited, want 10 to 20 hedged of 40", quick, waited)
		}
	})
}

// When all drives are equally slow, hedging would only add load.
func TestNoHedgesWhenAllAreSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(4 * unit)
		blobs := r.put(data)
		r.latency(nil, 90*time.Millisecond, nil)
		for range 5 {
			r.timed(blobs, 0, data) // learn
			time.Sleep(2 * time.Second)
		}
		before := r.mem.Calls(blobtest.OpRead)
		for range 10 {
			r.timed(blobs, 0, data)
		}
		if got := r.mem.Calls(blobtest.OpRead) - before; got != 40 {
			t.Errorf("%d reads for 10 times 4 units, want 40", got)
		}
	})
}

// Background reads queue behind the clients': that is no reason to read more.
func TestBackgroundIsNotHedged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(1000)
		blobs := r.put(data)
		slow, _ := r.at(blobs[0], 0)
		r.latency(map[cairn.DriveID]time.Duration{slow: 5 * time.Second}, time.Millisecond, nil)
		var out bytes.Buffer
		if err := r.Get(cairn.Background(context.Background()), refs(blobs), 0, 1000, &out); err != nil {
			t.Error(err)
		}
		if got := r.mem.Calls(blobtest.OpRead); got > 4 {
			t.Errorf("%d reads of 4 units", got)
		}
	})
}

// A drive known to be hung or missing is not asked while others can answer.
func TestUnreadableDriveIsNotAsked(t *testing.T) {
	for _, state := range []cairn.DriveState{cairn.DriveHung, cairn.DriveFailing, cairn.DriveMissing} {
		r := newRig(t, p42)
		data := noise(9 << 20)
		blobs := r.put(data)
		sick, _ := r.at(blobs[0], 1)
		r.vols.setState(sick, state)
		var asked atomic.Int64
		r.setFault(func(_ context.Context, c blobtest.Call) error {
			if c.Drive == sick {
				asked.Add(1)
			}
			return nil
		})
		r.wantBytes(blobs, data)
		if n := asked.Load(); n != 0 {
			t.Errorf("%s drive was asked %d times", state, n)
		}
		// With too few others it is the last resort.
		for _, slot := range []int{0, 5} {
			drive, id := r.at(blobs[0], slot)
			r.mem.Drop(drive, id)
		}
		r.wantBytes(blobs, data)
		if n := asked.Load(); n == 0 {
			t.Errorf("%s drive was not asked as the last resort", state)
		}
	}
}

// A canceled read ends at once, whatever the drives do.
func TestCanceledGet(t *testing.T) {
	for _, size := range bothWays {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42, func(c *blob.Config) { c.HedgeFloor, c.HangLimit = time.Hour, time.Hour })
			blobs := r.put(noise(size))
			release := make(chan struct{})
			drive, _ := r.at(blobs[0], 0)
			r.latency(map[cairn.DriveID]time.Duration{drive: hung}, 0, release)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			err := r.Get(ctx, refs(blobs), 0, int64(size), io.Discard)
			if took := time.Since(start); cairn.Kind(err) != cairn.ErrCanceled || took > time.Second+time.Millisecond {
				t.Errorf("%d bytes: %v after %v, want canceled after 1 s", size, err, took)
			}
			close(release)
		})
	}
}

// All drives but k-1 hang: the read waits for them, and fails when they do.
func TestTooManyHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(4 * unit)
		blobs := r.put(data)
		release := make(chan struct{})
		of := make(map[cairn.DriveID]time.Duration)
		for _, slot := range []int{0, 4, 5} {
			drive, _ := r.at(blobs[0], slot)
			of[drive] = hung
		}
		r.latency(of, time.Millisecond, release)
		time.AfterFunc(5*time.Second, func() { close(release) })
		if took := r.timed(blobs, 0, data); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("took %v, want the 5 s that the drives hung", took)
		}
	})
}

// However many reads there are, a hung drive sits on a bounded number of them.
func TestStuckReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(unit)
		blobs := r.put(data)
		release := make(chan struct{})
		drive, _ := r.at(blobs[0], 0)
		var stuck atomic.Int64
		r.setFault(func(_ context.Context, c blobtest.Call) error {
			if c.Op == blobtest.OpRead && c.Drive == drive {
				stuck.Add(1)
				<-release
			}
			return nil
		})
		for range 100 {
			r.timed(blobs, 0, data)
			time.Sleep(2 * time.Second)
		}
		if n := stuck.Load(); n > 33 {
			t.Errorf("%d reads hang on one drive, want at most 33", n)
		}
		close(release)
	})
}

// Each read fails in turn, with every kind of error, alone and in rows: up to m bad slots do not show.
func TestReadFaultSweep(t *testing.T) {
	for _, size := range []int{1000, 9 * unit} {
		data := noise(size)
		for _, kind := range []error{cairn.ErrNotFound, cairn.ErrCorrupt, cairn.ErrUnavailable, cairn.ErrOverloaded, errInjected} {
			for _, width := range []int64{1, 2} {
				for n := int64(0); ; n++ {
					r := newRig(t, p42)
					blobs := r.put(data)
					var count atomic.Int64
					r.setFault(func(_ context.Context, c blobtest.Call) error {
						if i := count.Add(1) - 1; i >= n && i < n+width {
							return kind
						}
						return nil
					})
					if got, err := r.get(blobs, 0, int64(size)); err != nil || !bytes.Equal(got, data) {
						t.Errorf("%d bytes, reads %d…%d %v: %v, first difference at %d", size, n, n+width, kind, err, diff(got, data))
					}
					if count.Load() <= n {
						break
					}
				}
			}
		}
	}
}

// An error of the writer ends the read and is passed on.
func TestWriterFails(t *testing.T) {
	for _, lost := range []int{0, 1} {
		r := newRig(t, p42)
		blobs := r.put(noise(9 << 20))
		for slot := range lost {
			drive, id := r.at(blobs[0], slot)
			r.mem.Drop(drive, id)
		}
		err := r.Get(context.Background(), refs(blobs), 0, 9<<20, &failWriter{after: 1 << 20, err: errInjected})
		if !errors.Is(err, errInjected) {
			t.Errorf("%d slots lost: %v, want the writer's error", lost, err)
		}
	}
}

// Reads that find no memory beside others wait for it and are right.
func TestGetsShareMemory(t *testing.T) {
	r := newRig(t, p42, func(c *blob.Config) { c.MaxReadMemory = 4 << 20 })
	data := noise(5 << 20)
	blobs := r.put(data)
	drive, id := r.at(blobs[0], 0)
	r.mem.Drop(drive, id)
	done := make(chan error)
	for range 40 {
		go func() {
			var out bytes.Buffer
			err := r.Get(context.Background(), refs(blobs), 0, int64(len(data)), &out)
			if err == nil && !bytes.Equal(out.Bytes(), data) {
				err = fmt.Errorf("first difference at %d", diff(out.Bytes(), data))
			}
			done <- err
		}()
	}
	for range 40 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// The hot path's allocations do not grow with the size. No read here waits for a disk.
func TestGetAllocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		data := noise(8 << 20)
		list := refs(r.put(data))
		got := testing.AllocsPerRun(20, func() {
			if err := r.Get(context.Background(), list, 0, int64(len(data)), io.Discard); err != nil {
				t.Error(err)
			}
		})
		if got > 20 {
			t.Errorf("%v allocations for 8 MiB in 128 pieces, want 20 at most", got)
		}
	})
}

// A read that is late because the machine was busy does not turn readers away from its drive.
func TestHiccup(t *testing.T) {
	for _, c := range []struct {
		late    time.Duration
		avoided bool
	}{{60 * time.Millisecond, false}, {300 * time.Millisecond, true}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42)
			data := noise(unit)
			blobs := r.put(data)
			drive, _ := r.at(blobs[0], 0)
			r.latency(map[cairn.DriveID]time.Duration{drive: c.late}, time.Millisecond, nil)
			r.timed(blobs, 0, data)
			time.Sleep(500 * time.Millisecond) // by now it has come back
			before := r.mem.Calls(blobtest.OpRead)
			r.latency(nil, time.Millisecond, nil)
			r.timed(blobs, 0, data[:100])
			if got := r.mem.Calls(blobtest.OpRead) - before; (got > 1) != c.avoided {
				t.Errorf("after a read that was %v late: %d reads for 100 bytes, avoided should be %v", c.late, got, c.avoided)
			}
		})
	}
}
