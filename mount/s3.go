package mount

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
	"golang.org/x/sync/errgroup"
)

// S3Config says which bucket is read, where, and as whom. Bucket and Endpoint are required.
type S3Config struct {
	Endpoint  string // http://host:port or https://host
	Bucket    string
	AccessKey string // empty: anonymous
	SecretKey string
	Session   string
	Region    string
}

// S3 is a Store on any S3 endpoint.
type S3 struct {
	core      *minio.Core
	transport http.RoundTripper
	bucket    string
	endpoint  string
	anonymous bool
}

const (
	maxConns    = 64
	firstConns  = 4
	listPage    = 1000
	dialTimeout = 5 * time.Second
	headTimeout = 30 * time.Second // for the answer's header
)

// NewS3 makes a Store. It does not connect: Check does.
func NewS3(cfg S3Config) (*S3, error) {
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return nil, fmt.Errorf("endpoint %q: want http://HOST[:PORT] or https://HOST[:PORT]", cfg.Endpoint)
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: dialTimeout}).DialContext,
		MaxConnsPerHost:       maxConns,
		MaxIdleConnsPerHost:   maxConns,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: headTimeout,
		DisableCompression:    true, // ranges are of the bytes as stored
		ReadBufferSize:        64 << 10,
	}
	core, err := minio.NewCore(u.Host, &minio.Options{
		Creds:  credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, cfg.Session),
		Secure: u.Scheme == "https", Transport: transport, Region: cfg.Region, MaxRetries: 1, // retries are the scheduler's
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", cfg.Endpoint, err)
	}
	return &S3{core: core, transport: transport, anonymous: cfg.AccessKey == "", bucket: cfg.Bucket, endpoint: strings.TrimSuffix(cfg.Endpoint, "/") + "/" + cfg.Bucket}, nil
}

// Check tells whether the bucket can be listed. It asks several times at once, so that as many connections are open when the
// first reader comes. Errors: ErrAbsent, ErrRefused, others of the network.
func (s *S3) Check(ctx context.Context) error {
	var all errgroup.Group
	for range firstConns {
		all.Go(func() error {
			_, err := s.list(ctx, "", "", "", 1)
			return err
		})
	}
	return all.Wait()
}

// Endpoint is the address and the bucket.
func (s *S3) Endpoint() string { return s.endpoint }

// List returns one page of 1,000.
func (s *S3) List(ctx context.Context, prefix, next string) (Page, error) {
	r, err := s.list(ctx, prefix, next, "/", listPage)
	if err != nil {
		return Page{}, err
	}
	p := Page{}
	for _, o := range r.Contents {
		p.Objects = append(p.Objects, object(o))
	}
	for _, c := range r.CommonPrefixes {
		p.Prefixes = append(p.Prefixes, c.Prefix)
	}
	if r.IsTruncated {
		p.Next = r.NextContinuationToken
	}
	return p, nil
}

// list runs minio-go's call, which takes no context, in a goroutine that ends with the transport's own time limits.
func (s *S3) list(ctx context.Context, prefix, next, delimiter string, max int) (minio.ListBucketV2Result, error) {
	type answer struct {
		r   minio.ListBucketV2Result
		err error
	}
	got := make(chan answer, 1)
	go func() {
		r, err := s.core.ListObjectsV2(s.bucket, prefix, "", next, delimiter, max)
		got <- answer{r, err}
	}()
	select {
	case a := <-got:
		return a.r, kind(a.err)
	case <-ctx.Done():
		return minio.ListBucketV2Result{}, ctx.Err()
	}
}

func object(o minio.ObjectInfo) Object {
	return Object{Key: o.Key, Size: o.Size, ETag: strings.Trim(o.ETag, `"`), Modified: o.LastModified}
}

// Head asks for one object.
func (s *S3) Head(ctx context.Context, key string) (Object, error) {
	o, err := s.core.StatObject(ctx, s.bucket, key, minio.StatObjectOptions{})
	if err != nil {
		return Object{}, kind(err)
	}
	o.Key = key
	return object(o), nil
}

// Read asks for a range under If-Match.
func (s *S3) Read(ctx context.Context, o Object, off, n int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetMatchETag(o.ETag); err != nil {
		return nil, err
	}
	if err := opts.SetRange(off, off+n-1); err != nil {
		return nil, err
	}
	body, info, _, err := s.core.GetObject(ctx, s.bucket, o.Key, opts)
	if err != nil {
		return nil, kind(err)
	}
	if etag := strings.Trim(info.ETag, `"`); etag != o.ETag { // a store that ignores If-Match
		body.Close()
		return nil, fmt.Errorf("%s: ETag %s, want %s: %w", o.Key, etag, o.ETag, ErrChanged)
	}
	return body, nil
}

const shownFor = 2 * time.Minute // a proof, from when it is made

// Prove returns the query of a presigned HEAD of the object: it lets who has it do nothing else.
func (s *S3) Prove(ctx context.Context, key string) (string, error) {
	if s.anonymous {
		return "", nil
	}
	u, err := s.core.PresignedHeadObject(ctx, s.bucket, key, shownFor, nil)
	if err != nil {
		return "", err
	}
	return u.RawQuery, nil
}

// Admit sends such a HEAD to the store, with no credentials of ours: the store says whether the one who signed it may read.
func (s *S3) Admit(ctx context.Context, key, proof string) (Object, error) {
	u, err := url.Parse(s.endpoint + "/" + s3utils.EncodePath(key))
	if err == nil && !s.anonymous {
		u, err = s.core.PresignedHeadObject(ctx, s.bucket, key, shownFor, nil) // for the host and path alone
	}
	if err != nil {
		return Object{}, err
	}
	u.RawQuery = proof
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, u.String(), nil)
	if err != nil {
		return Object{}, err
	}
	resp, err := s.transport.RoundTrip(req)
	if err != nil {
		return Object{}, err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Object{}, fmt.Errorf("%s: %w", resp.Status, ErrRefused)
	}
	return Object{Key: key, Size: resp.ContentLength, ETag: strings.Trim(resp.Header.Get("ETag"), `"`)}, nil
}

// kind turns answers of S3 into this package's errors.
func kind(err error) error {
	if err == nil {
		return nil
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return err
	}
	switch {
	case r.StatusCode == http.StatusNotFound || r.Code == minio.NoSuchKey || r.Code == minio.NoSuchBucket:
		return fmt.Errorf("%w: %w", ErrAbsent, err)
	case r.StatusCode == http.StatusPreconditionFailed:
		return fmt.Errorf("%w: %w", ErrChanged, err)
	case r.StatusCode == http.StatusForbidden || r.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case r.StatusCode == http.StatusRequestTimeout || r.StatusCode == http.StatusTooManyRequests:
		return err
	case r.StatusCode/100 == 4:
		return fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	return err
}
