package cairn

import "time"

// LockMode is how a retention may be lifted: in GOVERNANCE by whoever may bypass it, in COMPLIANCE by nobody.
type LockMode string

// The modes of S3's object lock.
const (
	LockGovernance LockMode = "GOVERNANCE"
	LockCompliance LockMode = "COMPLIANCE"
)

// Hold is a version's legal hold. The zero value says that none was ever set.
type Hold string

// The states of a legal hold that was set.
const (
	HoldOn  Hold = "ON"
	HoldOff Hold = "OFF"
)

// Lock is what protects one version from removal (S3's object lock). The zero value protects nothing.
type Lock struct {
	Mode  LockMode  `json:"mode,omitempty"` // "" without a retention
	Until time.Time `json:"until,omitzero"` // end of the retention
	Hold  Hold      `json:"hold,omitempty"` // a legal hold has no end
}

// Retained tells whether the retention is in force.
func (l Lock) Retained(now time.Time) bool { return l.Mode != "" && now.Before(l.Until) }

// Protects tells whether the version may not be removed at the given time. bypass lifts a GOVERNANCE retention.
func (l Lock) Protects(now time.Time, bypass bool) bool {
	return l.Hold == HoldOn || l.Retained(now) && (l.Mode == LockCompliance || !bypass)
}

// Refuses tells whether replacing the retention l by next would weaken it: an earlier end, or another mode than
// COMPLIANCE where that is in force. bypass allows it of a GOVERNANCE retention.
func (l Lock) Refuses(next Lock, now time.Time, bypass bool) bool {
	switch {
	case !l.Retained(now):
		return false
	case l.Mode == LockGovernance && bypass:
		return false
	}
	return next.Mode != l.Mode || next.Until.Before(l.Until)
}

// BucketLock is a bucket's object lock. Once enabled it stays so.
type BucketLock struct {
	Enabled bool     `json:"enabled,omitempty"`
	Mode    LockMode `json:"mode,omitempty"` // default retention of new versions, "" for none
	Days    int      `json:"days,omitempty"` // its length: days or years
	Years   int      `json:"years,omitempty"`
}

// Default returns the retention of a version that is made at the given time and names none.
func (b BucketLock) Default(now time.Time) Lock {
	if b.Mode == "" {
		return Lock{}
	}
	return Lock{Mode: b.Mode, Until: now.AddDate(b.Years, 0, b.Days)}
}
