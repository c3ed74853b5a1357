package datanode

import (
	"errors"
	"testing"

	"cairn"
	"cairn/internal/vfs"
	"pgregory.net/rapid"
)

// TestModel runs random operations against a store and a map: appends, streams, deletes, fences, checkpoints, compaction,
// crashes, failing disks, clean restarts, a lost index.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		w.cfg.SegmentBytes = rapid.SampledFrom([]int64{128 << 10, 256 << 10, 1 << 20}).Draw(rt, "segment bytes")
		m := &model{rt: rt, w: w}
		m.must(w.open(nil))
		defer func() { m.w.close(false) }()
		rt.Repeat(map[string]func(*rapid.T){
			"append":     m.append,
			"stream":     m.stream,
			"delete":     m.delete,
			"fence":      m.fence,
			"checkpoint": func(*rapid.T) { m.must(m.w.store.saveIndex()) },
			"tidy":       func(*rapid.T) { m.must(m.w.tidy()) },
			"restart":    m.restart,
			"crash":      m.crash,
			"sick disk":  m.sickDisk,
			"lost index": m.lostIndex,
			"":           func(*rapid.T) { m.must(m.w.wrong(false)) },
		})
	})
}

type model struct {
	rt      *rapid.T
	w       *world
	version uint64
}

func (m *model) must(err error) {
	if err != nil {
		m.rt.Fatal(err)
	}
}

func (m *model) blob(rt *rapid.T) int { return rapid.IntRange(1, 12).Draw(rt, "blob") }

func (m *model) size(rt *rapid.T) int {
	return rapid.OneOf(rapid.IntRange(0, 9000), rapid.SampledFrom([]int{65_536, 65_537, 100_000})).Draw(rt, "bytes")
}

func (m *model) append(rt *rapid.T) {
	m.version++
	m.must(m.w.append(m.blob(rt), m.version, m.size(rt)))
}

func (m *model) stream(rt *rapid.T) {
	m.version++
	m.must(m.w.stream(m.blob(rt), m.version, m.size(rt)))
}

func (m *model) delete(rt *rapid.T) {
	m.must(m.w.delete(rapid.SliceOfN(rapid.IntRange(1, 12), 1, 6).Draw(rt, "blobs")...))
}

func (m *model) fence(rt *rapid.T) {
	m.must(m.w.fence(cairn.VolumeID(rapid.IntRange(5, 7).Draw(rt, "volume")), cairn.Epoch(rapid.IntRange(1, 9).Draw(rt, "epoch"))))
}

func (m *model) reopen() {
	m.must(m.w.open(nil))
	m.must(m.w.wrong(true))
}

func (m *model) restart(*rapid.T) {
	m.w.close(true)
	m.reopen()
}

func (m *model) crash(rt *rapid.T) {
	after := m.w.crash(vfs.CrashMode(rapid.IntRange(0, 2).Draw(rt, "mode")), rapid.Uint64().Draw(rt, "seed"))
	m.w.close(false)
	m.w = after
	m.reopen()
}

// sickDisk reopens the store on a disk that fails from some operation on, works with it, and loses power.
func (m *model) sickDisk(rt *rapid.T) {
	m.w.close(rapid.Bool().Draw(rt, "saved"))
	fault, _ := vfs.FailFrom(rapid.IntRange(0, 25).Draw(rt, "operations"), errInjected)
	if m.w.open(fault) == nil {
		for range rapid.IntRange(1, 10).Draw(rt, "tries") {
			m.version++
			m.w.append(m.blob(rt), m.version, m.size(rt))
			m.version++
			m.w.stream(m.blob(rt), m.version, m.size(rt))
			m.w.delete(m.blob(rt))
			m.w.tidy()
		}
	}
	m.crash(rt)
}

// lostIndex removes the index while the store is closed: the segments alone must tell the same.
func (m *model) lostIndex(rt *rapid.T) {
	m.w.close(rapid.Bool().Draw(rt, "saved"))
	for _, name := range []string{checkpointName, cleanName} {
		if err := m.w.disk.Remove("/d/" + indexDir + "/" + name); err != nil {
			m.must(ignoreAbsent(err))
		}
	}
	m.must(errors.Join(m.w.disk.SyncDir("/d/" + indexDir)))
	m.reopen()
}
