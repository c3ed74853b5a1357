package object

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/minio/crc64nvme"
	"go.uber.org/goleak"

	"cairn"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testBytes returns n bytes that depend on n and seed alone.
func testBytes(n int, seed uint64) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(n), byte(n >> 8), byte(n >> 16)}).Read(p)
	return p
}

// direct computes a checksum with one call over the whole body.
func direct(algo cairn.ChecksumAlgo, p []byte) []byte {
	switch algo {
	case cairn.CRC32:
		return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(p))
	case cairn.CRC32C:
		return binary.BigEndian.AppendUint32(nil, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	case cairn.SHA1:
		sum := sha1.Sum(p)
		return sum[:]
	case cairn.SHA256:
		sum := sha256.Sum256(p)
		return sum[:]
	}
	return binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(p))
}

var allAlgos = []cairn.ChecksumAlgo{"", cairn.CRC32, cairn.CRC32C, cairn.CRC64NVME, cairn.SHA1, cairn.SHA256}

// hashAll feeds p to a hasher of the pool in uneven pieces.
func hashAll(t *testing.T, pool *hasherPool, want Digests, p []byte) sums {
	t.Helper()
	h, err := pool.get(want, int64(len(p)), MaxPutBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.put(h)
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 1+len(rest)*2/3)
		if _, err := h.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	return h.sum()
}

// withLanes runs f with a pool whose MD5 lanes are open.
func withLanes(t *testing.T, f func(pool *hasherPool)) {
	t.Helper()
	pool := &hasherPool{lanes: &lanes{}}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { pool.lanes.run(ctx) })
	for !pool.lanes.isOpen() {
		// run opens them at once
	}
	pool.lanes.crowd()
	f(pool)
	cancel()
	wg.Wait()
}

// crowd pretends that enough other streams are under way for every further one to get a lane.
func (l *lanes) crowd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams += laneMinStreams
}

func (l *lanes) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

// One pool serves bodies of all sizes and algorithms one after another: what a hasher kept from the last body must not show.
func TestHasher(t *testing.T) {
	check := func(pool *hasherPool) {
		for _, size := range []int{0, 1, 63, 64, hashPiece - 1, hashPiece, hashPiece + 1, laneMinBytes, laneMinBytes + 77, 1 << 20} {
			for i, algo := range allAlgos {
				p := testBytes(size, uint64(i))
				sha := sha256.Sum256(p)
				got := hashAll(t, pool, Digests{SHA256: sha[:], Checksum: cairn.Checksum{Algo: algo}}, p)
				if want := md5.Sum(p); got.md5 != want {
					t.Errorf("%d %s: MD5 got %x, want %x", size, algo, got.md5, want)
				}
				if !bytes.Equal(got.sha256, sha[:]) {
					t.Errorf("%d %s: SHA-256 got %x, want %x", size, algo, got.sha256, sha)
				}
				if want := direct(algo, p); !bytes.Equal(got.checksum.Value, want) {
					t.Errorf("%d %s: got %x, want %x", size, algo, got.checksum.Value, want)
				}
				if want := crc64nvme.Checksum(p); got.crc64 != want {
					t.Errorf("%d %s: CRC64NVME got %x, want %x", size, algo, got.crc64, want)
				}
			}
		}
	}
	t.Run("plain", func(t *testing.T) { check(&hasherPool{lanes: &lanes{}}) })
	t.Run("lanes", func(t *testing.T) { withLanes(t, check) })
}

// More streams than there are lanes, and lanes that are reused: every sum is right.
func TestLanesTogether(t *testing.T) {
	withLanes(t, func(pool *hasherPool) {
		var wg sync.WaitGroup
		for i := range lanesPerServer*maxLaneServers + 9 {
			wg.Go(func() {
				for round := range 3 {
					p := testBytes(laneMinBytes+i*round*31, uint64(i))
					if got, want := hashAll(t, pool, Digests{}, p).md5, md5.Sum(p); got != want {
						t.Errorf("stream %d, round %d: got %x, want %x", i, round, got, want)
					}
				}
			})
		}
		wg.Wait()
		if n := len(pool.lanes.servers); n > maxLaneServers {
			t.Errorf("got %d servers, want %d at most", n, maxLaneServers)
		}
	})
}

// The end of Run waits for a stream that holds a lane, and the stream still gets its sum.
func TestLanesEndWaits(t *testing.T) {
	pool := &hasherPool{lanes: &lanes{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { pool.lanes.run(ctx); close(ended) }()
	for !pool.lanes.isOpen() {
	}
	pool.lanes.crowd()
	h, err := pool.get(Digests{}, -1, MaxPutBytes)
	if err != nil || h.lane == nil {
		t.Fatalf("no lane: %v", err)
	}
	cancel()
	for pool.lanes.isOpen() {
	}
	if h2, _ := pool.get(Digests{}, -1, MaxPutBytes); h2.lane != nil {
		t.Error("a lane was handed out after the end")
	}
	p := testBytes(1<<20, 1)
	h.Write(p)
	if got, want := h.sum().md5, md5.Sum(p); got != want {
		t.Errorf("got %x, want %x", got, want)
	}
	select {
	case <-ended:
		t.Error("run ended under a stream")
	default:
	}
	pool.put(h)
	<-ended
}

func TestVerify(t *testing.T) {
	p := testBytes(1000, 7)
	md5sum, sha := md5.Sum(p), sha256.Sum256(p)
	wrong := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[len(b)-1] ^= 1
		return b
	}
	broken := errors.New("trailer was cut off")
	type verifyCase struct {
		name string
		want Digests
		err  error  // kind expected
		on   string // DigestError.Name expected
	}
	cases := []verifyCase{
		{"nothing declared", Digests{}, nil, ""},
		{"MD5 right", Digests{MD5: md5sum[:]}, nil, ""},
		{"MD5 wrong", Digests{MD5: wrong(md5sum[:])}, cairn.ErrInvalid, "Content-MD5"},
		{"MD5 empty", Digests{MD5: []byte{}}, cairn.ErrInvalid, "Content-MD5"},
		{"SHA-256 right", Digests{SHA256: sha[:]}, nil, ""},
		{"SHA-256 wrong", Digests{SHA256: wrong(sha[:])}, cairn.ErrInvalid, "x-amz-content-sha256"},
		{"trailer fails", Digests{Trailer: func() (cairn.Checksum, error) { return cairn.Checksum{}, broken }}, broken, ""},
		{"trailer absent", Digests{Trailer: func() (cairn.Checksum, error) { return cairn.Checksum{}, nil }}, nil, ""},
		{"trailer of another algorithm", Digests{Checksum: cairn.Checksum{Algo: cairn.CRC32},
			Trailer: func() (cairn.Checksum, error) {
				return cairn.Checksum{Algo: cairn.SHA1, Value: direct(cairn.SHA1, p)}, nil
			}},
			ErrChecksumType, ""},
	}
	for _, algo := range allAlgos[1:] {
		good, bad := cairn.Checksum{Algo: algo, Value: direct(algo, p)}, cairn.Checksum{Algo: algo, Value: wrong(direct(algo, p))}
		trailer := func(c cairn.Checksum) func() (cairn.Checksum, error) {
			return func() (cairn.Checksum, error) { return c, nil }
		}
		cases = append(cases,
			verifyCase{fmt.Sprintf("%s right", algo), Digests{Checksum: good}, nil, ""},
			verifyCase{fmt.Sprintf("%s wrong", algo), Digests{Checksum: bad}, cairn.ErrInvalid, string(algo)},
			verifyCase{fmt.Sprintf("%s empty", algo), Digests{Checksum: cairn.Checksum{Algo: algo, Value: []byte{}}}, cairn.ErrInvalid, string(algo)},
			verifyCase{fmt.Sprintf("%s trailer right", algo), Digests{Checksum: cairn.Checksum{Algo: algo}, Trailer: trailer(good)}, nil, ""},
			verifyCase{fmt.Sprintf("%s trailer wrong", algo), Digests{Checksum: cairn.Checksum{Algo: algo}, Trailer: trailer(bad)}, cairn.ErrInvalid, string(algo)},
			verifyCase{fmt.Sprintf("%s header right, trailer wrong", algo), Digests{Checksum: good, Trailer: trailer(bad)}, cairn.ErrInvalid, string(algo)},
		)
	}
	pool := &hasherPool{lanes: &lanes{}}
	for _, c := range cases {
		s := hashAll(t, pool, c.want, p)
		err := s.verify(c.want)
		var digest *DigestError
		if !errors.Is(err, c.err) || errors.As(err, &digest) != (c.on != "") || (c.on != "" && digest.Name != c.on) {
			t.Errorf("%s: got %v, want %v on %q", c.name, err, c.err, c.on)
		}
	}
}

func TestHasherRefusesUnknownAlgorithm(t *testing.T) {
	pool := &hasherPool{lanes: &lanes{}}
	if _, err := pool.get(Digests{Checksum: cairn.Checksum{Algo: "MD4"}}, 0, 1); !errors.Is(err, ErrChecksumType) {
		t.Errorf("got %v, want %v", err, ErrChecksumType)
	}
}

func TestHasherLimit(t *testing.T) {
	pool := &hasherPool{lanes: &lanes{}}
	h, err := pool.get(Digests{}, -1, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.put(h)
	if _, err := h.Write(make([]byte, 10)); err != nil {
		t.Errorf("10 of 10 bytes: %v", err)
	}
	if _, err := h.Write(make([]byte, 1)); !errors.Is(err, ErrEntityTooLarge) {
		t.Errorf("11 of 10 bytes: got %v, want %v", err, ErrEntityTooLarge)
	}
}

// BenchmarkMD5 compares lanes with plain MD5 where it matters: how much one core does for one and for many streams.
func BenchmarkMD5(b *testing.B) {
	for _, size := range []int{64 << 10, 256 << 10, 1 << 20, 16 << 20} {
		for _, streams := range []int{1, 2, 4, 16} {
			for _, laned := range []bool{false, true} {
				b.Run(fmt.Sprintf("%dKiB/%d/lanes=%t", size>>10, streams, laned), func(b *testing.B) {
					pool := &hasherPool{lanes: &lanes{}}
					ctx, cancel := context.WithCancel(context.Background())
					var wg sync.WaitGroup
					if laned {
						wg.Go(func() { pool.lanes.run(ctx) })
						for !pool.lanes.isOpen() {
						}
					}
					p := testBytes(size, 1)
					b.SetBytes(int64(size * streams))
					for b.Loop() {
						var g sync.WaitGroup
						for range streams {
							// A put holds its hasher while it waits for the network and the drives too.
							h, _ := pool.get(Digests{}, int64(size), MaxPutBytes)
							g.Go(func() {
								h.Write(p)
								h.sum()
								pool.put(h)
							})
						}
						g.Wait()
					}
					cancel()
					wg.Wait()
				})
			}
		}
	}
}
