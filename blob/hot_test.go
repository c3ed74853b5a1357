package blob_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"cairn"
	"cairn/blob/blobtest"
)

// Reads that had to wait for a disk are fetched ahead; reads that merely took long, on a busy machine, go on one by one.
func TestFetchAhead(t *testing.T) {
	const each = time.Millisecond
	const pieces = 64
	for _, waits := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, p42)
			data := noise(pieces * unit)
			blobs := r.put(data)
			r.setFault(func(ctx context.Context, c blobtest.Call) error {
				if c.Op == blobtest.OpRead {
					time.Sleep(each)
					if waits {
						cairn.Waited(ctx)
					}
				}
				return nil
			})
			took := r.timed(blobs, 0, data)
			if waits && took > pieces*each/2 {
				t.Errorf("cold reads took %v, want at most half of the %v that they take one by one", took, pieces*each)
			}
			if !waits && took != pieces*each {
				t.Errorf("warm reads took %v, want %v: one by one", took, pieces*each)
			}
		})
	}
}

// A read that has asked no disk yet lacks a core, and to read elsewhere would lack it too; but not for ever: it may hang.
func TestStarvedReadIsNotHedged(t *testing.T) {
	for took, hedged := range map[time.Duration]bool{150 * time.Millisecond: false, 5 * time.Second: true} {
		for _, size := range bothWays {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, p42)
				data := noise(size)
				blobs := r.put(data)
				starved, _ := r.at(blobs[0], 0)
				r.setFault(func(_ context.Context, c blobtest.Call) error {
					if c.Op == blobtest.OpRead && c.Drive == starved {
						time.Sleep(took)
					}
					return nil
				})
				r.timed(blobs, 0, data)
				if n := r.Stats().HedgedReads; n > 0 != hedged {
					t.Errorf("%d bytes: %d reads were hedged after %v", size, n, took)
				}
			})
		}
	}
}

// With as many drives away as may be, a drive that was slow a moment ago is read like the others, in the quick way.
func TestDecodeWithSlowDrive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = time.Millisecond
		r := newRig(t, p42)
		data := noise(4 * unit)
		blobs := r.put(data)
		slow, _ := r.at(blobs[0], 3)
		r.latency(map[cairn.DriveID]time.Duration{slow: 300 * time.Millisecond}, each, nil)
		r.timed(blobs, 0, data) // hedges, so that the drive is avoided for a second
		time.Sleep(500 * time.Millisecond)
		for _, slot := range []int{0, 4} {
			drive, _ := r.at(blobs[0], slot)
			r.vols.setState(drive, cairn.DriveMissing)
		}
		r.latency(nil, each, nil)
		before := r.mem.Calls(blobtest.OpRead)
		took := r.timed(blobs, 0, data)
		if got := r.mem.Calls(blobtest.OpRead) - before; got != 4 {
			t.Errorf("%d reads, want the 4 that decoding needs", got)
		}
		if took < 4*each {
			t.Errorf("took %v: not one read after the other", took)
		}
	})
}
