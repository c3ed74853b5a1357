// Package iam knows who may do what: users with their access keys, groups and policies, and the verdict on a request.
//
// It owns the identities and their secrets, AWS's policy language (ParsePolicy, ParseBucketPolicy), access control lists, and
// the one function, evaluate, that decides. The decision is pure, a value of identity and request: a denial in any policy
// wins, and what nothing allows is denied (I8).
//
// Every user is an account of its own: it has a canonical ID and owns what it makes. The built-in policies are about its own
// buckets; those of others it reaches by their policy, their access control list, or a policy that an administrator wrote. The
// root identity comes from the configuration and is not stored.
//
// Identities are rows of the metadata service, secrets in them sealed with a key that is not in it (AES-256-GCM). A Store
// keeps all of them in memory and looks every second whether they changed, so that a key which was revoked at one gateway
// dies at all of them within seconds; a Store that cannot look answers "unavailable" rather than trust what it has.
//
// It deliberately does not check signatures (s3api does, with the secret from Lookup), and knows nothing of buckets but
// what a Request says.
package iam

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"cairn"
)

// Limits of credentials, those of AWS for access keys and a floor for secrets.
const (
	minAccessKey = 3
	maxAccessKey = 128
	minSecret    = 8
	maxSecret    = 128
)

const (
	// DefaultAccount owns what the root credentials make, unless the configuration names another.
	DefaultAccount = "root"
	rootNumber     = "000000000000"
)

// Identity is who makes a request. The zero value is the anonymous one.
type Identity struct {
	Account   string `json:"account"`    // canonical ID: owner of what the identity makes
	Number    string `json:"number"`     // the account as twelve digits, as ARNs name it
	Name      string `json:"name"`       // of the user, for people
	AccessKey string `json:"access_key"` // which of its keys signed the request
	Root      bool   `json:"root,omitempty"`
	// Role and Session are set for the credentials that AssumeRole and its kin gave out.
	Role    string `json:"role,omitempty"`
	Session string `json:"session,omitempty"`

	grants *grants
}

// Anonymous tells whether nobody signed the request.
func (id *Identity) Anonymous() bool { return id.Account == "" }

// Admin tells whether the identity may do everything, as root or by the built-in policy admin.
func (id *Identity) Admin() bool { return id.Root && !id.Anonymous() || id.admin() }

// Limited tells whether the identity may do less than its user: a service account's key, or a session.
func (id *Identity) Limited() bool {
	return id.Role != "" || id.Session != "" || id.grants != nil && len(id.grants.limits) > 0
}

func (id *Identity) admin() bool { return id.grants != nil && id.grants.admin }

// ARN is the identity's name in policies.
func (id *Identity) ARN() string {
	switch {
	case id.Anonymous():
		return ""
	case id.Role != "":
		return "arn:aws:sts::" + id.Number + ":assumed-role/" + id.Role + "/" + id.Session
	case id.Root:
		return "arn:aws:iam::" + id.Number + ":root"
	}
	return "arn:aws:iam::" + id.Number + ":user/" + id.Name
}

func (id *Identity) kind() string {
	switch {
	case id.Anonymous():
		return "Anonymous"
	case id.Role != "":
		return "AssumedRole"
	case id.Root:
		return "Account"
	}
	return "User"
}

// Config of a Store: the root credentials, and where the other identities are kept.
type Config struct {
	AccessKey string
	SecretKey string
	Account   string // default DefaultAccount
	// Rows keeps users, keys, groups and policies. nil: there are none but root.
	Rows Rows
	// Seal is the key that secrets are sealed with in Rows. All processes of a cluster use the same one.
	Seal [32]byte
	// Poll is the pause between looks for changes made elsewhere. Default 1 s.
	Poll time.Duration
	// MaxStale is how long the identities in memory may be used when looking fails. Default 10 s.
	MaxStale time.Duration
	Logger   *slog.Logger // default: none
}

// Rows keeps named rows. *meta.Store is one.
type Rows interface {
	// Identities returns all rows and the number of the last change.
	Identities(ctx context.Context) (rows map[string][]byte, version uint64, err error)
	// IdentityVersion is the number of the last change.
	IdentityVersion(ctx context.Context) (uint64, error)
	// ChangeIdentities lets change edit all rows and commits what it did, as one step; change may run more than once.
	ChangeIdentities(ctx context.Context, change func(rows map[string][]byte) error) error
}

// Validate refuses credentials that cannot travel in a Credential element of a signature, or that are too short to be any.
func (c Config) Validate() error { return validateKeys(c.AccessKey, c.SecretKey) }

func validateKeys(access, secret string) error {
	switch {
	case len(access) < minAccessKey || len(access) > maxAccessKey:
		return invalid("access key", fmt.Sprintf("want %d to %d characters", minAccessKey, maxAccessKey))
	case len(secret) < minSecret || len(secret) > maxSecret:
		return invalid("secret key", fmt.Sprintf("want %d to %d characters", minSecret, maxSecret))
	}
	for i := range len(access) {
		if ch := access[i]; ch <= ' ' || ch > '~' || ch == '/' || ch == ',' || ch == '=' {
			return invalid("access key", "want printable ASCII without space, slash, comma and equals sign")
		}
	}
	return nil
}

func invalid(what, why string) error {
	return &cairn.Error{Op: "iam.config", Subject: what, Err: fmt.Errorf("%s: %w", why, cairn.ErrInvalid)}
}

// Store answers for identities. Safe for concurrent use.
type Store struct {
	cfg     Config
	root    Identity
	seal    sealer
	now     atomic.Pointer[snapshot] // nil until the first load
	checked atomic.Int64             // when now was last known to be all there is, in nanoseconds since 1970
	used    usage

	loading sync.Mutex // one load at a time, so that an older one never replaces a newer one
}

// New returns a store that knows the root identity; the others are read by Run, or by the first change. ErrInvalid for
// credentials that break Config.Validate.
func New(cfg Config) (*Store, error) {
	if cfg.Account == "" {
		cfg.Account = DefaultAccount
	}
	if cfg.Poll == 0 {
		cfg.Poll = time.Second
	}
	if cfg.MaxStale == 0 {
		cfg.MaxStale = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, root: Identity{Account: cfg.Account, Number: rootNumber, Name: cfg.Account, AccessKey: cfg.AccessKey, Root: true}}
	var err error
	if s.seal, err = newSealer(cfg.Seal); err != nil {
		return nil, err
	}
	if cfg.Rows == nil {
		s.now.Store(&snapshot{})
		return s, nil
	}
	if cfg.Seal == [32]byte{} {
		return nil, invalid("seal", "a key is needed to keep identities")
	}
	return s, nil
}

// Run keeps the identities in memory up to date until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	if s.cfg.Rows == nil {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(s.cfg.Poll)
	defer tick.Stop()
	failing := false
	for {
		err := s.refresh(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			s.cfg.Logger.Warn("identities cannot be read", "err", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh loads the identities if they changed.
func (s *Store) refresh(ctx context.Context) error {
	asked := time.Now()
	if now := s.now.Load(); now != nil {
		v, err := s.cfg.Rows.IdentityVersion(ctx)
		if err != nil {
			return err
		}
		if v == now.version {
			s.checked.Store(asked.UnixNano())
			return nil
		}
	}
	return s.load(ctx)
}

func (s *Store) load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	asked := time.Now()
	rows, version, err := s.cfg.Rows.Identities(ctx)
	if err != nil {
		return err
	}
	snap, err := s.build(rows, version)
	if err != nil {
		s.cfg.Logger.Error("some identities are not usable", "err", err)
	}
	s.now.Store(snap)
	s.checked.Store(asked.UnixNano())
	return nil
}

// Lookup returns the secret and the identity behind an access key, and behind the session token that came with it ("" for
// none). Errors: ErrNotFound for a key that is not there, disabled or expired; ErrInvalid for a token that is not the key's;
// ErrExpired for one whose time is over; ErrUnavailable while it is not known which identities there are.
func (s *Store) Lookup(accessKey, token string) (secret string, id Identity, err error) {
	// An access key is public: comparing it needs no constant time.
	if accessKey == s.root.AccessKey && token == "" {
		return s.cfg.SecretKey, s.root, nil
	}
	now := time.Now()
	snap := s.now.Load()
	if snap == nil || s.cfg.Rows != nil && now.UnixNano()-s.checked.Load() > int64(s.cfg.MaxStale) {
		return "", Identity{}, lookupError(accessKey, fmt.Errorf("identities are not known now: %w", cairn.ErrUnavailable))
	}
	if token != "" {
		return s.lookupSession(snap, accessKey, token, now)
	}
	k := snap.keys[accessKey]
	if k == nil || !k.usable(now) {
		return "", Identity{}, lookupError(accessKey, cairn.ErrNotFound)
	}
	s.used.note(accessKey, now)
	return k.secret, k.identity, nil
}

func lookupError(key string, err error) error {
	return &cairn.Error{Op: "iam.lookup", Subject: key, Err: err}
}

// ErrExpired: the credentials were good once. It is an ErrForbidden.
var ErrExpired = fmt.Errorf("expired: %w", cairn.ErrForbidden)

// Authorize tells whether an identity may do what r says. ErrForbidden if not.
func (s *Store) Authorize(id *Identity, r *Request) error {
	if evaluate(id, r) == allow {
		return nil
	}
	subject := r.Action
	if r.Bucket != "" {
		subject += " " + r.Bucket
	}
	if r.Key != "" {
		subject += "/" + r.Key
	}
	return &cairn.Error{Op: "iam.authorize", Subject: subject, Err: cairn.ErrForbidden}
}

// Account is an owner, as clients see it.
type Account struct {
	ID   string `json:"id"`   // canonical ID
	Name string `json:"name"` // display name
}

// AccountOf returns the account with a canonical ID. One that is not known (any more) has its ID for a name.
func (s *Store) AccountOf(id string) (Account, bool) {
	if id == s.root.Account {
		return Account{id, s.root.Name}, true
	}
	if snap := s.now.Load(); snap != nil {
		if u := snap.byID[id]; u != nil {
			return Account{u.ID, u.Name}, true
		}
	}
	return Account{id, id}, false
}

// AccountByEmail returns the account with an e-mail address.
func (s *Store) AccountByEmail(email string) (Account, bool) {
	if snap := s.now.Load(); snap != nil && email != "" {
		for _, u := range snap.users {
			if u.Email == email {
				return Account{u.ID, u.Name}, true
			}
		}
	}
	return Account{}, false
}

// Owns tells whether a name that a client gave for an account (canonical ID, number or name) means the account with the
// canonical ID id.
func (s *Store) Owns(name, id string) bool {
	if name == id {
		return true
	}
	if id == s.root.Account {
		return name == s.root.Number
	}
	if snap := s.now.Load(); snap != nil {
		if u := snap.byID[id]; u != nil {
			return name == u.Number
		}
	}
	return false
}

// CheckPrincipals refuses a bucket policy that names users or accounts that do not exist: a misspelt name in a denial would
// deny nobody. *PolicyError.
func (s *Store) CheckPrincipals(p *Policy) error {
	for i := range p.Statements {
		st := &p.Statements[i]
		if !st.Deny && st.notPrincipals != nil {
			return wrong(fmt.Sprintf("Statement[%d].NotPrincipal", i), "Allow with NotPrincipal is not allowed.")
		}
		for _, list := range [][]principal{st.principals, st.notPrincipals} {
			for j := range list {
				if !s.exists(&list[j]) {
					return errPrincipal(fmt.Sprintf("Statement[%d]", i))
				}
			}
		}
	}
	return nil
}

func (s *Store) exists(p *principal) bool {
	if p.kind == everyone || p.kind == noPrincipal || p.kind == role || p.is(&s.root) {
		return true
	}
	if snap := s.now.Load(); snap != nil {
		for _, u := range snap.users {
			id := u.identity()
			if p.is(&id) {
				return true
			}
		}
	}
	return false
}
