package jobs

import "time"

const (
	meterSlots = 60 // samples
	meterEvery = time.Second
)

// Meter turns a growing count into a rate over the last minute. The zero value is ready; it is used by one goroutine at a
// time.
type Meter struct {
	samples [meterSlots]sample
	n       int // samples taken
}

type sample struct {
	at    time.Time
	count int64
}

// Set notes how far the count has come.
func (m *Meter) Set(now time.Time, count int64) {
	if m.n > 0 {
		last := m.samples[(m.n-1)%meterSlots]
		if count < last.count {
			m.n = 0 // counting began anew
		} else if now.Sub(last.at) < meterEvery {
			return
		}
	}
	m.samples[m.n%meterSlots] = sample{now, count}
	m.n++
}

// Rate is the mean growth per second since the oldest sample, 0 while there are fewer than two. Time in which nothing was
// noted counts: what stands still slows down.
func (m *Meter) Rate(now time.Time) float64 {
	if m.n < 2 {
		return 0
	}
	oldest, last := m.samples[max(0, m.n-meterSlots)%meterSlots], m.samples[(m.n-1)%meterSlots]
	span := max(now.Sub(oldest.at), last.at.Sub(oldest.at)).Seconds()
	if span <= 0 {
		return 0
	}
	return float64(last.count-oldest.count) / span
}
