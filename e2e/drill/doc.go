// Package drill breaks a cluster of real processes on purpose and measures what clients notice. Every node is a process in a
// network namespace of its own, with its own address; the namespaces hang on a switch in the test's process, which can lose,
// cut and reset what passes between any two of them.
//
// TestDrill (`make drill`) makes one fault after the other under a constant mixed load, prints a table, and fails where an
// acknowledged write is lost, a wrong byte is served, a request stalls, or redundancy does not come back. Redundancy is counted
// from the drives' segment files by a reader of its own (shards_test.go), which asks nobody. TestLinearizable runs few keys
// under the same faults and has the history checked by porcupine.
//
// The tests carry the build tag e2e, need root, iproute2 and /dev/net/tun, and skip loudly without them.
package drill
