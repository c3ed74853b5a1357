// Package conformance holds the table of what S3 answers: requests over plain HTTP and the answers that the Amazon S3 API
// Reference promises, one line each, in testdata/*.txt. The tests run every line against a whole frontend with the real object
// store, metadata and users below it.
//
// A file is a group with buckets and users of its own. Its lines run in order on one connection, so that a request is also the
// proof that the answer before it left the connection usable. A line has six columns, separated by " | ":
//
//	what it shows | user METHOD target | request headers | body | status code | expectations
//
// user is root, alice, bob (each an account of its own), anon, alice-forged (a wrong secret) or nobody (an unknown key); with
// "+unsigned" behind it the payload is not part of the signature, with "+nolength" no Content-Length is sent. Columns at the end may be
// left out; "-" is an empty one. Headers and expectations are separated by " ;; ". Expectations are:
//
//	Name: value    the header has this value ("*": any)
//	Name! value    the header does not hold this text; with no value: the header is absent
//	~ text         the body holds the text
//	! text         the body does not hold it
//	= text         the body is the text
//	$name = Name   remember a header, or
//	$name < Elem   the text of the body's first element of this name
//
// %(…) stands for: b, b2 (the group's buckets), a remembered name, alice and bob (canonical IDs), fill N (N bytes), md5, crc32, crc32c,
// crc64nvme, sha1, sha256 (of the body, base64), md5 of TEXT (hexadecimal), http ±DURATION and iso ±DURATION (times), key N (one
// segment of N bytes), b64 TEXT, signed USER TEXT (the signature of a form's policy), br and crlf (a line's end).
package conformance
