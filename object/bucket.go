package object

import (
	"context"
	"sync"
	"time"

	"cairn"
	"cairn/meta"
)

// CreateBucket makes a bucket. ErrBucketName, ErrExists (Bucket then tells the owner).
func (s *Store) CreateBucket(ctx context.Context, b cairn.Bucket) (cairn.Bucket, error) {
	if err := checkBucketName("object.create bucket", b.Name); err != nil {
		return cairn.Bucket{}, err
	}
	return s.cfg.Meta.CreateBucket(ctx, b)
}

// Bucket returns a bucket's record. ErrNoSuchBucket.
func (s *Store) Bucket(ctx context.Context, name string) (cairn.Bucket, error) {
	b, err := s.cfg.Meta.Bucket(ctx, name)
	return b, explain(err)
}

// Buckets returns all buckets, by name.
func (s *Store) Buckets(ctx context.Context) ([]cairn.Bucket, error) { return s.cfg.Meta.Buckets(ctx) }

// DeleteBucket removes an empty bucket. ErrNoSuchBucket, ErrNotEmpty while it holds versions or uploads.
func (s *Store) DeleteBucket(ctx context.Context, name string) error {
	err := s.cfg.Meta.DeleteBucket(ctx, name)
	s.profiles.forget(name)
	return explain(err)
}

// UpdateBucket applies change to a bucket's record and commits it. change may run more than once. ErrNoSuchBucket, and
// whatever change returns.
func (s *Store) UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (cairn.Bucket, error) {
	b, err := s.cfg.Meta.UpdateBucket(ctx, name, change)
	s.profiles.forget(name)
	return b, explain(err)
}

// Stats returns a bucket's counts.
func (s *Store) Stats(ctx context.Context, bucket string) (meta.BucketStats, error) {
	st, err := s.cfg.Meta.Stats(ctx, bucket)
	return st, explain(err)
}

const (
	// profileTTL is how long a bucket's profile and encryption may be out of date in another process than the one that
	// changed them. They decide only how new blobs are laid out, and whether the bucket exists is decided again by the commit.
	profileTTL = 2 * time.Second
	// maxProfiles bounds the cache.
	maxProfiles = 4096
)

// profiles remembers the profiles of buckets for a moment, so that a put needs no look-up of its bucket.
type profiles struct {
	mu sync.RWMutex
	m  map[string]cachedProfile
}

type cachedProfile struct {
	layout
	until time.Time
}

// layout is how new bytes of a bucket are stored.
type layout struct {
	profile    cairn.Profile
	encryption cairn.EncryptionRule
}

func (p *profiles) get(bucket string, now time.Time) (layout, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	c, ok := p.m[bucket]
	return c.layout, ok && now.Before(c.until)
}

func (p *profiles) set(bucket string, l layout, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m == nil || len(p.m) >= maxProfiles {
		p.m = make(map[string]cachedProfile)
	}
	p.m[bucket] = cachedProfile{l, now.Add(profileTTL)}
}

func (p *profiles) forget(bucket string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.m, bucket)
}

// layoutOf returns how new bytes of a bucket are stored; ErrNoSuchBucket, so that a doomed upload fails before its body is
// read.
func (s *Store) layoutOf(ctx context.Context, bucket string) (layout, error) {
	now := time.Now()
	if l, ok := s.profiles.get(bucket, now); ok {
		return l, nil
	}
	b, err := s.Bucket(ctx, bucket)
	if err != nil {
		return layout{}, err
	}
	l := layout{profile: b.Profile}
	if l.profile == (cairn.Profile{}) {
		l.profile = s.cfg.DefaultProfile
	}
	if l.encryption, err = s.bucketRule(b); err != nil {
		return layout{}, err
	}
	s.profiles.set(bucket, l, now)
	return l, nil
}

// profile returns the profile for new blobs of a bucket.
func (s *Store) profile(ctx context.Context, bucket string) (cairn.Profile, error) {
	l, err := s.layoutOf(ctx, bucket)
	return l.profile, err
}
