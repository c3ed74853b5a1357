package meta_test

import (
	"crypto/sha256"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

func makeToken(t *testing.T, s *meta.Store, secret string, roles cairn.Roles, age, life time.Duration) [sha256.Size]byte {
	t.Helper()
	created := time.Now().Add(-age).UTC().Truncate(0)
	k := meta.Token{Hash: sha256.Sum256([]byte(secret)), Roles: roles, Created: created, Expires: created.Add(life)}
	if err := s.CreateToken(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k.Hash
}

func TestJoinRefusals(t *testing.T) {
	s := newStore(t, 1)
	good := makeToken(t, s, "good", cairn.RoleData, 0, time.Hour)
	old := makeToken(t, s, "old", cairn.RoleData, 2*time.Hour, time.Hour)
	used := makeToken(t, s, "used", cairn.RoleData, 0, time.Hour)
	key := sha256.Sum256([]byte("key"))
	first := sampleNode("first")
	put, err := s.Join(t.Context(), used, key, first)
	if err != nil || put.Epoch != 1 {
		t.Fatalf("got %+v, %v", put, err)
	}
	gateway := sampleNode("g")
	gateway.Roles = cairn.RoleGateway
	for _, tt := range []struct {
		name string
		hash [sha256.Size]byte
		node cairn.Node
		kind error
		want string
	}{
		{"unknown", sha256.Sum256([]byte("bad")), sampleNode("x"), cairn.ErrForbidden, "no such token"},
		{"expired", old, sampleNode("x"), cairn.ErrForbidden, "expired at"},
		{"used", used, sampleNode("x"), cairn.ErrForbidden, "was used by node " + first.ID.String()},
		{"another role", good, gateway, cairn.ErrForbidden, "is for the roles data"},
		{"a name in use", good, sampleNode("first"), cairn.ErrExists, "first"},
		{"good", good, sampleNode("second"), nil, ""},
		{"good, again", good, sampleNode("third"), cairn.ErrForbidden, "was used"},
	} {
		_, err := s.Join(t.Context(), tt.hash, key, tt.node)
		if cairn.Kind(err) != tt.kind || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %v with %q", tt.name, err, tt.kind, tt.want)
		}
	}
	if list, err := s.Nodes(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("got %d nodes, %v, want 2", len(list), err)
	}
	// The answer may have been lost: the same node with the same key gets its row again, with another key it does not.
	if again, err := s.Join(t.Context(), used, key, first); err != nil || !reflect.DeepEqual(again, put) {
		t.Errorf("asked again: got %+v, %v, want %+v", again, err, put)
	}
	if _, err := s.Join(t.Context(), used, sha256.Sum256([]byte("other")), first); !errors.Is(err, cairn.ErrForbidden) {
		t.Errorf("asked again with another key: got %v", err)
	}
}

func TestTokenJoinsOneNode(t *testing.T) {
	s := newStore(t, 1)
	hash := makeToken(t, s, "secret", cairn.RoleData, 0, time.Hour)
	var won atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		n := sampleNode("")
		wg.Go(func() {
			_, err := s.Join(t.Context(), hash, sha256.Sum256(n.ID[:]), n)
			switch {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, cairn.ErrForbidden):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := s.Nodes(t.Context())
	if won.Load() != 1 || len(list) != 1 || err != nil {
		t.Errorf("%d joined, rows %v, %v", won.Load(), list, err)
	}
	k, err := s.Token(t.Context(), hash)
	if err != nil || k.Node != list[0].ID || k.Used.IsZero() {
		t.Errorf("token %+v, %v", k, err)
	}
}

func TestExpiredTokensAreForgotten(t *testing.T) {
	s := newStore(t, 1)
	old := makeToken(t, s, "old", cairn.RoleData, 26*time.Hour, time.Hour)
	makeToken(t, s, "new", cairn.RoleData, 0, time.Hour)
	if _, err := s.Token(t.Context(), old); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if list, err := s.Tokens(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("got %+v, %v", list, err)
	}
	if err := s.CreateToken(t.Context(), meta.Token{Roles: cairn.RoleData}); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a token that never was valid: got %v", err)
	}
}
