// Package mount shows a bucket as a read-only file system to one machine, with a cache on its local disk: the first load
// of a model runs at the speed of the network, every later one at the speed of the disk.
//
// It works against any S3 endpoint (Store; S3 is one, over minio-go). A file system request comes to a directory or a file
// (tree.go, file.go); an open file is one version of one object, and every fetch demands its ETag. What is read is fetched
// in chunks by one scheduler with one budget of memory (fetch.go), written to the cache, and served from there. A file that
// is wholly cached is handed to the kernel (FUSE passthrough): reads and page faults then do not pass this process at all.
//
// Invariants:
//   - no read returns bytes of two versions: a fetch that meets another ETag fails the read with ESTALE;
//   - only published cache files are handed to the kernel, and never on an inode that was opened otherwise (the kernel
//     refuses it): a file that is complete gets a new inode number, and its name is announced anew;
//   - memory for fetched bytes is bounded by Config.MemoryBytes: who finds none waits;
//   - a peer gets what the store says that it may read, and its request is never passed on to a third mount;
//   - every wait for the store ends after Config.Patience, with EIO and a line in the log that says why.
//
// The process that mounts must not map files of its own mount: see TestMappedRandomOrder.
//
// What no path can hold lies under .cairn/key (names.go). It deliberately does not write.
package mount
