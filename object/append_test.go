package object

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"cairn"
	"cairn/meta"
)

func (r *rig) append(p, more []byte, scheme cairn.EncryptionScheme) (cairn.Version, error) {
	return r.store.Append(r.t.Context(), Append{Offset: int64(len(p)),
		Put: Put{Bucket: "bucket", Key: "key", Owner: "ann", Body: bytes.NewReader(more), Size: int64(len(more)),
			Encrypt: cairn.EncryptionWish{EncryptionRule: cairn.EncryptionRule{Scheme: scheme}}}})
}

// Appended and renamed objects keep the blobs that they share, and let go of all of them in the end.
func TestAppendAndRenameLeaveNothing(t *testing.T) {
	for _, scheme := range []cairn.EncryptionScheme{"", cairn.SSES3, cairn.SSEKMS} {
		t.Run(string(scheme), func(t *testing.T) { testAppendAndRename(t, scheme) })
	}
}

func testAppendAndRename(t *testing.T, scheme cairn.EncryptionScheme) {
	r := newRig(t)
	var p []byte
	for i, size := range []int{3, rigInline - 5, 10, 3 * rigBlob, 0, 1, rigBlob} {
		more := testBytes(size, uint64(i)+1)
		v, err := r.append(p, more, scheme)
		if err != nil {
			t.Fatal(i, err)
		}
		if p = slices.Concat(p, more); v.Size != int64(len(p)) {
			t.Fatalf("piece %d: %d bytes, want %d", i, v.Size, len(p))
		}
		r.collect()
		if got, err := readObject(t, r.store, meta.VersionRef{Bucket: "bucket", Key: "key"}); err != nil || !bytes.Equal(got, p) {
			t.Fatalf("piece %d: read %d bytes, %v", i, len(got), err)
		}
		if _, err := r.append(p[1:], more, scheme); !errors.Is(err, ErrWriteOffset) {
			t.Errorf("piece %d at another offset: %v", i, err)
		}
		name := []string{"a", "b"}[i%2]
		for _, to := range [][2]string{{"key", name}, {name, "key"}} {
			if _, err := r.store.Rename(t.Context(), meta.Rename{Bucket: "bucket", From: to[0], To: to[1],
				Check: func(cairn.Version, *cairn.Version) error { return nil }}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.checkNothingLeft()
	r.clear()
	r.checkNothingLeft()
}
