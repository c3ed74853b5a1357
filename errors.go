package cairn

import (
	"context"
	"errors"
	"strings"
)

// The kinds of failure that callers may act on. A kind is tested with errors.Is, travels between nodes unchanged
// (internal/rpc), and becomes an S3 error code in s3api alone.
var (
	// ErrNotFound: the subject does not exist, as far as a committed state tells.
	ErrNotFound = errors.New("not found")
	// ErrExists: the subject exists already and may not be made again.
	ErrExists = errors.New("already exists")
	// ErrPrecondition: a condition named in the request does not hold.
	ErrPrecondition = errors.New("precondition failed")
	// ErrNotEmpty: a container still holds something.
	ErrNotEmpty = errors.New("not empty")
	// ErrCorrupt: stored bytes do not match their checksum.
	ErrCorrupt = errors.New("corrupt")
	// ErrUnavailable: what is needed cannot be reached now; a retry may succeed.
	ErrUnavailable = errors.New("unavailable")
	// ErrQuorum: too few shards or voters answered for the operation to count.
	ErrQuorum = errors.New("no quorum")
	// ErrInvalid: the request itself is wrong; a retry cannot succeed.
	ErrInvalid = errors.New("invalid")
	// ErrForbidden: the identity may not do this.
	ErrForbidden = errors.New("forbidden")
	// ErrTooLarge: a size or count is beyond its limit.
	ErrTooLarge = errors.New("too large")
	// ErrFull: no space is left on a drive, or in the store.
	ErrFull = errors.New("out of space")
	// ErrReadOnly: the drive takes no writes.
	ErrReadOnly = errors.New("read-only")
	// ErrOverloaded: a bounded queue is full; retry later.
	ErrOverloaded = errors.New("overloaded")
	// ErrStaleEpoch: the writer's volume epoch is older than the one in force; refresh the volume and retry.
	ErrStaleEpoch = errors.New("stale epoch")
	// ErrLost: fewer shards are left than decoding needs.
	ErrLost = errors.New("beyond repair")
	// ErrCanceled: the caller gave up.
	ErrCanceled = errors.New("canceled")
)

// Kinds lists every kind above in a stable order (their place is their number on the wire: append only).
func Kinds() []error {
	return []error{ErrNotFound, ErrExists, ErrPrecondition, ErrNotEmpty, ErrCorrupt, ErrUnavailable, ErrQuorum,
		ErrInvalid, ErrForbidden, ErrTooLarge, ErrFull, ErrReadOnly, ErrOverloaded, ErrStaleEpoch, ErrLost, ErrCanceled}
}

// Kind returns the kind of err: the first of Kinds that it wraps, ErrCanceled for a context's end, nil if it has none.
func Kind(err error) error {
	for _, k := range Kinds() {
		if errors.Is(err, k) {
			return k
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ErrCanceled
	}
	return nil
}

// Error names the operation and its subject once, around a cause that carries a kind.
type Error struct {
	Op      string // package and operation, e.g. "blob.get"
	Subject string // what it was done to, e.g. "v7/b123" or "bucket/key"
	Err     error
}

// Error joins operation, subject and cause with ": ".
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	for _, s := range []string{e.Op, e.Subject} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
