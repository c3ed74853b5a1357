package join

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"strings"

	"cairn"
	"cairn/internal/rpc"
)

// Token is what a person carries to a new node.
type Token struct {
	Cluster   cairn.ClusterID
	Authority rpc.Fingerprint
	Secret    [20]byte
}

const (
	tokenPrefix = "cairn-join-1-"
	tokenBytes  = 16 + 32 + 20 + 4 // cluster, fingerprint, secret, CRC-32 of these
)

// NewToken makes a token with a secret that nobody else knows.
func NewToken(cluster cairn.ClusterID, authority rpc.Fingerprint) Token {
	t := Token{Cluster: cluster, Authority: authority}
	rand.Read(t.Secret[:]) // never fails since Go 1.24
	return t
}

// SecretHash is what the cluster keeps of a secret. The secret is random, so a plain hash does.
func SecretHash(secret []byte) [sha256.Size]byte { return sha256.Sum256(secret) }

// Reveal prints the token with its secret. It has no String, lest it end in a log.
func (t Token) Reveal() string {
	b := append(append(append(make([]byte, 0, tokenBytes), t.Cluster[:]...), t.Authority[:]...), t.Secret[:]...)
	sum := crc32.ChecksumIEEE(b)
	b = append(b, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads what Reveal printed. Errors: ErrInvalid, which does not repeat the token.
func ParseToken(text string) (t Token, err error) {
	bad := func(why string) (Token, error) {
		return Token{}, &cairn.Error{Op: "join.token", Err: fmt.Errorf("%s; copy the whole line that `cairn token create` printed: %w", why, cairn.ErrInvalid)}
	}
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok {
		return bad("a token begins with " + tokenPrefix)
	}
	b, err := base64.RawURLEncoding.DecodeString(rest)
	if err != nil || len(b) != tokenBytes {
		return bad("the token is cut off or has stray characters")
	}
	n := tokenBytes - 4
	sum := crc32.ChecksumIEEE(b[:n])
	if [4]byte(b[n:]) != [4]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)} {
		return bad("a character of the token is wrong")
	}
	copy(t.Cluster[:], b)
	copy(t.Authority[:], b[16:])
	copy(t.Secret[:], b[48:])
	return t, nil
}
