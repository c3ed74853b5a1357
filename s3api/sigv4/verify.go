package sigv4

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"sync"
)

// maxKeys bounds the signing-key cache; a full one is emptied, since a day's keys of one site fit many times over.
const maxKeys = 1024

// Verifier checks signatures and remembers derived signing keys. Safe for concurrent use.
type Verifier struct {
	buffers sync.Pool // *[]byte
	mu      sync.RWMutex
	keys    map[keyID]cachedKey
}

type keyID struct{ accessKey, day, region, service string }

type cachedKey struct {
	secret string
	key    signingKey
}

// NewVerifier returns one with an empty cache.
func NewVerifier() *Verifier {
	return &Verifier{keys: map[keyID]cachedKey{}, buffers: sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}}
}

// Seed is a verified signature: where a streaming upload's chain of chunk signatures begins.
type Seed struct {
	key       signingKey
	date      string
	scope     string
	signature [64]byte
}

// Verify checks a request's signature against the secret of its access key, and that the signature covers every header
// that S3 wants covered. CheckTime is the caller's, since it must come first.
func (v *Verifier) Verify(a *Auth, secret string, m *Message) (Seed, error) {
	if err := checkSigned(a.SignedHeaders, m.Header); err != nil {
		return Seed{}, err
	}
	seed := Seed{key: v.signingKey(a, secret), date: a.Date, scope: a.Scope}
	copy(seed.signature[:], a.Signature)
	pooled := v.buffers.Get().(*[]byte)
	defer v.buffers.Put(pooled)
	buf := appendCanonical((*pooled)[:0], a, m, "")
	got := seed.sign(&buf)
	if subtle.ConstantTimeCompare(got[:], seed.signature[:]) != 1 {
		// A client may leave bytes unescaped that S3's canonical form escapes, and sign the path as it sent it. Both
		// forms decode to the one path that is served.
		buf = appendCanonical(buf[:0], a, m, m.RawPath)
		got = seed.sign(&buf)
	}
	*pooled = buf[:0]
	if subtle.ConstantTimeCompare(got[:], seed.signature[:]) != 1 {
		return Seed{}, mismatch(a, m)
	}
	return seed, nil
}

// sign returns the signature of the canonical request in *buf, which it overwrites with the string to sign.
func (s *Seed) sign(buf *[]byte) [64]byte {
	sum := sha256.Sum256(*buf)
	*buf = appendStringToSign((*buf)[:0], s.date, s.scope, sum)
	return s.key.hexSum(*buf)
}

func appendStringToSign(b []byte, date, scope string, canonicalSum [32]byte) []byte {
	b = append(b, algorithm+"\n"...)
	b = append(b, date...)
	b = append(b, '\n')
	b = append(b, scope...)
	b = append(b, '\n')
	return hex.AppendEncode(b, canonicalSum[:])
}

func mismatch(a *Auth, m *Message) error {
	canonical := appendCanonical(nil, a, m, "")
	return &Error{Reason: Mismatch, Canonical: string(canonical),
		Detail: "The request signature we calculated does not match the signature you provided. " +
			"Check your key and signing method.",
		StringToSign: string(appendStringToSign(nil, a.Date, a.Scope, sha256.Sum256(canonical)))}
}

func (v *Verifier) signingKey(a *Auth, secret string) signingKey {
	id := keyID{a.AccessKey, a.Day, a.Region, a.service()}
	v.mu.RLock()
	c, ok := v.keys[id]
	v.mu.RUnlock()
	if ok && subtle.ConstantTimeCompare([]byte(c.secret), []byte(secret)) == 1 {
		return c.key
	}
	c = cachedKey{secret: secret, key: derive(secret, a.Day, a.Region, a.service())}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.keys) >= maxKeys {
		clear(v.keys)
	}
	// The strings are slices of the request's headers: copy them, or the cache keeps whole requests alive.
	v.keys[keyID{clone(a.AccessKey), clone(a.Day), clone(a.Region), a.service()}] = c
	return c.key
}

func clone(s string) string { return string([]byte(s)) }

// signingKey is HMAC-SHA256's key, already padded and mixed into both of its blocks (RFC 2104).
type signingKey struct{ inner, outer [64]byte }

func newKey(key []byte) signingKey {
	var k signingKey
	if len(key) > 64 {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(k.inner[:], key)
	k.outer = k.inner
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

// sum is HMAC-SHA256 of a short message, without allocation up to 448 bytes.
func (k *signingKey) sum(msg []byte) [32]byte {
	var stack [512]byte
	inner := sha256.Sum256(append(append(stack[:0], k.inner[:]...), msg...))
	return sha256.Sum256(append(append(stack[:0], k.outer[:]...), inner[:]...))
}

func (k *signingKey) hexSum(msg []byte) (out [64]byte) {
	sum := k.sum(msg)
	hex.Encode(out[:], sum[:])
	return out
}

func derive(secret, day, region, service string) signingKey {
	k := newKey([]byte("AWS4" + secret))
	for _, part := range []string{day, region, service, "aws4_request"} {
		sum := k.sum([]byte(part))
		k = newKey(sum[:])
	}
	return k
}
