// Package scrub looks for what is bad, missing or superfluous, all the time. It finds and never fixes: damage goes to the
// persisted queue (repair works on it), and shards that are proven to belong to nothing go to a sink that removes them.
//
// There are two kinds of looking. The deep scrub reads every byte of every shard against its checksums, slowly, around all
// drives, and resumes where it stopped. The light one compares, by names alone, what Meta expects of each slot with what its
// drive holds: a digest of each side first, and the names only where the digests differ. It runs every few minutes, less
// often the longer it takes, and at once for a drive that came back. A check (Check) does both, at once and as fast as
// background work may go, over everything, one drive, or the blobs of some objects; it too resumes.
//
// When much of what one drive should hold is missing, the drive is marked and its slots are queued whole, rather than
// thousands of shards.
//
// Invariants: a shard is reported missing only if, after the drive answered that it has none, Meta still refers to its
// blob; a shard is handed to the sink only if (1) its blob's number lies below the orphan watermark, so no first commit can
// name it any more, and a linearizable read after the watermark was committed says that nothing refers to it, nor does a
// reader hold it; or (2) its slot has moved to another drive, which was just read and holds the same shard whole. A drive
// or volume that does not answer, or is not known, proves nothing (I4).
package scrub
