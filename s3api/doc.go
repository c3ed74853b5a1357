// Package s3api is the S3 frontend: it authenticates requests, turns them into calls of package object, and renders the
// answers and errors of S3's REST API.
//
// It owns the one parse of a request's path into bucket and key (path.go), which signature, authorisation and storage all
// use; the table of operations (route.go); the reading of bodies in every payload form that S3 has, with bounds on time and
// memory (body.go); and the one table that turns kinds of errors into S3's codes (errors.go).
//
// Invariants: nothing of a request is acted on before its signature was verified and an allowing verdict given (I8). Every
// digest, chunk signature and trailer is verified before the object layer commits. An answer that breaks off after its
// first byte closes the connection, so that no client takes a part for the whole (I2). Requests under way, those that
// wait, connections, headers and in-memory bodies are bounded; beyond the bound the answer is 503 SlowDown (I9).
//
// It deliberately does not: decide who may do what (iam), know how objects are stored (object), or keep any state of its
// own beyond the signing-key cache. Operations that S3 has and Cairn lacks answer NotImplemented or S3's own "not
// configured" error; nothing is accepted and then ignored.
package s3api
