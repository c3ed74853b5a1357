package s3api

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"cairn/iam"
)

// provider is an OpenID Connect provider with one key.
type provider struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key}
	mux := http.NewServeMux()
	answer := func(path string, v func() any) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(v()) })
	}
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token",
			"id_token_signing_alg_values_supported": []string{"RS256"}}
	})
	answer("/keys", func() any {
		b64 := base64.RawURLEncoding.EncodeToString
		return map[string]any{"keys": []any{map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": b64(key.N.Bytes()),
			"e": b64(big.NewInt(int64(key.E)).Bytes())}}}
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

// token signs claims, which replace the good ones.
func (p *provider) token(t *testing.T, key *rsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	all := map[string]any{"iss": p.URL, "aud": "cairn", "sub": "robot-7", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "policy": "reads"}
	for k, v := range claims {
		all[k] = v
	}
	body, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// sts posts a form to the root without signing it.
func (a *accessRig) sts(t *testing.T, form url.Values) (int, string) {
	t.Helper()
	resp, err := http.PostForm("http://"+a.addr, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b := make([]byte, 32<<10)
	n, _ := resp.Body.Read(b)
	return resp.StatusCode, string(b[:n])
}

func (a *accessRig) client(t *testing.T, c *credentials.Credentials) *minio.Client {
	t.Helper()
	m, err := minio.New(a.addr, &minio.Options{Creds: c, Region: "us-east-1", Transport: http.DefaultTransport})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func reads(m *minio.Client, t *testing.T, bucket, key string) string {
	_, err := m.StatObject(t.Context(), bucket, key, minio.StatObjectOptions{})
	return minio.ToErrorResponse(err).Code
}

// TestAssumeRole gets temporary credentials as a stock client does and uses them in headers and URLs.
func TestAssumeRole(t *testing.T) {
	a := newAccessRig(t, nil)
	a.play(t, []step{{who: "ann", method: "PUT", path: "/anns", want: ok}, {who: "ann", method: "PUT", path: "/anns/k", body: "x", want: ok},
		{who: "ann", method: "PUT", path: "/anns/other", body: "x", want: ok}})
	assume := func(key, secret, policy string) (*credentials.Credentials, error) {
		return credentials.NewSTSAssumeRole("http://"+a.addr, credentials.STSAssumeRoleOptions{AccessKey: key, SecretKey: secret, Location: "us-east-1",
			RoleARN: "arn:aws:iam::000000000000:role/any", RoleSessionName: "test", DurationSeconds: 900, Policy: policy})
	}
	narrow, err := assume("annKEY", testSecret, policyText(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/k"}`))
	if err != nil {
		t.Fatal(err)
	}
	m := a.client(t, narrow)
	if code := reads(m, t, "anns", "k"); code != "" {
		t.Errorf("session reads k: %s", code)
	}
	if code := reads(m, t, "anns", "other"); code == "" {
		t.Error("a session read beyond its policy")
	}
	u, err := m.PresignedGetObject(t.Context(), "anns", "k", time.Minute, nil)
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]int{u.String(): 200, strings.Replace(u.String(), "X-Amz-Security-Token=", "X-Amz-Security-Token=x", 1): 400} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("presigned with a session: got %d, want %d", resp.StatusCode, want)
		}
	}
	if c, err := assume("annKEY", "not the secret", ""); err == nil {
		if _, err := c.GetWithContext(nil); err == nil {
			t.Error("a wrong secret started a session")
		}
	}
	if c, err := assume("annKEY", testSecret, "{}"); err == nil {
		if _, err := c.GetWithContext(nil); err == nil {
			t.Error("a broken policy started a session")
		}
	}
	// A session dies with the key that it came from.
	if err := a.store.DeleteKey(t.Context(), "annKEY"); err != nil {
		t.Fatal(err)
	}
	if code := reads(m, t, "anns", "k"); code == "" {
		t.Error("a session outlived its key")
	}
	if status, body := a.sts(t, url.Values{"Action": {"GetSessionToken"}, "Version": {stsVersion}}); status != 403 || !strings.Contains(body, "MissingAuthenticationToken") {
		t.Errorf("unsigned: got %d %s", status, body)
	}
	if status, body := a.sts(t, url.Values{"Action": {"Dance"}}); status != 400 || !strings.Contains(body, "InvalidAction") {
		t.Errorf("unknown action: got %d %s", status, body)
	}
}

// TestWebIdentity turns tokens of a provider into sessions.
func TestWebIdentity(t *testing.T) {
	p := newProvider(t)
	oidc, err := iam.NewOIDC(iam.OIDCConfig{Issuer: p.URL, ClientID: "cairn"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAccessRig(t, func(c *Config) { c.WebIdentities = oidc })
	a.play(t, []step{{who: "ann", method: "PUT", path: "/anns", want: ok}, {who: "ann", method: "PUT", path: "/anns/k", body: "x", want: ok}})
	if err := a.store.PutPolicy(t.Context(), "reads", []byte(policyText(`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::anns/*"}`))); err != nil {
		t.Fatal(err)
	}
	web, err := credentials.NewSTSWebIdentity("http://"+a.addr, func() (*credentials.WebIdentityToken, error) {
		return &credentials.WebIdentityToken{Token: p.token(t, p.key, nil), Expiry: 3600}, nil
	}, func(i *credentials.STSWebIdentity) { i.RoleARN = "arn:aws:iam::000000000000:role/any" })
	if err != nil {
		t.Fatal(err)
	}
	m := a.client(t, web)
	if code := reads(m, t, "anns", "k"); code != "" {
		t.Errorf("session reads k: %s", code)
	}
	if _, err := m.PutObject(t.Context(), "anns", "new", strings.NewReader("x"), 1, minio.PutObjectOptions{}); minio.ToErrorResponse(err).Code != "AccessDenied" {
		t.Errorf("session writes: %v", err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, token, want string }{
		{"another's key", p.token(t, stranger, nil), "InvalidIdentityToken"},
		{"another's audience", p.token(t, p.key, map[string]any{"aud": "other"}), "InvalidIdentityToken"},
		{"another issuer", p.token(t, p.key, map[string]any{"iss": "http://other"}), "InvalidIdentityToken"},
		{"expired", p.token(t, p.key, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), "ExpiredTokenException"},
		{"no policy", p.token(t, p.key, map[string]any{"policy": ""}), "AccessDenied"},
		{"unknown policy", p.token(t, p.key, map[string]any{"policy": []string{"reads", "nothing"}}), "AccessDenied"},
		{"no token", "", "InvalidIdentityToken"},
	} {
		status, body := a.sts(t, url.Values{"Action": {"AssumeRoleWithWebIdentity"}, "Version": {stsVersion}, "WebIdentityToken": {c.token},
			"RoleArn": {"arn:aws:iam::000000000000:role/any"}, "RoleSessionName": {"test"}})
		if status/100 != 4 || !strings.Contains(body, "<Code>"+c.want+"</Code>") {
			t.Errorf("%s: got %d %s, want %s", c.name, status, body, c.want)
		}
	}
}
