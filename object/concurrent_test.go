package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// Readers, writers, copies, deletions and the collector at once, over few keys: every read is of one committed version, whole
// (I2), and nothing is left over at the end.
func TestConcurrent(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	keys := []string{"a", "b", "c"}
	var wg sync.WaitGroup
	loop := func(f func(i int) error) {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := f(i); err != nil && !errors.Is(err, cairn.ErrNotFound) && !errors.Is(err, errSourceMoved) {
					t.Error(err)
					return
				}
			}
		})
	}
	for w := range 2 {
		loop(func(i int) error {
			p := testBytes(sizes[i%len(sizes)], uint64(i*2+w))
			_, err := r.store.Put(t.Context(), Put{Bucket: "bucket", Key: keys[i%3], Body: bytes.NewReader(p), Size: int64(len(p))})
			return err
		})
		loop(func(i int) error {
			_, err := r.store.Copy(t.Context(), Copy{From: meta.VersionRef{Bucket: "bucket", Key: keys[i%3]}, Bucket: "bucket", Key: keys[(i+w)%3]})
			return err
		})
		loop(func(i int) error { return readWhole(t.Context(), r.store, keys[(i+w)%3]) })
	}
	loop(func(i int) error {
		time.Sleep(time.Millisecond)
		_, err := r.store.Delete(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "bucket", Key: keys[i%3]}})
		return err
	})
	loop(func(int) error { return r.store.collectOnce(t.Context(), time.Now().Add(time.Hour)) })
	wg.Wait()
	r.checkNothingLeft()
	if st := r.store.Status(); st.GCBlobs == 0 || st.Opens == 0 || st.Copies == 0 {
		t.Errorf("nothing happened: %+v", st)
	}
}

// readWhole reads an object and compares its bytes with its ETag.
func readWhole(ctx context.Context, s *Store, key string) error {
	o, err := s.Open(ctx, meta.VersionRef{Bucket: "bucket", Key: key})
	if err != nil {
		return err
	}
	defer o.Close()
	h := md5.New()
	if err := o.WriteRange(ctx, h, 0, o.Version.Size); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != o.Version.ETag {
		return fmt.Errorf("version %s of %s: bytes with MD5 %s, ETag %s: %w", o.Version.ID, key, got, o.Version.ETag, cairn.ErrCorrupt)
	}
	return nil
}
