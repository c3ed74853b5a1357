package admin

import (
	"context"
	"net/http"

	"cairn"
)

// Encryption rotates the master keys that data keys are wrapped under.
type Encryption interface {
	// RotateKey gives a key a new version and begins to wrap data keys anew under it. Errors: ErrInvalid (no such key),
	// ErrPrecondition, ErrExists while an earlier rotation of the key is under way.
	RotateKey(ctx context.Context, name string) (Rotated, error)
}

// Rotated is what a rotation began.
type Rotated struct {
	Key     string    `json:"key"`
	Version uint32    `json:"version,omitempty"` // the new one; 0 for a key of another service
	Job     cairn.Job `json:"job"`               // wraps data keys anew
}

// encryptionRoutes adds what rotates master keys.
func (s *Server) encryptionRoutes(api register) {
	api(Route{Pattern: "POST /api/v1/encryption/rotate", Action: "cairn:RotateEncryptionKey", CLI: "encryption rotate",
		What:  "Give a master key a new version and wrap all data keys under it anew, as a job.",
		Query: []Parameter{{"key", "the master key: sse-s3, or a key of SSE-KMS"}}, Gives: Rotated{}},
		func(_ http.ResponseWriter, r *http.Request) (any, error) {
			return s.cfg.Encryption.RotateKey(r.Context(), r.URL.Query().Get("key"))
		})
}
