//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"cairn/admin"
)

const (
	unit      = 256 << 10
	stripe    = 4 * unit
	blobLimit = 64 << 20
	pageBytes = 4096 // of the segments
)

// damageKind does one kind of harm to a shard, where its drive keeps it.
type damageKind struct {
	name string
	do   func(f *os.File, s admin.Shard) error
	// spills: other shards behind this one in the file are harmed too, so it is done to two drives only.
	spills bool
	// silent: a read of the shard's data need not notice, since the data is right; scrub must.
	silent bool
}

func flipAt(off int64) func(f *os.File, s admin.Shard) error {
	return func(f *os.File, s admin.Shard) error {
		at := s.Offset + off
		if off < 0 {
			at = s.Offset + s.Length - 1
		}
		var b [1]byte
		if _, err := f.ReadAt(b[:], at); err != nil {
			return err
		}
		b[0] ^= 0x40
		_, err := f.WriteAt(b[:], at)
		return err
	}
}

func truncateTo(part func(length int64) int64) func(f *os.File, s admin.Shard) error {
	return func(f *os.File, s admin.Shard) error { return f.Truncate(s.Offset + part(s.Length)) }
}

var damageKinds = []damageKind{
	{name: "first byte flipped", do: flipAt(0)},
	{name: "middle byte flipped", do: func(f *os.File, s admin.Shard) error { return flipAt(s.Length/2)(f, s) }},
	{name: "last byte flipped", do: flipAt(-1)},
	{name: "truncated by one", do: truncateTo(func(n int64) int64 { return n - 1 }), spills: true},
	{name: "truncated by half", do: truncateTo(func(n int64) int64 { return n / 2 }), spills: true},
	{name: "truncated to nothing", do: truncateTo(func(int64) int64 { return 0 }), spills: true},
	{name: "zeroed", do: func(f *os.File, s admin.Shard) error {
		_, err := f.WriteAt(make([]byte, s.Length), s.Offset)
		return err
	}},
	{name: "header broken", silent: true, do: func(f *os.File, s admin.Shard) error {
		// A record begins on a page, and its header ends where the data begins.
		_, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 64), (s.Offset-1)&^(pageBytes-1))
		return err
	}},
}

// matrixSizes are the object sizes of the matrix: every kind of harm meets every one of them.
var matrixSizes = []int{0, 1, unit - 1, unit, unit + 1, stripe - 1, stripe, stripe + 1, blobLimit - 1, blobLimit, blobLimit + 1, 200 << 20}

// victim is one object with its original shards.
type victim struct {
	key    string
	seed   uint64
	size   int
	before admin.Object
	shards map[string]digest // by name, which tells blob and slot
}

type digest [sha256.Size]byte

func (v *victim) body() []byte { return content(v.seed, v.size) }

// victim stores an object and notes its shards.
func (s *store) victim(key string, seed uint64, size int) *victim {
	s.t.Helper()
	v := &victim{key: key, seed: seed, size: size}
	s.mustPut(key, v.body())
	v.before, v.shards = s.snapshot(key)
	return v
}

// harmed is a shard that was harmed.
type harmed struct {
	v     *victim
	kind  damageKind
	blob  int
	shard admin.Shard
}

func (h harmed) name() string { return shardName(h.blob, h.shard.Slot) }

func shardName(blob int, slot uint8) string { return fmt.Sprintf("%d.%d", blob, slot) }

// TestCorruptionMatrix (I2, I6): every kind of harm to a data and a parity shard of objects of every size. Reads are right
// throughout; scrub finds what reads did not; what is rebuilt is byte for byte what was lost. Each kind has a store of its
// own, so that the run needs the space of one.
func TestCorruptionMatrix(t *testing.T) {
	t.Parallel()
	for _, kind := range damageKinds {
		t.Run(kind.name, func(t *testing.T) {
			s := start(t)
			for _, found := range []string{"read", "scrub"} {
				s.corruptAndHeal(kind, matrixSizes, found)
			}
		})
	}
}

// corruptAndHeal harms two shards of every blob of new objects, and lets a read or the scrubber find it.
func (s *store) corruptAndHeal(kind damageKind, sizes []int, found string) {
	s.t.Helper()
	var victims []*victim
	var hurt []harmed
	drives := map[string]bool{}
	for i, size := range sizes {
		prefix := fmt.Sprintf("%s/%s/%d", kind.name, found, size)
		vs, hs := s.chooseShards(prefix, uint64(i)<<20+uint64(size), size, []string{"data", "parity"}, func(v *victim) (out []harmed) {
			for i := range v.before.Blobs {
				out = append(out, s.pick(kind, v, i, drives)...)
			}
			return out
		})
		victims, hurt = append(victims, vs...), append(hurt, hs...)
	}
	for _, h := range hurt {
		s.harmShard(kind, h.shard)
	}
	s.checkHarm(victims, hurt)
	if found == "scrub" {
		if got := s.scrub(); got.Findings == 0 {
			s.t.Errorf("scrub found nothing of %d harmed shards", len(hurt))
		}
	}
	s.compare(victims, "harmed")
	if found == "read" {
		if !kind.silent && !kind.spills {
			s.waitMended(slices.DeleteFunc(hurt, func(h harmed) bool { return h.shard.Role != "data" }))
		}
		s.scrub() // a read takes data shards only: parity's harm is for scrub to find
	}
	s.waitHealthy(healWithin)
	s.compare(victims, "healed")
	s.checkRebuilt(victims)
}

// checkHarm fails if nothing was harmed, or not what was meant.
func (s *store) checkHarm(victims []*victim, hurt []harmed) {
	s.t.Helper()
	for _, v := range victims {
		if !samePlaces(v.before, s.show(v.key)) {
			s.t.Fatalf("%s moved while it was being harmed: the harm was done to something else", v.key)
		}
	}
	if len(hurt) == 0 {
		s.t.Fatal("nothing was harmed: the test proves nothing")
	}
}

// checkRebuilt compares every shard with what it was.
func (s *store) checkRebuilt(victims []*victim) {
	s.t.Helper()
	for _, v := range victims {
		_, after := s.snapshot(v.key)
		for name, sum := range after {
			if sum != v.shards[name] {
				s.t.Errorf("%s: shard %s is not rebuilt byte for byte", v.key, name)
			}
		}
	}
}

// waitMended waits until harmed shards that were read by now are as they were, without anybody's asking for a scrub.
func (s *store) waitMended(hurt []harmed) {
	s.t.Helper()
	began := time.Now()
	for _, h := range hurt {
		for {
			sum, err := shardSum(s.show(h.v.key).Blobs[h.blob].Shards[h.shard.Slot])
			if err == nil && sum == h.v.shards[h.name()] {
				break
			}
			if time.Since(began) > healWithin {
				s.t.Fatalf("%s: shard %s was harmed (%s) and read, and is not as it was (%v)", h.v.key, h.name(), h.kind.name, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// chooseShards stores objects of one size until shards of all the roles are among those that pick chooses to harm. Kinds
// that spill harm the same drives' shards in all volumes, whatever these are there.
func (s *store) chooseShards(prefix string, seed uint64, size int, roles []string, pick func(*victim) []harmed) (victims []*victim, hurt []harmed) {
	s.t.Helper()
	missing := slices.Clone(roles)
	for i := range 60 {
		v := s.victim(fmt.Sprintf("%s/%d", prefix, i), seed+uint64(i)<<40, size)
		victims = append(victims, v)
		for _, h := range pick(v) {
			hurt = append(hurt, h)
			missing = slices.DeleteFunc(missing, func(role string) bool { return role == h.shard.Role })
		}
		if len(v.before.Blobs) == 0 || len(missing) == 0 {
			return victims, hurt
		}
	}
	s.t.Fatalf("%d objects of %d bytes, and no %v among their shards to harm", len(victims), size, missing)
	return nil, nil
}

// pick chooses one data and one parity shard of a blob. For kinds that spill it keeps to the drives of the first two that it
// chose, which every blob has shards on.
func (s *store) pick(kind damageKind, v *victim, blob int, drives map[string]bool) (hurt []harmed) {
	shards := v.before.Blobs[blob].Shards
	of := func(role string) admin.Shard {
		return shards[slices.IndexFunc(shards, func(sh admin.Shard) bool { return sh.Role == role })]
	}
	data, parity := of("data"), of("parity")
	if !kind.spills {
		return []harmed{{v, kind, blob, data}, {v, kind, blob, parity}}
	}
	if len(drives) == 0 {
		drives[data.DrivePath], drives[parity.DrivePath] = true, true
	}
	for _, sh := range shards {
		if drives[sh.DrivePath] {
			hurt = append(hurt, harmed{v, kind, blob, sh})
		}
	}
	return hurt
}

func (s *store) harmShard(kind damageKind, sh admin.Shard) {
	s.t.Helper()
	f, err := os.OpenFile(sh.Path, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		s.t.Fatal(err)
	}
	if kind.spills && st.Size() <= sh.Offset {
		return // cut off already, by a shard before it
	}
	if err := kind.do(f, sh); err != nil {
		s.t.Fatalf("%s: %v", sh.Path, err)
	}
}

// snapshot reads every shard of an object where it lies. Compaction may move one meanwhile: then it looks again.
func (s *store) snapshot(key string) (admin.Object, map[string]digest) {
	s.t.Helper()
	var err error
	for range 20 {
		o := s.show(key)
		var all map[string]digest
		if all, err = shardSums(o); err == nil && samePlaces(o, s.show(key)) {
			return o, all
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.t.Fatalf("%s: its shards cannot be read in place: %v", key, err)
	return admin.Object{}, nil
}

func samePlaces(a, b admin.Object) bool {
	for i := range a.Blobs {
		for j, sh := range a.Blobs[i].Shards {
			if now := b.Blobs[i].Shards[j]; now.Path != sh.Path || now.Offset != sh.Offset {
				return false
			}
		}
	}
	return true
}

func shardSums(o admin.Object) (map[string]digest, error) {
	all := map[string]digest{}
	for i, b := range o.Blobs {
		for _, sh := range b.Shards {
			sum, err := shardSum(sh)
			if err != nil {
				return nil, fmt.Errorf("shard %s: %w", shardName(i, sh.Slot), err)
			}
			all[shardName(i, sh.Slot)] = sum
		}
	}
	return all, nil
}

// shardSum reads a shard where it lies.
func shardSum(sh admin.Shard) (digest, error) {
	if sh.State != "ok" {
		return digest{}, fmt.Errorf("it is %s: %s", sh.State, sh.Error)
	}
	f, err := os.Open(sh.Path)
	if err != nil {
		return digest{}, err
	}
	defer f.Close()
	p := make([]byte, sh.Length)
	if _, err := f.ReadAt(p, sh.Offset); err != nil {
		return digest{}, fmt.Errorf("%s at %d: %w", sh.Path, sh.Offset, err)
	}
	return sha256.Sum256(p), nil
}

func (s *store) mustPut(key string, body []byte) {
	s.t.Helper()
	_, err := s.s3.PutObject(s.t.Context(), bucket, key, bytes.NewReader(body), int64(len(body)),
		minio.PutObjectOptions{DisableMultipart: true})
	if err != nil {
		s.t.Fatalf("put %s: %v", key, err)
	}
}

// read returns what a key reads as.
func (s *store) read(ctx context.Context, key string) ([]byte, error) {
	o, err := s.s3.GetObject(ctx, bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}

func (s *store) compare(victims []*victim, when string) {
	s.t.Helper()
	for _, v := range victims {
		got, err := s.read(s.t.Context(), v.key)
		if err != nil {
			s.t.Errorf("%s: %s: %v", when, v.key, err)
		} else if !bytes.Equal(got, v.body()) {
			s.t.Errorf("%s: WRONG BYTES: %s", when, v.key)
		}
	}
}

// TestBeyondRepair: with m+1 shards of a blob gone the answer is a clear error, never wrong bytes; nothing is deleted, and
// other objects are as they were.
func TestBeyondRepair(t *testing.T) {
	s := start(t)
	body := content(7, 3*stripe)
	s.mustPut("lost", body)
	s.mustPut("kept", content(8, stripe))
	o := s.show("lost")
	for _, sh := range o.Blobs[0].Shards[:3] {
		s.harmShard(damageKinds[6], sh)
	}
	for range 2 { // before and after scrub and repair have had their turn
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		client, err := minio.NewCore(s.server.S3Addr, &minio.Options{Creds: s.credentials(), MaxRetries: 1})
		if err != nil {
			t.Fatal(err)
		}
		r, _, _, err := client.GetObject(ctx, bucket, "lost", minio.GetObjectOptions{})
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			r.Close()
		}
		cancel()
		if err == nil {
			t.Fatalf("a lost object reads without an error, right: %t", bytes.Equal(got, body))
		}
		if !bytes.HasPrefix(body, got) {
			t.Fatalf("WRONG BYTES before the error (%d of them)", len(got))
		}
		var resp minio.ErrorResponse
		if errors.As(err, &resp) && resp.Code == "NoSuchKey" {
			t.Fatalf("a lost object answers as if it had never been: %v", err)
		}
		s.scrub()
	}
	st := s.waitStatus(20*time.Second, "lost", func(st admin.Status) bool { return st.Health == admin.HealthLost })
	if st.BlobsBySpare[-1] != 1 {
		t.Errorf("got %v, want one blob one short", st.BlobsBySpare)
	}
	after := s.show("lost")
	for i, sh := range after.Blobs[0].Shards[3:] {
		if before := o.Blobs[0].Shards[3+i]; sh.State != "ok" || sh.Length != before.Length {
			t.Errorf("a good shard of the lost blob is %s now, was %s", sh.State, before.State)
		}
	}
	if got, err := s.read(t.Context(), "kept"); err != nil || !bytes.Equal(got, content(8, stripe)) {
		t.Errorf("another object: %v", err)
	}
}
