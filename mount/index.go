package mount

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"cairn/mount/cache"
)

// A checkpoint of several files has an index beside them, as transformers writes it: JSON whose weight_map names for every
// tensor the file that holds it. Who opens the index is going to read those files, so they are fetched ahead.
const (
	indexSuffix   = ".index.json"
	maxIndexBytes = 32 << 20
	maxShards     = 4096
	maxIndexPages = 16 // of the listing in which the files are looked for
)

// shardsOf returns the files that an index names, each once, in order; they lie beside the index.
func shardsOf(index []byte) ([]string, error) {
	var parsed struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(index, &parsed); err != nil {
		return nil, err
	}
	var files []string
	for _, f := range parsed.WeightMap {
		if plain(f) && !strings.Contains(f, "/") {
			files = append(files, f)
		}
	}
	slices.Sort(files)
	files = slices.Compact(files)
	if len(files) > maxShards {
		return nil, fmt.Errorf("%d files", len(files))
	}
	return files, nil
}

// followIndex fetches ahead what an index names, once for each version of it. src is open.
func (m *Mount) followIndex(src *source) {
	if !m.sources.ahead || !strings.HasSuffix(src.object.Key, indexSuffix) || src.object.Size > maxIndexBytes || !src.plans() {
		return
	}
	src.hold()
	m.tasks.Go(func() {
		defer src.drop()
		if err := m.fetchShards(m.fetch.ctx, src); err != nil && m.fetch.ctx.Err() == nil {
			m.cfg.Logger.Info("an index is not followed", "key", src.object.Key, "err", err)
		}
	})
}

func (m *Mount) fetchShards(ctx context.Context, src *source) error {
	text := make([]byte, src.object.Size)
	for off := 0; off < len(text); off += cache.ChunkBytes {
		if err := m.readPart(ctx, src, text[off:min(off+cache.ChunkBytes, len(text))], int64(off)); err != nil {
			return err
		}
	}
	files, err := shardsOf(text)
	if err != nil || len(files) == 0 {
		return err
	}
	dir := src.object.Key[:strings.LastIndexByte(src.object.Key, '/')+1]
	found, err := m.find(ctx, dir, files)
	for _, o := range found {
		shard, err := m.sources.acquire(o)
		if err != nil {
			return err
		}
		if shard.cached == nil {
			shard.drop()
			return cache.ErrNoRoom // nor is there for those behind it
		}
		if shard.plans() {
			m.fetch.add(&plan{src: shard})
		}
		shard.drop()
	}
	return err
}

// find looks up files of a directory by its listing; those that are not there are left out.
func (m *Mount) find(ctx context.Context, dir string, files []string) (found []Object, err error) {
	for next, pages := "", 0; pages < maxIndexPages; pages++ {
		var p Page
		err := m.again(ctx, func(ctx context.Context) (err error) {
			p, err = m.store.List(ctx, dir, next)
			return err
		})
		if err != nil {
			return found, err
		}
		for _, o := range p.Objects {
			if _, named := slices.BinarySearch(files, strings.TrimPrefix(o.Key, dir)); named && o.Size > 0 {
				found = append(found, o)
			}
		}
		if next = p.Next; next == "" {
			break
		}
	}
	return found, nil
}
