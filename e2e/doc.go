// Package e2e tests the real binary as a person uses it: processes on free ports, stock S3 clients, real directories and
// file systems, drives that are deleted, unplugged, remounted and shut down under load. The tests carry the build tag e2e
// and find the binary in CAIRN_BINARY; `make test-e2e` runs them.
//
// What is proven here is named by the invariants of ARCHITECTURE.md: I1 (acknowledged writes survive), I2 (never wrong
// bytes), I5 (all or nothing), I6 (damage is found and mended without a person).
package e2e
