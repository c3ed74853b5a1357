package repair_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
)

// slowWrites makes what repair writes take time, one write after another: base for each, and longer by factor, which may
// change with time.
func (c *cluster) slowWrites(base time.Duration, factor func() float64) {
	turn := make(chan struct{}, 1)
	c.disk.Fault = func(ctx context.Context, call blobtest.Call) error {
		if (call.Op == blobtest.OpWrite || call.Op == blobtest.OpAppend) && cairn.IsBackground(ctx) {
			turn <- struct{}{}
			time.Sleep(time.Duration(float64(base)*factor()) + 3*time.Nanosecond)
			<-turn
		}
		return c.driveFault(call)
	}
}

// The progress record tells the rate, what is left, and in the end what was done.
func TestRateAndProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 6)
		const limit = 1 << 20 // one piece of 1 MiB a second
		c.slowWrites(time.Second, func() float64 { return 1 })
		defer c.run()()
		for range 10 {
			c.put(8 << 20)
		}
		c.settled()
		c.disk.Wipe(c.node.ID(1))
		c.node.Replace(1)
		// Within one look at the drives (250 ms), not at the repairer's own next look: the finding must wake it.
		c.until("repair runs", 500*time.Millisecond, func() bool { return c.rep.Status().State == "running" })
		time.Sleep(8 * time.Second)
		s := c.rep.Status()
		if s.RateBytesPerSec < limit*0.7 || s.RateBytesPerSec > limit*1.4 || s.ETA == 0 || s.SafeIn != s.ETA || s.Oldest.IsZero() {
			t.Errorf("rate %.0f B/s of %d: %+v", s.RateBytesPerSec, limit, s)
		}
		c.until("whole again", 5*time.Minute, c.whole)
		s = c.rep.Status()
		took := s.Finished.Sub(s.Started)
		if want := time.Duration(float64(s.DoneBytes) / limit * float64(time.Second)); took < want*8/10 || took > want*13/10 {
			t.Errorf("%d bytes took %v, want about %v", s.DoneBytes, took, want)
		}
		if s.State != "idle" || s.DoneBytes != s.TotalBytes || s.DoneBlobs != 10 || s.DoneBytes != 10*2<<20 || !s.Oldest.IsZero() {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// A repair of ten minutes whose rate varies, on a drive that comes back with a part of its shards: whoever asks after the
// first minute is told the rest within 25%.
func TestETA(t *testing.T) {
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			c := newCluster(t, 6)
			rnd := rand.New(rand.NewPCG(seed, 7))
			start := time.Now()
			burst := 1.0
			c.slowWrites(300*time.Millisecond, func() float64 {
				if rnd.IntN(40) == 0 {
					burst = 0.6 + 0.8*rnd.Float64() // another neighbour
				}
				return burst * (1 + 0.4*math.Sin(time.Since(start).Seconds()/9))
			})
			stop := c.run()
			for i := range 2000 {
				size := int64(100)
				if i%3 == 0 {
					size = 4 * unit
				}
				c.put(size)
			}
			c.settled()
			c.disk.Wipe(c.node.ID(2))
			c.node.Replace(2)
			c.until("repair runs", time.Second, func() bool { return c.rep.Status().State == "running" })
			began := time.Now()
			type told struct{ at, eta, safe time.Duration }
			var all []told
			for c.rep.Status().State == "running" {
				if s := c.rep.Status(); time.Since(began) > time.Minute {
					all = append(all, told{time.Since(began), s.ETA, s.SafeIn})
				}
				time.Sleep(5*time.Second + 11*time.Nanosecond)
			}
			took := c.rep.Status().Finished.Sub(began)
			worst := 0.0
			for _, at := range all {
				left := took - at.at
				if left < took/10 {
					break // the last slices are coarse
				}
				for _, eta := range []time.Duration{at.eta, at.safe} {
					off := math.Abs(float64(eta-left)) / float64(left)
					worst = max(worst, off)
					if off > 0.25 {
						t.Errorf("seed %d after %v: told %v, it was %v", seed, at.at, eta, left)
					}
				}
			}
			t.Logf("seed %d: %v, %d answers, the worst %.0f%% off", seed, took, len(all), 100*worst)
			if took < 5*time.Minute || len(all) < 40 {
				t.Errorf("the repair took %v, %d answers: the test shows nothing", took, len(all))
			}
			stop()
		})
	}
}
