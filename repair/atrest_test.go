package repair_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
	"cairn/scrub"
)

// liar is a disk below the store that does other things than it is told, and says that all went well.
type liar struct {
	vfs.FS
	// lie decides what becomes of a write to a segment: its bytes and where they go; nil bytes are not written at all.
	lie atomic.Pointer[func(name string, p []byte, off int64) ([]byte, int64)]
}

func (l *liar) Open(name string, flags vfs.Flag) (vfs.File, error) {
	f, err := l.FS.Open(name, flags)
	return &lyingFile{f, l, name}, err
}

type lyingFile struct {
	vfs.File
	disk *liar
	name string
}

func (f *lyingFile) WriteAt(p []byte, off int64) (int, error) {
	if lie := f.disk.lie.Load(); lie != nil && strings.Contains(f.name, "/segments/") {
		q, to := (*lie)(f.name, p, off)
		if q != nil {
			if _, err := f.File.WriteAt(q, to); err != nil {
				return 0, err
			}
		}
		return len(p), nil
	}
	return f.File.WriteAt(p, off)
}

// onlyOn limits a lie to one drive, and tells how often it was told.
func (l *liar) onlyOn(drive string, lie func(p []byte, off int64) ([]byte, int64)) (told *atomic.Int64) {
	told = &atomic.Int64{}
	f := func(name string, p []byte, off int64) ([]byte, int64) {
		if !strings.HasPrefix(name, drive+"/") {
			return p, off
		}
		told.Add(1)
		return lie(p, off)
	}
	l.lie.Store(&f)
	return told
}

// Whatever a disk did with acknowledged writes is found by one scrub, mended, and never served.
func TestLyingDisks(t *testing.T) {
	for _, tt := range []struct {
		name string
		lie  func(p []byte, off int64) ([]byte, int64)
		most int // bad shards for one lie
	}{
		{"phantom write", func([]byte, int64) ([]byte, int64) { return nil, 0 }, 1},
		// Onto what was written before: that is destroyed too.
		{"misdirected write", func(p []byte, off int64) ([]byte, int64) { return p, max(4096, off-64<<10) }, 3},
		{"bit flip on the way", func(p []byte, off int64) ([]byte, int64) {
			q := vfs.AlignedBuffer(len(p))
			copy(q, p)
			q[len(q)/2] ^= 0x10
			return q, off
		}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			disk := &liar{FS: vfs.NewMem()}
			s := openStoreOn(t, false, disk)
			for i := range 6 {
				s.put(fmt.Sprintf("before/%d", i), 300<<10)
			}
			s.until("whole", 10*time.Second, s.whole)
			told := disk.onlyOn(s.path(2), tt.lie)
			for i := range 3 {
				s.put(fmt.Sprintf("lied/%d", i), 300<<10)
			}
			disk.lie.Store(nil)
			bad := s.bad()
			if told.Load() == 0 || bad == 0 || bad > int(told.Load())*tt.most {
				t.Fatalf("%d lies made %d shards bad", told.Load(), bad)
			}
			var last cairn.Progress
			must(t, s.scrub.Check(t.Context(), scrub.Check{}, func(p cairn.Progress) { last = p }))
			if int(last.Found) != bad || last.Unchecked != 0 {
				t.Errorf("scrub found %d of %d bad shards: %+v", last.Found, bad, last)
			}
			s.until("whole again", 30*time.Second, func() bool { return s.whole() && s.bad() == 0 })
			s.checkAll()
			repaired := 0
			list, err := s.meta.Findings(t.Context(), cairn.MaxFindings)
			must(t, err)
			for _, f := range list {
				if f.Outcome == cairn.OutcomeRepaired {
					repaired++
				}
			}
			if repaired < bad {
				t.Errorf("%d of %d bad shards are known to be repaired: %+v", repaired, bad, list)
			}
			t.Logf("%d lies, %d bad shards, all found and mended", told.Load(), bad)
		})
	}
}
