package meta

import (
	"errors"
	"fmt"
	"time"

	"cairn"
)

// LockError is an ErrForbidden: the version is locked against the change.
type LockError struct{ Lock cairn.Lock }

// Error tells what holds the version.
func (e *LockError) Error() string {
	if e.Lock.Hold == cairn.HoldOn {
		return "version is under legal hold"
	}
	return fmt.Sprintf("version is retained in %s mode until %s", e.Lock.Mode, e.Lock.Until.Format(time.RFC3339))
}

// Unwrap returns cairn.ErrForbidden.
func (e *LockError) Unwrap() error { return cairn.ErrForbidden }

// ErrNoLock: a lock was asked for in a bucket whose object lock is not enabled. It is an ErrInvalid.
var ErrNoLock = fmt.Errorf("bucket has no object lock: %w", cairn.ErrInvalid)

// ErrLockState: a bucket's object lock needs versioning to be enabled, and to stay so. It is an ErrPrecondition.
var ErrLockState = fmt.Errorf("object lock needs versioning to be enabled: %w", cairn.ErrPrecondition)

// guard refuses to remove a locked version. It runs before anything of the removal is put into the batch.
func (o *object) guard(r *versionRow) error {
	if r.v.Lock.Protects(o.t.now, o.bypass) {
		return &LockError{r.v.Lock}
	}
	return nil
}

// lock gives a new version its lock: what it asks for, or the bucket's default retention.
func (o *object) lock(v *cairn.Version) error {
	if !o.bucket.Lock.Enabled {
		if v.Lock != (cairn.Lock{}) {
			return ErrNoLock
		}
		return nil
	}
	if v.Lock.Mode == "" {
		d := o.bucket.Lock.Default(o.t.now)
		v.Lock.Mode, v.Lock.Until = d.Mode, d.Until
	}
	return nil
}

// checkLock refuses a change of a bucket that would undo or undermine its object lock.
func checkLock(before, after *cairn.Bucket) error {
	switch {
	case before.Lock.Enabled && !after.Lock.Enabled:
		return errors.Join(errors.New("object lock cannot be disabled"), ErrLockState)
	case after.Lock.Enabled && after.Version != cairn.VersioningEnabled:
		return ErrLockState
	}
	return nil
}
