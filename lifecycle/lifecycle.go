// Package lifecycle decides, from values alone, what a bucket's lifecycle rules do to a key's versions and when
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html). It reads no rows, has no clock, and
// knows neither XML nor how a version is removed.
package lifecycle

import (
	"strings"
	"time"

	"cairn"
)

// Config is a bucket's rules, in the order in which they were given.
type Config struct {
	Rules []Rule `json:"rules"`
}

// Rule is one of them. Numbers of days are at least 1 where they are set; 0 means that the action is absent.
type Rule struct {
	ID       string `json:"id"`
	Disabled bool   `json:"disabled,omitempty"`
	Filter   Filter `json:"filter,omitzero"`

	Days          int       `json:"days,omitempty"`           // current versions expire at this age,
	Date          time.Time `json:"date,omitzero"`            // or from this midnight on
	ExpireMarkers bool      `json:"expire_markers,omitempty"` // delete markers go when they hide nothing

	NoncurrentDays  int `json:"noncurrent_days,omitempty"`  // older versions go so long after their successor came,
	NewerNoncurrent int `json:"newer_noncurrent,omitempty"` // but this many of them are kept in any case

	AbortDays int `json:"abort_days,omitempty"` // uploads are aborted at this age
}

// Filter says which keys a rule is about. All that is set must hold.
type Filter struct {
	Prefix      string            `json:"prefix,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	GreaterThan *int64            `json:"greater_than,omitempty"` // size in bytes
	LessThan    *int64            `json:"less_than,omitempty"`
	Form        Form              `json:"form,omitempty"`
}

// Form is how the filter was written, so that it reads back the same.
type Form uint8

// The forms of a filter.
const (
	PlainPrefix Form = iota // a Prefix beside the actions, as of old
	Single                  // a Filter of one condition, or none
	And                     // a Filter of several
)

// Version is what rules look at of a version or delete marker.
type Version struct {
	Marker   bool
	Size     int64
	Tags     map[string]string
	Modified time.Time
	Lock     cairn.Lock
}

func (f *Filter) matchesKey(key string) bool { return strings.HasPrefix(key, f.Prefix) }

func (f *Filter) matches(key string, v *Version) bool {
	if !f.matchesKey(key) || f.GreaterThan != nil && v.Size <= *f.GreaterThan || f.LessThan != nil && v.Size >= *f.LessThan {
		return false
	}
	for k, want := range f.Tags {
		if got, ok := v.Tags[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// keyOnly tells whether the filter asks for nothing but a prefix: other conditions never hold for delete markers and
// uploads.
func (f *Filter) keyOnly() bool { return len(f.Tags) == 0 && f.GreaterThan == nil && f.LessThan == nil }

// midnight returns the midnight (UTC) that t falls on or that follows it: S3 rounds up so.
func midnight(t time.Time) time.Time {
	day := t.UTC().Truncate(24 * time.Hour)
	if day.Before(t) {
		day = day.Add(24 * time.Hour)
	}
	return day
}

func daysAfter(t time.Time, days int) time.Time {
	return midnight(t.Add(time.Duration(days) * 24 * time.Hour))
}

// earlier keeps the earlier time; the zero one means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Expiry returns when a current version expires and by which rule; the zero time for never.
func (c *Config) Expiry(key string, v *Version) (due time.Time, rule string) {
	if c == nil || v.Marker {
		return due, ""
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		at := r.Date
		if r.Days > 0 {
			at = daysAfter(v.Modified, r.Days)
		}
		if r.Disabled || at.IsZero() || !r.Filter.matches(key, v) {
			continue
		}
		if due.IsZero() || at.Before(due) {
			due, rule = at, r.ID
		}
	}
	return due, rule
}

// Noncurrent returns when an older version goes whose successor came at since and that has so many newer ones between it
// and the current one; the zero time for never, as things are.
func (c *Config) Noncurrent(key string, v *Version, since time.Time, newer int) (due time.Time) {
	if c == nil {
		return due
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Disabled || r.NoncurrentDays == 0 || newer < r.NewerNoncurrent || !r.Filter.matches(key, v) {
			continue
		}
		due = earlier(due, daysAfter(since, r.NoncurrentDays))
	}
	return due
}

// KeepsNewer tells whether a rule about the key counts older versions: then a new one may make another one go.
func (c *Config) KeepsNewer(key string) bool {
	return c.any(func(r *Rule) bool { return r.NewerNoncurrent > 0 && r.Filter.matchesKey(key) })
}

// MarkerExpiry returns when a delete marker goes that hides nothing; the zero time for never.
func (c *Config) MarkerExpiry(key string, modified time.Time) (due time.Time) {
	if c == nil {
		return due
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Disabled || !r.Filter.keyOnly() || !r.Filter.matchesKey(key) {
			continue
		}
		switch {
		case r.ExpireMarkers:
			due = earlier(due, modified)
		case r.Days > 0:
			due = earlier(due, daysAfter(modified, r.Days))
		}
	}
	return due
}

// AbortDue returns when an upload is aborted, and by which rule; the zero time for never.
func (c *Config) AbortDue(key string, created time.Time) (due time.Time, rule string) {
	if c == nil {
		return due, ""
	}
	for i := range c.Rules {
		r := &c.Rules[i]
		if r.Disabled || r.AbortDays == 0 || !r.Filter.keyOnly() || !r.Filter.matchesKey(key) {
			continue
		}
		if at := daysAfter(created, r.AbortDays); due.IsZero() || at.Before(due) {
			due, rule = at, r.ID
		}
	}
	return due, rule
}

func (c *Config) any(f func(*Rule) bool) bool {
	if c == nil {
		return false
	}
	for i := range c.Rules {
		if r := &c.Rules[i]; !r.Disabled && f(r) {
			return true
		}
	}
	return false
}

// Plan is what is to be done to one key now, and when to look at it again.
type Plan struct {
	// Hide: the current version expires and a delete marker takes its place. Nothing else is done at the same time: the
	// key is to be looked at again.
	Hide bool
	// Remove lists, by index, the versions that go for good.
	Remove []int
	// Current is when the current version expires, Other when one of the others may go; zero for never.
	Current, Other time.Time
}

// Plan looks at all versions of a key, newest first; the first one is the current one or the delete marker that hides the
// others. versioned tells that the bucket keeps versions or once did.
func (c *Config) Plan(key string, versions []Version, versioned bool, now time.Time) (p Plan) {
	if c == nil || len(versions) == 0 {
		return p
	}
	first := &versions[0]
	if due, _ := c.Expiry(key, first); !due.IsZero() && due.After(now) {
		p.Current = due
	} else if !due.IsZero() && versioned {
		return Plan{Hide: true}
	} else if !due.IsZero() {
		p.remove(0, first, now)
	}
	for i := 1; i < len(versions); i++ {
		v := &versions[i]
		switch due := c.Noncurrent(key, v, versions[i-1].Modified, i-1); {
		case due.IsZero():
		case due.After(now):
			p.Other = earlier(p.Other, due)
		default:
			p.remove(i, v, now)
		}
	}
	if due := c.MarkerExpiry(key, first.Modified); first.Marker && len(p.Remove) == len(versions)-1 && !due.IsZero() {
		if due.After(now) {
			p.Other = earlier(p.Other, due)
		} else {
			p.Remove = append(p.Remove, 0)
		}
	}
	return p
}

// remove plans a removal, or another look when the version's retention ends. A legal hold has no end: whoever lifts it
// has the key looked at.
func (p *Plan) remove(i int, v *Version, now time.Time) {
	switch {
	case !v.Lock.Protects(now, false):
		p.Remove = append(p.Remove, i)
	case v.Lock.Hold != cairn.HoldOn:
		p.Other = earlier(p.Other, v.Lock.Until)
	}
}
