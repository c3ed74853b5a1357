package meta_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cairn"
	"cairn/lifecycle"
	"cairn/meta"
)

func setRules(t *testing.T, s *meta.Store, bucket string, rules ...lifecycle.Rule) {
	t.Helper()
	raw, err := json.Marshal(lifecycle.Config{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.UpdateBucket(t.Context(), bucket, func(b *cairn.Bucket) error {
		b.Configs = cairn.Configs{}
		if len(rules) > 0 {
			b.Configs[meta.LifecycleConfig] = string(raw)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// expire runs the rules at a time until nothing is due, and says how much work that was.
func expire(t *testing.T, s *meta.Store, now time.Time) (total meta.Expired) {
	t.Helper()
	for range 1000 {
		e, err := s.ExpireDue(t.Context(), now, 100)
		if err != nil {
			t.Fatal(err)
		}
		total.Due += e.Due
		total.Looked += e.Looked
		total.Hidden += e.Hidden
		total.Removed += e.Removed
		total.Aborted += e.Aborted
		if e.Due == 0 {
			return total
		}
	}
	t.Fatal("there is always something due")
	return total
}

func reindex(t *testing.T, s *meta.Store, page int) (pages int) {
	t.Helper()
	for ; ; pages++ {
		more, err := s.Reindex(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			return pages
		}
	}
}

// versionsOf lists what a bucket holds: "key" for a version, "key-" for a marker, a star behind the latest.
func versionsOf(t *testing.T, s *meta.Store, bucket string) string {
	t.Helper()
	p, err := s.ListVersions(t.Context(), meta.ListVersions{Bucket: bucket, Max: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, v := range p.Versions {
		name := v.Key
		if v.DeleteMarker {
			name += "-"
		}
		if p.Latest[i] {
			name += "*"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// afterDays is a simulated clock.
func afterDays(n int) time.Time { return time.Now().Add(time.Duration(n) * 24 * time.Hour) }

func TestLifecycleExpiry(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	setRules(t, s, "b", lifecycle.Rule{ID: "tmp", Days: 5, Filter: lifecycle.Filter{Prefix: "tmp/"}},
		lifecycle.Rule{ID: "tag", Days: 2, Filter: lifecycle.Filter{Tags: map[string]string{"t": "1"}}}, lifecycle.Rule{ID: "up", AbortDays: 3})
	for _, k := range []string{"keep", "tmp/a", "tmp/deleted", "tmp/new", "tmp/replaced"} {
		mustPut(t, s, "b", k, k)
	}
	tagged := inlinePut("b", "tagged", "x")
	tagged.Version.Tags = map[string]string{"t": "1"}
	v, err := s.PutVersion(t.Context(), tagged)
	if err != nil || v.ExpiryRule != "tag" || v.Expires.IsZero() {
		t.Fatalf("%+v, %v", v, err)
	}
	if v, err := s.Version(t.Context(), meta.VersionRef{Bucket: "b", Key: "tmp/a"}); err != nil || v.ExpiryRule != "tmp" || v.Expires.IsZero() {
		t.Errorf("the row tells of its expiry: %+v, %v", v, err)
	}
	if _, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "tmp/deleted"}}); err != nil {
		t.Fatal(err)
	}
	later := inlinePut("b", "tmp/replaced", "later")
	later.Version.Modified = afterDays(4)
	if _, err := s.PutVersion(t.Context(), later); err != nil {
		t.Fatal(err)
	}
	u, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "up"})
	if err != nil || u.ExpiryRule != "up" {
		t.Fatal(u, err)
	}
	done, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "up"})
	if err == nil {
		err = s.AbortUpload(t.Context(), "b", "up", done.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	if e := expire(t, s, afterDays(1)); e != (meta.Expired{}) {
		t.Errorf("after a day: %+v", e)
	}
	if e := expire(t, s, afterDays(3)); e != (meta.Expired{Due: 1, Looked: 1, Removed: 1}) {
		t.Errorf("after three days: %+v", e)
	}
	if e := expire(t, s, afterDays(4)); e != (meta.Expired{Due: 1, Aborted: 1}) {
		t.Errorf("after four days: %+v", e)
	}
	if e := expire(t, s, afterDays(7)); e != (meta.Expired{Due: 2, Looked: 2, Removed: 2}) {
		t.Errorf("after a week: %+v; what was deleted or replaced is due no more", e)
	}
	if got := versionsOf(t, s, "b"); got != "keep* tmp/replaced*" {
		t.Errorf("left: %s", got)
	}
	if _, err := s.Upload(t.Context(), "b", "up", u.ID); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("the upload: %v", err)
	}
	if e := expire(t, s, afterDays(12)); e.Removed != 1 {
		t.Errorf("after twelve days: %+v", e)
	}
	if e := expire(t, s, afterDays(1000)); e != (meta.Expired{}) {
		t.Errorf("at the end: %+v", e)
	}
}

func TestLifecycleVersions(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	setRules(t, s, "b", lifecycle.Rule{Days: 10}, lifecycle.Rule{NoncurrentDays: 5}, lifecycle.Rule{ExpireMarkers: true})
	mustPut(t, s, "b", "k", "1")
	mustPut(t, s, "b", "k", "2")
	mustPut(t, s, "b", "l", "1")
	for _, step := range []struct {
		day  int
		want string
	}{
		{4, "k* k l*"},
		{7, "k* l*"},        // the older version of k went five days after its successor came
		{12, "k-* k l-* l"}, // both expired
		{18, ""},            // the hidden ones went, and with them the markers that hid nothing more
	} {
		expire(t, s, afterDays(step.day))
		if got := versionsOf(t, s, "b"); got != step.want {
			t.Errorf("day %d: %q, want %q", step.day, got, step.want)
		}
	}
	if st, err := s.Stats(t.Context(), "b"); err != nil || st != (meta.BucketStats{}) {
		t.Errorf("statistics %+v, %v", st, err)
	}
	if e := expire(t, s, afterDays(1000)); e != (meta.Expired{}) {
		t.Errorf("due rows are left: %+v", e)
	}
}

func TestLifecycleKeepsNewerVersions(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	setRules(t, s, "b", lifecycle.Rule{NoncurrentDays: 1, NewerNoncurrent: 2})
	for i := range 5 {
		mustPut(t, s, "b", "k", strconv.Itoa(i))
	}
	expire(t, s, afterDays(0))
	if got := versionsOf(t, s, "b"); got != "k* k k k k" {
		t.Errorf("at once: %s", got)
	}
	expire(t, s, afterDays(3))
	if got := versionsOf(t, s, "b"); got != "k* k k" {
		t.Errorf("two noncurrent ones stay: %s", got)
	}
	late := inlinePut("b", "k", "late")
	late.Version.Modified = afterDays(4)
	if _, err := s.PutVersion(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	expire(t, s, afterDays(6))
	if got := versionsOf(t, s, "b"); got != "k* k k" {
		t.Errorf("a new one pushes the oldest out: %s", got)
	}
}

// A marker that hides nothing goes when the last version behind it is deleted, or when there never was one.
func TestLifecycleMarkers(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	setRules(t, s, "b", lifecycle.Rule{ExpireMarkers: true})
	v := mustPut(t, s, "b", "k", "1")
	hide := func(key string) {
		if _, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: key}}); err != nil {
			t.Fatal(err)
		}
	}
	hide("k")
	hide("never")
	expire(t, s, afterDays(1))
	if got := versionsOf(t, s, "b"); got != "k-* k" {
		t.Errorf("got %s", got)
	}
	if _, err := s.DeleteVersion(t.Context(), meta.DeleteVersion{Ref: meta.VersionRef{Bucket: "b", Key: "k", ID: v.ID}}); err != nil {
		t.Fatal(err)
	}
	expire(t, s, afterDays(1))
	if got := versionsOf(t, s, "b"); got != "" {
		t.Errorf("got %s", got)
	}
}

// Rules do not remove what is locked: they come back when the retention ends, or the hold is lifted.
func TestLifecycleLocks(t *testing.T) {
	s := newStore(t, 1)
	lockedBucket(t, s)
	setRules(t, s, "b", lifecycle.Rule{NoncurrentDays: 1})
	put := func(key string, lock cairn.Lock) meta.VersionRef {
		p := inlinePut("b", key, "x")
		p.Version.Lock = lock
		v, err := s.PutVersion(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		mustPut(t, s, "b", key, "newer")
		return meta.VersionRef{Bucket: "b", Key: key, ID: v.ID}
	}
	put("retained", cairn.Lock{Mode: cairn.LockGovernance, Until: afterDays(5)})
	held := put("held", cairn.Lock{Hold: cairn.HoldOn})
	put("free", cairn.Lock{})
	expire(t, s, afterDays(3))
	if got := versionsOf(t, s, "b"); got != "free* held* held retained* retained" {
		t.Errorf("day 3: %s", got)
	}
	expire(t, s, afterDays(6))
	if got := versionsOf(t, s, "b"); got != "free* held* held retained*" {
		t.Errorf("day 6: %s", got)
	}
	if _, err := s.UpdateVersion(t.Context(), meta.UpdateVersion{Ref: held, Change: func(_ cairn.Bucket, v *cairn.Version) error {
		v.Lock.Hold = cairn.HoldOff
		return nil
	}}); err != nil {
		t.Fatal(err)
	}
	expire(t, s, afterDays(7))
	if got := versionsOf(t, s, "b"); got != "free* held* retained*" {
		t.Errorf("day 7: %s", got)
	}
}

// Rules that change are applied to what was there before, page by page, and old rules leave nothing behind.
func TestLifecycleReindex(t *testing.T) {
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningEnabled)
	setRules(t, s, "b", lifecycle.Rule{Days: 2, Filter: lifecycle.Filter{Prefix: "old/"}})
	for _, k := range []string{"a", "a", "b", "old/1", "new/1", "new/2", "new/3"} {
		mustPut(t, s, "b", k, k)
	}
	if _, err := s.CreateUpload(t.Context(), cairn.Upload{Bucket: "b", Key: "up"}); err != nil {
		t.Fatal(err)
	}
	setRules(t, s, "b", lifecycle.Rule{Days: 2, Filter: lifecycle.Filter{Prefix: "new/"}}, lifecycle.Rule{NoncurrentDays: 2}, lifecycle.Rule{AbortDays: 2})
	if pages := reindex(t, s, 2); pages < 4 {
		t.Errorf("%d pages of 2 rows", pages)
	}
	e := expire(t, s, afterDays(4))
	if e.Hidden != 3 || e.Aborted != 1 {
		t.Errorf("%+v", e)
	}
	if got := versionsOf(t, s, "b"); got != "a* b* new/1-* new/1 new/2-* new/2 new/3-* new/3 old/1*" {
		t.Errorf("left: %s", got)
	}
	setRules(t, s, "b")
	if pages := reindex(t, s, 2); pages != 0 {
		t.Errorf("%d pages without rules", pages)
	}
	if e := expire(t, s, afterDays(1000)); e.Hidden+e.Removed+e.Aborted != 0 {
		t.Errorf("without rules: %+v", e)
	}
}

// TestLifecycleWork: with many objects of which few are due, the work is that of the few. CAIRN_SOAK=1 takes a million.
func TestLifecycleWork(t *testing.T) {
	objects := 5000
	if os.Getenv("CAIRN_SOAK") != "" {
		objects = 1_000_000
	}
	due := objects / 100
	s := newStore(t, 1)
	mustBucket(t, s, "b", cairn.VersioningOff)
	setRules(t, s, "b", lifecycle.Rule{Days: 30})
	const writers = 64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := w; i < objects; i += writers {
				p := inlinePut("b", fmt.Sprintf("%03d/%08d", i%1000, i), "x")
				if i%100 == 0 {
					p.Version.Modified = afterDays(-20)
				}
				if _, err := s.PutVersion(t.Context(), p); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e := expire(t, s, afterDays(5)); e.Due != 0 {
		t.Errorf("nothing is due: %+v", e)
	}
	began := time.Now()
	e := expire(t, s, afterDays(15))
	t.Logf("%d of %d objects expired in %v", e.Removed, objects, time.Since(began))
	if e != (meta.Expired{Due: due, Looked: due, Removed: due}) {
		t.Errorf("%d of %d are due: %+v", due, objects, e)
	}
	if st, err := s.Stats(t.Context(), "b"); err != nil || st.Objects != int64(objects-due) {
		t.Errorf("%+v, %v", st, err)
	}
}
