package admin

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"cairn"
	"cairn/meta"
)

// oneBucket keeps a single bucket, "b".
type oneBucket struct{ row cairn.Bucket }

func (o *oneBucket) Bucket(_ context.Context, name string) (cairn.Bucket, error) {
	if name != o.row.Name {
		return cairn.Bucket{}, &meta.BucketError{Bucket: name}
	}
	return o.row, nil
}

func (o *oneBucket) Buckets(context.Context) ([]cairn.Bucket, error) {
	return []cairn.Bucket{o.row}, nil
}

func (o *oneBucket) Stats(context.Context, string) (meta.BucketStats, error) {
	return meta.BucketStats{Objects: 3, Bytes: 77}, nil
}

func (o *oneBucket) UpdateBucket(ctx context.Context, name string, change func(*cairn.Bucket) error) (cairn.Bucket, error) {
	if _, err := o.Bucket(ctx, name); err != nil {
		return cairn.Bucket{}, err
	}
	err := change(&o.row)
	return o.row, err
}

func TestBucketRoutes(t *testing.T) {
	c := &cluster{}
	buckets := &oneBucket{cairn.Bucket{Name: "b", Owner: "ann", Version: cairn.VersioningEnabled}}
	s, err := New(Config{Cluster: c, Topology: c, Metrics: NewMetrics(), AccessKey: "root", SecretKey: "secret", Buckets: buckets})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		method, path, body string
		root               bool
		code               int
		want               string
	}{
		{"GET", "/api/v1/buckets", "", true, 200, `"bytes": 77`},
		{"GET", "/api/v1/buckets", "", false, 401, "root access key"},
		{"PUT", "/api/v1/buckets/b/quota", `{"quota_bytes": 100}`, true, 200, `"quota_bytes": 100`},
		{"PUT", "/api/v1/buckets/b/quota", `{"quota_bytes": 5}`, false, 401, "root access key"},
		{"PUT", "/api/v1/buckets/b/quota", `{"quota_bytes": -1}`, true, 400, "not negative"},
		{"PUT", "/api/v1/buckets/b/quota", `{"bytes": 1}`, true, 400, "unknown field"},
		{"PUT", "/api/v1/buckets/none/quota", `{"quota_bytes": 1}`, true, 404, "none"},
	} {
		r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
		if tt.root {
			r.SetBasicAuth("root", "secret")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s %s %s: got %d %s, want %d with %q", tt.method, tt.path, tt.body, w.Code, w.Body, tt.code, tt.want)
		}
	}
	if row, err := buckets.Bucket(t.Context(), "b"); err != nil || row.QuotaBytes != 100 {
		t.Error(errors.New("the quota was not kept"), row, err)
	}
}
