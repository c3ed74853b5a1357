package object

import (
	"errors"
	"fmt"

	"cairn"
	"cairn/meta"
)

// Rules of S3 that a request can break, finer than the root kinds so that a frontend can name them. Each wraps one root
// kind; test for them with errors.Is.
var (
	// ErrBucketName: not a name that S3 gives to buckets.
	ErrBucketName = rule(cairn.ErrInvalid, "bucket name breaks the naming rules")
	// ErrKeyTooLong: a key of more than MaxKeyBytes.
	ErrKeyTooLong = rule(cairn.ErrInvalid, "key is too long")
	// ErrKey: an empty key, or one that is not UTF-8 or holds a NUL.
	ErrKey = rule(cairn.ErrInvalid, "key is empty, not UTF-8, or holds a NUL")
	// ErrEntityTooLarge: a body or object beyond S3's limits.
	ErrEntityTooLarge = rule(cairn.ErrTooLarge, "object is larger than S3 allows")
	// ErrEntityTooSmall: a part other than the last has fewer than MinPartBytes.
	ErrEntityTooSmall = rule(cairn.ErrInvalid, "part is smaller than the smallest size allowed")
	// ErrInvalidPart: a part that was named was never uploaded, or has another ETag or checksum.
	ErrInvalidPart = rule(cairn.ErrInvalid, "part was not uploaded, or its ETag or checksum differs")
	// ErrInvalidPartOrder: the parts are not in rising order of numbers.
	ErrInvalidPartOrder = rule(cairn.ErrInvalid, "parts are not in rising order")
	// ErrPartNumber: outside 1 … MaxParts.
	ErrPartNumber = rule(cairn.ErrInvalid, "part number is not between 1 and 10000")
	// ErrNoSuchUpload: the upload does not exist: it was completed, aborted, or expired.
	ErrNoSuchUpload = rule(cairn.ErrNotFound, "upload does not exist")
	// ErrNoSuchBucket: the bucket does not exist (an ErrNotFound for other reasons names a key or version).
	ErrNoSuchBucket = rule(cairn.ErrNotFound, "bucket does not exist")
	// ErrRange: a range that the source does not have.
	ErrRange = rule(cairn.ErrInvalid, "range is outside the object")
	// ErrChecksumType: the checksum is of another algorithm or type than the upload asks for, or is missing where it must be
	// given.
	ErrChecksumType = rule(cairn.ErrInvalid, "checksum algorithm or type does not fit the upload")
	// ErrBodyTooLong: the body holds more bytes than its declared size.
	ErrBodyTooLong = rule(cairn.ErrInvalid, "body is longer than its declared size")
	// ErrWriteOffset: an append at another offset than the object's end.
	ErrWriteOffset = rule(cairn.ErrInvalid, "the offset is not the object's size")
	// ErrNoAppend: what is appended would have to be encrypted in another way than the object is.
	ErrNoAppend = rule(cairn.ErrInvalid, "an append cannot change how an object is encrypted")
	// ErrTooManyParts: an object of MaxParts pieces cannot be appended to.
	ErrTooManyParts = rule(cairn.ErrInvalid, "object has the most pieces that it may have")
	// ErrKeepsVersions: the operation is not for buckets that keep versions or once did.
	ErrKeepsVersions = rule(cairn.ErrInvalid, "bucket keeps versions")
	// ErrQuota: the bucket would hold more bytes than its quota.
	ErrQuota = rule(cairn.ErrForbidden, "bucket's quota is exceeded")
	// ErrNoLock: a lock was asked for in a bucket whose object lock is not enabled.
	ErrNoLock = rule(cairn.ErrInvalid, "bucket has no object lock")
	// ErrLockState: what a bucket's object lock and its versioning demand of one another.
	ErrLockState = rule(cairn.ErrPrecondition, "object lock needs versioning to be enabled")
	// ErrObjectSize: the parts do not add up to the declared object size.
	ErrObjectSize = rule(cairn.ErrInvalid, "parts do not add up to the declared size")
)

// brokenRule is one of the errors above: its own identity, and the kind behind it.
type brokenRule struct {
	kind error
	text string
}

func rule(kind error, text string) error { return &brokenRule{kind, text} }

func (e *brokenRule) Error() string { return e.text }

// Unwrap returns the root kind.
func (e *brokenRule) Unwrap() error { return e.kind }

// PartError names the part that broke a rule of CompleteMultipartUpload.
type PartError struct {
	Rule   error // ErrEntityTooSmall, ErrInvalidPart, ErrChecksumType
	Number int
	ETag   string
	Size   int64
}

// Error names the part and the rule.
func (e *PartError) Error() string { return fmt.Sprintf("part %d: %v", e.Number, e.Rule) }

// Unwrap returns the rule.
func (e *PartError) Unwrap() error { return e.Rule }

// explain names what meta found wrong, in this package's words. What it adds to an error is the rule.
func explain(err error) error {
	var bucket *meta.BucketError
	var upload *meta.UploadError
	var part *meta.PartError
	var quota *meta.QuotaError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bucket):
		return fmt.Errorf("%w: %w", ErrNoSuchBucket, err)
	case errors.As(err, &upload):
		return fmt.Errorf("%w: %w", ErrNoSuchUpload, err)
	case errors.Is(err, meta.ErrNoLock):
		return fmt.Errorf("%w: %w", ErrNoLock, err)
	case errors.Is(err, meta.ErrKeepsVersions):
		return fmt.Errorf("%w: %w", ErrKeepsVersions, err)
	case errors.Is(err, meta.ErrLockState):
		return fmt.Errorf("%w: %w", ErrLockState, err)
	case errors.As(err, &quota):
		return fmt.Errorf("%w: %w", ErrQuota, err)
	case errors.As(err, &part):
		// To meta this is a precondition; to clients, a mistake in the request.
		return &PartError{Rule: ErrInvalidPart, Number: part.Number}
	}
	return err
}

// fail wraps a cause with an operation and its subject.
func fail(op, subject string, cause error) error {
	return &cairn.Error{Op: op, Subject: subject, Err: cause}
}

// neverCommitted tells whether a commit that ended with err certainly had no effect. Any other error, a timeout for one,
// leaves the outcome open: the blobs may be referenced, so only the orphan collection may judge them.
func neverCommitted(err error) bool {
	for _, kind := range []error{cairn.ErrNotFound, cairn.ErrExists, cairn.ErrPrecondition, cairn.ErrInvalid,
		cairn.ErrForbidden, cairn.ErrTooLarge, cairn.ErrStaleEpoch} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
