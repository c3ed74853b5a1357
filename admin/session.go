package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"time"

	"cairn"
	"cairn/iam"
)

// Sessions keeps the sessions of the dashboard, under hashes of their secrets. *meta.Store is one: a session outlives the
// process that began it, and holds at every node.
type Sessions interface {
	PutSession(ctx context.Context, hash [sha256.Size]byte, record []byte, expires time.Time) error
	Session(ctx context.Context, hash [sha256.Size]byte) ([]byte, error) // ErrNotFound
	DeleteSession(ctx context.Context, hash [sha256.Size]byte) error
}

const (
	// SessionLife is how long a login to the dashboard lasts.
	SessionLife = 12 * time.Hour
	// sessionCookie is sent over TLS and to loopback only, to this host only, and read by no script.
	sessionCookie = "__Host-cairn-session"
)

// session is the record of a session. The key's rights are looked up at every request: a key that ends takes its sessions along.
type session struct {
	AccessKey string            `json:"k"`
	Secret    [sha256.Size]byte `json:"s"` // hash of the secret key at login
}

// Login is what somebody logs in to the dashboard with.
type Login struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// Me is who is logged in, and what the dashboard may offer.
type Me struct {
	Name      string    `json:"name"`
	AccessKey string    `json:"access_key"`
	Root      bool      `json:"root,omitempty"`
	Admin     bool      `json:"admin"` // may change who may do what
	Actions   []string  `json:"actions"`
	Expires   time.Time `json:"expires,omitzero"` // of the session just begun
	S3        string    `json:"s3,omitempty"`     // URL of the S3 endpoint
}

// consoleRoutes adds what the dashboard needs beside the rest.
func (s *Server) consoleRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/me", Action: actionConsole, CLI: "whoami", What: "Tell whose credentials these are, and what they allow.", Gives: Me{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.me(callerOf(r)), nil })
	api(Route{Pattern: "GET /api/v1/events", Action: "cairn:GetStatus", CLI: "top",
		What: "Stream the status as it changes (server-sent events): a snapshot, then differences; Last-Event-ID goes on where a stream ended."}, s.events)
	api(Route{Pattern: "GET /api/v1/history", Action: "cairn:GetStatus", CLI: "metrics history",
		What: "Show the last 24 hours in samples of ten seconds, as this process saw them.", Gives: History{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) { return s.ring.history(), nil })
	api(Route{Pattern: "GET /api/v1/openapi.json", Action: actionConsole, CLI: "api", What: "Describe this interface as OpenAPI 3.1."},
		func(http.ResponseWriter, *http.Request) (any, error) { return s.openAPI, nil })
}

const actionConsole = "cairn:Console"

func (s *Server) me(id iam.Identity) Me {
	me := Me{Name: id.Name, AccessKey: id.AccessKey, Root: id.Root, Admin: id.Admin() && !id.Limited(), Actions: []string{}, S3: s.cfg.S3URL}
	seen := map[string]bool{}
	for _, r := range s.table {
		if !seen[r.Action] && s.mayDo(&id, &r) == nil {
			me.Actions = append(me.Actions, r.Action)
		}
		seen[r.Action] = true
	}
	return me
}

// login begins a session: POST /login. It is no line of the API, since it is how one gets to use it with a cookie.
func (s *Server) login(w http.ResponseWriter, r *http.Request) (any, error) {
	var l Login
	if err := read(r, &l); err != nil {
		return nil, err
	}
	id, err := s.lookup(r, l.AccessKey, l.SecretKey)
	if err == nil {
		err = s.authorize(&id, actionConsole)
	}
	if err != nil {
		s.audit(r, iam.Identity{AccessKey: l.AccessKey}, "cairn:Login", "", err)
		return nil, err
	}
	// The secret is new for every login, whatever cookie came with the request: nobody can be made to use a session that
	// another knows.
	var secret [32]byte
	rand.Read(secret[:])
	text := base64.RawURLEncoding.EncodeToString(secret[:])
	record, err := json.Marshal(session{AccessKey: id.AccessKey, Secret: sha256.Sum256([]byte(l.SecretKey))})
	if err != nil {
		return nil, err
	}
	expires := time.Now().Add(SessionLife)
	if err := s.cfg.Sessions.PutSession(r.Context(), sha256.Sum256([]byte(text)), record, expires); err != nil {
		return nil, err
	}
	http.SetCookie(w, cookie(text, int(SessionLife.Seconds())))
	s.audit(r, id, "cairn:Login", "", nil)
	me := s.me(id)
	me.Expires = expires.UTC().Truncate(time.Second)
	return me, nil
}

// session tells the page who is logged in, null for nobody: GET /session.
func (s *Server) session(_ http.ResponseWriter, r *http.Request) (any, error) {
	id, err := s.sessionOf(r)
	switch {
	case denied(err):
		return json.RawMessage("null"), nil
	case err != nil:
		return nil, err
	}
	return s.me(id), nil
}

// logout ends the session of the cookie: POST /logout.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) (any, error) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		if err := s.cfg.Sessions.DeleteSession(r.Context(), sha256.Sum256([]byte(c.Value))); err != nil {
			return nil, err
		}
	}
	http.SetCookie(w, cookie("", -1))
	return Done{true}, nil
}

func cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{Name: sessionCookie, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
}

// sessionOf finds the identity behind a request's cookie.
func (s *Server) sessionOf(r *http.Request) (iam.Identity, error) {
	c, err := r.Cookie(sessionCookie)
	if err != nil || s.cfg.Sessions == nil {
		return iam.Identity{}, errLogin
	}
	record, err := s.cfg.Sessions.Session(r.Context(), sha256.Sum256([]byte(c.Value)))
	if cairn.Kind(err) == cairn.ErrNotFound {
		return iam.Identity{}, errLogin
	}
	var was session
	if err == nil {
		err = json.Unmarshal(record, &was)
	}
	if err != nil {
		return iam.Identity{}, err
	}
	secret, id, err := s.secretOf(was.AccessKey)
	switch {
	case cairn.Kind(err) == cairn.ErrUnavailable:
		return iam.Identity{}, err
	case err != nil || sha256.Sum256([]byte(secret)) != was.Secret:
		return iam.Identity{}, errLogin
	}
	return id, nil
}
