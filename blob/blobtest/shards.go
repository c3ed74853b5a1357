package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"cairn"
	"cairn/blob"
)

// Keeper is what scrub, repair and garbage collection need of shards beyond blob.Shards. An implementation that has it
// is tested for it.
type Keeper interface {
	Stat(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) (cairn.ShardInfo, error)
	List(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8, after cairn.BlobID, limit int) ([]cairn.ShardInfo, error)
	Slots(ctx context.Context, drive cairn.DriveID) ([]cairn.VolumeSlot, error)
	Digest(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, slot uint8) (cairn.BlobSet, error)
	Verify(ctx context.Context, drive cairn.DriveID, id cairn.ShardID) error
	Delete(ctx context.Context, drive cairn.DriveID, ids []cairn.ShardID) error
	Fence(ctx context.Context, drive cairn.DriveID, volume cairn.VolumeID, epoch cairn.Epoch) error
}

// Shards runs the conformance suite of blob.Shards: every implementation, in this process or across a network, passes
// the same tests. It does not test durability, which only the owner of the disk can. open returns an implementation and the identity of an empty drive that it reaches.
func Shards(t *testing.T, open func(t *testing.T) (blob.Shards, cairn.DriveID)) {
	tests := []struct {
		name string
		run  func(*suite)
	}{
		{"append and read", (*suite).appendAndRead},
		{"stream and read", (*suite).streamAndRead},
		{"ranges", (*suite).ranges},
		{"replace", (*suite).replace},
		{"absent", (*suite).absent},
		{"unknown drive", (*suite).unknownDrive},
		{"bad ranges", (*suite).badRanges},
		{"aborted stream", (*suite).abortedStream},
		{"short stream", (*suite).shortStream},
		{"stale epoch", (*suite).staleEpoch},
		{"canceled", (*suite).canceled},
		{"many at once", (*suite).manyAtOnce},
		{"stat and list", (*suite).statAndList},
		{"verify", (*suite).verify},
		{"delete", (*suite).delete},
		{"fence", (*suite).fence},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			shards, drive := open(t)
			test.run(&suite{t, context.Background(), shards, drive})
		})
	}
}

type suite struct {
	*testing.T
	ctx    context.Context
	shards blob.Shards
	drive  cairn.DriveID
}

// Sizes are lengths of shards around the borders of blocks and pages.
var Sizes = []int{0, 1, 63, 64, 4095, 4096, 4097, 65535, 65536, 65537, 131072, 131073, 200_000, 1 << 20, 1<<20 + 1, 3<<20 + 77}

// Bytes returns n bytes that depend on seed alone.
func Bytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewPCG(seed, 7)
	for i := 0; i < n; i += 8 {
		v := rng.Uint64()
		for j := i; j < min(i+8, n); j++ {
			b[j] = byte(v)
			v >>= 8
		}
	}
	return b
}

// Header returns the header of a shard of an invented object.
func Header(v cairn.VolumeID, b cairn.BlobID, slot uint8, epoch cairn.Epoch) *cairn.ShardHeader {
	return &cairn.ShardHeader{ID: cairn.ShardID{Volume: v, Blob: b, Slot: slot}, Epoch: epoch, Profile: cairn.Profile{K: 4, M: 2},
		Unit: 256 << 10, BlobLen: 1 << 20, Owner: cairn.Owner{Bucket: "weights", Key: fmt.Sprintf("model/%d", b), Offset: 5}}
}

func (s *suite) append(h *cairn.ShardHeader, data []byte) error {
	return Append(s.ctx, s.shards, s.drive, h, data)
}

// Append appends and waits.
func Append(ctx context.Context, shards blob.Shards, drive cairn.DriveID, h *cairn.ShardHeader, data []byte) error {
	result := make(chan error, 2) // room for a second call, which is an error
	shards.Append(ctx, drive, h, data, func(err error) { result <- err })
	return <-result
}

// Stream writes a shard in pieces and waits.
func Stream(ctx context.Context, shards blob.Shards, drive cairn.DriveID, h *cairn.ShardHeader, data []byte, piece int) error {
	w, err := shards.Create(ctx, drive, h, int64(len(data)))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for rest := data; len(rest) > 0; {
		n := min(piece, len(rest))
		wg.Add(1)
		w.Write(rest[:n], func(error) { wg.Done() })
		rest = rest[n:]
	}
	result := make(chan error, 2)
	w.Commit(func(err error) { result <- err })
	wg.Wait()
	err = <-result
	w.Abort() // a no-op after success
	return err
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) wantKind(what string, err, kind error) {
	s.Helper()
	if !errors.Is(err, kind) {
		s.Errorf("%s: got %v, want %v", what, err, kind)
	}
}

// check reads a whole shard and compares.
func (s *suite) check(id cairn.ShardID, want []byte) {
	s.Helper()
	got := make([]byte, len(want))
	if err := s.shards.ReadAt(s.ctx, s.drive, id, got, 0); err != nil {
		s.Errorf("read %v of %d bytes: %v", id, len(want), err)
	} else if !bytes.Equal(got, want) {
		s.Errorf("read %v of %d bytes: wrong bytes", id, len(want))
	}
}

func (s *suite) appendAndRead() {
	for i, n := range Sizes {
		h := Header(7, cairn.BlobID(i+1), 3, 1)
		s.must(s.append(h, Bytes(uint64(i), n)))
		s.check(h.ID, Bytes(uint64(i), n))
	}
	for i, n := range Sizes {
		s.check(cairn.ShardID{Volume: 7, Blob: cairn.BlobID(i + 1), Slot: 3}, Bytes(uint64(i), n))
	}
}

func (s *suite) streamAndRead() {
	for i, n := range Sizes {
		for j, piece := range []int{64 << 10, 1 << 20} {
			h := Header(7, cairn.BlobID(i+1), uint8(j), 1)
			data := Bytes(uint64(i), n+1)[1:] // not aligned
			s.must(Stream(s.ctx, s.shards, s.drive, h, data, piece))
			s.check(h.ID, data)
		}
	}
}

func (s *suite) ranges() {
	h, data := Header(1, 1, 0, 1), Bytes(9, 300_001)
	s.must(s.append(h, data))
	small, few := Header(1, 2, 0, 1), Bytes(8, 5000)
	s.must(s.append(small, few))
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		for _, c := range []struct {
			id   cairn.ShardID
			data []byte
		}{{h.ID, data}, {small.ID, few}} {
			off := rng.IntN(len(c.data) + 1)
			n := rng.IntN(len(c.data) - off + 1)
			if rng.IntN(3) == 0 {
				off = off / 65536 * 65536
				n = min(n, len(c.data)-off)
			}
			p := make([]byte, n)
			if err := s.shards.ReadAt(s.ctx, s.drive, c.id, p, int64(off)); err != nil {
				s.Fatalf("%d bytes at %d of %d: %v", n, off, len(c.data), err)
			}
			if !bytes.Equal(p, c.data[off:off+n]) {
				s.Fatalf("%d bytes at %d of %d: wrong bytes", n, off, len(c.data))
			}
		}
	}
}

func (s *suite) replace() {
	h := Header(1, 1, 0, 1)
	for i, n := range []int{100, 200_000, 50, 70_000} {
		h.Epoch++
		s.must(s.append(h, Bytes(uint64(i), n)))
		s.check(h.ID, Bytes(uint64(i), n))
		p := make([]byte, 1)
		s.wantKind("read past the new end", s.shards.ReadAt(s.ctx, s.drive, h.ID, p, int64(n)), cairn.ErrInvalid)
	}
}

func (s *suite) absent() {
	p := make([]byte, 10)
	s.wantKind("empty drive", s.shards.ReadAt(s.ctx, s.drive, cairn.ShardID{Volume: 1, Blob: 1}, p, 0), cairn.ErrNotFound)
	s.must(s.append(Header(1, 1, 0, 1), Bytes(1, 10)))
	for _, id := range []cairn.ShardID{{Volume: 1, Blob: 1, Slot: 1}, {Volume: 1, Blob: 2}, {Volume: 2, Blob: 1}} {
		s.wantKind(id.String(), s.shards.ReadAt(s.ctx, s.drive, id, p, 0), cairn.ErrNotFound)
	}
}

func (s *suite) unknownDrive() {
	other := cairn.DriveID{1, 2, 3}
	err := s.shards.ReadAt(s.ctx, other, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0)
	s.wantKind("read", err, cairn.ErrUnavailable)
	s.wantKind("append", Append(s.ctx, s.shards, other, Header(1, 1, 0, 1), Bytes(1, 10)), cairn.ErrUnavailable)
	s.wantKind("stream", Stream(s.ctx, s.shards, other, Header(1, 1, 0, 1), Bytes(1, 10), 10), cairn.ErrUnavailable)
}

func (s *suite) badRanges() {
	h := Header(1, 1, 0, 1)
	s.must(s.append(h, Bytes(1, 1000)))
	for _, r := range [][2]int64{{-1, 1}, {1000, 1}, {0, 1001}, {999, 2}, {5000, 1}} {
		err := s.shards.ReadAt(s.ctx, s.drive, h.ID, make([]byte, r[1]), r[0])
		s.wantKind(fmt.Sprintf("%d bytes at %d", r[1], r[0]), err, cairn.ErrInvalid)
	}
}

func (s *suite) abortedStream() {
	h, data := Header(1, 1, 0, 1), Bytes(1, 1<<20)
	for _, handed := range []int{0, 64 << 10, 1 << 20} {
		w, err := s.shards.Create(s.ctx, s.drive, h, int64(len(data)))
		s.must(err)
		if handed > 0 {
			result := make(chan error, 2)
			w.Write(data[:handed], func(err error) { result <- err })
			s.must(<-result)
		}
		w.Abort()
		w.Abort()
		s.wantKind("read", s.shards.ReadAt(s.ctx, s.drive, h.ID, make([]byte, 1), 0), cairn.ErrNotFound)
	}
	s.must(Stream(s.ctx, s.shards, s.drive, h, data, 64<<10))
	s.check(h.ID, data)
}

func (s *suite) shortStream() {
	h := Header(1, 1, 0, 1)
	for _, handed := range []int{0, 64 << 10} {
		w, err := s.shards.Create(s.ctx, s.drive, h, 100_000)
		s.must(err)
		if handed > 0 {
			w.Write(Bytes(1, handed), func(error) {})
		}
		result := make(chan error, 2)
		w.Commit(func(err error) { result <- err })
		s.wantKind(fmt.Sprintf("commit of %d bytes", handed), <-result, cairn.ErrInvalid)
		w.Abort()
	}
	w, err := s.shards.Create(s.ctx, s.drive, h, 10)
	s.must(err)
	result := make(chan error, 2)
	w.Write(Bytes(1, 11), func(err error) { result <- err })
	s.wantKind("too long", <-result, cairn.ErrInvalid)
	w.Abort()
	s.wantKind("read", s.shards.ReadAt(s.ctx, s.drive, h.ID, make([]byte, 1), 0), cairn.ErrNotFound)
}

func (s *suite) staleEpoch() {
	s.must(s.append(Header(5, 1, 0, 9), Bytes(1, 10)))
	s.wantKind("append", s.append(Header(5, 1, 0, 8), Bytes(2, 10)), cairn.ErrStaleEpoch)
	s.wantKind("stream", Stream(s.ctx, s.shards, s.drive, Header(5, 2, 0, 8), Bytes(2, 10), 10), cairn.ErrStaleEpoch)
	s.must(s.append(Header(6, 1, 0, 1), Bytes(1, 10))) // epochs are the volume's own
	s.check(cairn.ShardID{Volume: 5, Blob: 1}, Bytes(1, 10))
}

func (s *suite) canceled() {
	ctx, cancel := context.WithCancel(s.ctx)
	cancel()
	err := Append(ctx, s.shards, s.drive, Header(1, 1, 0, 1), Bytes(1, 10))
	if cairn.Kind(err) != cairn.ErrCanceled {
		s.Errorf("append: got %v, want %v", err, cairn.ErrCanceled)
	}
	if _, err := s.shards.Create(ctx, s.drive, Header(1, 1, 0, 1), 10); cairn.Kind(err) != cairn.ErrCanceled {
		s.Errorf("create: got %v, want %v", err, cairn.ErrCanceled)
	}
	s.wantKind("read", s.shards.ReadAt(s.ctx, s.drive, cairn.ShardID{Volume: 1, Blob: 1}, make([]byte, 1), 0), cairn.ErrNotFound)
}

func (s *suite) manyAtOnce() {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 3))
			for i := range 30 {
				h := Header(1, cairn.BlobID(w*1000+i), 0, 1)
				data := Bytes(uint64(h.ID.Blob), rng.IntN(150_000))
				var err error
				if i%2 == 0 {
					err = s.append(h, data)
				} else {
					err = Stream(s.ctx, s.shards, s.drive, h, data, 64<<10)
				}
				if err != nil {
					s.Error(err)
					return
				}
				s.check(h.ID, data)
			}
		})
	}
	wg.Wait()
}

// keeper returns the wider interface; an implementation without it has nothing to show here.
func (s *suite) keeper() Keeper {
	k, ok := s.shards.(Keeper)
	if !ok {
		s.Skip("implements blob.Shards alone")
	}
	return k
}

func (s *suite) statAndList() {
	k := s.keeper()
	for i := range 30 {
		b := cairn.BlobID((i*7)%30 + 1) // in no order
		s.must(s.append(Header(3, b, 2, 4), Bytes(uint64(b), 100+int(b))))
	}
	s.must(s.append(Header(3, 1, 1, 4), Bytes(1, 9)))
	info, err := k.Stat(s.ctx, s.drive, cairn.ShardID{Volume: 3, Blob: 5, Slot: 2})
	s.must(err)
	if info.Length != 105 || info.Epoch != 4 || info.ID.Blob != 5 || info.Time.IsZero() || info.Path == "" {
		s.Errorf("stat: got %+v", info)
	}
	_, err = k.Stat(s.ctx, s.drive, cairn.ShardID{Volume: 3, Blob: 99, Slot: 2})
	s.wantKind("stat of an absent shard", err, cairn.ErrNotFound)
	var got []cairn.BlobID
	for after := cairn.BlobID(0); ; {
		page, err := k.List(s.ctx, s.drive, 3, 2, after, 7)
		s.must(err)
		if len(page) == 0 {
			break
		}
		for _, info := range page {
			got = append(got, info.ID.Blob)
		}
		after = got[len(got)-1]
	}
	if len(got) != 30 || got[0] != 1 || got[29] != 30 {
		s.Errorf("list: got %v, want 1 to 30", got)
	}
	slots, err := k.Slots(s.ctx, s.drive)
	s.must(err)
	want := []cairn.VolumeSlot{{Volume: 3, Slot: 1, Shards: 1, Bytes: 9}, {Volume: 3, Slot: 2, Shards: 30, Bytes: 30*100 + 465}}
	if len(slots) != 2 || slots[0] != want[0] || slots[1] != want[1] {
		s.Errorf("slots: got %+v, want %+v", slots, want)
	}
	var set cairn.BlobSet
	for b := range cairn.BlobID(30) {
		set.Add(30 - b)
	}
	for slot, want := range map[uint8]cairn.BlobSet{2: set, 9: {}} {
		if got, err := k.Digest(s.ctx, s.drive, 3, slot); err != nil || got != want {
			s.Errorf("digest of slot %d: got %+v, %v, want %+v", slot, got, err, want)
		}
	}
}

func (s *suite) verify() {
	k := s.keeper()
	for i, n := range Sizes {
		h := Header(1, cairn.BlobID(i+1), 0, 1)
		s.must(s.append(h, Bytes(uint64(i), n)))
		if err := k.Verify(s.ctx, s.drive, h.ID); err != nil {
			s.Errorf("verify of %d bytes: %v", n, err)
		}
	}
	s.wantKind("verify of an absent shard", k.Verify(s.ctx, s.drive, cairn.ShardID{Volume: 9, Blob: 9}), cairn.ErrNotFound)
}

func (s *suite) delete() {
	k := s.keeper()
	var ids []cairn.ShardID
	for i := range 50 {
		h := Header(1, cairn.BlobID(i+1), 0, 1)
		s.must(s.append(h, Bytes(uint64(i), 3000)))
		ids = append(ids, h.ID)
	}
	s.must(k.Delete(s.ctx, s.drive, append(ids[:25:25], cairn.ShardID{Volume: 8, Blob: 8})))
	s.must(k.Delete(s.ctx, s.drive, ids[:25])) // again
	s.must(k.Delete(s.ctx, s.drive, nil))
	for i, id := range ids {
		err := s.shards.ReadAt(s.ctx, s.drive, id, make([]byte, 3000), 0)
		if i < 25 {
			s.wantKind("read of a deleted shard", err, cairn.ErrNotFound)
		} else {
			s.must(err)
		}
	}
	s.must(s.append(Header(1, 1, 0, 1), Bytes(77, 100))) // a deletion does not hold for what comes after
	s.check(ids[0], Bytes(77, 100))
}

func (s *suite) fence() {
	k := s.keeper()
	s.must(s.append(Header(2, 1, 0, 3), Bytes(1, 10)))
	s.must(k.Fence(s.ctx, s.drive, 2, 5))
	s.must(k.Fence(s.ctx, s.drive, 2, 4)) // lower: stays at 5
	s.wantKind("append below the fence", s.append(Header(2, 2, 0, 4), Bytes(1, 10)), cairn.ErrStaleEpoch)
	s.must(s.append(Header(2, 2, 0, 5), Bytes(1, 10)))
	s.check(cairn.ShardID{Volume: 2, Blob: 1}, Bytes(1, 10))
}
