package meta_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

func TestAuditIsBoundedAndNewestFirst(t *testing.T) {
	s := openStore(t, meta.Config{Homes: makeHomes(t, 1), Voters: 1})
	ctx := t.Context()
	if list, err := s.Audit(ctx, 0, 10); err != nil || len(list) != 0 {
		t.Fatalf("an empty log: %v, %v", list, err)
	}
	for i := 1; i <= 25; i++ {
		if n, err := s.AppendAudit(ctx, fmt.Appendf(nil, "r%d", i), 20); err != nil || n != uint64(i) {
			t.Fatalf("record %d: got number %d, %v", i, n, err)
		}
	}
	page, err := s.Audit(ctx, 0, 10)
	if err != nil || len(page) != 10 || string(page[0].Record) != "r25" || page[9].Number != 16 {
		t.Fatalf("first page: %v, %v", page, err)
	}
	page, err = s.Audit(ctx, 9, 10) // the first five are gone
	if err != nil || len(page) != 3 || string(page[0].Record) != "r8" || string(page[2].Record) != "r6" {
		t.Fatalf("last page: %v, %v", page, err)
	}
	if _, err := s.AppendAudit(ctx, make([]byte, meta.MaxAuditBytes+1), 20); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a record that is too long: %v", err)
	}
}

func TestSessionsEnd(t *testing.T) {
	s := openStore(t, meta.Config{Homes: makeHomes(t, 1), Voters: 1})
	ctx := t.Context()
	one, two := sha256.Sum256([]byte("one")), sha256.Sum256([]byte("two"))
	if err := s.PutSession(ctx, one, []byte("who"), time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Session(ctx, one); err != nil || string(got) != "who" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := s.PutSession(ctx, two, []byte("late"), time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(ctx, two); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("an expired one: %v", err)
	}
	if err := s.DeleteSession(ctx, one); err != nil {
		t.Error(err)
	}
	if _, err := s.Session(ctx, one); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("an ended one: %v", err)
	}
}
