package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"cairn"
	"cairn/iam"
)

var (
	errLogin        = fmt.Errorf("want the root access key, or a user's, that is in force, and its secret key: %w", cairn.ErrForbidden)
	errTooManyTries = fmt.Errorf("too many failed logins with this access key from this address: %w", cairn.ErrForbidden)
)

// lookup finds the identity of an access key, if the secret key is right. Errors: errLogin, errTooManyTries, ErrUnavailable.
func (s *Server) lookup(r *http.Request, accessKey, secretKey string) (iam.Identity, error) {
	from := remoteHost(r)
	if !s.tries.mayTry(from, accessKey) {
		return iam.Identity{}, errTooManyTries
	}
	if s.cfg.Root != nil && s.cfg.Root(r.Context(), accessKey, secretKey) {
		return rootIdentity(accessKey), nil
	}
	secret, id, err := s.secretOf(accessKey)
	if err != nil && cairn.Kind(err) == cairn.ErrUnavailable {
		return iam.Identity{}, err
	}
	// Hashes have one length, so the comparison's time tells nothing about the secret's; an unknown key is compared too.
	got, want := sha256.Sum256([]byte(secretKey)), sha256.Sum256([]byte(secret))
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 || err != nil || secret == "" {
		s.tries.failed(from, accessKey)
		return iam.Identity{}, errLogin
	}
	return id, nil
}

// secretOf returns the secret and the identity of an access key.
func (s *Server) secretOf(accessKey string) (string, iam.Identity, error) {
	if s.cfg.Identities != nil {
		return s.cfg.Identities.Lookup(accessKey, "")
	}
	if accessKey == s.cfg.AccessKey {
		return s.cfg.SecretKey, rootIdentity(accessKey), nil
	}
	return "", iam.Identity{}, cairn.ErrNotFound
}

func rootIdentity(accessKey string) iam.Identity {
	return iam.Identity{Account: iam.DefaultAccount, Name: iam.DefaultAccount, AccessKey: accessKey, Root: true}
}

// identify tells who makes a request: by its session's cookie, or by HTTP basic authentication.
func (s *Server) identify(r *http.Request) (iam.Identity, error) {
	if user, password, ok := r.BasicAuth(); ok {
		return s.lookup(r, user, password)
	}
	return s.sessionOf(r)
}

// authorize asks the policies whether an identity may do an action of the store's.
func (s *Server) authorize(id *iam.Identity, action string) error {
	if id.Root && !id.Anonymous() {
		return nil
	}
	if s.cfg.Identities == nil {
		return errLogin
	}
	return s.cfg.Identities.Authorize(id, &iam.Request{Action: action})
}

// mayDo decides about a line of the API.
func (s *Server) mayDo(id *iam.Identity, route *Route) error {
	if err := s.authorize(id, route.Action); err != nil {
		return err
	}
	if route.Grants && (!id.Admin() || id.Limited()) {
		return &cairn.Error{Op: "admin.authorize", Subject: route.Action,
			Err: fmt.Errorf("only administrators without limits change who may do what: %w", cairn.ErrForbidden)}
	}
	return nil
}

// guarded lets through who may do an action.
func (s *Server) guarded(action string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := s.identify(r)
		if err == nil {
			err = s.authorize(&id, action)
		}
		if err != nil {
			fail(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (s *Server) loopbackOr(action string, next http.Handler) http.Handler {
	guarded := s.guarded(action, next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ip, err := netip.ParseAddr(remoteHost(r)); err == nil && ip.IsLoopback() {
			next.ServeHTTP(w, r)
			return
		}
		guarded.ServeHTTP(w, r)
	})
}

func remoteHost(r *http.Request) string {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	return host
}

// How often a login may fail: a few times at once, then once every few seconds.
const (
	triesAtOnce = 20
	triesEvery  = 3 * time.Second
	maxTries    = 4096 // pairs of address and access key that are remembered
)

// tries bounds the guessing of secrets, by address and access key. Safe for concurrent use.
type tries struct {
	mu   sync.Mutex
	left map[[2]string]*rate.Limiter
}

// mayTry tells whether another try is allowed.
func (t *tries) mayTry(from, accessKey string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.left[[2]string{from, accessKey}]
	return l == nil || l.Tokens() >= 1
}

// failed counts a failure.
func (t *tries) failed(from, accessKey string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	who := [2]string{from, accessKey}
	l := t.left[who]
	if l == nil {
		if t.left == nil || len(t.left) >= maxTries {
			t.left = map[[2]string]*rate.Limiter{}
		}
		l = rate.NewLimiter(rate.Every(triesEvery), triesAtOnce)
		t.left[who] = l
	}
	l.Allow()
}

// denied tells whether an error is about who asks.
func denied(err error) bool { return errors.Is(err, cairn.ErrForbidden) }
