package meta

import (
	"context"
	"errors"

	"cairn"
	"cairn/meta/replica"
)

// maxDeletesPerCommit bounds a batch of deletions: more would hold up others' commits, fewer would cost more syncs.
const maxDeletesPerCommit = 500

// DeleteVersions commits many deletions in as few commits as possible; results and errors by index. Requests are decided
// in order; all must be of one bucket. Errors are those of DeleteVersion, each for its own request.
func (s *Store) DeleteVersions(ctx context.Context, rs []DeleteVersion) ([]Deleted, []error) {
	out, errs := make([]Deleted, len(rs)), make([]error, len(rs))
	for from := 0; from < len(rs); {
		to := chunkEnd(rs, from)
		s.deleteChunk(ctx, rs[from:to], out[from:to], errs[from:to])
		from = to
	}
	return out, errs
}

// chunkEnd returns where a commit's share ends: a second deletion of the same key must see the first one's effect.
func chunkEnd(rs []DeleteVersion, from int) int {
	seen := make(map[string]bool)
	for i := from; i < len(rs); i++ {
		if i-from == maxDeletesPerCommit || seen[rs[i].Ref.Key] || rs[i].Ref.Bucket != rs[from].Ref.Bucket {
			return i
		}
		seen[rs[i].Ref.Key] = true
	}
	return len(rs)
}

func (s *Store) deleteChunk(ctx context.Context, rs []DeleteVersion, out []Deleted, errs []error) {
	const op = "meta.delete versions"
	g := s.groups.of(0, rs[0].Ref.Key)
	_, err := s.change(ctx, g, 0, func(t *txn) error {
		clear(errs)
		b, err := t.bucket(rs[0].Ref.Bucket)
		if err != nil {
			return err
		}
		for i := range rs {
			out[i], err = t.delete(b, &rs[i])
			if err != nil && !refused(err) {
				return err
			}
			errs[i] = fail(op, rs[i].Ref.Bucket+"/"+rs[i].Ref.Key, err)
		}
		return nil
	})
	if err == nil {
		return
	}
	if errors.Is(err, cairn.ErrOverloaded) && len(rs) > 1 || errors.Is(err, replica.ErrConflict) {
		half := len(rs) / 2 // a busy key must not hold up the others
		s.deleteChunk(ctx, rs[:half], out[:half], errs[:half])
		s.deleteChunk(ctx, rs[half:], out[half:], errs[half:])
		return
	}
	for i := range errs {
		out[i], errs[i] = Deleted{}, fail(op, rs[i].Ref.Bucket+"/"+rs[i].Ref.Key, err)
	}
}

// refused tells whether an error is the answer to one request rather than a failure of the whole.
func refused(err error) bool {
	return errors.Is(err, cairn.ErrPrecondition) || errors.Is(err, cairn.ErrNotFound) || errors.Is(err, cairn.ErrInvalid) ||
		errors.Is(err, cairn.ErrForbidden)
}
