package bench

import (
	"math"
	"time"
)

// histogram counts durations in buckets that grow by 2%, from 1 us to about 10 minutes. The zero value is ready.
type histogram struct {
	counts [1024]int64
	n      int64
}

var logBase = math.Log(1.02)

func (h *histogram) add(d time.Duration) {
	i := 0
	if us := float64(d) / 1e3; us > 1 {
		i = min(int(math.Log(us)/logBase), len(h.counts)-1)
	}
	h.counts[i]++
	h.n++
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
}

// quantile returns the upper edge of the bucket in which the q-th part of the durations ends; 0 without any.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	want := int64(math.Ceil(q * float64(h.n)))
	for i, c := range h.counts {
		if want -= c; want <= 0 {
			return time.Duration(math.Exp(float64(i+1)*logBase) * 1e3)
		}
	}
	return time.Duration(math.Exp(float64(len(h.counts))*logBase) * 1e3)
}
