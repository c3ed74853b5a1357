package meta_test

import (
	"errors"
	"strings"
	"testing"

	"cairn"
	"cairn/meta"
)

func TestQuota(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	quota := func(n int64) {
		if _, err := s.UpdateBucket(t.Context(), "b", func(b *cairn.Bucket) error { b.QuotaBytes = n; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	put := func(key string, size int) error {
		_, err := s.PutVersion(t.Context(), inlinePut("b", key, strings.Repeat("x", size)))
		return err
	}
	refused := func(what string, err error) {
		t.Helper()
		var q *meta.QuotaError
		if !errors.As(err, &q) || !errors.Is(err, cairn.ErrForbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
	allowed := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	quota(100)
	allowed("up to the quota", errors.Join(put("a", 60), put("b", 40)))
	refused("a byte more", put("c", 1))
	allowed("nothing more", put("c", 0))
	allowed("a smaller one in its place", put("a", 10))
	allowed("a larger one in its place", put("b", 90))
	refused("a too large one in its place", put("b", 91))
	_, err := s.Rename(t.Context(), meta.Rename{Bucket: "b", From: "b", To: "d", Check: func(cairn.Version, *cairn.Version) error { return nil }})
	allowed("a rename in a full bucket", err)
	u, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "u"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.PutPart(t.Context(), meta.PutPart{Bucket: "b", Key: "u", Upload: u.ID, Part: cairn.Part{Number: 1, Size: 1, Layout: cairn.Layout{Inline: []byte("x")}}})
	refused("a part", err)
	quota(50)
	refused("a lower quota than what is there", put("e", 1))
	quota(0)
	allowed("no quota", put("e", 1000))
	if st, err := s.Stats(t.Context(), "b"); err != nil || st.Bytes != 1100 {
		t.Errorf("statistics %+v, %v", st, err)
	}
}
