package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"cairn"
)

// NewKey asks for a further key of a user.
type NewKey struct {
	User      string    `json:"user"`
	AccessKey string    `json:"access_key,omitempty"` // both keys are made if neither is given
	SecretKey string    `json:"secret_key,omitempty"`
	Expires   time.Time `json:"expires,omitzero"`
	Policy    string    `json:"policy,omitempty"` // document that limits the key: a service account
}

// credentials takes a pair of keys, or makes one.
func credentials(access, secret string) (Credentials, error) {
	if (access == "") != (secret == "") {
		return Credentials{}, invalid("keys", "give both an access key and a secret key, or neither")
	}
	if access == "" {
		access, secret = "CAIRN"+strings.ToUpper(randomText(15)), randomText(40)
	}
	return Credentials{AccessKey: access, SecretKey: secret}, validateKeys(access, secret)
}

// CreateKey makes a key. Errors: ErrNotFound (user), ErrExists, ErrInvalid.
func (s *Store) CreateKey(ctx context.Context, r NewKey) (c Credentials, err error) {
	if c, err = credentials(r.AccessKey, r.SecretKey); err != nil {
		return c, err
	}
	if r.Policy != "" {
		if _, err := ParsePolicy([]byte(r.Policy)); err != nil {
			return c, err
		}
	}
	c.Expires = r.Expires
	err = s.change(ctx, "iam.create key", r.User, func(t *table) error {
		if !t.has(userRows + r.User) {
			return fmt.Errorf("user: %w", cairn.ErrNotFound)
		}
		return t.addKey(s, Key{AccessKey: c.AccessKey, User: r.User, Created: t.now, Expires: r.Expires, Policy: r.Policy}, c.SecretKey)
	})
	return c, err
}

func (t *table) addKey(s *Store, k Key, secret string) error {
	if k.AccessKey == s.root.AccessKey || t.has(keyRows+k.AccessKey) || strings.HasPrefix(k.AccessKey, sessionPrefix) {
		return fmt.Errorf("access key %s: %w", k.AccessKey, cairn.ErrExists)
	}
	return t.put(keyRows+k.AccessKey, keyRow{Key: k, Sealed: s.seal.seal(k.AccessKey, []byte(secret))})
}

// RotateKey makes a new key with the rights of an old one, which ends after grace. Errors: ErrNotFound.
func (s *Store) RotateKey(ctx context.Context, accessKey string, grace time.Duration) (c Credentials, err error) {
	if c, err = credentials("", ""); err != nil {
		return c, err
	}
	err = s.change(ctx, "iam.rotate key", accessKey, func(t *table) error {
		var old keyRow
		if err := t.get(keyRows+accessKey, &old); err != nil {
			return err
		}
		next := old.Key
		next.AccessKey, next.Created = c.AccessKey, t.now
		c.Expires = next.Expires
		if err := t.addKey(s, next, c.SecretKey); err != nil {
			return err
		}
		if grace <= 0 {
			return t.delete(keyRows + accessKey)
		}
		if end := t.now.Add(grace); old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
		return t.put(keyRows+accessKey, old)
	})
	return c, err
}

// DisableKey stops a key, or lets it be used again. ErrNotFound.
func (s *Store) DisableKey(ctx context.Context, accessKey string, disabled bool) error {
	return s.change(ctx, "iam.disable key", accessKey, func(t *table) error {
		var k keyRow
		if err := t.get(keyRows+accessKey, &k); err != nil {
			return err
		}
		k.Disabled = disabled
		return t.put(keyRows+accessKey, k)
	})
}

// DeleteKey removes a key. ErrNotFound.
func (s *Store) DeleteKey(ctx context.Context, accessKey string) error {
	return s.change(ctx, "iam.delete key", accessKey, func(t *table) error { return t.delete(keyRows + accessKey) })
}

// Keys returns the keys of a user, or of all ("").
func (s *Store) Keys(ctx context.Context, user string) ([]Key, error) {
	n, err := s.fresh(ctx)
	if err != nil {
		return nil, err
	}
	out := []Key{}
	for _, k := range n.keys {
		if user == "" || k.User == user {
			one := k.Key
			one.LastUsed = s.used.of(k.AccessKey)
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b Key) int { return strings.Compare(a.User+"/"+a.AccessKey, b.User+"/"+b.AccessKey) })
	return out, nil
}
