// Package bench measures a store through its S3 interface, and the machine that it runs on.
//
// It owns a small HTTP/1.1 client that signs with SigV4 and writes to raw connections, because on a machine where client
// and server share the cores every microsecond of the client hides one of the server; the loads that use it; the probes of
// the machine's own limits; and the suite that `make bench` runs against a real server process.
//
// Every byte that a GET returns is checked against the CRC32C of what was put: a fast wrong answer counts as an error.
// The client is no general S3 client: it knows the few requests that the loads need, and speaks plain HTTP only.
package bench
