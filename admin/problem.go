package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"cairn"
)

// Problem is the body of every answer other than 2xx: a problem document (RFC 9457) with what happened, why, and what to do.
type Problem struct {
	Type      string `json:"type"`   // "about:blank": the status says the kind
	Title     string `json:"title"`  // what, in few words
	Status    int    `json:"status"` // the HTTP status
	Detail    string `json:"detail"` // why, for this request
	Hint      string `json:"hint,omitempty"`
	Field     string `json:"field,omitempty"` // of the request that is wrong
	RequestID string `json:"request_id"`
}

// FieldError says which field of a request is wrong. It is an ErrInvalid.
type FieldError struct{ Field, Why string }

// Error names the field first.
func (e *FieldError) Error() string { return e.Field + ": " + e.Why }

// Unwrap returns cairn.ErrInvalid.
func (e *FieldError) Unwrap() error { return cairn.ErrInvalid }

// kinds says how a kind of error is answered. The first that fits counts.
var kinds = []struct {
	kind   error
	status int
	title  string
	hint   string
}{
	{errLogin, http.StatusUnauthorized, "Who are you?", "Give an access key and its secret key: those of the root identity, or of a user."},
	{errTooManyTries, http.StatusTooManyRequests, "Too many failed logins", "Wait a minute."},
	{cairn.ErrForbidden, http.StatusForbidden, "Not allowed", "Ask an administrator for a policy that allows the action."},
	{cairn.ErrNotFound, http.StatusNotFound, "Not found", ""},
	{cairn.ErrExists, http.StatusConflict, "It exists already", ""},
	{cairn.ErrNotEmpty, http.StatusConflict, "It is not empty", "Remove what it holds first."},
	{cairn.ErrPrecondition, http.StatusConflict, "It cannot be done as things are", ""},
	{cairn.ErrTooLarge, http.StatusRequestEntityTooLarge, "Too large", ""},
	{cairn.ErrInvalid, http.StatusBadRequest, "The request is wrong", ""},
	{cairn.ErrUnavailable, http.StatusServiceUnavailable, "Not available now", "Try again; `cairn status` says what is missing."},
	{cairn.ErrQuorum, http.StatusServiceUnavailable, "Too few answered", "Try again; `cairn status` says what is missing."},
	{cairn.ErrOverloaded, http.StatusServiceUnavailable, "Too busy", "Try again in a moment."},
}

// problemOf makes the document of an error.
func problemOf(err error, requestID string) Problem {
	p := Problem{Type: "about:blank", Title: "The server failed", Status: http.StatusInternalServerError, Detail: err.Error(), RequestID: requestID}
	for _, k := range kinds {
		if errors.Is(err, k.kind) {
			p.Title, p.Status, p.Hint = k.title, k.status, k.hint
			break
		}
	}
	var field *FieldError
	if errors.As(err, &field) {
		p.Field = field.Field
	}
	return p
}

// fail answers with a problem document.
func fail(w http.ResponseWriter, r *http.Request, err error) (status int) {
	p := problemOf(err, w.Header().Get(requestIDHeader))
	w.Header().Set("Content-Type", "application/problem+json")
	if p.Status == http.StatusUnauthorized && r.Header.Get("Sec-Fetch-Mode") == "" { // a page asks in its own form
		w.Header().Set("WWW-Authenticate", `Basic realm="cairn admin"`)
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p) // the client may be gone: there is nobody left to tell
	return p.Status
}
