package replica

import (
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// seenRequests is the leader's memory of request IDs: those of the last dedupeEntries entries, loaded from the state when
// it takes over, and those it adds to the log. One goroutine uses it.
type seenRequests struct {
	byID  map[uint64]seenRequest
	order []seenEntry
}

type seenRequest struct {
	index  uint64
	result []byte
}

type seenEntry struct {
	index uint64
	ids   []uint64
}

func (s *seenRequests) find(id uint64) (index uint64, result []byte, ok bool) {
	if id == 0 {
		return 0, nil, false
	}
	r, ok := s.byID[id]
	return r.index, r.result, ok
}

func (s *seenRequests) add(id, index uint64, result []byte) {
	if id == 0 {
		return
	}
	s.byID[id] = seenRequest{index, result}
	if n := len(s.order); n > 0 && s.order[n-1].index == index {
		s.order[n-1].ids = append(s.order[n-1].ids, id)
		return
	}
	s.order = append(s.order, seenEntry{index, []uint64{id}})
	for s.order[0].index+dedupeEntries < index {
		for _, old := range s.order[0].ids {
			if s.byID[old].index == s.order[0].index {
				delete(s.byID, old)
			}
		}
		s.order = s.order[1:]
	}
}

// remove takes back what was added for proposals that did not reach the log.
func (s *seenRequests) remove(props []*proposal) {
	for _, p := range props {
		delete(s.byID, p.batch.RequestID)
	}
}

// load reads the rows that the applied entries left.
func (s *seenRequests) load(db *pebble.DB) error {
	*s = seenRequests{byID: make(map[uint64]seenRequest)}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: requestPrefix, UpperBound: requestEnd})
	if err != nil {
		return err
	}
	defer it.Close()
	for it.First(); it.Valid(); it.Next() {
		if len(it.Key()) != len(requestPrefix)+8 {
			return corrupt("request row's key")
		}
		index := binary.BigEndian.Uint64(it.Key()[len(requestPrefix):])
		row := append([]byte(nil), it.Value()...)
		for len(row) > 0 {
			if len(row) < 8 {
				return corrupt("request row")
			}
			id := binary.LittleEndian.Uint64(row)
			result, n := protowire.ConsumeBytes(row[8:])
			if n < 0 {
				return corrupt("request row's result")
			}
			s.add(id, index, result)
			row = row[8+n:]
		}
	}
	return it.Error()
}

// appendRequest adds one request to an entry's row: ID (8 bytes), result with its length.
func appendRequest(row []byte, id uint64, result []byte) []byte {
	row = binary.LittleEndian.AppendUint64(row, id)
	return protowire.AppendBytes(row, result)
}
