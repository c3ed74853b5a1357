// Package rpc is what the parts of Cairn share when they talk to each other over HTTP: error kinds that survive the wire
// (this file), bodies that carry their own checksums and their own end (frames.go), and connections between the nodes of one
// cluster: mutual TLS under the cluster's own authority (authority.go, credentials.go), a Dialer that reaches nodes by ID, and
// a Server that refuses whoever is no node of the cluster.
//
// It knows no routes and no messages; those belong to the package that owns the service.
package rpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"cairn"
)

// KindHeader carries the number of an error's kind in a response that failed.
const KindHeader = "Cairn-Error-Kind"

// maxMessageBytes bounds an error's text on the wire.
const maxMessageBytes = 4 << 10

// KindNumber returns the number of err's kind on the wire, from 1; 0 if it has none.
func KindNumber(err error) int {
	kind := cairn.Kind(err)
	for i, k := range cairn.Kinds() {
		if k == kind {
			return i + 1
		}
	}
	return 0
}

// RemoteError is an error that another node reported: its text, and the kind that errors.Is finds.
type RemoteError struct {
	Text string
	kind error
}

// Error returns the text as the other node wrote it.
func (e *RemoteError) Error() string { return e.Text }

// Unwrap returns the kind.
func (e *RemoteError) Unwrap() error { return e.kind }

// NewRemoteError rebuilds an error from its number and text. A number that this program does not know becomes
// cairn.ErrUnavailable: the other side failed in a way that only it understands.
func NewRemoteError(number int, text string) *RemoteError {
	kinds := cairn.Kinds()
	if number < 1 || number > len(kinds) {
		return &RemoteError{Text: text, kind: cairn.ErrUnavailable}
	}
	return &RemoteError{Text: text, kind: kinds[number-1]}
}

// WriteError answers a request with err.
func WriteError(w http.ResponseWriter, err error) {
	w.Header().Set(KindHeader, strconv.Itoa(KindNumber(err)))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(statusOf(err))
	io.WriteString(w, truncate(err.Error())) // a client that is gone needs no answer
}

func truncate(s string) string { return s[:min(len(s), maxMessageBytes)] }

func statusOf(err error) int {
	switch {
	case errors.Is(err, cairn.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, cairn.ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, cairn.ErrInvalid), errors.Is(err, cairn.ErrTooLarge):
		return http.StatusBadRequest
	case errors.Is(err, cairn.ErrStaleEpoch), errors.Is(err, cairn.ErrPrecondition), errors.Is(err, cairn.ErrExists):
		return http.StatusConflict
	case errors.Is(err, cairn.ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, cairn.ErrUnavailable), errors.Is(err, cairn.ErrOverloaded), errors.Is(err, cairn.ErrReadOnly):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// ReadError returns what a response reports: nil for a status of 2xx.
func ReadError(r *http.Response) error {
	if r.StatusCode/100 == 2 {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, maxMessageBytes))
	if err != nil {
		return fmt.Errorf("%s, and its text was cut off: %w", r.Status, cairn.ErrUnavailable)
	}
	number, err := strconv.Atoi(r.Header.Get(KindHeader))
	if err != nil { // not from us: a proxy, or another service
		return fmt.Errorf("%s: %s: %w", r.Status, strings.TrimSpace(string(text)), cairn.ErrUnavailable)
	}
	return NewRemoteError(number, string(text))
}
