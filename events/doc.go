// Package events tells webhooks of what happens to objects: which rules a bucket has (Config, pure), what an event says (Event), and
// the delivery of queued events to their targets (Deliverer).
//
// It keeps no rows and knows no XML: package meta queues an event in the very commit that it is about, one row for each target, and
// package s3api reads the configuration of a bucket. An event leaves the queue only after its target has answered 2xx, so each is
// delivered at least once, in order for each key as long as nothing fails; the sequencer tells consumers which of two is newer.
//
// Targets are set by operators alone. Their addresses are checked when a connection is made, so that a name which resolves to the
// inside of the network does not get there unless the operator said so.
package events
