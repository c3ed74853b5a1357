package meta

import (
	"sync/atomic"

	"cairn/meta/replica"
)

// written counts the rows that were changed by the commits of this process, by family.
type written struct{ counts [256]atomic.Int64 }

func (w *written) add(b *replica.Batch) {
	b.Keys(func(key []byte) {
		if len(key) > 0 {
			w.counts[key[0]].Add(1)
		}
	})
}

// kinds groups the families of rows as Written names them; the rest is "other".
var kinds = map[byte]string{famCurrent: "version", famOlder: "version", famNull: "version", famInline: "version", famPage: "version",
	famVolume: "volume", famChange: "volume", famChanged: "volume", famBlob: "blob", famDamage: "damage", famFinding: "finding",
	famDrive: "drive", famUpload: "upload", famPart: "upload", famGarbage: "garbage", famJob: "job", famConfig: "config"}

// Written tells how many rows of each kind the commits of this process have written or removed since it started, e.g.
// "version", "volume", "damage": what a repair costs the metadata.
func (s *Store) Written() map[string]int64 {
	out := map[string]int64{}
	for fam := range s.written.counts {
		n := s.written.counts[fam].Load()
		if n == 0 {
			continue
		}
		kind := kinds[byte(fam)]
		if kind == "" {
			kind = "other"
		}
		out[kind] += n
	}
	return out
}
