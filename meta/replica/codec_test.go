package replica

import (
	"bytes"
	"testing"

	pb "go.etcd.io/raft/v3/raftpb"
)

func FuzzEntry(f *testing.F) {
	b := &Batch{RequestID: 5, Result: []byte("r")}
	b.Put([]byte("k"), []byte("v"))
	b.Delete([]byte("d"))
	b.DeleteRange([]byte("a"), []byte("b"))
	b.Add([]byte("n"), 1, -2)
	data := appendBatch(nil, b)
	sealEntry(data)
	f.Add(data)
	hard := &pb.HardState{Term: new(uint64(3)), Vote: new(uint64(4)), Commit: new(uint64(5))}
	f.Add(encodeRecord(nil, hard, []*pb.Entry{{Type: pb.EntryNormal.Enum(), Term: new(uint64(1)), Index: new(uint64(2)), Data: data}})[recordHeader:])
	f.Add(encodeCounters([]int64{1, -1}))
	f.Fuzz(func(t *testing.T, p []byte) {
		_ = decodeEntry(p, func(d decodedBatch) error {
			return decodeOps(d.ops, func(kind opKind, key, value []byte) error { return nil })
		})
		_ = decodeOps(p, func(opKind, []byte, []byte) error { return nil })
		if h, es, err := decodeRecord(p); err == nil {
			h2, es2, err := decodeRecord(encodeRecord(nil, h, es)[recordHeader:])
			if err != nil || h2.GetCommit() != h.GetCommit() || len(es2) != len(es) || len(es) > 0 && !bytes.Equal(es[0].Data, es2[0].Data) {
				t.Errorf("record does not encode back: %v", err)
			}
		}
		if list, err := Counters(p); err == nil {
			again, err := Counters(encodeCounters(list))
			if err != nil || len(again) != len(list) {
				t.Errorf("counters %v encode as %v, %v", list, again, err)
			}
		}
		decodeApplied(p)
	})
}

func TestConflictsMemory(t *testing.T) {
	var c conflicts
	c.reset(10)
	batch := func(read uint64, check, write string) *Batch {
		b := &Batch{ReadIndex: read}
		if check != "" {
			b.Check([]byte(check))
		}
		if write != "" {
			b.Put([]byte(write), nil)
		}
		return b
	}
	ranged := &Batch{}
	ranged.DeleteRange([]byte("a"), []byte("b"))
	c.wrote(batch(10, "", "k"), 12)
	tests := []struct {
		name string
		b    *Batch
		want bool
	}{
		{"read before the memory", batch(9, "x", ""), false},
		{"read before it, nothing checked", batch(9, "", "x"), true},
		{"key written since", batch(11, "k", ""), false},
		{"key written at the read index", batch(12, "k", ""), true},
		{"other key", batch(10, "x", ""), true},
	}
	for _, tt := range tests {
		if got := c.holds(tt.b); got != tt.want {
			t.Errorf("%s: holds = %v, want %v", tt.name, got, tt.want)
		}
	}
	c.wrote(ranged, 13)
	if c.holds(batch(12, "x", "")) || !c.holds(batch(13, "x", "")) {
		t.Error("a range is not held against readers before it, or after it")
	}
	// What falls out of the memory makes older reads conflict, rather than being forgotten.
	for i := range uint64(3 * maxConflictKeys) {
		c.wrote(batch(0, "", string([]byte{byte(i), byte(i >> 8), byte(i >> 16), 'z'})), 14+i)
	}
	if c.holds(batch(13, "k", "")) {
		t.Error("a read from before the memory passes")
	}
	if !c.holds(batch(14+3*maxConflictKeys, "k", "")) {
		t.Error("a fresh read conflicts")
	}
	if n := len(c.recent) + len(c.older); n > 2*maxConflictKeys {
		t.Errorf("%d keys remembered", n)
	}
}
