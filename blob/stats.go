package blob

import "sync/atomic"

// Stats are counts since the store was made, and what is in use now. The counts only grow.
type Stats struct {
	DecodedBytes  int64 `json:"decoded_bytes"`  // computed from other shards for readers and for repair
	HedgedReads   int64 `json:"hedged_reads"`   // reads that were too slow, so that others were asked
	SkippedShards int64 `json:"skipped_shards"` // writes acknowledged without these
	RetriedBlobs  int64 `json:"retried_blobs"`  // writes that began again in another volume
	WriteMemory   int64 `json:"write_memory_bytes"`
	ReadMemory    int64 `json:"read_memory_bytes"`
}

// Stats returns the counts of now.
func (s *Store) Stats() Stats {
	return Stats{
		DecodedBytes:  s.counts.decoded.Load(),
		HedgedReads:   s.drives.hedges.Load(),
		SkippedShards: s.counts.skipped.Load(),
		RetriedBlobs:  s.counts.retried.Load(),
		WriteMemory:   s.writes.used.Load(),
		ReadMemory:    s.reads.used.Load(),
	}
}

type counts struct {
	decoded, skipped, retried atomic.Int64
}
