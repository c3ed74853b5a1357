// Package repair brings back what was lost: it keeps the queue of damage, decides what to do first, rebuilds shards from
// the others of their stripes, and moves slots off drives that are gone.
//
// All lasting state is in rows that Meta commits: damage (with the time before which nothing is tried again, and how far
// the rebuilding of a slot has come) and volumes. What a Repairer holds in memory saves work and is never needed: a process that dies at any point leaves a state from which the next one reaches the same
// end. There are three kinds of work on a slot that is to be rebuilt (a cairn.DamageSlot row):
//
//   - swap: the slot's drive is retired, its data certainly gone. The slot is pointed at another drive at once, so that
//     new blobs are whole again, and is then filled.
//   - fill: the slot's drive can be written. Every blob of the volume that the drive does not hold is rebuilt in place;
//     then the row is resolved.
//   - move: the slot's drive cannot be written, but may hold data. Every blob is rebuilt on another drive and read back
//     first; only then is the slot swapped, and filled with what was committed meanwhile.
//
// A damaged shard outside such a slot is rebuilt in place and read back; then its row is resolved.
//
// Invariants: nothing is deleted here but a shard that this package itself wrote for a blob that was released meanwhile;
// a slot leaves a drive that may hold data only when the copy is durable and verified (I7); a slot leaves a retired drive
// only while enough other shards are left to fill it; while a blob waits that has fewer spare shards, nothing that has more
// is worked on, and of those the nearest to the next loss goes first, then the oldest finding; bytes are throttled by the data nodes, where they give way to clients, but not those of blobs without a spare (cairn.Urgent); what cannot be repaired now
// is set aside, tried again alone with growing pauses, and never holds up the rest; memory and concurrency are bounded by Config.
package repair
