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
	Simulate(ctx context.Context, q iam.Simulation) (string, error)
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

// Verdict is the answer to a simulation.
type Verdict struct {
	Verdict string `json:"verdict"`
}

// maxDocument bounds a request's body.
const maxDocument = 64 << 10

// identityRoutes adds what manages identities.
func (s *Server) identityRoutes(api func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error))) {
	ids := s.cfg.Identities
	api("GET /api/v1/users", func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Users(r.Context()) })
	api("POST /api/v1/users", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q iam.NewUser
		if err := read(r, &q); err != nil {
			return nil, err
		}
		u, c, err := ids.CreateUser(r.Context(), q)
		return NewUser{u, c}, err
	})
	api("PATCH /api/v1/users/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q iam.ChangeUser
		if err := read(r, &q); err != nil {
			return nil, err
		}
		return ids.ChangeUser(r.Context(), r.PathValue("name"), q)
	})
	api("DELETE /api/v1/users/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return Done{true}, ids.DeleteUser(r.Context(), r.PathValue("name"))
	})
	s.keyRoutes(api)
	s.policyRoutes(api)
}

func (s *Server) keyRoutes(api func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error))) {
	ids := s.cfg.Identities
	api("GET /api/v1/keys", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return ids.Keys(r.Context(), r.URL.Query().Get("user"))
	})
	api("POST /api/v1/keys", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q iam.NewKey
		if err := read(r, &q); err != nil {
			return nil, err
		}
		return ids.CreateKey(r.Context(), q)
	})
	api("POST /api/v1/keys/{key}/rotate", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var grace time.Duration
		if text := r.URL.Query().Get("grace"); text != "" {
			var err error
			if grace, err = time.ParseDuration(text); err != nil {
				return nil, &cairn.Error{Op: "admin.rotate key", Subject: "grace", Err: fmt.Errorf("%w: %w", err, cairn.ErrInvalid)}
			}
		}
		return ids.RotateKey(r.Context(), r.PathValue("key"), grace)
	})
	api("PATCH /api/v1/keys/{key}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q struct{ Disabled bool }
		if err := read(r, &q); err != nil {
			return nil, err
		}
		return Done{true}, ids.DisableKey(r.Context(), r.PathValue("key"), q.Disabled)
	})
	api("DELETE /api/v1/keys/{key}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return Done{true}, ids.DeleteKey(r.Context(), r.PathValue("key"))
	})
}

func (s *Server) policyRoutes(api func(pattern string, h func(w http.ResponseWriter, r *http.Request) (any, error))) {
	ids := s.cfg.Identities
	api("GET /api/v1/policies", func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Policies(r.Context()) })
	api("PUT /api/v1/policies/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		doc, err := io.ReadAll(io.LimitReader(r.Body, maxDocument))
		if err != nil {
			return nil, err
		}
		return Done{true}, ids.PutPolicy(r.Context(), r.PathValue("name"), doc)
	})
	api("DELETE /api/v1/policies/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		return Done{true}, ids.DeletePolicy(r.Context(), r.PathValue("name"))
	})
	api("POST /api/v1/simulate", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q iam.Simulation
		if err := read(r, &q); err != nil {
			return nil, err
		}
		verdict, err := ids.Simulate(r.Context(), q)
		return Verdict{verdict}, err
	})
	api("GET /api/v1/groups", func(_ http.ResponseWriter, r *http.Request) (any, error) { return ids.Groups(r.Context()) })
	api("PUT /api/v1/groups/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var g iam.Group
		if err := read(r, &g); err != nil {
			return nil, err
		}
		g.Name = r.PathValue("name")
		return g, ids.PutGroup(r.Context(), g)
	})
	api("DELETE /api/v1/groups/{name}", func(_ http.ResponseWriter, r *http.Request) (any, error) {
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
