package meta_test

import (
	"fmt"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// BenchmarkListShapes measures the listings that stores are slow at: a delimiter over ten prefixes of many keys, and keys
// with many versions, beside a plain page. CAIRN_SOAK=1 takes 100,000 keys in each prefix and 10,000 versions of one key.
func BenchmarkListShapes(b *testing.B) {
	s := newStore(b, 1)
	mustBucket(b, s, "b", cairn.VersioningEnabled)
	each := scale(2_000, 100_000)
	putMany(b, s, "b", 10*each, func(i int) string { return fmt.Sprintf("p%d/k%07d", i%10, i) })
	measure := func(name string, r meta.List, rows int) {
		b.Run(name, func(b *testing.B) {
			least := time.Hour
			for b.Loop() {
				began := time.Now()
				p, err := s.List(b.Context(), r)
				least = min(least, time.Since(began))
				if err != nil || len(p.Versions)+len(p.Prefixes) != rows {
					b.Fatal(len(p.Versions), len(p.Prefixes), err)
				}
			}
			b.ReportMetric(float64(least.Microseconds()), "least-us")
		})
	}
	delimited := meta.List{Bucket: "b", Delimiter: "/", Max: 1000}
	measure("page", meta.List{Bucket: "b", Max: 1000}, 1000)
	measure("delimiter", delimited, 10)
	versions := scale(500, 10_000)
	putMany(b, s, "b", versions, func(int) string { return "p0/k0000000" })
	measure("page, many versions", meta.List{Bucket: "b", Max: 1000}, 1000)
	measure("delimiter, many versions", delimited, 10)
}
