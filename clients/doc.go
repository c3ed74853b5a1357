// Package clients runs stock S3 clients against the real server: `make test-clients`. Each client gets a server of its own and
// prints one PASS or FAIL line per case. No client is given a flag that works around the server: only an endpoint, credentials,
// a region, and path style where a client would otherwise look for buckets in DNS.
package clients
