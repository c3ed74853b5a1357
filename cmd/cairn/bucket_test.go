package main

import (
	"bytes"
	"strings"
	"testing"

	"cairn/admin"
	"cairn/meta"
)

func TestBucketCommands(t *testing.T) {
	t.Setenv(envAccessKey, "root")
	t.Setenv(envSecretKey, "secret")
	b := admin.Bucket{Name: "models", Owner: "ann", QuotaBytes: 5 << 30, BucketStats: meta.BucketStats{Objects: 12, Bytes: 3 << 20}}
	url := clusterServer(t, map[string]any{"GET /api/v1/buckets": []admin.Bucket{b}, "PUT /api/v1/buckets/models/quota": b})
	for _, tt := range []struct {
		args string
		code int
		want string
	}{
		{"bucket ls", 0, "5 GiB"},
		{"bucket ls -o json", 0, `"quota_bytes": 5368709120`},
		{"bucket quota models 5GiB", 0, "models: 3 MiB of 5 GiB"},
		{"bucket quota models none", 0, "models"},
		{"bucket quota models much", 2, "want a number"},
		{"bucket quota models", 2, "--help"},
		{"bucket quota other 1MiB", 1, "nothing at"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(strings.Fields(tt.args), "--admin", url), nil, &out, &errs)
		text := out.String() + errs.String()
		if code != tt.code || !strings.Contains(text, tt.want) {
			t.Errorf("%s: exit code %d, want %d: %q, want %q in it", tt.args, code, tt.code, text, tt.want)
		}
	}
}
