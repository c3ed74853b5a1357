package meta

import (
	"context"
	"encoding/binary"
	"time"

	"cairn"
	"cairn/meta/replica"
)

// Blobs returns up to max reference rows of a volume with blob IDs above after: what every slot is expected to hold.
func (s *Store) Blobs(ctx context.Context, v cairn.VolumeID, after cairn.BlobID, max int) (list []cairn.BlobRow, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		from := key2(famBlob, uint64(v), uint64(after)+1)
		return w.Walk(from, key1(famBlob, uint64(v)+1), func(c replica.Cursor) error {
			for ; c.Valid() && len(list) < max; c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				b, err := decodeBlob(blobOf(c.Key()), row)
				if err != nil {
					return err
				}
				list = append(list, b)
			}
			return nil
		})
	})
	return list, fail("meta.blobs", v.String(), err)
}

// blobOf reads volume and blob from the key of a blob's row.
func blobOf(key []byte) cairn.BlobRef {
	return cairn.BlobRef{Volume: cairn.VolumeID(binary.BigEndian.Uint64(key[1:])), Blob: cairn.BlobID(binary.BigEndian.Uint64(key[9:]))}
}

// BlobRefs tells of each blob whether any version or part lists it now (linearizable). Lengths are not compared.
func (s *Store) BlobRefs(ctx context.Context, refs []cairn.BlobRef) (listed []bool, err error) {
	listed = make([]bool, len(refs))
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		for i, ref := range refs {
			_, found, err := w.Get(blobKey(famBlob, ref), nil)
			if err != nil {
				return err
			}
			listed[i] = found
		}
		return nil
	})
	return listed, fail("meta.blob refs", "", err)
}

// Garbage returns up to max outbox rows behind the given blob that were released before t, in order of blobs.
func (s *Store) Garbage(ctx context.Context, behind cairn.BlobRef, before time.Time, max int) (list []Garbage, err error) {
	err = s.read(ctx, s.groups.system(), func(w *replica.View) error {
		list = nil
		from := append(blobKey(famGarbage, behind), 0)
		return w.Walk(from, []byte{famGarbage + 1}, func(c replica.Cursor) error {
			for ; c.Valid() && len(list) < max; c.Next() {
				row, err := c.Value()
				if err != nil {
					return err
				}
				g, err := decodeGarbage(blobOf(c.Key()), row)
				if err != nil {
					return err
				}
				if g.Time.Before(before) {
					list = append(list, g)
				}
			}
			return nil
		})
	})
	return list, fail("meta.garbage", "", err)
}

// maxCleared bounds how many rows one commit clears.
const maxCleared = 1000

// ClearGarbage removes outbox rows whose shards are gone.
func (s *Store) ClearGarbage(ctx context.Context, refs []cairn.BlobRef) error {
	for len(refs) > 0 {
		n := min(len(refs), maxCleared)
		_, err := s.change(ctx, s.groups.system(), 0, func(t *txn) error {
			for _, ref := range refs[:n] {
				t.batch.Delete(blobKey(famGarbage, ref))
			}
			return nil
		})
		if err != nil {
			return fail("meta.clear garbage", "", err)
		}
		refs = refs[n:]
	}
	return nil
}
