package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"cairn"
	"cairn/iam"
)

// Identities knows administrators other than root, and keeps users, keys, groups and policies. *iam.Store is one.
type Identities interface {
	Lookup(accessKey, token string) (secret string, id iam.Identity, err error)
	Authorize(id *iam.Identity, r *iam.Request) error
	Users
	Keys
	Policies
}

// Users is the part of Identities that keeps users.
type Users interface {
	Users(ctx context.Context) ([]iam.User, error)
	CreateUser(ctx context.Context, r iam.NewUser) (iam.User, iam.Credentials, error)
	ChangeUser(ctx context.Context, name string, c iam.ChangeUser) (iam.User, error)
	DeleteUser(ctx context.Context, name string) error
}

// Keys is the part of Identities that keeps access keys.
type Keys interface {
	Keys(ctx context.Context, user string) ([]iam.Key, error)
	CreateKey(ctx context.Context, r iam.NewKey) (iam.Credentials, error)
	RotateKey(ctx context.Context, accessKey string, grace time.Duration) (iam.Credentials, error)
	DisableKey(ctx context.Context, accessKey string, disabled bool) error
	DeleteKey(ctx context.Context, accessKey string) error
}

// Policies is the part of Identities that keeps policies and groups.
type Policies interface {
	Policies(ctx context.Context) ([]iam.NamedPolicy, error)
	PutPolicy(ctx context.Context, name string, document []byte) error
	DeletePolicy(ctx context.Context, name string) error
	Simulate(ctx context.Context, q iam.Simulation) (iam.Simulated, error)
	Groups(ctx context.Context) ([]iam.Group, error)
	PutGroup(ctx context.Context, g iam.Group) error
	DeleteGroup(ctx context.Context, name string) error
}

// NewUser is the answer to the making of a user: the only time its secret key is shown.
type NewUser struct {
	iam.User
	iam.Credentials
}

// Done is the answer where there is nothing to tell.
type Done struct {
	Done bool `json:"done"`
}

// maxDocument bounds a request's body.
const maxDocument = 64 << 10

// identityRoutes adds what manages identities.
func (s *Server) identityRoutes(api register) {
	ids := s.cfg.Identities
	api(Route{Pattern: "GET /api/v1/users", Action: "cairn:ListUsers", CLI: "user ls", What: "List users.", Gives: []iam.User{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Users(r.Context()) })
	api(Route{Pattern: "POST /api/v1/users", Action: "cairn:CreateUser", CLI: "user create ann", What: "Make a user and its first access key, which is shown this once.",
		Takes: iam.NewUser{}, Gives: NewUser{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var q iam.NewUser
			if err := read(r, &q); err != nil {
				return nil, err
			}
			u, c, err := ids.CreateUser(r.Context(), q)
			return NewUser{u, c}, err
		})
	api(Route{Pattern: "PATCH /api/v1/users/{name}", Action: "cairn:ChangeUser", CLI: "user set ann --disabled", What: "Change a user's policies, groups or state.",
		Takes: iam.ChangeUser{}, Gives: iam.User{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var q iam.ChangeUser
			if err := read(r, &q); err != nil {
				return nil, err
			}
			return ids.ChangeUser(r.Context(), r.PathValue("name"), q)
		})
	api(Route{Pattern: "DELETE /api/v1/users/{name}", Action: "cairn:DeleteUser", CLI: "user rm ann --yes", What: "Remove a user and its keys.", Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return Done{true}, ids.DeleteUser(r.Context(), r.PathValue("name"))
		})
	s.keyRoutes(api)
	s.policyRoutes(api)
	s.groupRoutes(api)
}

func (s *Server) keyRoutes(api register) {
	ids := s.cfg.Identities
	api(Route{Pattern: "GET /api/v1/keys", Action: "cairn:ListKeys", CLI: "key ls", What: "List access keys, without their secrets.", Gives: []iam.Key{},
		Query: []Parameter{{"user", "only those of this user"}}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return ids.Keys(r.Context(), r.URL.Query().Get("user"))
		})
	api(Route{Pattern: "POST /api/v1/keys", Action: "cairn:CreateKey", CLI: "key create ann", What: "Make a further key of a user, shown this once.",
		Takes: iam.NewKey{}, Gives: iam.Credentials{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var q iam.NewKey
			if err := read(r, &q); err != nil {
				return nil, err
			}
			return ids.CreateKey(r.Context(), q)
		})
	api(Route{Pattern: "POST /api/v1/keys/{key}/rotate", Action: "cairn:CreateKey", CLI: "key rotate AK", What: "Make a new key with the rights of an old one.",
		Gives: iam.Credentials{}, Grants: true, Query: []Parameter{{"grace", "how long the old one stays, e.g. 24h"}}}, s.rotateKey)
	api(Route{Pattern: "PATCH /api/v1/keys/{key}", Action: "cairn:ChangeKey", CLI: "key disable AK", What: "Disable or enable a key.", Takes: KeyState{}, Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var q KeyState
			if err := read(r, &q); err != nil {
				return nil, err
			}
			return Done{true}, ids.DisableKey(r.Context(), r.PathValue("key"), q.Disabled)
		})
	api(Route{Pattern: "DELETE /api/v1/keys/{key}", Action: "cairn:DeleteKey", CLI: "key rm AK --yes", What: "Remove a key.", Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return Done{true}, ids.DeleteKey(r.Context(), r.PathValue("key"))
		})
}

// KeyState is the change of a key's state.
type KeyState struct {
	Disabled bool `json:"disabled"`
}

func (s *Server) rotateKey(_ http.ResponseWriter, r *http.Request) (any, error) {
	var grace time.Duration
	if text := r.URL.Query().Get("grace"); text != "" {
		var err error
		if grace, err = time.ParseDuration(text); err != nil {
			return nil, &cairn.Error{Op: "admin.rotate key", Err: &FieldError{"grace", err.Error()}}
		}
	}
	return s.cfg.Identities.RotateKey(r.Context(), r.PathValue("key"), grace)
}

func (s *Server) policyRoutes(api register) {
	ids := s.cfg.Identities
	api(Route{Pattern: "GET /api/v1/policies", Action: "cairn:ListPolicies", CLI: "policy ls", What: "List policies, the built-in ones among them.", Gives: []iam.NamedPolicy{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Policies(r.Context()) })
	api(Route{Pattern: "PUT /api/v1/policies/{name}", Action: "cairn:PutPolicy", CLI: "policy put p -", What: "Store a policy's document, or replace it.",
		Takes: json.RawMessage{}, Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			doc, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
			if err != nil {
				return nil, err
			}
			return Done{true}, ids.PutPolicy(r.Context(), r.PathValue("name"), doc)
		})
	api(Route{Pattern: "DELETE /api/v1/policies/{name}", Action: "cairn:DeletePolicy", CLI: "policy rm p --yes", What: "Remove a policy that nobody has.", Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return Done{true}, ids.DeletePolicy(r.Context(), r.PathValue("name"))
		})
	api(Route{Pattern: "POST /api/v1/simulate", Action: "cairn:ListPolicies", CLI: "policy simulate ann s3:GetObject b/k", What: "Tell whether a user may do something, and which statement decides.",
		Takes: iam.Simulation{}, Gives: iam.Simulated{}, ReadOnly: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var q iam.Simulation
			if err := read(r, &q); err != nil {
				return nil, err
			}
			return s.simulate(r.Context(), q)
		})
}

// simulate adds to a simulation what the bucket that it names says.
func (s *Server) simulate(ctx context.Context, q iam.Simulation) (any, error) {
	if q.Action == "" {
		return nil, &cairn.Error{Op: "admin.simulate", Err: &FieldError{"action", "want an action, e.g. s3:GetObject"}}
	}
	if q.Bucket != "" && q.Owner == "" && s.cfg.Buckets != nil {
		row, err := s.cfg.Buckets.Bucket(ctx, q.Bucket)
		switch {
		case err == nil:
			q.OwnerID = row.Owner
			if text, ok := row.Configs["policy"]; ok {
				if q.BucketPolicy, err = iam.ParseBucketPolicy([]byte(text), row.Name); err != nil {
					return nil, err
				}
			}
		case cairn.Kind(err) != cairn.ErrNotFound: // a bucket that is not there has neither
			return nil, err
		}
	}
	return s.cfg.Identities.Simulate(ctx, q)
}

func (s *Server) groupRoutes(api register) {
	ids := s.cfg.Identities
	api(Route{Pattern: "GET /api/v1/groups", Action: "cairn:ListGroups", CLI: "group ls", What: "List groups.", Gives: []iam.Group{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Groups(r.Context()) })
	api(Route{Pattern: "PUT /api/v1/groups/{name}", Action: "cairn:PutGroup", CLI: "group put g --policy readonly", What: "Make a group, or replace its policies.",
		Takes: iam.Group{}, Gives: iam.Group{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			var g iam.Group
			if err := read(r, &g); err != nil {
				return nil, err
			}
			g.Name = r.PathValue("name")
			return g, ids.PutGroup(r.Context(), g)
		})
	api(Route{Pattern: "DELETE /api/v1/groups/{name}", Action: "cairn:DeleteGroup", CLI: "group rm g --yes", What: "Remove a group that nobody is in.", Gives: Done{}, Grants: true},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return Done{true}, ids.DeleteGroup(r.Context(), r.PathValue("name"))
		})
}

// read decodes a request's document, which may have no members that v lacks.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(io.LimitReader(r.Body, maxDocument))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &cairn.Error{Op: "admin.read", Subject: r.URL.Path, Err: fmt.Errorf("%w: %w", err, cairn.ErrInvalid)}
	}
	return nil
}
