package iam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"cairn"
)

// OIDCConfig names an OpenID Connect provider.
type OIDCConfig struct {
	Issuer   string // URL; its discovery document is read at the first use
	ClientID string // that tokens must be for (aud)
	// PolicyClaim holds the names of the policies that a token's bearer has: a list, or text with commas. Default "policy".
	PolicyClaim string
}

// OIDC verifies the tokens of one provider. Safe for concurrent use.
type OIDC struct {
	cfg    OIDCConfig
	client *http.Client

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier
}

const oidcTimeout = 10 * time.Second

// NewOIDC returns a verifier, without asking the provider anything yet. ErrInvalid without issuer and client.
func NewOIDC(cfg OIDCConfig) (*OIDC, error) {
	if cfg.Issuer == "" || cfg.ClientID == "" {
		return nil, invalid("OpenID Connect", "want an issuer and a client ID")
	}
	if cfg.PolicyClaim == "" {
		cfg.PolicyClaim = "policy"
	}
	return &OIDC{cfg: cfg, client: &http.Client{Timeout: oidcTimeout}}, nil
}

// WebIdentity is whom a provider's token is about.
type WebIdentity struct {
	Subject  string // unique at the provider
	Account  string // canonical ID of what the identity makes: of provider and subject
	Audience string
	Issuer   string
	Policies []string
	Expires  time.Time
}

// Verify checks a token's signature, issuer, audience and time. Errors: ErrInvalid, ErrExpired, ErrUnavailable while the provider
// does not answer.
func (o *OIDC) Verify(ctx context.Context, token string) (WebIdentity, error) {
	fail := func(kind, err error) (WebIdentity, error) {
		return WebIdentity{}, &cairn.Error{Op: "iam.web identity", Subject: o.cfg.Issuer, Err: fmt.Errorf("%w: %w", err, kind)}
	}
	v, err := o.provider(ctx)
	if err != nil {
		return fail(cairn.ErrUnavailable, err)
	}
	t, err := v.Verify(oidc.ClientContext(ctx, o.client), token)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return fail(ErrExpired, err)
	case err != nil:
		return fail(cairn.ErrInvalid, err)
	}
	claims := map[string]any{}
	if err := t.Claims(&claims); err != nil {
		return fail(cairn.ErrInvalid, err)
	}
	sum := sha256.Sum256([]byte(t.Issuer + "\x00" + t.Subject))
	return WebIdentity{Subject: t.Subject, Account: hex.EncodeToString(sum[:]), Audience: o.cfg.ClientID, Issuer: t.Issuer,
		Policies: names(claims[o.cfg.PolicyClaim]), Expires: t.Expiry}, nil
}

// provider reads the discovery document once; the keys behind it are read anew by the library when they change.
func (o *OIDC) provider(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.verifier != nil {
		return o.verifier, nil
	}
	// The provider keeps the context's client for later, so it may not be a request's context that ends.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), o.client), o.cfg.Issuer)
	if err != nil {
		return nil, err
	}
	o.verifier = p.Verifier(&oidc.Config{ClientID: o.cfg.ClientID})
	return o.verifier, nil
}

// names reads a claim that is a list of names or text with commas.
func names(claim any) (out []string) {
	switch v := claim.(type) {
	case string:
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name != "" {
				out = append(out, name)
			}
		}
	case []any:
		for _, one := range v {
			if name, ok := one.(string); ok {
				out = append(out, name)
			}
		}
	}
	return out
}
