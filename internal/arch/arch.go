// Package arch holds the tests of the project's architecture: which package may import which, and whose code may not be
// used at all. It has no code of its own; the table is in arch_test.go, and a new folder has to be entered there.
package arch
