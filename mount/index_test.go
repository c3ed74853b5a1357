package mount_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"cairn/mount"
	"cairn/mount/cache"
)

// Whoever opens the index of a checkpoint finds its files on their way: all that it names, and no others. With prefetch off,
// nothing is fetched but what is read.
func TestIndexIsFollowed(t *testing.T) {
	shard := random(31, cache.ChunkBytes+99)
	fill := func() *bucket {
		b := newBucket()
		b.page = 2
		for i := range 4 {
			b.put(fmt.Sprintf("m/model-%d.safetensors", i), shard)
		}
		b.put("m/other.safetensors", shard)
		b.put("secret.safetensors", shard)
		b.put("m/model.safetensors.index.json", []byte(`{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-3.safetensors",
			"c": "model-1.safetensors", "d": "absent.safetensors", "e": "../secret.safetensors", "f": ""}}`))
		b.put("m/broken.index.json", []byte(`{"weight_map": [1`))
		return b
	}
	open := func(m *mounted, name string) {
		f, err := os.Open(filepath.Join(m.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	b := fill()
	md := mountAt(t, b, t.TempDir(), nil)
	open(md, "m/broken.index.json")
	open(md, "m/model.safetensors.index.json")
	md.published("m/model-1.safetensors")
	md.published("m/model-3.safetensors")
	for _, it := range md.cache.List() {
		switch it.Key {
		case "m/model-1.safetensors", "m/model-3.safetensors", "m/model.safetensors.index.json", "m/broken.index.json":
		default:
			t.Errorf("%s was fetched too", it.Key)
		}
	}
	md.same("m/model-3.safetensors", shard)
	b = fill()
	md = mountAt(t, b, t.TempDir(), func(m *mount.Config, _ *cache.Config) { m.NoPrefetch = true })
	open(md, "m/model.safetensors.index.json")
	f, err := os.Open(filepath.Join(md.dir, "m/other.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 10), 0); err != nil {
		t.Fatal(err)
	}
	f.Close()
	md.stop() // waits for whatever was begun
	if got := b.reads.Load(); got != 1 {
		t.Errorf("%d fetches for one read without prefetch", got)
	}
}
