package object

import "math/bits"

// Polynomials of S3's CRCs, least significant bit first (reflected).
const (
	polyCRC32     uint32 = 0xedb88320         // IEEE 802.3
	polyCRC32C    uint32 = 0x82f63b78         // Castagnoli
	polyCRC64NVME uint64 = 0x9a6c9329ac4bc9b5 // NVM Express
)

// combineCRC returns the CRC of A followed by B from their CRCs and the length of B in bytes. It holds for CRCs that start
// from all ones and end with an inversion, as these three do: the inversions cancel, so that
// crc(AB) = crc(A)·x^(8·len(B)) + crc(B) over GF(2) modulo the polynomial.
func combineCRC[T uint32 | uint64](poly, a, b T, lenB int64) T {
	return mulCRC(poly, a, powCRC(poly, uint64(lenB))) ^ b
}

// powCRC returns x^(8n) modulo the polynomial, by squaring.
func powCRC[T uint32 | uint64](poly T, n uint64) T {
	result := topBit[T]()      // the polynomial 1
	square := topBit[T]() >> 8 // x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = mulCRC(poly, result, square)
		}
		square = mulCRC(poly, square, square)
	}
	return result
}

// mulCRC multiplies two polynomials modulo a third. In the reflected form the top bit is the coefficient of x^0, and
// shifting right multiplies by x.
func mulCRC[T uint32 | uint64](poly, a, b T) T {
	var product T
	for bit := topBit[T](); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ poly
		} else {
			b >>= 1
		}
	}
	return product
}

func topBit[T uint32 | uint64]() T {
	return T(1) << (bits.Len64(uint64(^T(0))) - 1)
}
