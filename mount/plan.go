package mount

import (
	"path"
	"strings"
	"time"

	"cairn/mount/cache"
)

// plan is what is to be fetched ahead of readers: the chunks of one file from some chunk on, then those before it. While a
// reader goes through the file in order it stays a window ahead of him, so that what comes is still in memory when he comes
// there; when he stands still for a moment it no longer waits for him.
type plan struct {
	src  *source
	from int
	step int
	done func() // may be nil
	// Guarded by fetcher.mu.
	free  bool // it waits for no reader
	timer *time.Timer
}

type planState int

const (
	planGoes planState = iota
	planWaits
	planEnds
)

const standsStill = 500 * time.Millisecond

// next returns the next chunk that is neither cached nor on its way.
func (p *plan) next(window int, flying func(chunk int) bool) (chunk int, state planState) {
	n := p.src.id.Chunks()
	for ; p.step < n; p.step++ {
		chunk = (p.from + p.step) % n
		if flying(chunk) || p.src.cached.Has(chunk) {
			continue
		}
		if at, inOrder := p.src.reader(); !p.free && inOrder && chunk >= at+window {
			return 0, planWaits
		}
		p.unwatch()
		p.step++
		return chunk, planGoes
	}
	return 0, planEnds
}

// watch calls lift when the plan has waited for long.
func (p *plan) watch(lift func(*plan)) {
	if p.timer == nil {
		p.timer = time.AfterFunc(standsStill, func() { lift(p) })
	}
}

func (p *plan) unwatch() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}

// end lets go of the file when the last chunk has been asked for. No fetcher works on the plan any more.
func (p *plan) end() {
	p.unwatch()
	p.src.drop()
	if p.done != nil {
		p.done()
	}
}

// weights are the suffixes of files that are read whole, whatever the order of the reads: loaders map them and touch
// tensors in their own order, which looks random from below.
var weights = map[string]bool{".safetensors": true, ".gguf": true, ".ggml": true, ".pt": true, ".pth": true, ".ckpt": true,
	".onnx": true, ".npz": true, ".npy": true, ".h5": true, ".msgpack": true, ".tflite": true, ".bin": true, ".engine": true}

const (
	readTwice   = 2       // reads in a row that make a sequential reader
	nearBy      = 8 << 20 // the kernel's reads ahead come in any order within this
	steadyReads = 4       // near ones in a row that make a reader whom a plan waits for
)

// advise looks at a read, and decides whether the rest of the file is fetched ahead: all of it if it holds weights or is
// read in order, beginning at the chunk that is read now. Files that have no place in the cache are not fetched ahead.
// moved: the reader has come to another chunk, and a plan may wait for that.
func (src *source) advise(off int64, n int) (p *plan, moved bool) {
	src.mu.Lock()
	defer src.mu.Unlock()
	before := src.at / cache.ChunkBytes
	if off == src.lastEnd {
		src.streak++
	} else {
		src.streak = 0
	}
	src.lastEnd = off + int64(n)
	switch {
	case off < src.at-nearBy, off > src.at+nearBy:
		src.at, src.steady = off, 0
	default:
		src.at, src.steady = max(src.at, off), src.steady+1
	}
	moved = src.planned && (src.at/cache.ChunkBytes != before || !src.read)
	src.read = true
	if src.cached == nil || src.planned || src.cached.Missing() == 0 {
		return nil, moved
	}
	if !weights[strings.ToLower(path.Ext(src.object.Key))] && src.streak < readTwice {
		return nil, moved
	}
	if !src.set.ahead {
		return nil, moved
	}
	src.planned = true
	return &plan{src: src, from: int(off / cache.ChunkBytes)}, moved
}

// plans tells whether a plan may be made now: it has a place in the cache, and there was none before.
func (src *source) plans() bool {
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.cached == nil || src.planned {
		return false
	}
	src.planned = true
	return true
}

// reader tells at which chunk the reader is, and whether he goes through the file in order.
func (src *source) reader() (chunk int, inOrder bool) {
	src.mu.Lock()
	defer src.mu.Unlock()
	return int(src.at / cache.ChunkBytes), src.steady >= steadyReads
}

// expects tells how often each byte of a chunk in memory is likely to be read: not at all before the first reader came.
func (src *source) expects() int {
	src.mu.Lock()
	defer src.mu.Unlock()
	switch {
	case src.readers > 0:
		return src.readers
	case src.read:
		return 1
	}
	return 0
}

// serves notes that a number of mounts read this version at once.
func (src *source) serves(mounts int) {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.readers = mounts
}
