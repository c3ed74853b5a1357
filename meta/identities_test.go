package meta_test

import (
	"errors"
	"maps"
	"sync"
	"testing"

	"cairn"
)

func TestIdentities(t *testing.T) {
	s := newStore(t, 1)
	if rows, v, err := s.Identities(t.Context()); err != nil || len(rows) != 0 || v != 0 {
		t.Fatalf("fresh store: got %v, %d, %v", rows, v, err)
	}
	var wg sync.WaitGroup
	for _, name := range []string{"user/a", "user/b", "key/c", "key/d"} {
		wg.Go(func() {
			if err := s.ChangeIdentities(t.Context(), func(rows map[string][]byte) error {
				rows[name] = []byte(name)
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	err := s.ChangeIdentities(t.Context(), func(rows map[string][]byte) error {
		delete(rows, "user/b")
		rows["key/c"] = []byte("new")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, v, err := s.Identities(t.Context())
	want := map[string]string{"user/a": "user/a", "key/c": "new", "key/d": "key/d"}
	got := map[string]string{}
	for k, row := range rows {
		got[k] = string(row)
	}
	if err != nil || v != 5 || !maps.Equal(got, want) {
		t.Errorf("got %v at %d, %v; want %v at 5", got, v, err, want)
	}
	err = s.ChangeIdentities(t.Context(), func(rows map[string][]byte) error {
		rows["user/x"] = nil
		return cairn.ErrExists
	})
	if after, _ := s.IdentityVersion(t.Context()); !errors.Is(err, cairn.ErrExists) || after != 5 {
		t.Errorf("a refused change: got %v, version %d", err, after)
	}
}
