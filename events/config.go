package events

import (
	"slices"
	"strings"
)

// Kind is the name of an event, as configurations and records have it.
type Kind string

// The events that happen here.
const (
	CreatedPut      Kind = "s3:ObjectCreated:Put"
	CreatedPost     Kind = "s3:ObjectCreated:Post"
	CreatedCopy     Kind = "s3:ObjectCreated:Copy"
	CreatedComplete Kind = "s3:ObjectCreated:CompleteMultipartUpload"
	RemovedDelete   Kind = "s3:ObjectRemoved:Delete"
	RemovedMarker   Kind = "s3:ObjectRemoved:DeleteMarkerCreated"
	ExpiredDelete   Kind = "s3:LifecycleExpiration:Delete"
	ExpiredMarker   Kind = "s3:LifecycleExpiration:DeleteMarkerCreated"
	TaggingPut      Kind = "s3:ObjectTagging:Put"
	TaggingDelete   Kind = "s3:ObjectTagging:Delete"
	ACLPut          Kind = "s3:ObjectAcl:Put"
)

var kinds = []Kind{CreatedPut, CreatedPost, CreatedCopy, CreatedComplete, RemovedDelete, RemovedMarker, ExpiredDelete, ExpiredMarker,
	TaggingPut, TaggingDelete, ACLPut}

// Config is what a bucket wants to tell, and whom.
type Config struct {
	Rules []Rule `json:"rules"`
}

// Rule sends some events of some keys to one target.
type Rule struct {
	ID     string   `json:"id"`
	Target string   `json:"target"` // a target's name
	Events []string `json:"events"` // kinds; "s3:ObjectCreated:*" names all of a group
	Prefix string   `json:"prefix,omitempty"`
	Suffix string   `json:"suffix,omitempty"`
}

// Known tells whether a name in a configuration means an event that can happen here.
func Known(name string) bool {
	return slices.ContainsFunc(kinds, func(k Kind) bool { return covers(name, k) })
}

func covers(name string, k Kind) bool {
	if group, ok := strings.CutSuffix(name, "*"); ok && strings.HasSuffix(group, ":") {
		return strings.HasPrefix(string(k), group) && group != "s3:"
	}
	return name == string(k)
}

// Matches tells whether the rule is about an event of a key.
func (r *Rule) Matches(k Kind, key string) bool {
	return strings.HasPrefix(key, r.Prefix) && strings.HasSuffix(key, r.Suffix) &&
		slices.ContainsFunc(r.Events, func(name string) bool { return covers(name, k) })
}

// Overlaps tells whether an event of some key would be told by both rules, which S3 does not allow.
func (r *Rule) Overlaps(o *Rule) bool {
	if !strings.HasPrefix(r.Prefix, o.Prefix) && !strings.HasPrefix(o.Prefix, r.Prefix) ||
		!strings.HasSuffix(r.Suffix, o.Suffix) && !strings.HasSuffix(o.Suffix, r.Suffix) {
		return false
	}
	return slices.ContainsFunc(kinds, func(k Kind) bool { return r.has(k) && o.has(k) })
}

func (r *Rule) has(k Kind) bool {
	return slices.ContainsFunc(r.Events, func(name string) bool { return covers(name, k) })
}

const (
	arnPrefix = "arn:cairn:sqs:"
	arnSuffix = ":webhook"
)

// ARN is how a bucket's configuration names a target.
func ARN(target string) string { return arnPrefix + ":" + target + arnSuffix }

// TargetOfARN returns the target that an ARN names, in any region; false if it names none.
func TargetOfARN(arn string) (string, bool) {
	rest, ok := strings.CutPrefix(arn, arnPrefix)
	rest, ok2 := strings.CutSuffix(rest, arnSuffix)
	_, name, ok3 := strings.Cut(rest, ":")
	return name, ok && ok2 && ok3 && validName(name)
}
