package object

import "sync/atomic"

// counters are totals since the start.
type counters struct {
	puts, inlinePuts, putBytes             atomic.Int64
	parts, copies, completes               atomic.Int64
	opens, readBytes                       atomic.Int64
	digestErrors, discarded                atomic.Int64
	unknownCommits                         atomic.Int64
	gcBlobs, gcBytes, gcErrors, gcDeferred atomic.Int64
	expired                                atomic.Int64
	hidden, removed, aborted, reindexed    atomic.Int64
}

// Status is a snapshot of what a store did since its start, for metrics and dashboard.
type Status struct {
	Puts       int64 `json:"puts"`        // objects committed by Put
	InlinePuts int64 `json:"inline_puts"` // those of Puts whose body is in the metadata row
	PutBytes   int64 `json:"put_bytes"`   // bytes of committed puts and parts
	Parts      int64 `json:"parts"`       // parts committed
	Copies     int64 `json:"copies"`
	Completes  int64 `json:"completes"`
	Opens      int64 `json:"opens"`
	ReadBytes  int64 `json:"read_bytes"`

	DigestErrors int64 `json:"digest_errors"`   // uploads refused because a declared digest did not match
	Discarded    int64 `json:"discarded_blobs"` // blobs of refused or failed uploads that were deleted at once
	// UnknownCommits counts commits whose outcome was not known; their blobs are left to orphan collection.
	UnknownCommits int64 `json:"unknown_commits"`

	GCBlobs  int64 `json:"gc_blobs"` // released blobs whose shards were deleted
	GCBytes  int64 `json:"gc_bytes"`
	GCErrors int64 `json:"gc_errors"`
	// GCDeferred counts the times that a released blob was passed over because it was being read.
	GCDeferred     int64 `json:"gc_deferred"`
	ExpiredUploads int64 `json:"expired_uploads"`
	PinnedBlobs    int   `json:"pinned_blobs"` // being read now

	// What lifecycle rules did: current versions hidden behind delete markers, versions and markers removed, uploads
	// aborted, and pages of buckets gone through after their rules had changed.
	LifecycleHidden    int64 `json:"lifecycle_hidden"`
	LifecycleRemoved   int64 `json:"lifecycle_removed"`
	LifecycleAborted   int64 `json:"lifecycle_aborted"`
	LifecycleReindexed int64 `json:"lifecycle_reindexed_pages"`
}

// Status returns the counters now. They are read one by one, not at one instant.
func (s *Store) Status() Status {
	c := &s.counters
	return Status{
		Puts: c.puts.Load(), InlinePuts: c.inlinePuts.Load(), PutBytes: c.putBytes.Load(),
		Parts: c.parts.Load(), Copies: c.copies.Load(), Completes: c.completes.Load(),
		Opens: c.opens.Load(), ReadBytes: c.readBytes.Load(),
		DigestErrors: c.digestErrors.Load(), Discarded: c.discarded.Load(), UnknownCommits: c.unknownCommits.Load(),
		GCBlobs: c.gcBlobs.Load(), GCBytes: c.gcBytes.Load(), GCErrors: c.gcErrors.Load(), GCDeferred: c.gcDeferred.Load(),
		ExpiredUploads: c.expired.Load(), PinnedBlobs: s.pins.count(),
		LifecycleHidden: c.hidden.Load(), LifecycleRemoved: c.removed.Load(), LifecycleAborted: c.aborted.Load(),
		LifecycleReindexed: c.reindexed.Load(),
	}
}
