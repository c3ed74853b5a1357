// Package datanode stores shards on drives. A Node owns the drives of one process; each drive is a directory with a
// format file (who it is), segment files (a log of records) and an index checkpoint (so that a start need not read the
// log). Server and Client carry the same calls over HTTP.
//
// # The log
//
// A record is a header and data (record.go): a shard, a list of deletions, or a list of fences. Small records wait for
// the committer, which writes many with one write and one fdatasync; a streamed shard gets its extent first, its pieces
// are written into it as they come, past the page cache, and its header is written last. Both are acknowledged after the
// fdatasync that covers them. Segments are preallocated; one whose records are all dead is recycled, since rewriting is
// twice as fast as growing; one that is mostly dead is compacted first.
//
// The index is in memory: ordered slices of 56-byte entries by volume and slot, some 75 bytes a shard, instead of a
// database: it is small, always rebuilt from what the segments say, and a look-up costs no I/O. Dead records cost another
// 60 bytes or so until their segment is recycled.
//
// # Invariants
//
//   - An acknowledged shard is read back whole or its damage is reported; no byte is returned before its block's checksum
//     was compared. A write that was not acknowledged is there whole or not at all.
//   - Every record has a seq that rises with every version of a shard; of two records the higher wins, and a deletion
//     kills what is lower. A copy made by compaction keeps its seq, so the order in which records are found means nothing.
//   - A deletion is kept, and carried over by compaction, until no segment holds a record that it kills. A segment's
//     records are void, durably, before deletions are forgotten on account of that.
//   - Every header carries a tag derived from the drive's secret and the generation of its segment: neither an earlier
//     life of the segment nor bytes of a client pass for a record.
//   - A record whose data is bad is torn, and dropped, only if no later header says that it was acknowledged; otherwise it
//     has rotted, stays in the index, and reads of it are cairn.ErrCorrupt.
//   - After a failed write or sync nothing more is written until the log has been recovered from the disk.
//   - A drive that cannot answer is cairn.ErrUnavailable: cairn.ErrNotFound is said only by a drive that knows.
//
// What it deliberately does not do: decide what should be on a drive (meta), notice that a shard is missing (scrub),
// rebuild (repair), place (membership), or authenticate callers.
package datanode
