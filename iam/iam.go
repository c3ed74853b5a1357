// Package iam knows who may do what: identities with their access keys, and the verdict on a request.
//
// It owns the secrets of access keys and the one function, evaluate, that decides. The decision is pure, a value of identity
// and request; what is not allowed is denied. It deliberately does not check signatures (s3api does, with the secret from
// Lookup), and stores nothing: so far there is one identity, the root of the configuration, which may do everything, and the
// anonymous one, which may do nothing. Users and policies will be further inputs of the same decision.
package iam

import (
	"fmt"

	"cairn"
)

// Limits of credentials, those of AWS for access keys and a floor for secrets.
const (
	minAccessKey = 3
	maxAccessKey = 128
	minSecret    = 8
	maxSecret    = 128
)

// DefaultAccount owns what the root credentials make, unless the configuration names another.
const DefaultAccount = "root"

// Identity is who makes a request. The zero value is the anonymous one.
type Identity struct {
	Account   string `json:"account"`    // owner of what the identity makes
	AccessKey string `json:"access_key"` // which of its keys signed the request
	Root      bool   `json:"root,omitempty"`
}

// Anonymous tells whether nobody signed the request.
func (id Identity) Anonymous() bool { return id.Account == "" }

// Config of a Store: the root credentials.
type Config struct {
	AccessKey string
	SecretKey string
	Account   string // default DefaultAccount
}

// Validate refuses credentials that cannot travel in a Credential element of a signature, or that are too short to be any.
func (c Config) Validate() error {
	switch {
	case len(c.AccessKey) < minAccessKey || len(c.AccessKey) > maxAccessKey:
		return invalid("access key", fmt.Sprintf("want %d to %d characters", minAccessKey, maxAccessKey))
	case len(c.SecretKey) < minSecret || len(c.SecretKey) > maxSecret:
		return invalid("secret key", fmt.Sprintf("want %d to %d characters", minSecret, maxSecret))
	}
	for i := range len(c.AccessKey) {
		if ch := c.AccessKey[i]; ch <= ' ' || ch > '~' || ch == '/' || ch == ',' || ch == '=' {
			return invalid("access key", "want printable ASCII without space, slash, comma and equals sign")
		}
	}
	return nil
}

func invalid(what, why string) error {
	return &cairn.Error{Op: "iam.config", Subject: what, Err: fmt.Errorf("%s: %w", why, cairn.ErrInvalid)}
}

// Store answers for identities. It does not change after New, so all methods are safe for concurrent use.
type Store struct {
	root   Identity
	secret string
}

// New returns a store of the root identity. ErrInvalid for credentials that break Config.Validate.
func New(cfg Config) (*Store, error) {
	if cfg.Account == "" {
		cfg.Account = DefaultAccount
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	return &Store{
		root:   Identity{Account: cfg.Account, AccessKey: cfg.AccessKey, Root: true},
		secret: cfg.SecretKey,
	}, nil
}

// Lookup returns the secret and the identity behind an access key. ErrNotFound if there is none.
func (s *Store) Lookup(accessKey string) (secret string, id Identity, err error) {
	// An access key is public: comparing it needs no constant time.
	if accessKey != s.root.AccessKey {
		return "", Identity{}, &cairn.Error{Op: "iam.lookup", Subject: accessKey, Err: cairn.ErrNotFound}
	}
	return s.secret, s.root, nil
}

// Authorize tells whether an identity may do an action ("s3:GetObject" …) on a bucket ("" for none) and key ("" for the
// bucket itself). ErrForbidden if not.
func (s *Store) Authorize(id Identity, action, bucket, key string) error {
	if evaluate(id, request{action, bucket, key}) == allow {
		return nil
	}
	subject := action
	if bucket != "" {
		subject += " " + bucket
	}
	if key != "" {
		subject += "/" + key
	}
	return &cairn.Error{Op: "iam.authorize", Subject: subject, Err: cairn.ErrForbidden}
}
