package datanode

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"cairn"
	"cairn/internal/vfs"
)

func sampleHeader() *header {
	h := &header{kind: kindShard, tag: tag{1, 2, 3}, segment: 4, generation: 5, seq: 6, lsn: 7, acked: 3,
		time: time.Unix(1, 2), dataLen: 150_000, crcs: []uint32{8, 9, 10},
		shard: cairn.ShardHeader{ID: cairn.ShardID{Volume: 11, Blob: 12, Slot: 13}, Epoch: 14, Profile: cairn.Profile{K: 12, M: 4, Local: 2},
			Unit: 256 << 10, BlobLen: 600_000, Owner: cairn.Owner{Bucket: "b", Key: "k/é", Upload: "u", Part: 15, Offset: 16}}}
	h.place(true)
	return h
}

func encoded(h *header) []byte {
	b := make([]byte, h.headerBytes())
	h.encode(b)
	return b
}

func TestHeaderRoundTrip(t *testing.T) {
	want := sampleHeader()
	got, err := decodeHeader(encoded(want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if want.dataOff%pageSize != 0 || want.recordBytes()%pageSize != 0 {
		t.Errorf("data at %d of %d bytes is not aligned", want.dataOff, want.recordBytes())
	}
}

func TestHeaderNoticesEveryFlippedBit(t *testing.T) {
	b := encoded(sampleHeader())
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			if _, err := decodeHeader(b); !errors.Is(err, cairn.ErrCorrupt) {
				t.Fatalf("bit %d of byte %d: got %v, want corrupt", bit, i, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

func FuzzDecodeHeader(f *testing.F) {
	f.Add(encoded(sampleHeader()))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b)
		if err != nil {
			return
		}
		if again := encoded(h); !bytes.HasPrefix(b, again[:5]) || len(again) > len(b) {
			t.Errorf("%d bytes decode to a header of %d", len(b), len(again))
		}
		if h.recordBytes() <= 0 || len(h.crcs) != blocks(h.dataLen) {
			t.Errorf("inconsistent header %+v", h)
		}
	})
}

// FuzzDecodeCheckpoint gives the decoder bytes whose checksum is right, as a bug or an attacker would.
func FuzzDecodeCheckpoint(f *testing.F) {
	w := newWorld(f)
	if err := errors.Join(w.open(nil), w.append(1, 1, 100), w.append(2, 1, 70_000), w.delete(1), w.fence(3, 4)); err != nil {
		f.Fatal(err)
	}
	b, _ := w.store.encodeCheckpoint()
	w.close(false)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := checksum(b)
		snap, err := decodeCheckpoint(append(bytes.Clone(b), byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)))
		if err == nil && len(snap.entries) > len(b) {
			t.Errorf("%d entries out of %d bytes", len(snap.entries), len(b))
		}
	})
}

// Bytes that a client stored, made to look like a record in every way that it could know, are never taken for one.
func TestClientBytesNeverPassForRecords(t *testing.T) {
	w := newWorld(t)
	if err := errors.Join(w.open(nil), w.append(1, 1, 10)); err != nil {
		t.Fatal(err)
	}
	forged := make([]byte, 100_000)
	for at := 0; at+pageSize <= len(forged); at += pageSize {
		h := sampleHeader()
		h.dataLen, h.crcs, h.segment, h.generation = 10, []uint32{checksum(make([]byte, 10))}, 1, 1
		h.shard.ID, h.seq, h.lsn = testKey(1).id(), 1<<40, 1<<40
		h.place(false)
		h.encode(forged[at : at+pageSize])
	}
	st, err := w.store.create(context.Background(), testHeader(testKey(7)), int64(len(forged)))
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	st.Write(forged[:blockSize], func(err error) { result <- err })
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	after := w.crash(vfs.KeepAll, 0) // the stream is never committed, so recovery probes its pages
	w.close(false)
	if err := after.open(nil); err != nil {
		t.Fatal(err)
	}
	defer after.close(false)
	if err := after.wrong(true); err != nil {
		t.Error(err)
	}
}

// A test of the tests: with checksums turned off, a flipped byte is served, which the checks of damage must see.
func TestFlippedByteIsServedOnlyWithoutChecksums(t *testing.T) {
	for _, trust := range []bool{false, true} {
		w := newWorld(t)
		w.cfg.trustDisk = trust
		if err := errors.Join(w.open(nil), w.append(1, 1, 100_000)); err != nil {
			t.Fatal(err)
		}
		info, err := w.store.stat(testKey(1))
		if err != nil {
			t.Fatal(err)
		}
		f, err := w.disk.Open(info.Path, vfs.Write)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{0xee}, info.Offset+70_000); err != nil {
			t.Fatal(err)
		}
		err = w.wrong(false)
		switch {
		case err == nil:
			t.Errorf("checksums off %v: the check did not notice", trust)
		case trust == errors.Is(err, cairn.ErrCorrupt):
			t.Errorf("checksums off %v: got %v", trust, err)
		}
		w.close(false)
	}
}
