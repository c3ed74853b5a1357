package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob"
	"cairn/blob/blobtest"
)

var errInjected = errors.New("injected")

// short and long bodies go different ways: one append per slot, or a stream of pieces.
var bothWays = []int{1000, 9 << 20}

// oneBatchMore is the shortest body that is streamed.
const oneBatchMore = 4<<20 + 1

// wantDurable checks what an acknowledgement promises: every slot that is not skipped holds its shard, and there are
// enough of them.
func (r *rig) wantDurable(blobs []cairn.NewBlob) error {
	for _, b := range blobs {
		v := r.vols.row(b.Ref.Volume)
		held := 0
		for slot := range v.Slots {
			_, shard := r.mem.Shard(r.at(b, slot))
			if shard == nil && !slices.Contains(b.Skipped, uint8(slot)) {
				return fmt.Errorf("%s: slot %d is neither durable nor skipped", b.Ref, slot)
			}
			if shard != nil {
				held++
			}
		}
		if held < v.Profile.K+min(v.Profile.M, 1) {
			return fmt.Errorf("%s: acknowledged with %d shards of %s", b.Ref, held, v.Profile)
		}
	}
	return nil
}

// failOn makes operations of some slots' drives of the first volume fail.
func (r *rig) failOn(op blobtest.Op, err error, slots ...int) {
	drives := make(map[cairn.DriveID]bool)
	for _, s := range slots {
		drives[r.vols.row(1).Slots[s]] = true
	}
	r.setFault(func(_ context.Context, c blobtest.Call) error {
		if c.Op == op && drives[c.Drive] {
			return err
		}
		return nil
	})
}

func TestFailingSlotIsSkipped(t *testing.T) {
	for _, c := range []struct {
		size int
		op   blobtest.Op
	}{{1000, blobtest.OpAppend}, {9 << 20, blobtest.OpCreate}, {9 << 20, blobtest.OpWrite}, {9 << 20, blobtest.OpCommit}} {
		for _, slot := range []int{0, 5} {
			r := newRig(t, p42)
			r.failOn(c.op, errInjected, slot)
			data := noise(c.size)
			blobs := r.put(data)
			if want := []uint8{uint8(slot)}; !slices.Equal(blobs[0].Skipped, want) {
				t.Errorf("%s fails on slot %d: skipped %v, want %v", c.op, slot, blobs[0].Skipped, want)
			}
			if err := r.wantDurable(blobs); err != nil {
				t.Error(err)
			}
			r.setFault(nil)
			r.wantBytes(blobs, data)
		}
	}
}

func TestBelowQuorum(t *testing.T) {
	for _, c := range []struct {
		size int
		op   blobtest.Op
		err  error
		want error
	}{
		{1000, blobtest.OpAppend, errInjected, cairn.ErrQuorum},
		{9 << 20, blobtest.OpCreate, errInjected, cairn.ErrQuorum},
		{9 << 20, blobtest.OpWrite, errInjected, cairn.ErrQuorum},
		{9 << 20, blobtest.OpCommit, errInjected, cairn.ErrQuorum},
		{1000, blobtest.OpAppend, cairn.ErrFull, cairn.ErrFull},
		{9 << 20, blobtest.OpCreate, cairn.ErrOverloaded, cairn.ErrOverloaded},
		{9 << 20, blobtest.OpCommit, cairn.ErrStaleEpoch, cairn.ErrUnavailable},
	} {
		r := newRig(t, p42)
		r.failOn(c.op, c.err, 1, 4)
		req := r.request(noise(c.size))
		blobs, err := r.Put(context.Background(), req)
		if !errors.Is(err, c.want) || blobs != nil {
			t.Errorf("%s of %d bytes fails twice: %v, %v; want %v", c.op, c.size, blobs, err, c.want)
		}
		r.mem.Wait()
		if got := r.mem.Count(); got != 0 {
			t.Errorf("%s of %d bytes fails twice: %d shards left", c.op, c.size, got)
		}
	}
}

// A blob that is still in memory goes to another volume, also one of another shape; a stream cannot.
func TestAnotherVolume(t *testing.T) {
	for _, second := range []cairn.Profile{p42, p22, {K: 8, M: 4}} {
		for _, size := range []int{1000, 3<<20 + 77, 9 << 20} {
			r := newRig(t, p42)
			other := r.vols.add(second)
			r.failOn(blobtest.OpAppend, errInjected, 1, 4)
			if size > 4<<20 {
				r.failOn(blobtest.OpWrite, errInjected, 1, 4)
			}
			data := noise(size)
			req := r.request(data)
			var tee bytes.Buffer
			req.Tee = &tee
			blobs, err := r.Put(context.Background(), req)
			if size > 4<<20 {
				if !errors.Is(err, cairn.ErrQuorum) {
					t.Errorf("stream: %v, want no quorum", err)
				}
				continue
			}
			if err != nil || blobs[0].Ref.Volume != other.ID || blobs[0].Skipped != nil {
				t.Errorf("%d bytes to %s: %+v, %v", size, second, blobs, err)
				continue
			}
			if !bytes.Equal(tee.Bytes(), data) {
				t.Errorf("%d bytes to %s: tee got %d bytes", size, second, tee.Len())
			}
			r.wantBytes(blobs, data)
			r.mem.Wait()
			if got := r.mem.Count(); got > second.Width()+4 {
				t.Errorf("%d bytes to %s: %d shards lie about", size, second, got)
			}
		}
	}
}

// A volume whose row was old is written again under the new epoch.
func TestStaleEpochIsRefreshed(t *testing.T) {
	r := newRig(t, p42)
	r.vols.move(1, 2)
	for _, d := range r.vols.row(1).Slots {
		r.mem.Fence(context.Background(), d, 1, 2)
	}
	data := noise(1000)
	blobs := r.put(data)
	if blobs[0].Epoch != 2 || blobs[0].Skipped != nil {
		t.Errorf("written as %+v, want epoch 2", blobs[0])
	}
	r.wantBytes(blobs, data)
}

func TestSlotsThatTakeNoWritesAreLeftOut(t *testing.T) {
	for _, size := range bothWays {
		r := newRig(t, p42)
		sick := r.vols.row(1).Slots[3]
		r.vols.setState(sick, cairn.DriveReadOnly)
		r.setFault(func(_ context.Context, c blobtest.Call) error {
			if c.Drive == sick && c.Op != blobtest.OpDelete {
				t.Errorf("%s on a read-only drive", c.Op)
			}
			return nil
		})
		blobs := r.put(noise(size))
		if !slices.Equal(blobs[0].Skipped, []uint8{3}) {
			t.Errorf("skipped %v, want slot 3", blobs[0].Skipped)
		}
		// A second one: no quorum is left in this volume, so it is not even tried.
		r.vols.setState(r.vols.row(1).Slots[0], cairn.DriveFull)
		before := r.mem.Count()
		if _, err := r.Put(context.Background(), r.request(noise(size))); !errors.Is(err, cairn.ErrUnavailable) {
			t.Errorf("two of 4+2 take no writes: %v, want unavailable", err)
		}
		narrow := r.vols.add(p22)
		if blobs := r.put(noise(size)); blobs[0].Ref.Volume != narrow.ID {
			t.Errorf("written to %s, want %s", blobs[0].Ref.Volume, narrow.ID)
		}
		if got := r.mem.Count() - before; got != 4 {
			t.Errorf("%d new shards, want 4", got)
		}
	}
}

// A drive that does not answer holds a put up for the straggler's deadline, and the next ones not at all, until it is back.
// Its buffers are not used again meanwhile (Memory checks that).
func TestStraggler(t *testing.T) {
	for _, c := range []struct {
		size int
		op   blobtest.Op
	}{{1000, blobtest.OpAppend}, {9 << 20, blobtest.OpCreate}, {9 << 20, blobtest.OpWrite}, {9 << 20, blobtest.OpCommit}} {
		t.Run(fmt.Sprintf("%d/%s", c.size, c.op), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, p42)
				hung, release := r.vols.row(1).Slots[2], make(chan struct{})
				r.setFault(func(_ context.Context, call blobtest.Call) error {
					if call.Drive == hung && call.Op == c.op {
						<-release
					}
					return nil
				})
				for i, want := range []time.Duration{2 * time.Second, 0, 0} {
					start := time.Now()
					data := noise(c.size)
					blobs := r.put(data)
					if got := time.Since(start); got != want {
						t.Errorf("put %d took %v, want %v", i, got, want)
					}
					if !slices.Equal(blobs[0].Skipped, []uint8{2}) {
						t.Errorf("put %d skipped %v, want slot 2", i, blobs[0].Skipped)
					}
					if err := r.wantDurable(blobs); err != nil {
						t.Error(err)
					}
					r.wantBytes(blobs, data)
				}
				close(release)
				synctest.Wait()
				if blobs := r.put(noise(c.size)); blobs[0].Skipped != nil {
					t.Errorf("after the drive is back: skipped %v", blobs[0].Skipped)
				}
			})
		})
	}
}

// A node that hangs ends no write: the end of the client's request does. That is no sign of life, so the next puts wait for it no
// more than if it still held the write.
func TestStragglerWhoseRequestEnded(t *testing.T) {
	for _, size := range bothWays {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42)
			hung := r.vols.row(1).Slots[2]
			r.setFault(func(ctx context.Context, call blobtest.Call) error {
				if call.Drive == hung {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
			for i, want := range []time.Duration{2 * time.Second, 0, 0} {
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				blobs, err := r.Put(ctx, r.request(noise(size)))
				if took := time.Since(start); err != nil || took != want || !slices.Equal(blobs[0].Skipped, []uint8{2}) {
					t.Errorf("put %d of %d bytes: %+v, %v after %v, want slot 2 skipped after %v", i, size, blobs, err, took, want)
				}
				cancel()
				synctest.Wait()
			}
			r.setFault(nil)
			time.Sleep(4 * time.Second)
			if blobs := r.put(noise(size)); blobs[0].Skipped != nil {
				t.Errorf("when it answers again: skipped %v", blobs[0].Skipped)
			}
		})
	}
}

// The deadline counts from the quorum and is never less than ten times the middle slot's time.
func TestStragglerDeadlineAdapts(t *testing.T) {
	for _, size := range bothWays {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42)
			slow := r.vols.row(1).Slots[0]
			r.setFault(func(_ context.Context, c blobtest.Call) error {
				if c.Op != blobtest.OpAppend && c.Op != blobtest.OpCommit {
					return nil
				}
				time.Sleep(time.Second)
				if c.Drive == slow {
					time.Sleep(8 * time.Second)
				}
				return nil
			})
			if blobs := r.put(noise(size)); blobs[0].Skipped != nil {
				t.Errorf("%d bytes: skipped %v, though everyone was slow", size, blobs[0].Skipped)
			}
		})
	}
}

// Without a quorum a put ends after the stall limit, and says so; much sooner when most of the drives show that the others hang.
func TestStalledPutFails(t *testing.T) {
	for _, tt := range []struct {
		hung int
		want time.Duration
	}{{2, 4 * time.Second}, {4, 30 * time.Second}} {
		for _, size := range bothWays {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, p42)
				hung, release := r.vols.row(1).Slots[:tt.hung], make(chan struct{})
				r.setFault(func(_ context.Context, c blobtest.Call) error {
					if slices.Contains(hung, c.Drive) {
						<-release
					}
					return nil
				})
				start := time.Now()
				_, err := r.Put(context.Background(), r.request(noise(size)))
				if took := time.Since(start); !errors.Is(err, cairn.ErrQuorum) || took < tt.want || took > tt.want*5/3 {
					t.Errorf("%d bytes, %d hang: %v after %v, want no quorum after %v or a little more", size, tt.hung, err, took, tt.want)
				}
				close(release)
			})
		}
	}
}

// Two drives of a volume hang: a put that can begin anew does so in another volume, and the client waits no 5 s.
func TestHungQuorumGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42)
		other := r.vols.add(p42)
		hung, release := r.vols.row(1).Slots[:2], make(chan struct{})
		r.setFault(func(_ context.Context, c blobtest.Call) error {
			if slices.Contains(hung, c.Drive) {
				<-release
			}
			return nil
		})
		start := time.Now()
		blobs := r.put(noise(1000))
		if took := time.Since(start); took > 5*time.Second || blobs[0].Ref.Volume != other.ID {
			t.Errorf("in volume %s after %v, want %s within 5 s", blobs[0].Ref.Volume, took, other.ID)
		}
		close(release)
	})
}

// detours offer volume 1 to all, and volume 2 to who has to go around something.
type detours struct {
	*volumes
	asked [][]cairn.DriveID
}

func (d *detours) Pick(_ context.Context, _ cairn.Profile, avoid []cairn.VolumeID) (cairn.Volume, cairn.BlobID, error) {
	if slices.Contains(avoid, 1) {
		return cairn.Volume{}, 0, &cairn.Error{Op: "test.pick", Err: cairn.ErrUnavailable}
	}
	d.next++
	return d.row(1), d.next, nil
}

func (d *detours) PickAround(_ context.Context, _ cairn.Profile, sick []cairn.DriveID) (cairn.Volume, cairn.BlobID, error) {
	d.asked = append(d.asked, sick)
	d.next++
	return d.row(2), d.next, nil
}

// Two drives of every volume that is offered do not answer: a put that can begin anew goes around them, those that follow do at
// once, and a while later the drives are tried again.
func TestDetourAroundSickDrives(t *testing.T) {
	for _, size := range []int{1000, oneBatchMore} {
		synctest.Test(t, func(t *testing.T) {
			d := &detours{volumes: newVolumes(p42, 1)}
			d.add(p22)
			r := newRig(t, p42, func(c *blob.Config) { c.Volumes = d })
			r.vols = d.volumes
			dead := []cairn.DriveID{d.row(1).Slots[1], d.row(1).Slots[4]}
			var tried atomic.Int32
			r.setFault(func(_ context.Context, c blobtest.Call) error {
				if slices.Contains(dead, c.Drive) {
					tried.Add(1)
					return cairn.ErrUnavailable
				}
				return nil
			})
			r.put(noise(1000))
			before := tried.Load()
			data := noise(size)
			blobs := r.put(data)
			if blobs[0].Ref.Volume != 2 || tried.Load() != before {
				t.Errorf("%d bytes: in volume %s, the dead were tried %d times more; want v2 and none", size, blobs[0].Ref.Volume, tried.Load()-before)
			}
			for _, sick := range d.asked {
				if len(sick) != 2 || !slices.Contains(sick, dead[0]) || !slices.Contains(sick, dead[1]) {
					t.Errorf("asked to go around %v, want %v", sick, dead)
				}
			}
			r.wantBytes(blobs, data)
			r.setFault(nil)
			time.Sleep(4 * time.Second)
			if blobs := r.put(data); blobs[0].Ref.Volume != 1 || blobs[0].Skipped != nil {
				t.Errorf("when they answer again: %+v, want v1 whole", blobs)
			}
		})
	}
}

func TestCanceledPut(t *testing.T) {
	for _, size := range bothWays {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42)
			r.setFault(func(ctx context.Context, c blobtest.Call) error {
				if c.Op == blobtest.OpAppend || c.Op == blobtest.OpWrite {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			start := time.Now()
			_, err := r.Put(ctx, r.request(noise(size)))
			if took := time.Since(start); cairn.Kind(err) != cairn.ErrCanceled || took > 2*time.Second {
				t.Errorf("%d bytes: %v after %v, want canceled after 1 s", size, err, took)
			}
			synctest.Wait()
			if got := r.mem.Count(); got != 0 {
				t.Errorf("%d bytes: %d shards left", size, got)
			}
			// Nobody is blamed for it.
			r.setFault(nil)
			if blobs := r.put(noise(size)); blobs[0].Skipped != nil {
				t.Errorf("%d bytes: the next put skipped %v", size, blobs[0].Skipped)
			}
		})
	}
}

// Each operation fails in turn, alone and with the one after it: an acknowledged put is durable and reads back, a failed
// one leaves nothing.
func TestWriteFaultSweep(t *testing.T) {
	for _, size := range []int{1000, oneBatchMore} {
		for _, width := range []int64{1, 2, 7} {
			for n := int64(0); ; n++ {
				r := newRig(t, p42)
				var count atomic.Int64
				r.setFault(func(_ context.Context, c blobtest.Call) error {
					if c.Op == blobtest.OpDelete {
						return nil
					}
					if i := count.Add(1) - 1; i >= n && i < n+width {
						return errInjected
					}
					return nil
				})
				data := noise(size)
				blobs, err := r.Put(context.Background(), r.request(data))
				r.mem.Wait()
				hit := count.Load() > n
				r.setFault(nil)
				if err != nil {
					if got := r.mem.Count(); got != 0 {
						t.Errorf("%d bytes, faults %d…%d: %v, and %d shards left", size, n, n+width, err, got)
					}
				} else {
					if err := r.wantDurable(blobs); err != nil {
						t.Errorf("%d bytes, faults %d…%d: %v", size, n, n+width, err)
					}
					r.wantBytes(blobs, data)
				}
				if !hit {
					break
				}
			}
		}
	}
}

// The test of the tests: a store that calls done before it keeps anything is caught by wantDurable.
func TestPlantedBugEarlyAcknowledgement(t *testing.T) {
	for _, size := range bothWays {
		r := newRig(t, p42)
		r.mem.Early = true
		if err := r.wantDurable(r.put(noise(size))); err == nil {
			t.Errorf("%d bytes: an acknowledgement before durability went unnoticed", size)
		}
	}
}

// Many puts share little memory: they wait for each other, but never for themselves.
func TestPutsShareMemory(t *testing.T) {
	r := newRig(t, p42, func(c *blob.Config) { c.MaxMemory = 4 << 20 })
	r.vols.add(p42)
	data := noise(5<<20 + 123)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			req := r.request(data)
			req.Tee = io.Discard
			if i%3 == 0 {
				req.Size = -1
			}
			blobs, err := r.Put(context.Background(), req)
			if err != nil {
				t.Error(err)
				return
			}
			r.wantBytes(blobs, data)
		})
	}
	wg.Wait()
}

// Memory that never comes free is an overload, not a wait for ever.
func TestNoMemoryInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, p42, func(c *blob.Config) { c.MaxMemory = 4 << 20 })
		body, feed := io.Pipe()
		ended := make(chan error)
		go func() {
			req := r.request(make([]byte, 3<<20))
			req.Body = body
			_, err := r.Put(context.Background(), req)
			ended <- err
		}()
		synctest.Wait()
		_, err := r.Put(context.Background(), r.request(noise(3<<20)))
		if !errors.Is(err, cairn.ErrOverloaded) {
			t.Errorf("%v, want overloaded", err)
		}
		feed.CloseWithError(errInjected)
		if err := <-ended; !errors.Is(err, errInjected) {
			t.Errorf("the put that held the memory: %v", err)
		}
	})
}
