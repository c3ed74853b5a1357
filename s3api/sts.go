package s3api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cairn"
	"cairn/iam"
	"cairn/s3api/sigv4"
)

const (
	stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
	stsVersion   = "2011-06-15"
	minSession   = 15 * time.Minute
)

// stsActions are the operations of AWS's Security Token Service that are answered at the S3 endpoint's root.
// Source: AWS Security Token Service API Reference.
var stsActions = map[string]struct {
	life, longest time.Duration
	unsigned      bool
	do            func(*call, url.Values, time.Duration) ([]byte, error)
}{
	"AssumeRole":                {life: time.Hour, longest: 12 * time.Hour, do: (*call).assumeRole},
	"GetSessionToken":           {life: 12 * time.Hour, longest: 36 * time.Hour, do: (*call).getSessionToken},
	"GetCallerIdentity":         {do: (*call).getCallerIdentity},
	"AssumeRoleWithWebIdentity": {life: time.Hour, longest: 12 * time.Hour, unsigned: true, do: (*call).assumeByWeb},
}

// securityTokens answers STS. A role is not something of its own here: a session has the rights of the identity that asks for
// it, limited by the policy that it asks for, and the role's name is what policies know it by.
func (c *call) securityTokens() error {
	if kind, _, _ := strings.Cut(c.header("Content-Type"), ";"); strings.TrimSpace(kind) != "application/x-www-form-urlencoded" {
		return c.refusePost()
	}
	c.auth.Payload = sigv4.UnsignedPayload
	doc, release, err := c.readDocument(maxSmallDocument)
	if err != nil {
		return err
	}
	defer release()
	form, err := url.ParseQuery(string(doc))
	if err != nil {
		return c.failSTS(errInvalidArgument.with("The request must be form-encoded."))
	}
	action, ok := stsActions[form.Get("Action")]
	if !ok || form.Get("Version") != "" && form.Get("Version") != stsVersion {
		return c.failSTS(newError(400, "InvalidAction", "Could not find operation "+form.Get("Action")+" for version "+form.Get("Version")))
	}
	if !action.unsigned {
		if err := c.authenticateSTS(doc); err != nil {
			return c.failSTS(err)
		}
	}
	life, err := sessionLife(form.Get("DurationSeconds"), action.life, action.longest)
	if err != nil {
		return c.failSTS(err)
	}
	body, err := action.do(c, form, life)
	if err != nil {
		return c.failSTS(err)
	}
	return c.render(func(b []byte) []byte { return c.appendSTS(b, form.Get("Action"), body) })
}

// refusePost answers a POST that is no form: after authentication, so that nobody learns more than he may.
func (c *call) refusePost() error {
	if err := c.authenticate(); err != nil {
		return err
	}
	if c.who.Anonymous() {
		return errAccessDenied
	}
	return errMethodNotAllowed.with("", field{"Method", c.r.Method}, field{"ResourceType", strings.ToUpper(levelNames[c.level()])})
}

func (c *call) authenticateSTS(doc []byte) (err error) {
	sum := sha256.Sum256(doc)
	if c.header("Authorization") == "" {
		return newError(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	if c.auth, err = sigv4.FromHeaderOf(c.r.Header, c.srv.cfg.Region, "sts", hex.EncodeToString(sum[:])); err != nil {
		return c.explainAuth(err)
	}
	return c.verify()
}

func sessionLife(s string, life, longest time.Duration) (time.Duration, error) {
	if s == "" {
		return life, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	d := time.Duration(n) * time.Second
	if err != nil || longest > 0 && (d < minSession || d > longest) {
		return 0, errSTSValue.with("The requested DurationSeconds is not between 900 and " + strconv.Itoa(int(longest/time.Second)) + ".")
	}
	return d, nil
}

var errSTSValue = newError(400, "ValidationError", "A value does not satisfy its constraint.")

func (c *call) assumeRole(form url.Values, life time.Duration) ([]byte, error) {
	role, session := roleName(form.Get("RoleArn")), form.Get("RoleSessionName")
	if role == "" || !sessionName(session) {
		return nil, errSTSValue.with("RoleArn must name a role, RoleSessionName have 2 to 64 letters, digits or any of =,.@-_+")
	}
	if form.Has("PolicyArns.member.1.arn") || form.Has("Tags.member.1.Key") || form.Has("SerialNumber") {
		return nil, errSTSValue.with("Managed policies, session tags and MFA are not available.")
	}
	s, err := c.startSession(iam.NewSession{Role: role, Session: session, Policy: form.Get("Policy"), Life: life})
	if err != nil {
		return nil, err
	}
	return appendAssumed(appendCredentials(nil, &s), &s.Identity), nil
}

// roleName takes the last part of arn:aws:iam::NUMBER:role/PATH/NAME.
func roleName(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[0] != "arn" || f[2] != "iam" || !strings.HasPrefix(f[5], "role/") {
		return ""
	}
	name := f[5][strings.LastIndexByte(f[5], '/')+1:]
	if !sessionName(name) {
		return ""
	}
	return name
}

func sessionName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("=,.@-_+", r) {
			return false
		}
	}
	return len(s) >= 2 && len(s) <= 64
}

// startSession starts one for the identity that asks. Sessions start no sessions: their end would be no end.
func (c *call) startSession(r iam.NewSession) (iam.Session, error) {
	if c.who.Role != "" || c.auth.Token != "" {
		return iam.Session{}, errAccessDenied.with("Cannot start a session with session credentials.")
	}
	r.User, r.AccessKey = c.who.Name, c.who.AccessKey
	s, err := c.srv.cfg.Identities.StartSession(r)
	var wrong *iam.PolicyError
	if errors.As(err, &wrong) {
		err = newError(400, "MalformedPolicyDocument", wrong.Error())
	}
	return s, err
}

func (c *call) getSessionToken(form url.Values, life time.Duration) ([]byte, error) {
	if form.Has("SerialNumber") || form.Has("TokenCode") {
		return nil, errSTSValue.with("MFA is not available.")
	}
	s, err := c.startSession(iam.NewSession{Life: life})
	return appendCredentials(nil, &s), err
}

func (c *call) getCallerIdentity(url.Values, time.Duration) ([]byte, error) {
	b := appendElement(nil, "Arn", c.who.ARN())
	b = appendElement(b, "UserId", c.who.Account)
	return appendElement(b, "Account", c.who.Number), nil
}

// assumeByWeb gives the bearer of a provider's token the policies that the token names.
func (c *call) assumeByWeb(form url.Values, life time.Duration) ([]byte, error) {
	role, session := roleName(form.Get("RoleArn")), form.Get("RoleSessionName")
	if form.Get("RoleArn") == "" {
		role = "web" // clients of stores without roles leave it out
	}
	if role == "" || !sessionName(session) {
		return nil, errSTSValue.with("RoleArn must name a role, RoleSessionName have 2 to 64 letters, digits or any of =,.@-_+")
	}
	if c.srv.cfg.WebIdentities == nil {
		return nil, errWebToken.with("No OpenID Connect provider is configured.")
	}
	who, err := c.srv.cfg.WebIdentities.Verify(c.r.Context(), form.Get("WebIdentityToken"))
	switch {
	case errors.Is(err, iam.ErrExpired):
		return nil, newError(400, "ExpiredTokenException", "Token expired")
	case errors.Is(err, cairn.ErrInvalid):
		return nil, errWebToken
	case err != nil:
		return nil, newError(400, "IDPCommunicationError", "The identity provider cannot be reached.")
	case len(who.Policies) == 0:
		return nil, errAccessDenied.with("The token names no policy.")
	}
	s, err := c.srv.cfg.Identities.StartSession(iam.NewSession{Role: role, Session: session, Policy: form.Get("Policy"),
		Policies: who.Policies, Subject: who.Account, Life: life})
	var wrong *iam.PolicyError
	switch {
	case errors.As(err, &wrong):
		return nil, newError(400, "MalformedPolicyDocument", wrong.Error())
	case errors.Is(err, cairn.ErrNotFound):
		return nil, errAccessDenied.with("The token names a policy that does not exist.")
	case err != nil:
		return nil, err
	}
	b := appendAssumed(appendCredentials(nil, &s), &s.Identity)
	b = appendElement(b, "SubjectFromWebIdentityToken", who.Subject)
	b = appendElement(b, "Audience", who.Audience)
	return appendElement(b, "Provider", who.Issuer), nil
}

var errWebToken = newError(400, "InvalidIdentityToken", "The web identity token that was passed could not be validated.")

func appendCredentials(b []byte, s *iam.Session) []byte {
	b = append(b, "<Credentials>"...)
	b = appendElement(b, "AccessKeyId", s.AccessKey)
	b = appendElement(b, "SecretAccessKey", s.SecretKey)
	b = appendElement(b, "SessionToken", s.Token)
	b = appendElement(b, "Expiration", s.Expires.Format(time.RFC3339))
	return append(b, "</Credentials>"...)
}

func appendAssumed(b []byte, id *iam.Identity) []byte {
	b = append(b, "<AssumedRoleUser>"...)
	b = appendElement(b, "Arn", id.ARN())
	b = appendElement(b, "AssumedRoleId", id.Account+":"+id.Session)
	return append(b, "</AssumedRoleUser>"...)
}

func (c *call) appendSTS(b []byte, action string, body []byte) []byte {
	b = append(b, "<"+action+`Response xmlns="`+stsNamespace+`"><`+action+"Result>"...)
	b = append(b, body...)
	b = append(b, "</"+action+"Result><ResponseMetadata>"...)
	b = appendElement(b, "RequestId", c.id[0])
	return append(b, "</ResponseMetadata></"+action+"Response>"...)
}

// failSTS answers in STS's form of errors.
func (c *call) failSTS(err error) error {
	api, known := translate(err)
	if !known || api.status >= http.StatusInternalServerError {
		return err
	}
	c.code = api.code
	c.in.abandon()
	b := append([]byte(nil), xmlHeader+`<ErrorResponse xmlns="`+stsNamespace+`"><Error><Type>Sender</Type>`...)
	b = appendElement(b, "Code", api.code)
	b = appendElement(b, "Message", api.message)
	b = append(b, "</Error>"...)
	b = appendElement(b, "RequestId", c.id[0])
	b = append(b, "</ErrorResponse>"...)
	c.w.Header()["Content-Type"] = typeXML
	c.set("Content-Length", strconv.Itoa(len(b)))
	c.WriteHeader(api.status)
	_, err = c.Write(b)
	return err
}
