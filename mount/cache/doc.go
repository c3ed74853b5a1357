// Package cache keeps copies of immutable remote files on a local disk, whole or in chunks.
//
// Each file has an identity (ID: one version of one object) and one data file of the full size, preallocated. While it
// fills it is partial: NAME.part beside NAME.map, which records for every chunk of 8 MiB that it is there and the CRC32C of
// its bytes. When the last chunk has come it is published: the data is synced, a manifest with all checksums is written and
// synced (NAME.json), the data file is renamed to NAME.data, and the directory is synced. Only published files may be handed to readers
// that bypass this package (kernel passthrough), so bytes that were never fetched can never be read as zeros.
//
// Invariants:
//   - a chunk of an earlier run is compared with its checksum before its first byte is served; what does not match is
//     forgotten and fetched again;
//   - a map or manifest that is torn, or of another format, is as good as none;
//   - the sizes of all files, those that are open and already evicted among them, stay within LimitBytes, and the disk
//     keeps FloorBytes free; when no room can be made the answer is ErrNoRoom, and the caller reads without a cache;
//   - one process at a time owns a directory.
//
// It deliberately does not fetch anything, and knows no network. What a passthrough reader reads is not checked byte by
// byte: a file of an earlier run is checked once in the background after it was opened (Verify), and on demand.
package cache
