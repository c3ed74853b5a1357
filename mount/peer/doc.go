// Package peer lets mounts of one bucket fetch blocks from each other, so that a fleet which starts at once reads each
// block from the store about once.
//
// It owns the ring (which mount is the home of a block: rendezvous hashing over those that answer), the request for a block
// and its answer on the wire, and the judgement on who does not answer. Every byte from a peer is compared with a checksum
// before it is passed on. Whether somebody may read is not decided here: a request carries a proof, which the one who serves
// shows to the store.
//
// Invariants:
//   - a peer that is asked never asks a third one: there are no chains and no circles;
//   - a peer that does not answer, or says nothing for a while, is left alone for a time, and costs whoever asked it one wait of Silence.
//
// It deliberately knows neither the store nor the cache.
package peer
