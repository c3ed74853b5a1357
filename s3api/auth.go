package s3api

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/s3api/sigv4"
)

// authenticate finds out who makes the request. A request without any credentials is anonymous: the verdict on the action
// decides about it.
func (c *call) authenticate() error {
	if c.known {
		return c.anonymous() // for the payload's form: there is no signature
	}
	presigned := sigv4.IsPresigned(c.query)
	inHeader := c.header("Authorization") != ""
	var err error
	switch {
	case inHeader && (presigned || sigv4.IsPresignedV2(c.query)), presigned && sigv4.IsPresignedV2(c.query):
		return errInvalidArgument.with("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, " +
			"Signature query string parameter or the Authorization header should be specified")
	case presigned:
		c.auth, err = sigv4.FromQuery(c.query, c.r.Header, c.srv.cfg.Region)
	case inHeader:
		c.auth, err = sigv4.FromHeader(c.r.Header, c.srv.cfg.Region)
	case sigv4.IsPresignedV2(c.query):
		return c.verifyV2()
	default:
		return c.anonymous()
	}
	if err != nil {
		return c.explainAuth(err)
	}
	return c.verify()
}

// anonymous notes the payload form of a request without signature: chunks cannot be signed by nobody.
func (c *call) anonymous() error {
	switch p := c.header("X-Amz-Content-Sha256"); p {
	case sigv4.SignedChunks, sigv4.SignedTrailer:
		return errAccessDenied
	default:
		c.auth.Payload = p
	}
	return nil
}

func (c *call) verify() error {
	if err := c.auth.CheckTime(c.start); err != nil {
		return c.explainAuth(err)
	}
	secret, who, err := c.lookup(c.auth.AccessKey, c.auth.Token)
	if err != nil {
		return err
	}
	c.seed, err = c.srv.verifier.Verify(&c.auth, secret, &sigv4.Message{Method: c.r.Method, Path: c.path, RawPath: c.raw,
		Query: c.query, Header: c.r.Header, Host: c.r.Host})
	if err != nil {
		return c.explainAuth(err)
	}
	c.who = who
	if c.auth.Presigned {
		c.hoist()
	}
	return nil
}

// lookup finds the identity behind an access key and the session token that came with it.
func (c *call) lookup(accessKey, token string) (secret string, who iam.Identity, err error) {
	secret, who, err = c.srv.cfg.Identities.Lookup(accessKey, token)
	switch {
	case errors.Is(err, iam.ErrExpired):
		err = errExpiredToken
	case errors.Is(err, cairn.ErrInvalid):
		err = errInvalidToken.with("The provided token is malformed or otherwise invalid.")
	case errors.Is(err, cairn.ErrNotFound):
		err = errInvalidAccessKey.with("", field{"AWSAccessKeyId", accessKey})
	}
	return secret, who, err
}

// verifyV2 takes a presigned URL of Signature Version 2. Its x-amz-… parameters are headers that the signer moved into the
// query, and are signed as headers.
func (c *call) verifyV2() error {
	a, err := sigv4.FromQueryV2(c.query)
	if err == nil {
		err = a.CheckTime(c.start)
	}
	if err != nil {
		return c.explainAuth(err)
	}
	secret, who, err := c.lookup(a.AccessKey, c.query.get("x-amz-security-token"))
	if err != nil {
		return err
	}
	c.hoist()
	for _, name := range []string{"Content-Type", "Content-Md5"} {
		if v := c.query.get(strings.ToLower(name)); v != "" && c.header(name) == "" {
			c.r.Header[name] = []string{v}
		}
	}
	resource := c.raw
	if c.virtual {
		resource = "/" + c.bucket + resource
	}
	if err := a.Verify(secret, resource, &sigv4.Message{Method: c.r.Method, Query: c.query, Header: c.r.Header}); err != nil {
		return c.explainAuth(err)
	}
	c.who = who
	c.auth = sigv4.Auth{Presigned: true, AccessKey: a.AccessKey, Signature: a.Signature, Payload: sigv4.UnsignedPayload}
	if c.header("X-Amz-Content-Sha256") == sigv4.UnsignedTrailer {
		c.auth.Payload = sigv4.UnsignedTrailer
	}
	return nil
}

// hoist makes headers of the x-amz-… parameters of a presigned URL, as S3 does.
func (c *call) hoist() {
	for _, p := range sigv4.Hoisted(c.query) {
		name := http.CanonicalHeaderKey(p.Key)
		if _, sent := c.r.Header[name]; !sent {
			c.r.Header[name] = []string{p.Value}
		}
	}
}

// explainAuth adds to a refusal what S3 tells its client.
func (c *call) explainAuth(err error) error {
	var e *sigv4.Error
	if !errors.As(err, &e) {
		return err
	}
	api := signatureError(e)
	if e.Reason == sigv4.Unsupported && !strings.HasPrefix(c.header("Authorization"), "AWS") && c.header("Authorization") != "" {
		return errInvalidArgument.with("Unsupported Authorization Type", field{"ArgumentName", "Authorization"},
			field{"ArgumentValue", c.header("Authorization")})
	}
	now := c.start.UTC().Format(time.RFC3339)
	switch e.Reason {
	case sigv4.Skewed:
		return api.with("", field{"RequestTime", c.auth.Date}, field{"ServerTime", now},
			field{"MaxAllowedSkewMilliseconds", itoa(sigv4.MaxSkew.Milliseconds())})
	case sigv4.Expired:
		return api.with("", field{"X-Amz-Expires", itoa(int64(c.auth.Expires / time.Second))},
			field{"Expires", c.auth.Time.Add(c.auth.Expires).Format(time.RFC3339)}, field{"ServerTime", now})
	case sigv4.WrongRegion:
		return api.with("", field{"Region", c.srv.cfg.Region})
	case sigv4.Mismatch:
		return api.with("", field{"AWSAccessKeyId", c.auth.AccessKey}, field{"SignatureProvided", c.auth.Signature})
	}
	return api
}
