package cairn

import "time"

// Outcome tells what became of a finding.
type Outcome string

// The outcomes.
const (
	OutcomeOpen     Outcome = "open"     // it waits for repair, or is being worked on
	OutcomeRepaired Outcome = "repaired" // what was lacking was written anew and read back
	OutcomeWhole    Outcome = "whole"    // a second look found nothing wrong
	OutcomeReleased Outcome = "released" // nothing refers to the blob any more
	OutcomeMoved    Outcome = "moved"    // the slot is on another drive now
	OutcomeCanceled Outcome = "canceled" // the move was called off
	OutcomeRemoved  Outcome = "removed"  // the shards belonged to nothing, or were held elsewhere, and were removed
	OutcomeNoted    Outcome = "noted"    // it is for people; nothing is done about it by itself
)

// The kinds of findings that are no damage to be repaired; those that are have the name of a DamageKind.
const (
	FindingOrphan = "orphan" // shards of no blob
	FindingStale  = "stale"  // shards that a slot left behind when it moved
	FindingDrive  = "drive"  // so much of a drive is not as it should be that the drive is suspect, not its shards
)

// Finding is an entry of the history of what was found wrong: when, where, what, by whom, and what became of it. What is
// still open is read from the queue of damage; what is not is kept, up to MaxFindings.
type Finding struct {
	Found time.Time `json:"found"`
	Kind  string    `json:"kind"`
	// Shard is where; with Blob 0 a whole slot, with Volume 0 the drive.
	Shard    ShardID   `json:"shard"`
	Drive    DriveID   `json:"drive"`
	Count    int64     `json:"count"` // shards that it stands for, if that is known: Shard is then the first
	By       string    `json:"by"`
	Note     string    `json:"note,omitempty"`
	Tries    int       `json:"tries,omitempty"` // that failed before
	Outcome  Outcome   `json:"outcome"`
	Resolved time.Time `json:"resolved,omitzero"`
}

// MaxFindings bounds the findings that are remembered once they are resolved.
const MaxFindings = 10_000

// Finding is the damage as an entry of the history.
func (d Damage) Finding(outcome Outcome, at time.Time) Finding {
	f := Finding{Found: d.Found, Kind: d.Kind.String(), Shard: d.Shard, Drive: d.Drive, By: d.By, Note: d.Note, Tries: d.Tries,
		Outcome: outcome, Resolved: at}
	if d.Shard.Blob != 0 {
		f.Count = 1
	}
	return f
}
