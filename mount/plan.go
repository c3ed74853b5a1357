package mount

import (
	"path"
	"strings"

	"cairn/mount/cache"
)

// plan is what is to be fetched ahead of readers: the chunks of one file from some chunk on, then those before it.
type plan struct {
	src  *source
	from int
	step int
	done func() // may be nil
}

// next returns the next chunk that is neither cached nor on its way.
func (p *plan) next(flying func(chunk int) bool) (chunk int, ok bool) {
	n := p.src.id.Chunks()
	for ; p.step < n; p.step++ {
		chunk = (p.from + p.step) % n
		if !flying(chunk) && !p.src.cached.Has(chunk) {
			p.step++
			return chunk, true
		}
	}
	return 0, false
}

// end lets go of the file when the last chunk has been asked for.
func (p *plan) end() {
	p.src.drop()
	if p.done != nil {
		p.done()
	}
}

// weights are the suffixes of files that are read whole, whatever the order of the reads: loaders map them and touch
// tensors in their own order, which looks random from below.
var weights = map[string]bool{".safetensors": true, ".gguf": true, ".ggml": true, ".pt": true, ".pth": true, ".ckpt": true,
	".onnx": true, ".npz": true, ".npy": true, ".h5": true, ".msgpack": true, ".tflite": true, ".bin": true, ".engine": true}

// readTwice is how many reads in a row make a sequential reader.
const readTwice = 2

// advise looks at a read, and decides whether the rest of the file is fetched ahead: all of it if it holds weights or is
// read in order, beginning at the chunk that is read now. Files that have no place in the cache are not fetched ahead.
func (src *source) advise(off int64, n int) *plan {
	if src.cached == nil {
		return nil
	}
	src.mu.Lock()
	defer src.mu.Unlock()
	if off == src.lastEnd {
		src.streak++
	} else {
		src.streak = 0
	}
	src.lastEnd = off + int64(n)
	if src.planned || src.cached.Missing() == 0 {
		return nil
	}
	if !weights[strings.ToLower(path.Ext(src.object.Key))] && src.streak < readTwice {
		return nil
	}
	src.planned = true
	return &plan{src: src, from: int(off / cache.ChunkBytes)}
}
