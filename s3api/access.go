package s3api

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"cairn"
	"cairn/iam"
)

// The names of a bucket's access configuration among its sub-resources.
const (
	policyConfig    = "policy"
	aclConfig       = "acl"
	ownershipConfig = "ownershipControls"
	blockConfig     = "publicAccessBlock"
	corsConfig      = "cors"
)

// The values of object ownership.
const (
	ownerEnforced  = "BucketOwnerEnforced"
	ownerPreferred = "BucketOwnerPreferred"
	objectWriter   = "ObjectWriter"
	noOwnership    = "" // the controls were deleted: S3's oldest rule, whoever writes an object owns it
)

// access is what a bucket's row says about who may do what in it, read once. It does not change.
type access struct {
	row       cairn.Bucket
	policy    *iam.Policy // nil for none
	acl       iam.ACL     // in force: without public grants that the bucket ignores
	ownership string
	block     publicAccessBlock
	cors      *corsDoc // nil for none
}

// aclsEnabled tells whether access control lists count in the bucket.
func (a *access) aclsEnabled() bool { return a.ownership != ownerEnforced }

// strict tells whether the bucket's owner has chosen to have no lists. Then all but bucket-owner-full-control is refused, as S3
// does; where nobody chose, "private" says what holds anyway, and old clients say it with every upload.
func (a *access) strict() bool {
	_, chosen := a.row.Configs[ownershipConfig]
	return chosen && !a.aclsEnabled()
}

// readAccess reads a row. What cannot be read is an error, never "no restriction".
func readAccess(row cairn.Bucket, ownership string) (*access, error) {
	a := &access{row: row, ownership: ownership}
	corrupt := func(what string) (*access, error) {
		return nil, &cairn.Error{Op: "s3api.access", Subject: row.Name, Err: fmt.Errorf("%s: %w", what, cairn.ErrCorrupt)}
	}
	if s, ok := row.Configs[ownershipConfig]; ok {
		if a.ownership = s; s == noOwnership {
			a.ownership = objectWriter
		}
	}
	if s, ok := row.Configs[policyConfig]; ok {
		p, err := iam.ParseBucketPolicy([]byte(s), row.Name)
		if err != nil {
			return corrupt("policy")
		}
		a.policy = p
	}
	if s, ok := row.Configs[blockConfig]; ok {
		if err := json.Unmarshal([]byte(s), &a.block); err != nil {
			return corrupt("public access block")
		}
	}
	if s, ok := row.Configs[corsConfig]; ok {
		a.cors = new(corsDoc)
		if err := json.Unmarshal([]byte(s), a.cors); err != nil {
			return corrupt("CORS configuration")
		}
	}
	a.acl = iam.PrivateACL(row.Owner)
	if s, ok := row.Configs[aclConfig]; ok && a.aclsEnabled() {
		if err := json.Unmarshal([]byte(s), &a.acl); err != nil {
			return corrupt("access control list")
		}
	}
	return a, nil
}

const (
	// accessTTL is how long another process's change of a bucket's access may go unseen; one made here is seen at once.
	accessTTL = time.Second
	// maxAccess bounds the cache.
	maxAccess = 4096
)

// accessCache remembers the access configuration of buckets for a moment, so that not every request reads and parses it.
type accessCache struct {
	mu      sync.RWMutex
	m       map[string]cachedAccess
	changes uint64 // a reader that began before a change may not put what it read
}

type cachedAccess struct {
	access *access
	until  time.Time
}

func (c *accessCache) get(bucket string, now time.Time) (a *access, changes uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if got, ok := c.m[bucket]; ok && now.Before(got.until) {
		return got.access, c.changes
	}
	return nil, c.changes
}

func (c *accessCache) put(a *access, changes uint64, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != changes {
		return
	}
	if c.m == nil || len(c.m) >= maxAccess {
		c.m = make(map[string]cachedAccess)
	}
	c.m[a.row.Name] = cachedAccess{a, now.Add(accessTTL)}
}

func (c *accessCache) forget(bucket string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changes++
	delete(c.m, bucket)
}

// access returns what a bucket's row says about access. ErrNotFound if there is no bucket.
func (s *Server) access(ctx context.Context, bucket string) (*access, error) {
	now := time.Now()
	a, changes := s.accesses.get(bucket, now)
	if a != nil {
		return a, nil
	}
	row, err := s.cfg.Objects.Bucket(ctx, bucket)
	if err != nil {
		return nil, err
	}
	if a, err = readAccess(row, s.cfg.ObjectOwnership); err != nil {
		return nil, err
	}
	s.accesses.put(a, changes, now)
	return a, nil
}
