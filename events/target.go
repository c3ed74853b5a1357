package events

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"cairn"
)

// MaxTargets bounds the targets that exist at once.
const MaxTargets = 64

const (
	maxName  = 64
	maxURL   = 2048
	maxToken = 4096
)

// Target is a webhook: who is told.
type Target struct {
	Name string `json:"name"`
	URL  string `json:"url"`
	// Token, if set, is sent as Authorization: Bearer. It is kept in the metadata as it is.
	Token string `json:"token,omitempty"`
	// Private lets the target have an address inside: loopback, private networks, link-local ones.
	Private bool `json:"private,omitempty"`
}

// Validate refuses what cannot be a target. Errors: ErrInvalid.
func (t *Target) Validate() error {
	why := ""
	u, err := url.Parse(t.URL)
	switch {
	case !validName(t.Name):
		why = "a target's name has 1 to 64 letters, digits, dashes and underscores"
	case err != nil || len(t.URL) > maxURL || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "":
		why = "want an http or https URL without user or fragment"
	case len(t.Token) > maxToken || strings.ContainsAny(t.Token, "\r\n\x00"):
		why = "the token is too long or has line breaks"
	default:
		return nil
	}
	return &cairn.Error{Op: "events.target", Subject: t.Name, Err: fmt.Errorf("%w: %w", errors.New(why), cairn.ErrInvalid)}
}

func validName(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxName
}
