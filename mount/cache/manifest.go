package cache

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const formatVersion = 1

// errTorn tells that a map or manifest cannot be believed.
var errTorn = errors.New("torn or foreign record")

// manifest describes a file on disk: of a published one all of it, of a partial one the head of its map. It is written as
// one line of JSON that ends in its own CRC32C.
type manifest struct {
	Format int      `json:"format"`
	ID     ID       `json:"id"`
	Pinned bool     `json:"pinned,omitempty"`
	Sums   []uint32 `json:"sums,omitempty"` // CRC32C of each chunk; empty in the head of a map
}

func (m manifest) encode() []byte {
	b, _ := json.Marshal(m) // cannot fail
	return fmt.Appendf(nil, "%s %08x\n", b, checksum(b))
}

func decodeManifest(line []byte) (m manifest, err error) {
	n := len(line) - len(" 01234567\n")
	if n < 0 || line[len(line)-1] != '\n' || fmt.Sprintf(" %08x\n", checksum(line[:n])) != string(line[n:]) {
		return m, errTorn
	}
	if err := json.Unmarshal(line[:n], &m); err != nil || m.Format != formatVersion || m.ID.Size < 0 {
		return m, errTorn
	}
	return m, nil
}

// readManifest reads a published file's manifest.
func readManifest(path string) (manifest, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return manifest{}, err
	}
	m, err := decodeManifest(b)
	if err == nil && len(m.Sums) != m.ID.Chunks() {
		err = errTorn
	}
	return m, err
}

// writeManifest replaces a file durably: a crash leaves the old one or the whole new one.
func writeManifest(path string, m manifest) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(m.encode())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	return err
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A map is the manifest's line, padded to mapHead bytes, and one record per chunk:
//
//	0 CRC32C of the chunk u32   4 state u32 (1: there)   8 chunk number u32   12 CRC32C of the 12 bytes before u32
//
// (little-endian). Records are not synced: after a crash the data may be missing behind one, which the checksum shows.
const (
	mapHead   = 8 << 10 // an ID's parts are bounded by S3: keys of 1,024 bytes, escaped by JSON to six times that at the most
	mapRecord = 16
)

func encodeRecord(chunk int, sum uint32) []byte {
	b := make([]byte, mapRecord)
	binary.LittleEndian.PutUint32(b, sum)
	binary.LittleEndian.PutUint32(b[4:], 1)
	binary.LittleEndian.PutUint32(b[8:], uint32(chunk))
	binary.LittleEndian.PutUint32(b[12:], checksum(b[:12]))
	return b
}

func decodeRecord(chunk int, b []byte) (sum uint32, ok bool) {
	ok = binary.LittleEndian.Uint32(b[4:]) == 1 && binary.LittleEndian.Uint32(b[8:]) == uint32(chunk) &&
		binary.LittleEndian.Uint32(b[12:]) == checksum(b[:12])
	return binary.LittleEndian.Uint32(b), ok
}

// readMap reads the head and the records of a partial file.
func readMap(path string) (m manifest, there []bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return m, nil, err
	}
	if len(b) < mapHead {
		return m, nil, errTorn
	}
	end := 0
	for end < mapHead && b[end] != '\n' {
		end++
	}
	if end == mapHead {
		return m, nil, errTorn
	}
	if m, err = decodeManifest(b[:end+1]); err != nil {
		return m, nil, err
	}
	there, m.Sums = make([]bool, m.ID.Chunks()), make([]uint32, m.ID.Chunks())
	for i := range there {
		if at := mapHead + i*mapRecord; at+mapRecord <= len(b) {
			m.Sums[i], there[i] = decodeRecord(i, b[at:at+mapRecord])
		}
	}
	return m, there, nil
}

// allocate reserves the blocks of a file, so that filling it cannot run out of space. A file system that cannot reserve
// leaves a sparse file: running out of space is then an error of the write.
func allocate(f *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return f.Truncate(size)
	}
	return err
}
