package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/crc32"
)

// ChunkBytes is the unit of fetching, checking and accounting within a file.
const ChunkBytes = 8 << 20

// ID names one immutable file: one version of one object at one endpoint.
type ID struct {
	Endpoint string `json:"endpoint"`
	Bucket   string `json:"bucket"`
	Key      string `json:"key"`
	Version  string `json:"version,omitempty"`
	ETag     string `json:"etag"`
	Size     int64  `json:"size"`
}

// Name is the stem of the file's names on disk: 32 hexadecimal digits that depend on every field.
func (id ID) Name() string {
	b, _ := json.Marshal(id) // strings and a number: cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Chunks is the number of chunks.
func (id ID) Chunks() int { return int((id.Size + ChunkBytes - 1) / ChunkBytes) }

// ChunkLen is the length of chunk i in bytes.
func (id ID) ChunkLen(i int) int { return int(min(ChunkBytes, id.Size-int64(i)*ChunkBytes)) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
