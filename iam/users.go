package iam

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"cairn"
)

// NewUser asks for a user with one access key.
type NewUser struct {
	Name      string   `json:"name"`
	Email     string   `json:"email,omitempty"`
	AccessKey string   `json:"access_key,omitempty"` // both keys are made if neither is given
	SecretKey string   `json:"secret_key,omitempty"`
	Policies  []string `json:"policies,omitempty"` // default: readwrite
	Groups    []string `json:"groups,omitempty"`
}

// Credentials are a key that was just made: the only moment at which its secret is shown.
type Credentials struct {
	AccessKey string    `json:"access_key"`
	SecretKey string    `json:"secret_key"`
	Expires   time.Time `json:"expires,omitzero"`
}

// CreateUser makes a user and its first key. Errors: ErrInvalid, ErrExists, ErrNotFound for a policy or group.
func (s *Store) CreateUser(ctx context.Context, r NewUser) (u User, c Credentials, err error) {
	if err := checkName(r.Name); err != nil {
		return u, c, err
	}
	if len(r.Policies) == 0 && len(r.Groups) == 0 {
		r.Policies = []string{ReadWritePolicy}
	}
	if c, err = credentials(r.AccessKey, r.SecretKey); err != nil {
		return u, c, err
	}
	err = s.change(ctx, "iam.create user", r.Name, func(t *table) error {
		if t.has(userRows + r.Name) {
			return fmt.Errorf("user: %w", cairn.ErrExists)
		}
		if err := t.known(r.Policies, r.Groups); err != nil {
			return err
		}
		u = User{Name: r.Name, ID: randomID(), Email: r.Email, Created: t.now, Policies: r.Policies, Groups: r.Groups}
		if u.Number, err = t.freeNumber(); err != nil {
			return err
		}
		if r.Email != "" && t.emailTaken(r.Email) {
			return fmt.Errorf("e-mail address: %w", cairn.ErrExists)
		}
		if err := t.addKey(s, Key{AccessKey: c.AccessKey, User: r.Name, Created: t.now}, c.SecretKey); err != nil {
			return err
		}
		return t.put(userRows+r.Name, u)
	})
	return u, c, err
}

// ChangeUser replaces what is not nil. Errors: ErrNotFound, ErrInvalid.
type ChangeUser struct {
	Policies *[]string `json:"policies,omitempty"`
	Groups   *[]string `json:"groups,omitempty"`
	Disabled *bool     `json:"disabled,omitempty"`
}

// ChangeUser changes a user's policies, groups or state.
func (s *Store) ChangeUser(ctx context.Context, name string, c ChangeUser) (u User, err error) {
	err = s.change(ctx, "iam.change user", name, func(t *table) error {
		if err := t.get(userRows+name, &u); err != nil {
			return err
		}
		if c.Policies != nil {
			u.Policies = *c.Policies
		}
		if c.Groups != nil {
			u.Groups = *c.Groups
		}
		if c.Disabled != nil {
			u.Disabled = *c.Disabled
		}
		if err := t.known(u.Policies, u.Groups); err != nil {
			return err
		}
		return t.put(userRows+name, u)
	})
	return u, err
}

// DeleteUser removes a user and its keys; sessions that it made end with it. Buckets that it owns stay, and root and
// administrators reach them. ErrNotFound.
func (s *Store) DeleteUser(ctx context.Context, name string) error {
	return s.change(ctx, "iam.delete user", name, func(t *table) error {
		if err := t.delete(userRows + name); err != nil {
			return err
		}
		for row := range t.rows {
			var k keyRow
			if strings.HasPrefix(row, keyRows) && t.get(row, &k) == nil && k.User == name {
				delete(t.rows, row)
			}
		}
		return nil
	})
}

// Users returns all users by name.
func (s *Store) Users(ctx context.Context) ([]User, error) {
	n, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]User, 0, len(n.users))
	for _, u := range n.users {
		out = append(out, *u)
	}
	slices.SortFunc(out, func(a, b User) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// fresh returns the identities as they are now, whoever changed them.
func (s *Store) fresh(ctx context.Context) (*snapshot, error) {
	if s.cfg.Rows == nil {
		return s.now.Load(), nil
	}
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	return s.now.Load(), nil
}

// table is all rows during one change.
type table struct {
	rows map[string][]byte
	now  time.Time
}

// change edits the rows in one commit and reads them anew, so that this process knows the change when change returns.
func (s *Store) change(ctx context.Context, op, subject string, edit func(t *table) error) error {
	if s.cfg.Rows == nil {
		return &cairn.Error{Op: op, Subject: subject, Err: fmt.Errorf("identities are not kept here: %w", cairn.ErrInvalid)}
	}
	err := s.cfg.Rows.ChangeIdentities(ctx, func(rows map[string][]byte) error {
		if err := edit(&table{rows: rows, now: time.Now().UTC().Truncate(time.Second)}); err != nil {
			return err
		}
		if len(rows) > maxRows {
			return fmt.Errorf("more than %d users, keys, groups and policies: %w", maxRows, cairn.ErrTooLarge)
		}
		return nil
	})
	if err == nil {
		err = s.load(ctx)
	}
	if err != nil {
		return &cairn.Error{Op: op, Subject: subject, Err: err}
	}
	return nil
}

func (t *table) has(name string) bool { _, ok := t.rows[name]; return ok }

func (t *table) get(name string, v any) error {
	row, ok := t.rows[name]
	if !ok {
		return cairn.ErrNotFound
	}
	if err := json.Unmarshal(row, v); err != nil {
		return fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)
	}
	return nil
}

func (t *table) put(name string, v any) error {
	row, err := json.Marshal(v)
	t.rows[name] = row
	return err
}

func (t *table) delete(name string) error {
	if !t.has(name) {
		return cairn.ErrNotFound
	}
	delete(t.rows, name)
	return nil
}

// known refuses names of policies and groups that are not there.
func (t *table) known(policies, groups []string) error {
	for _, p := range policies {
		if builtins[p] == nil && !t.has(policyRows+p) {
			return fmt.Errorf("policy %q: %w", p, cairn.ErrNotFound)
		}
	}
	for _, g := range groups {
		if !t.has(groupRows + g) {
			return fmt.Errorf("group %q: %w", g, cairn.ErrNotFound)
		}
	}
	return nil
}

// users calls f with every user until it returns false.
func (t *table) users(f func(u *User) bool) {
	for name := range t.rows {
		var u User
		if strings.HasPrefix(name, userRows) && t.get(name, &u) == nil && !f(&u) {
			return
		}
	}
}

func (t *table) emailTaken(email string) (taken bool) {
	t.users(func(u *User) bool { taken = u.Email == email; return !taken })
	return taken
}

// freeNumber draws an account number that nobody has. Zeros are root's.
func (t *table) freeNumber() (string, error) {
	taken := map[string]bool{rootNumber: true}
	t.users(func(u *User) bool { taken[u.Number] = true; return true })
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(1_000_000_000_000))
		if err != nil {
			return "", err
		}
		if s := fmt.Sprintf("%012d", n); !taken[s] {
			return s, nil
		}
	}
	return "", cairn.ErrOverloaded
}

func randomID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// checkName takes IAM's characters for the names of users, groups and policies, without "/", which separates rows and ARNs.
func checkName(name string) error {
	ok := name != "" && len(name) <= 64 && name != DefaultAccount && strings.Trim(name, "0123456789") != ""
	for _, c := range name {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("+=,.@-_", c))
	}
	if !ok {
		return &cairn.Error{Op: "iam.name", Subject: name, Err: fmt.Errorf("want 1 to 64 letters, digits and +=,.@-_, "+
			"not digits alone, and not %q: %w", DefaultAccount, cairn.ErrInvalid)}
	}
	return nil
}
