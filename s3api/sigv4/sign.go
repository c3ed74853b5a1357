package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// Sign adds an Authorization header to an outgoing request's headers, for clients and tests of ours. The message's headers
// must hold X-Amz-Date and X-Amz-Content-Sha256 already; signed lists the header names to cover, sorted, with "host".
func Sign(m *Message, accessKey, secret, region, signed string) (http.Header, Seed) {
	date := first(m.Header, "X-Amz-Date")
	a := Auth{AccessKey: accessKey, Day: date[:8], Region: region, Scope: date[:8] + "/" + region + "/s3/aws4_request",
		SignedHeaders: signed, Date: date, Payload: first(m.Header, "X-Amz-Content-Sha256")}
	seed := Seed{key: derive(secret, a.Day, region, "s3"), date: date, scope: a.Scope}
	buf := appendCanonical(nil, &a, m, "")
	seed.signature = seed.sign(&buf)
	m.Header.Set("Authorization", algorithm+" Credential="+accessKey+"/"+a.Scope+", SignedHeaders="+signed+
		", Signature="+string(seed.signature[:]))
	return m.Header, seed
}

// NextChunk returns the signature of the next chunk of a streaming upload that begins with this seed, and moves on to it.
// Together with Sign it is the client's side.
func (s *Seed) NextChunk(data []byte) string {
	sum := sha256.Sum256(data)
	b := s.chain(make([]byte, 0, 384), chunkKind)
	b = append(b, EmptySHA256+"\n"...)
	s.signature = s.key.hexSum(hex.AppendEncode(b, sum[:]))
	return string(s.signature[:])
}

// SignTrailer returns the signature of the trailer lines ("name:value\n" each) behind the final chunk.
func (s *Seed) SignTrailer(lines []byte) string {
	sum := sha256.Sum256(lines)
	sig := s.key.hexSum(hex.AppendEncode(s.chain(make([]byte, 0, 384), trailerKind), sum[:]))
	return string(sig[:])
}

// The kinds of strings to sign behind the seed.
const (
	chunkKind   = "AWS4-HMAC-SHA256-PAYLOAD\n"
	trailerKind = "AWS4-HMAC-SHA256-TRAILER\n"
)

// chain appends what every string to sign of the chain begins with: kind, date, scope, the signature before.
func (s *Seed) chain(b []byte, kind string) []byte {
	b = append(b, kind...)
	b = append(b, s.date...)
	b = append(b, '\n')
	b = append(b, s.scope...)
	b = append(b, '\n')
	b = append(b, s.signature[:]...)
	return append(b, '\n')
}

// Presign returns the signature of a URL whose query holds all other parameters of a presigned one.
func Presign(m *Message, secret, region string) string {
	q := params(m.Query)
	date := q.get("X-Amz-Date")
	a := Auth{Presigned: true, Scope: date[:8] + "/" + region + "/s3/aws4_request", Date: date,
		SignedHeaders: q.get("X-Amz-SignedHeaders"), Payload: UnsignedPayload}
	seed := Seed{key: derive(secret, date[:8], region, "s3"), date: date, scope: a.Scope}
	buf := appendCanonical(nil, &a, m, "")
	sig := seed.sign(&buf)
	return string(sig[:])
}

type params []Param

func (ps params) get(key string) string {
	for _, p := range ps {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}
