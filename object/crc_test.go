package object

import (
	"hash/crc32"
	"testing"

	"github.com/minio/crc64nvme"
	"pgregory.net/rapid"
)

func TestCombineCRC(t *testing.T) {
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "a")
		b := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "b")
		ab := append(append([]byte{}, a...), b...)
		n := int64(len(b))
		if got, want := combineCRC(polyCRC32, crc32.ChecksumIEEE(a), crc32.ChecksumIEEE(b), n), crc32.ChecksumIEEE(ab); got != want {
			t.Fatalf("CRC32: got %08x, want %08x", got, want)
		}
		if got, want := combineCRC(polyCRC32C, crc32.Checksum(a, castagnoli), crc32.Checksum(b, castagnoli), n),
			crc32.Checksum(ab, castagnoli); got != want {
			t.Fatalf("CRC32C: got %08x, want %08x", got, want)
		}
		if got, want := combineCRC(polyCRC64NVME, crc64nvme.Checksum(a), crc64nvme.Checksum(b), n), crc64nvme.Checksum(ab); got != want {
			t.Fatalf("CRC64NVME: got %016x, want %016x", got, want)
		}
	})
}

// A part is up to 5 GiB, more than 32 bits count. Zeros appended by doubling give the CRC of such a length without its bytes.
func TestCombineCRCLong(t *testing.T) {
	const doublings = 33
	zeros := make([]byte, 1)
	crc, n := crc64nvme.Checksum(zeros), int64(1)
	for range doublings {
		crc = combineCRC(polyCRC64NVME, crc, crc, n)
		n *= 2
	}
	// Associativity: 2^33 zeros split elsewhere.
	head := int64(5_000_000_001)
	headCRC, tailCRC := zerosCRC(head), zerosCRC(n-head)
	if got := combineCRC(polyCRC64NVME, headCRC, tailCRC, n-head); got != crc {
		t.Errorf("got %016x, want %016x", got, crc)
	}
	direct := crc64nvme.Checksum(make([]byte, 1<<20+3))
	if got := zerosCRC(1<<20 + 3); got != direct {
		t.Errorf("1 MiB and 3: got %016x, want %016x", got, direct)
	}
}

// zerosCRC is the CRC64NVME of n zero bytes, by its binary digits.
func zerosCRC(n int64) uint64 {
	var out uint64 // of nothing
	power := crc64nvme.Checksum([]byte{0})
	for bit := int64(1); bit <= n; bit *= 2 {
		if n&bit != 0 {
			out = combineCRC(polyCRC64NVME, out, power, bit)
		}
		power = combineCRC(polyCRC64NVME, power, power, bit)
	}
	return out
}
