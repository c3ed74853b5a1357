package object

import (
	"context"

	"cairn"
	"cairn/meta"
)

// Rename gives an object another key of its bucket, in one commit and without moving bytes. ErrNoSuchBucket, ErrNotFound,
// ErrKeepsVersions, rules on keys, and what r.Check returns.
func (s *Store) Rename(ctx context.Context, r meta.Rename) (cairn.Version, error) {
	for _, key := range []string{r.From, r.To} {
		if err := checkKey("object.rename", r.Bucket, key); err != nil {
			return cairn.Version{}, err
		}
	}
	v, err := s.cfg.Meta.Rename(ctx, r)
	return v, explain(err)
}
