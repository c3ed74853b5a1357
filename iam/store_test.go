package iam

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"cairn"
)

// memoryRows is Rows in memory, shared by stores as the metadata service is by gateways.
type memoryRows struct {
	mu      sync.Mutex
	rows    map[string][]byte
	version uint64
	down    error
}

func (m *memoryRows) Identities(context.Context) (map[string][]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.rows), m.version, m.down
}

func (m *memoryRows) IdentityVersion(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version, m.down
}

func (m *memoryRows) ChangeIdentities(_ context.Context, change func(map[string][]byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	rows := maps.Clone(m.rows)
	if rows == nil {
		rows = map[string][]byte{}
	}
	if err := change(rows); err != nil {
		return err
	}
	m.rows = rows
	m.version++
	return m.down
}

func (m *memoryRows) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = err
}

func openStore(t *testing.T, rows Rows) *Store {
	t.Helper()
	s, err := New(Config{AccessKey: "AKIAROOT", SecretKey: "correct horse", Rows: rows, Seal: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestUsersAndKeys(t *testing.T) {
	rows := &memoryRows{}
	s, other, ctx := openStore(t, rows), openStore(t, rows), t.Context()
	ann, c, err := s.CreateUser(ctx, NewUser{Name: "ann", AccessKey: "ANNKEY", SecretKey: "ann's secret"})
	if err != nil || len(ann.ID) != 64 || len(ann.Number) != 12 || c.SecretKey != "ann's secret" {
		t.Fatalf("create: got %+v, %+v, %v", ann, c, err)
	}
	for name, row := range rows.rows {
		if bytes.Contains(row, []byte("ann's secret")) {
			t.Errorf("row %s holds the secret in the open", name)
		}
	}
	secret, id, err := s.Lookup("ANNKEY", "")
	if err != nil || secret != "ann's secret" || id.Account != ann.ID || id.Root || id.Admin() {
		t.Errorf("lookup: got %q, %+v, %v", secret, id, err)
	}
	if _, _, err := other.Lookup("ANNKEY", ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("another gateway that has not looked: got %v", err)
	}
	if err := other.refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := other.Lookup("ANNKEY", ""); err != nil || secret != "ann's secret" {
		t.Errorf("another gateway: got %q, %v", secret, err)
	}
	for _, bad := range []struct {
		q    NewUser
		want error
	}{
		{NewUser{Name: "ann"}, cairn.ErrExists},
		{NewUser{Name: "bob", AccessKey: "ANNKEY", SecretKey: "12345678"}, cairn.ErrExists},
		{NewUser{Name: "bob", AccessKey: "AKIAROOT", SecretKey: "12345678"}, cairn.ErrExists},
		{NewUser{Name: "bob", AccessKey: "ASIA123456", SecretKey: "12345678"}, cairn.ErrExists},
		{NewUser{Name: "bob", AccessKey: "BOBKEY"}, cairn.ErrInvalid},
		{NewUser{Name: "root"}, cairn.ErrInvalid},
		{NewUser{Name: "123456789012"}, cairn.ErrInvalid},
		{NewUser{Name: "a/b"}, cairn.ErrInvalid},
		{NewUser{Name: "bob", Policies: []string{"nothing"}}, cairn.ErrNotFound},
		{NewUser{Name: "bob", Groups: []string{"nothing"}}, cairn.ErrNotFound},
	} {
		if _, _, err := s.CreateUser(ctx, bad.q); !errors.Is(err, bad.want) {
			t.Errorf("create %+v: got %v, want %v", bad.q, err, bad.want)
		}
	}
	next := must[Credentials](t)(s.RotateKey(ctx, "ANNKEY", 0))
	if _, _, err := s.Lookup("ANNKEY", ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a rotated key: got %v", err)
	}
	if err := s.DisableKey(ctx, next.AccessKey, true); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(next.AccessKey, ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a disabled key: got %v", err)
	}
	if err := s.DisableKey(ctx, next.AccessKey, false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(next.AccessKey, ""); err != nil {
		t.Errorf("an enabled key: got %v", err)
	}
	must[Credentials](t)(s.CreateKey(ctx, NewKey{User: "ann", AccessKey: "OLDKEY", SecretKey: "12345678", Expires: time.Now().Add(-time.Second)}))
	if _, _, err := s.Lookup("OLDKEY", ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("an expired key: got %v", err)
	}
	if err := s.DeleteUser(ctx, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(next.AccessKey, ""); !errors.Is(err, cairn.ErrNotFound) || len(rows.rows) != 0 {
		t.Errorf("a key of a deleted user: got %v; %d rows are left", err, len(rows.rows))
	}
}

// TestUnknownIsNotAbsent: a store that cannot look trusts nothing that may have been revoked, and says that it does not know.
func TestUnknownIsNotAbsent(t *testing.T) {
	rows := &memoryRows{}
	s := openStore(t, rows)
	must2(s.CreateUser(t.Context(), NewUser{Name: "ann", AccessKey: "ANNKEY", SecretKey: "12345678"}))(t)
	s.checked.Store(time.Now().Add(-s.cfg.MaxStale - time.Second).UnixNano())
	if _, _, err := s.Lookup("ANNKEY", ""); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("stale: got %v, want %v", err, cairn.ErrUnavailable)
	}
	if _, _, err := s.Lookup("AKIAROOT", ""); err != nil {
		t.Errorf("root: got %v", err)
	}
	rows.fail(cairn.ErrQuorum)
	if err := s.refresh(t.Context()); !errors.Is(err, cairn.ErrQuorum) {
		t.Errorf("refresh: got %v", err)
	}
	if _, _, err := s.Lookup("ANNKEY", ""); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("after a failed look: got %v", err)
	}
	rows.fail(nil)
	if err := s.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup("ANNKEY", ""); err != nil {
		t.Errorf("after a look: got %v", err)
	}
	fresh, err := New(Config{AccessKey: "AKIAROOT", SecretKey: "correct horse", Rows: rows, Seal: [32]byte{2}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := fresh.Lookup("ANNKEY", ""); !errors.Is(err, cairn.ErrUnavailable) {
		t.Errorf("before the first look: got %v", err)
	}
	if err := fresh.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if secret, _, err := fresh.Lookup("ANNKEY", ""); err == nil {
		t.Errorf("another seal opened a secret: %q", secret)
	}
}

func must2(_ User, _ Credentials, err error) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRights follows a user's rights through policies, groups, service accounts and sessions.
func TestRights(t *testing.T) {
	rows := &memoryRows{}
	s, ctx := openStore(t, rows), t.Context()
	for _, name := range []string{"ann", "ben"} {
		must2(s.CreateUser(ctx, NewUser{Name: name, AccessKey: name + "KEY", SecretKey: "12345678"}))(t)
	}
	ann, _ := s.now.Load().users["ann"], 0
	may := func(key, token, action, bucket, owner string) bool {
		t.Helper()
		_, id, err := s.Lookup(key, token)
		if err != nil {
			t.Fatal(err)
		}
		r := Request{Action: action, Bucket: bucket, Key: "k", Owner: owner}
		return s.Authorize(&id, &r) == nil
	}
	check := func(what string, got, want bool) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %t, want %t", what, got, want)
		}
	}
	check("own bucket", may("annKEY", "", "s3:GetObject", "b", ann.ID), true)
	check("another's bucket", may("benKEY", "", "s3:GetObject", "b", ann.ID), false)

	const narrow = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::b/*"}}`
	if err := s.PutPolicy(ctx, "reads-b", []byte(narrow)); err != nil {
		t.Fatal(err)
	}
	if err := s.PutGroup(ctx, Group{Name: "readers", Policies: []string{"reads-b"}}); err != nil {
		t.Fatal(err)
	}
	must[User](t)(s.ChangeUser(ctx, "ben", ChangeUser{Groups: &[]string{"readers"}}))
	check("by a group", may("benKEY", "", "s3:GetObject", "b", ann.ID), true)
	check("no more than the group", may("benKEY", "", "s3:PutObject", "b", ann.ID), false)
	if err := s.DeletePolicy(ctx, "reads-b"); !errors.Is(err, cairn.ErrNotEmpty) {
		t.Errorf("deleting a policy in use: got %v", err)
	}
	if err := s.DeleteGroup(ctx, "readers"); !errors.Is(err, cairn.ErrNotEmpty) {
		t.Errorf("deleting a group in use: got %v", err)
	}

	must[Credentials](t)(s.CreateKey(ctx, NewKey{User: "ann", AccessKey: "ROBOT", SecretKey: "12345678", Policy: narrow}))
	check("service account", may("ROBOT", "", "s3:GetObject", "b", ann.ID), true)
	check("service account beyond its policy", may("ROBOT", "", "s3:PutObject", "b", ann.ID), false)
	check("service account beyond its user", may("ROBOT", "", "s3:GetObject", "b", "someone"), false)
	check("service account on another bucket", may("ROBOT", "", "s3:GetObject", "c", ann.ID), false)

	session, err := s.StartSession(NewSession{User: "ann", AccessKey: "annKEY", Role: "role", Session: "s", Policy: narrow, Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	check("session", may(session.AccessKey, session.Token, "s3:GetObject", "b", ann.ID), true)
	check("session beyond its policy", may(session.AccessKey, session.Token, "s3:PutObject", "b", ann.ID), false)
	if _, _, err := s.Lookup("annKEY", session.Token); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a token with another key: got %v", err)
	}
	if _, _, err := s.Lookup(session.AccessKey, ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a session without its token: got %v", err)
	}
	if _, _, err := s.Lookup(session.AccessKey, session.Token[:40]+"x"+session.Token[41:]); !errors.Is(err, cairn.ErrInvalid) {
		t.Errorf("a forged token: got %v", err)
	}
	old, err := s.StartSession(NewSession{User: "ann", AccessKey: "annKEY", Life: -time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(old.AccessKey, old.Token); !errors.Is(err, ErrExpired) {
		t.Errorf("an expired session: got %v", err)
	}
	if err := s.DeleteKey(ctx, "annKEY"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Lookup(session.AccessKey, session.Token); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a session whose key is gone: got %v", err)
	}
	must[User](t)(s.ChangeUser(ctx, "ben", ChangeUser{Policies: &[]string{AdminPolicy}}))
	check("an administrator", may("benKEY", "", "s3:DeleteBucket", "b", ann.ID), true)
	disabled := true
	must[User](t)(s.ChangeUser(ctx, "ben", ChangeUser{Disabled: &disabled}))
	if _, _, err := s.Lookup("benKEY", ""); !errors.Is(err, cairn.ErrNotFound) {
		t.Errorf("a disabled user: got %v", err)
	}
}

// TestRun: a key that was revoked at one gateway dies at another without anybody asking.
func TestRun(t *testing.T) {
	rows := &memoryRows{}
	a := openStore(t, rows)
	b, err := New(Config{AccessKey: "AKIAROOT", SecretKey: "correct horse", Rows: rows, Seal: [32]byte{1}, Poll: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer wg.Wait()
	defer cancel()
	must2(a.CreateUser(ctx, NewUser{Name: "ann", AccessKey: "ANNKEY", SecretKey: "12345678"}))(t)
	until(t, "the key is known", func() bool { _, _, err := b.Lookup("ANNKEY", ""); return err == nil })
	if err := a.DeleteKey(ctx, "ANNKEY"); err != nil {
		t.Fatal(err)
	}
	until(t, "the key is dead", func() bool { _, _, err := b.Lookup("ANNKEY", ""); return errors.Is(err, cairn.ErrNotFound) })
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
