package s3api

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/http"
	"strings"

	"github.com/minio/crc64nvme"

	"cairn"
)

// The x-amz-checksum family: see "Checking object integrity" in the Amazon S3 User Guide.
var checksumAlgos = [...]struct {
	algo   cairn.ChecksumAlgo
	lower  string // header name as trailers and canonical requests spell it
	header string // canonical header name
	xml    string // element name
	size   int    // bytes
}{
	{cairn.CRC64NVME, "x-amz-checksum-crc64nvme", "X-Amz-Checksum-Crc64nvme", "ChecksumCRC64NVME", 8},
	{cairn.CRC32, "x-amz-checksum-crc32", "X-Amz-Checksum-Crc32", "ChecksumCRC32", 4},
	{cairn.CRC32C, "x-amz-checksum-crc32c", "X-Amz-Checksum-Crc32c", "ChecksumCRC32C", 4},
	{cairn.SHA1, "x-amz-checksum-sha1", "X-Amz-Checksum-Sha1", "ChecksumSHA1", 20},
	{cairn.SHA256, "x-amz-checksum-sha256", "X-Amz-Checksum-Sha256", "ChecksumSHA256", 32},
}

// checksumOfHeader returns the algorithm of a lower-case header name, "" if it is none of the family.
func checksumOfHeader(lower string) cairn.ChecksumAlgo {
	for i := range checksumAlgos {
		if checksumAlgos[i].lower == lower {
			return checksumAlgos[i].algo
		}
	}
	return ""
}

// parseAlgo reads an algorithm's name in any case.
func parseAlgo(name string) (cairn.ChecksumAlgo, error) {
	for i := range checksumAlgos {
		if strings.EqualFold(string(checksumAlgos[i].algo), name) {
			return checksumAlgos[i].algo, nil
		}
	}
	return "", errInvalidRequest.with("Checksum algorithm provided is unsupported. Please try again with any of the valid types: " +
		"[CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
}

// parseChecksum reads a base64 value of the right length.
func parseChecksum(algo cairn.ChecksumAlgo, value string) (cairn.Checksum, error) {
	raw, err := base64.StdEncoding.DecodeString(value)
	for i := range checksumAlgos {
		if row := &checksumAlgos[i]; row.algo == algo && (err != nil || len(raw) != row.size) {
			return cairn.Checksum{}, errInvalidRequest.with("Value for " + row.lower + " header is invalid.")
		}
	}
	return cairn.Checksum{Algo: algo, Value: raw}, nil
}

// declaredChecksum reads the checksum that headers declare: a value, or an algorithm to compute (of a trailer, or asked
// for), or nothing.
func (c *call) declaredChecksum() (sum cairn.Checksum, err error) {
	for i := range checksumAlgos {
		row := &checksumAlgos[i]
		values := c.r.Header[row.header]
		if len(values) == 0 {
			continue
		}
		if sum.Algo != "" {
			return sum, errInvalidRequest.with("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		if sum, err = parseChecksum(row.algo, values[0]); err != nil {
			return sum, err
		}
	}
	if sum.Algo != "" {
		return sum, c.agree(sum.Algo)
	}
	for name := range strings.SplitSeq(c.header("X-Amz-Trailer"), ",") {
		if algo := checksumOfHeader(strings.ToLower(strings.TrimSpace(name))); algo != "" {
			return cairn.Checksum{Algo: algo}, c.agree(algo)
		}
	}
	return c.askedChecksum()
}

// askedChecksum reads x-amz-sdk-checksum-algorithm where no value is declared. S3 refuses that, except in presigned URLs,
// where the signer could not know the body.
func (c *call) askedChecksum() (sum cairn.Checksum, err error) {
	name := c.header("X-Amz-Sdk-Checksum-Algorithm")
	if name == "" {
		return sum, nil
	}
	if sum.Algo, err = parseAlgo(name); err != nil || c.auth.Presigned {
		return sum, err
	}
	return sum, errInvalidRequest.with("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or " +
		"x-amz-trailer headers were found.")
}

// agree refuses an algorithm other than the one that x-amz-sdk-checksum-algorithm names.
func (c *call) agree(algo cairn.ChecksumAlgo) error {
	name := c.header("X-Amz-Sdk-Checksum-Algorithm")
	if name == "" {
		return nil
	}
	named, err := parseAlgo(name)
	if err == nil && named != algo {
		err = errInvalidRequest.with("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	return err
}

// sumOf computes a checksum of bytes in memory.
func sumOf(algo cairn.ChecksumAlgo, p []byte) []byte {
	switch algo {
	case cairn.CRC32:
		return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(p))
	case cairn.CRC32C:
		return binary.BigEndian.AppendUint32(nil, crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli)))
	case cairn.CRC64NVME:
		return binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(p))
	case cairn.SHA1:
		sum := sha1.Sum(p)
		return sum[:]
	}
	sum := sha256.Sum256(p)
	return sum[:]
}

// checksumText is how S3 prints a value: base64, and "-N" behind a COMPOSITE one.
func checksumText(sum cairn.Checksum) string {
	text := base64String(sum.Value)
	if sum.Parts > 0 {
		text += "-" + itoa(int64(sum.Parts))
	}
	return text
}

func checksumType(sum cairn.Checksum) string {
	if sum.Parts > 0 {
		return "COMPOSITE"
	}
	return "FULL_OBJECT"
}

// setChecksums adds the response headers of a version's or part's checksums.
func setChecksums(h http.Header, sums []cairn.Checksum, withType bool) {
	for _, sum := range sums {
		for i := range checksumAlgos {
			if row := &checksumAlgos[i]; row.algo == sum.Algo && len(sum.Value) > 0 {
				h[row.header] = []string{checksumText(sum)}
				if withType {
					h["X-Amz-Checksum-Type"] = []string{checksumType(sum)}
				}
			}
		}
	}
}

// appendChecksums renders checksums as elements.
func appendChecksums(b []byte, sums []cairn.Checksum, withType bool) []byte {
	for _, sum := range sums {
		for i := range checksumAlgos {
			if row := &checksumAlgos[i]; row.algo == sum.Algo && len(sum.Value) > 0 {
				b = appendElement(b, row.xml, checksumText(sum))
				if withType {
					b = appendElement(b, "ChecksumType", checksumType(sum))
				}
			}
		}
	}
	return b
}
