package admin

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"cairn"
	"cairn/meta"
)

// Buckets keeps buckets. *object.Store is one.
type Buckets interface {
	Bucket(ctx context.Context, name string) (cairn.Bucket, error)
	Buckets(ctx context.Context) ([]cairn.Bucket, error)
	Stats(ctx context.Context, bucket string) (meta.BucketStats, error)
	UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (cairn.Bucket, error)
}

// Bucket is what is told of a bucket: who owns it, what it holds and what it may hold.
type Bucket struct {
	Name       string `json:"name"`
	Owner      string `json:"owner"`
	Versioning string `json:"versioning,omitempty"`
	Lock       bool   `json:"object_lock,omitempty"`
	QuotaBytes int64  `json:"quota_bytes,omitempty"` // 0: none
	// Configs names the sub-resources that are set: "policy", "cors" …
	Configs []string `json:"configs"`
	meta.BucketStats
}

// Quota is the change of a bucket's quota.
type Quota struct {
	QuotaBytes int64 `json:"quota_bytes"` // 0: none
}

// bucketRoutes adds what shows buckets and sets their quotas.
func (s *Server) bucketRoutes(api register) {
	api(Route{Pattern: "GET /api/v1/buckets", Action: "cairn:ListBuckets", CLI: "bucket ls", What: "List all buckets, what they hold and may hold.",
		Gives: []Bucket{}}, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		rows, err := s.cfg.Buckets.Buckets(r.Context())
		if err != nil {
			return nil, err
		}
		list := make([]Bucket, len(rows))
		for i := range rows {
			if list[i], err = s.bucket(r.Context(), rows[i]); err != nil {
				return nil, err
			}
		}
		return list, nil
	})
	api(Route{Pattern: "PUT /api/v1/buckets/{name}/quota", Action: "cairn:PutBucketQuota", CLI: "bucket quota b 1GiB",
		What: "Limit the bytes of all versions in a bucket.", Takes: Quota{}, Gives: Bucket{}}, func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q Quota
		if err := read(r, &q); err != nil {
			return nil, err
		}
		if q.QuotaBytes < 0 {
			return nil, &cairn.Error{Op: "admin.quota", Subject: r.PathValue("name"), Err: &FieldError{"quota_bytes", "a quota is not negative"}}
		}
		row, err := s.cfg.Buckets.UpdateBucket(r.Context(), r.PathValue("name"), func(b *cairn.Bucket) error {
			b.QuotaBytes = q.QuotaBytes
			return nil
		})
		if err != nil {
			return nil, err
		}
		return s.bucket(r.Context(), row)
	})
}

func (s *Server) bucket(ctx context.Context, b cairn.Bucket) (Bucket, error) {
	st, err := s.cfg.Buckets.Stats(ctx, b.Name)
	return Bucket{Name: b.Name, Owner: b.Owner, Versioning: b.Version.String(), Lock: b.Lock.Enabled, QuotaBytes: b.QuotaBytes,
		Configs: slices.Sorted(maps.Keys(b.Configs)), BucketStats: st}, err
}
