package meta

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"cairn"
	"cairn/lifecycle"
	"cairn/meta/replica"
)

// LifecycleConfig is the name of a bucket's lifecycle rules among its configurations: a lifecycle.Config as JSON.
const LifecycleConfig = "lifecycle"

// Due rows order keys and uploads by the time at which a lifecycle rule may act on them. A row is a promise to look, not a
// decision: what is due is decided again when its time comes, from the rules and versions of that moment, so a row that
// has become wrong does no harm. Three kinds end the key:
//
//	'c'            the current version expires. Removed with the version.
//	'k'            any other version of the key may go. Stays if the version goes before: it is dropped when its time comes.
//	'u', upload ID the upload is to be aborted. Removed with the upload.
const (
	dueCurrent = 'c'
	dueKey     = 'k'
	dueUpload  = 'u'
)

func dueRow(at time.Time, bucket uint64, key string, kind byte, upload string) []byte {
	b := appendID(key1(famDue, uint64(max(at.UnixNano(), 0))), bucket)
	return append(append(appendEscaped(b, key), kind), upload...)
}

// dueItem is a due row, read.
type dueItem struct {
	row    []byte
	bucket string
	id     uint64 // of the bucket
	key    string
	kind   byte
	upload string
}

func parseDue(row, value []byte) (d dueItem, err error) {
	d = dueItem{row: append([]byte(nil), row...), bucket: string(value)}
	if len(row) < 18 {
		return d, corruptRow("due row")
	}
	d.id, _ = decodeNumber(row[9:17])
	key, rest, ok := cutEscaped(row[17:])
	if !ok || len(rest) == 0 {
		return d, corruptRow("due row")
	}
	d.key, d.kind, d.upload = key, rest[0], string(rest[1:])
	return d, nil
}

// ruleCache keeps parsed rules by bucket.
type ruleCache struct {
	mu sync.Mutex
	m  map[uint64]cachedRules
}

type cachedRules struct {
	raw   string
	rules *lifecycle.Config
}

// maxCachedRules bounds the cache.
const maxCachedRules = 1024

// of returns a bucket's rules, nil for none.
func (c *ruleCache) of(b *cairn.Bucket) (*lifecycle.Config, error) {
	raw := b.Configs[LifecycleConfig]
	if raw == "" {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if got, ok := c.m[b.ID]; ok && got.raw == raw {
		return got.rules, nil
	}
	rules := new(lifecycle.Config)
	if err := json.Unmarshal([]byte(raw), rules); err != nil {
		return nil, fmt.Errorf("lifecycle rules of bucket %s: %w: %w", b.Name, err, cairn.ErrCorrupt)
	}
	if c.m == nil || len(c.m) >= maxCachedRules {
		c.m = make(map[uint64]cachedRules)
	}
	c.m[b.ID] = cachedRules{raw, rules}
	return rules, nil
}

// facts are what rules look at.
func (r *versionRow) facts() (lifecycle.Version, error) {
	tags, err := decodeTags(r.tags)
	return lifecycle.Version{Marker: r.v.DeleteMarker, Size: r.v.Size, Tags: tags, Modified: r.v.Modified, Lock: r.v.Lock}, err
}

func (o *object) putDue(at time.Time, kind byte) {
	if !at.IsZero() {
		o.t.batch.Put(dueRow(at, o.bucket.ID, o.key, kind, ""), []byte(o.bucket.Name))
	}
}

// schedule notes when a new current version expires.
func (o *object) schedule(r *versionRow) error {
	if o.rules == nil {
		return nil
	}
	f, err := r.facts()
	due, _ := o.rules.Expiry(o.key, &f)
	o.putDue(due, dueCurrent)
	return err
}

// unschedule takes back what schedule noted of a current version.
func (o *object) unschedule(r *versionRow) error {
	if o.rules == nil {
		return nil
	}
	f, err := r.facts()
	if due, _ := o.rules.Expiry(o.key, &f); !due.IsZero() {
		o.t.batch.Delete(dueRow(due, o.bucket.ID, o.key, dueCurrent, ""))
	}
	return err
}

// succeed notes when a version may go that is succeeded by another one now.
func (o *object) succeed(f *lifecycle.Version) {
	due := o.rules.Noncurrent(o.key, f, o.t.now, 0)
	if o.rules.KeepsNewer(o.key) {
		due = o.t.now // it may push another one over the number that is kept
	}
	o.putDue(due, dueKey)
}

// lookAgain has the rules look at the key soon, since something changed that no due row tells of.
func (o *object) lookAgain() {
	if o.rules != nil {
		o.putDue(o.t.now, dueKey)
	}
}

// aborts returns a function that tells whether a rule of its bucket will abort an upload. It reads each bucket once.
func (c *ruleCache) aborts(w *replica.View) func(u *cairn.Upload) (bool, error) {
	seen := map[string]*lifecycle.Config{}
	return func(u *cairn.Upload) (bool, error) {
		rules, ok := seen[u.Bucket]
		if !ok {
			b, err := readBucket(w, u.Bucket)
			if isNotFound(err) {
				return false, nil
			}
			if err == nil {
				rules, err = c.of(&b)
			}
			if err != nil {
				return false, err
			}
			seen[u.Bucket] = rules
		}
		due, _ := rules.AbortDue(u.Key, u.Created)
		return !due.IsZero(), nil
	}
}

// setExpiry tells of a current version when it expires.
func (c *ruleCache) setExpiry(b *cairn.Bucket, v *cairn.Version) error {
	rules, err := c.of(b)
	if rules == nil || err != nil {
		return err
	}
	f := lifecycle.Version{Marker: v.DeleteMarker, Size: v.Size, Tags: v.Tags, Modified: v.Modified}
	v.Expires, v.ExpiryRule = rules.Expiry(v.Key, &f)
	return nil
}
