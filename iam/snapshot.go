package iam

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"cairn"
)

// The names of rows: their kind, a slash, their name.
const (
	userRows   = "user/"
	keyRows    = "key/"
	groupRows  = "group/"
	policyRows = "policy/"
)

// maxRows bounds the identities of a cluster, all of which every process holds in memory.
const maxRows = 50_000

// User is somebody who may have access keys and own buckets: an account.
type User struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`      // canonical ID
	Number   string    `json:"account"` // twelve digits
	Email    string    `json:"email,omitempty"`
	Created  time.Time `json:"created"`
	Disabled bool      `json:"disabled,omitempty"`
	Policies []string  `json:"policies"`
	Groups   []string  `json:"groups,omitempty"`
}

func (u *User) identity() Identity {
	return Identity{Account: u.ID, Number: u.Number, Name: u.Name}
}

// Key is an access key of a user. With a policy it is a service account: it may do what the user may and the policy allows.
type Key struct {
	AccessKey string    `json:"access_key"`
	User      string    `json:"user"`
	Created   time.Time `json:"created"`
	Expires   time.Time `json:"expires,omitzero"`
	Disabled  bool      `json:"disabled,omitempty"`
	Policy    string    `json:"policy,omitempty"` // document
	LastUsed  time.Time `json:"last_used,omitzero"`
}

// keyRow is a key as it is stored.
type keyRow struct {
	Key
	Sealed string `json:"sealed"`
}

// Group gives its policies to all users in it.
type Group struct {
	Name     string   `json:"name"`
	Policies []string `json:"policies"`
}

// NamedPolicy is a policy that users and groups can be given.
type NamedPolicy struct {
	Name     string    `json:"name"`
	Document string    `json:"document"`
	Builtin  bool      `json:"builtin,omitempty"`
	Updated  time.Time `json:"updated,omitzero"`
}

// snapshot is all that is stored, at one moment. It does not change.
type snapshot struct {
	version  uint64
	users    map[string]*User
	byID     map[string]*User
	groups   map[string]*Group
	policies map[string]*NamedPolicy
	parsed   map[string]*Policy
	grants   map[string]*grants // by user
	keys     map[string]*usableKey
}

type usableKey struct {
	Key
	secret   string
	owner    *User
	identity Identity
}

func (k *usableKey) usable(now time.Time) bool {
	return !k.Disabled && !k.owner.Disabled && (k.Expires.IsZero() || now.Before(k.Expires))
}

// build reads rows. What cannot be read is left out, which takes away and gives nobody anything: a user one of whose
// policies is broken has no rights at all, since it may be the one that denies.
func (s *Store) build(rows map[string][]byte, version uint64) (*snapshot, error) {
	n := &snapshot{version: version, users: map[string]*User{}, byID: map[string]*User{}, groups: map[string]*Group{},
		policies: map[string]*NamedPolicy{}, parsed: map[string]*Policy{}, grants: map[string]*grants{}, keys: map[string]*usableKey{}}
	var errs []error
	note := func(name string, err error) {
		if err != nil && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	for name, p := range builtins {
		n.policies[name], n.parsed[name] = &NamedPolicy{Name: name, Document: p.String(), Builtin: true}, p
	}
	keys := map[string]*keyRow{}
	for name, row := range rows {
		note(name, n.add(name, row, keys))
	}
	for name, u := range n.users {
		g, err := n.grantsOf(u)
		note(userRows+name, err)
		n.grants[name] = g
	}
	for name, k := range keys {
		note(keyRows+name, n.addKey(k, s.seal))
	}
	return n, errors.Join(errs...)
}

func (n *snapshot) add(name string, row []byte, keys map[string]*keyRow) error {
	kind, rest, _ := strings.Cut(name, "/")
	switch kind + "/" {
	case userRows:
		u := new(User)
		if err := json.Unmarshal(row, u); err != nil {
			return err
		}
		n.users[rest], n.byID[u.ID] = u, u
	case keyRows:
		k := new(keyRow)
		if err := json.Unmarshal(row, k); err != nil {
			return err
		}
		keys[rest] = k
	case groupRows:
		g := new(Group)
		if err := json.Unmarshal(row, g); err != nil {
			return err
		}
		n.groups[rest] = g
	case policyRows:
		p := new(NamedPolicy)
		if err := json.Unmarshal(row, p); err != nil {
			return err
		}
		parsed, err := ParsePolicy([]byte(p.Document))
		if err != nil {
			return err
		}
		n.policies[rest], n.parsed[rest] = p, parsed
	}
	return nil
}

// grantsOf gathers a user's policies, its groups' among them.
func (n *snapshot) grantsOf(u *User) (*grants, error) {
	names := slices.Clone(u.Policies)
	for _, name := range u.Groups {
		g := n.groups[name]
		if g == nil {
			return &grants{}, fmt.Errorf("group %s: %w", name, cairn.ErrNotFound)
		}
		names = append(names, g.Policies...)
	}
	g := &grants{}
	for _, name := range names {
		p := n.parsed[name]
		if p == nil {
			return &grants{}, fmt.Errorf("policy %s: %w", name, cairn.ErrNotFound)
		}
		g.policies, g.names = append(g.policies, p), append(g.names, name)
		g.admin = g.admin || name == AdminPolicy
	}
	return g, nil
}

func (n *snapshot) addKey(k *keyRow, seal sealer) error {
	owner := n.users[k.User]
	if owner == nil {
		return fmt.Errorf("user %s: %w", k.User, cairn.ErrNotFound)
	}
	secret, err := seal.open(k.AccessKey, k.Sealed)
	if err != nil {
		return err
	}
	out := &usableKey{Key: k.Key, secret: string(secret), owner: owner, identity: owner.identity()}
	out.identity.AccessKey, out.identity.grants = k.AccessKey, n.grants[k.User]
	if k.Policy != "" {
		limit, err := ParsePolicy([]byte(k.Policy))
		if err != nil {
			return err
		}
		out.identity.grants = out.identity.grants.limited(limit)
	}
	n.keys[k.AccessKey] = out
	return nil
}

// limited returns the same grants under one more limit.
func (g *grants) limited(by *Policy) *grants {
	c := *g
	c.limits = append(c.limits[:len(c.limits):len(c.limits)], by)
	return &c
}

// usage remembers when keys were last used, to the minute and in this process only.
type usage struct {
	mu   sync.RWMutex
	last map[string]int64 // minutes since 1970
}

func (u *usage) note(key string, now time.Time) {
	minute := now.Unix() / 60
	u.mu.RLock()
	same := u.last[key] == minute
	u.mu.RUnlock()
	if same {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil || len(u.last) > maxRows {
		u.last = map[string]int64{}
	}
	u.last[strings.Clone(key)] = minute
}

func (u *usage) of(key string) time.Time {
	u.mu.RLock()
	defer u.mu.RUnlock()
	if m := u.last[key]; m != 0 {
		return time.Unix(m*60, 0).UTC()
	}
	return time.Time{}
}
