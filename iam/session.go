package iam

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cairn"
)

// sessionPrefix begins the access keys of sessions, as AWS's do.
const sessionPrefix = "ASIA"

// NewSession asks for temporary credentials.
type NewSession struct {
	// User whose rights the session has, limited by those of its key: AccessKey is the one that asked.
	User      string
	AccessKey string
	Role      string // "" for GetSessionToken
	Session   string // name that the client chose
	Policy    string // document that limits the session
	// Policies are named policies that the session has instead of a user's: for identities of another provider.
	Policies []string
	// Subject identifies an identity of another provider; its account is derived from it.
	Subject string
	Life    time.Duration
}

// claims are what a session's token carries, sealed: nothing of a session is stored.
type claims struct {
	AccessKey string    `json:"a"`
	Secret    string    `json:"s"`
	Expires   time.Time `json:"e"`
	User      string    `json:"u,omitempty"`
	Parent    string    `json:"p,omitempty"` // access key that asked
	ID        string    `json:"i,omitempty"` // the user's canonical ID: a later user of the same name is another one
	Role      string    `json:"r,omitempty"`
	Session   string    `json:"n,omitempty"`
	Policy    string    `json:"l,omitempty"`
	Policies  []string  `json:"g,omitempty"`
	Subject   string    `json:"o,omitempty"`
	Root      bool      `json:"z,omitempty"`
}

// Session is what a session's client gets.
type Session struct {
	Credentials
	Token    string
	Identity Identity
}

const tokenName = "session token"

// StartSession gives out temporary credentials. They end with their time, with the user, and with the key that asked for
// them. Errors: *PolicyError, ErrNotFound.
func (s *Store) StartSession(r NewSession) (Session, error) {
	if r.Policy != "" {
		if _, err := ParsePolicy([]byte(r.Policy)); err != nil {
			return Session{}, err
		}
	}
	c := claims{AccessKey: sessionPrefix + strings.ToUpper(randomText(16)), Secret: randomText(40),
		Expires: time.Now().Add(r.Life).UTC().Truncate(time.Second), User: r.User, Parent: r.AccessKey, Role: r.Role, Session: r.Session,
		Policy: r.Policy, Policies: r.Policies, Subject: r.Subject, Root: r.AccessKey == s.root.AccessKey && r.Subject == ""}
	snap := s.now.Load()
	if snap == nil {
		return Session{}, lookupError(r.AccessKey, cairn.ErrUnavailable)
	}
	if u := snap.users[r.User]; u != nil {
		c.ID = u.ID
	}
	id, err := s.sessionIdentity(snap, &c, time.Now())
	if err != nil {
		return Session{}, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return Session{}, err
	}
	return Session{Credentials: Credentials{AccessKey: c.AccessKey, SecretKey: c.Secret, Expires: c.Expires},
		Token: s.seal.seal(tokenName, text), Identity: id}, nil
}

const maxTokenBytes = 16 << 10

func (s *Store) lookupSession(snap *snapshot, accessKey, token string, now time.Time) (string, Identity, error) {
	var c claims
	if len(token) > maxTokenBytes {
		return "", Identity{}, lookupError(accessKey, fmt.Errorf("token too long: %w", cairn.ErrInvalid))
	}
	text, err := s.seal.open(tokenName, token)
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil || c.AccessKey != accessKey {
		return "", Identity{}, lookupError(accessKey, fmt.Errorf("session token: %w", cairn.ErrInvalid))
	}
	if !now.Before(c.Expires) {
		return "", Identity{}, lookupError(accessKey, ErrExpired)
	}
	id, err := s.sessionIdentity(snap, &c, now)
	return c.Secret, id, err
}

// sessionIdentity is who a session stands for now: a session has no rights that its user lost since.
func (s *Store) sessionIdentity(snap *snapshot, c *claims, now time.Time) (Identity, error) {
	id := Identity{}
	switch {
	case c.Root:
		if c.Parent != s.root.AccessKey {
			return id, lookupError(c.AccessKey, cairn.ErrNotFound)
		}
		id = s.root
		if c.Policy != "" { // root is limited by nothing but a session's policy: such a session is an administrator's
			id.Root, id.grants = false, &grants{policies: []*Policy{builtins[AdminPolicy]}, admin: true}
		}
	case c.Subject != "":
		id = Identity{Account: c.Subject, Number: rootNumber, Name: c.Session}
		g, err := snap.grantsOf(&User{Policies: c.Policies})
		if err != nil {
			return Identity{}, lookupError(c.AccessKey, err)
		}
		id.grants = g
	default:
		k := snap.keys[c.Parent]
		if k == nil || !k.usable(now) || k.owner.ID != c.ID {
			return id, lookupError(c.AccessKey, cairn.ErrNotFound)
		}
		id = k.identity
	}
	id.AccessKey, id.Role, id.Session = c.AccessKey, c.Role, c.Session
	if c.Policy != "" {
		limit, err := ParsePolicy([]byte(c.Policy))
		if err != nil {
			return Identity{}, lookupError(c.AccessKey, err)
		}
		id.grants = id.grants.limited(limit)
	}
	return id, nil
}
