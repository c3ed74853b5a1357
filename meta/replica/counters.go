package replica

import (
	"io"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// Counters decodes a row that was written by Batch.Add: a list of signed numbers. Places that were never added to are 0.
func Counters(row []byte) ([]int64, error) {
	var list []int64
	for len(row) > 0 {
		v, n := protowire.ConsumeVarint(row)
		if n < 0 {
			return nil, corrupt("counter row")
		}
		list = append(list, protowire.DecodeZigZag(v))
		row = row[n:]
	}
	return list, nil
}

func encodeCounters(list []int64) []byte {
	row := make([]byte, 0, 4*len(list))
	for _, v := range list {
		row = protowire.AppendVarint(row, protowire.EncodeZigZag(v))
	}
	return row
}

// counterMerger adds counter rows, place by place. Addition commutes, so older and newer operands are the same.
type counterMerger struct{ sum []int64 }

func (m *counterMerger) add(row []byte) error {
	list, err := Counters(row)
	for i, v := range list {
		if i == len(m.sum) {
			m.sum = append(m.sum, 0)
		}
		m.sum[i] += v
	}
	return err
}

func (m *counterMerger) MergeNewer(row []byte) error { return m.add(row) }
func (m *counterMerger) MergeOlder(row []byte) error { return m.add(row) }
func (m *counterMerger) Finish(bool) ([]byte, io.Closer, error) {
	return encodeCounters(m.sum), nil, nil
}

func newMerger() *pebble.Merger {
	return &pebble.Merger{
		Name: "cairn.counters", // written into the store: never change it
		Merge: func(_, row []byte) (pebble.ValueMerger, error) {
			m := &counterMerger{}
			return m, m.add(row)
		},
	}
}
