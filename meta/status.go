package meta

import "cairn/meta/replica"

// Status describes the voters; VoterStatus one of them.
type (
	Status      = replica.Status
	VoterStatus = replica.VoterStatus
)

// The states of a voter.
const (
	VoterUp      = replica.VoterUp
	VoterJoining = replica.VoterJoining
	VoterDown    = replica.VoterDown
)

// Status describes the voters as this process knows them, from memory.
func (s *Store) Status() Status { return s.groups.system().Status() }
