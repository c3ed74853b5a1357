// Package sse seals bytes at rest: the block format of encrypted bodies, and the keys that wrap their data keys.
//
// Every encrypted object has a random data key of 256 bits. Its bytes, and those of each part of an upload, are sealed under
// a key of their own, derived from the data key and a random salt, in blocks of 64 KiB with AES-256-GCM. The nonce is the
// block's number and a mark on the last one (the STREAM construction: Hoang, Reyhanitabar, Rogaway, Vizár, "Online
// Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015), so that blocks that were exchanged, repeated or cut
// off do not open, and a range costs only the blocks that it touches.
//
// The data key is stored wrapped, under a master key of the store (SSE-S3), of a key service (SSE-KMS: a key file or Vault's
// transit engine), or of the client (SSE-C, whose key is never stored). Rotation wraps data keys anew and moves no bytes.
//
// It does not know buckets, keys, or HTTP headers: which scheme applies is decided by package object and the frontends.
package sse
