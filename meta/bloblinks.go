package meta

import (
	"errors"
	"fmt"

	"cairn"
	"cairn/meta/replica"
)

// blobChange is what one change does to a blob's reference count.
type blobChange struct {
	delta int64
	fresh bool // referenced for the first time: there must be no row yet
	owner string
}

func (t *txn) blob(ref cairn.BlobRef) *blobChange {
	if t.blobs == nil {
		t.blobs = make(map[cairn.BlobRef]*blobChange)
	}
	c := t.blobs[ref]
	if c == nil {
		c = &blobChange{}
		t.blobs[ref] = c
	}
	return c
}

// link counts a version's or part's blobs. Those in news are referenced for the first time; all others must be already.
func (t *txn) link(blobs []cairn.BlobRef, news []cairn.NewBlob, owner string) error {
	for _, ref := range blobs {
		if ref.Length < 1 || ref.Length > cairn.MaxBlobBytes || ref.Volume == 0 || ref.Blob == 0 {
			return invalid("blob %s of %d bytes", ref, ref.Length)
		}
		t.blob(ref).delta++
	}
	if len(news) == 0 {
		return nil
	}
	mark, err := t.counter(counterWatermark)
	if err != nil {
		return err
	}
	for i := range news {
		if err := t.linkNew(&news[i], cairn.BlobID(mark), owner); err != nil {
			return err
		}
	}
	return nil
}

// linkNew admits a blob that was just written: above the orphan watermark, in a volume whose slots are still those that it
// was written to. Skipped slots become damage.
func (t *txn) linkNew(b *cairn.NewBlob, mark cairn.BlobID, owner string) error {
	c := t.blobs[b.Ref]
	if c == nil {
		return invalid("new blob %s is not in the layout", b.Ref)
	}
	if b.Ref.Blob < mark {
		return fmt.Errorf("blob %s is below the orphan watermark %s: %w", b.Ref, mark, cairn.ErrPrecondition)
	}
	vol, err := t.volume(b.Ref.Volume)
	if err != nil {
		return err
	}
	if vol.Epoch != b.Epoch {
		return fmt.Errorf("blob %s was written at epoch %d, the volume is at %d: %w", b.Ref, b.Epoch, vol.Epoch, cairn.ErrStaleEpoch)
	}
	c.fresh, c.owner = true, owner
	for _, slot := range b.Skipped {
		if int(slot) >= len(vol.Slots) {
			return invalid("skipped slot %d of volume %s", slot, vol.ID)
		}
		d := cairn.Damage{Kind: cairn.DamageSkipped, Drive: vol.Slots[slot], Found: t.now, By: "write",
			Shard: cairn.ShardID{Volume: vol.ID, Blob: b.Ref.Blob, Slot: slot}}
		t.batch.Put(damageKey(d.Shard), encodeDamage(&d))
	}
	return nil
}

// unlink releases a version's or part's blobs.
func (t *txn) unlink(blobs []cairn.BlobRef) {
	for _, ref := range blobs {
		t.blob(ref).delta--
	}
}

// countBlobs turns the balance of links and unlinks into reference rows, and what nobody lists any more into garbage.
func (t *txn) countBlobs() error {
	for ref, c := range t.blobs {
		if c.delta == 0 && !c.fresh {
			continue
		}
		if err := t.countBlob(ref, c); err != nil {
			return err
		}
	}
	return nil
}

func (t *txn) countBlob(ref cairn.BlobRef, c *blobChange) error {
	key := blobKey(famBlob, ref)
	row, found, err := t.get(key)
	if err != nil {
		return err
	}
	b := cairn.BlobRow{Ref: ref, Owner: c.owner}
	switch {
	case found && c.fresh:
		return fmt.Errorf("new blob %s is referenced already: %w", ref, cairn.ErrPrecondition)
	case !found && c.delta < 0:
		return fmt.Errorf("blob %s: %w", ref, errVanished) // the row that listed it was read before it went
	case !found && !c.fresh:
		return fmt.Errorf("blob %s is not referenced any more: %w", ref, cairn.ErrPrecondition)
	case found:
		if b, err = decodeBlob(ref, row); err != nil {
			return err
		}
		if b.Ref.Length != ref.Length {
			return invalid("blob %s has %d bytes, not %d", ref, b.Ref.Length, ref.Length)
		}
	}
	before := b.Count
	b.Count += c.delta
	stats := key1(famVolStats, uint64(ref.Volume))
	if b.Count <= 0 {
		if before > 0 {
			t.batch.Delete(key)
			t.batch.Add(stats, -1, -ref.Length)
		}
		t.batch.Put(blobKey(famGarbage, ref), encodeGarbage(ref.Length, t.now))
		return nil
	}
	if before == 0 {
		t.batch.Add(stats, 1, ref.Length)
	}
	t.batch.Put(key, encodeBlob(&b))
	return nil
}

// volume reads a volume's row, on which the decision then rests.
func (t *txn) volume(id cairn.VolumeID) (cairn.Volume, error) {
	row, found, err := t.get(key1(famVolume, uint64(id)))
	if err != nil {
		return cairn.Volume{}, err
	}
	if !found {
		return cairn.Volume{}, fmt.Errorf("volume %s: %w", id, cairn.ErrNotFound)
	}
	return decodeVolume(id, row)
}

// Names of counters.
const (
	counterBucket    = "bucket"    // the last bucket ID given out
	counterVolume    = "volume"    // the last volume ID given out
	counterMap       = "map"       // the epoch of the cluster map
	counterBlob      = "blob"      // the first blob ID that no lease holds
	counterWatermark = "watermark" // the smallest blob ID that may still be referenced for the first time
)

func (t *txn) counter(name string) (uint64, error) {
	row, found, err := t.get(keyName(famCounter, name))
	if err != nil || !found {
		return 0, err
	}
	return decodeNumber(row)
}

func (t *txn) setCounter(name string, v uint64) {
	t.batch.Put(keyName(famCounter, name), appendID(nil, v))
}

func decodeNumber(row []byte) (uint64, error) {
	if len(row) != 8 {
		return 0, corruptRow("number")
	}
	var v uint64
	for _, c := range row {
		v = v<<8 | uint64(c)
	}
	return v, nil
}

// getRow reads a row for an answer; ErrNotFound if there is none.
func getRow(w *replica.View, key []byte) ([]byte, error) {
	row, found, err := w.Get(key, nil)
	if err == nil && !found {
		err = cairn.ErrNotFound
	}
	return row, err
}

func isNotFound(err error) bool { return errors.Is(err, cairn.ErrNotFound) }
