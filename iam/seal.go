package iam

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"cairn"
)

// sealer encrypts what must not be read out of the metadata: AES-256-GCM with a random nonce in front, bound to a name, so
// that a sealed secret moved to another row does not open.
type sealer struct{ aead cipher.AEAD }

func newSealer(key [32]byte) (sealer, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCM(block)
	return sealer{aead}, err
}

func (s sealer) seal(name string, plain []byte) string {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	rand.Read(nonce) // never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, []byte(name)))
}

// open returns what was sealed under name. ErrInvalid for anything else.
func (s sealer) open(name, sealed string) ([]byte, error) {
	b, err := base64.RawURLEncoding.DecodeString(sealed)
	if err == nil && len(b) > s.aead.NonceSize() {
		n := s.aead.NonceSize()
		var plain []byte
		if plain, err = s.aead.Open(nil, b[:n], b[n:], []byte(name)); err == nil {
			return plain, nil
		}
	}
	return nil, fmt.Errorf("not sealed with this key: %w", cairn.ErrInvalid)
}

// randomText returns n letters and digits from the system's random source.
func randomText(n int) string {
	var out strings.Builder
	for out.Len() < n {
		b := make([]byte, 2*n)
		rand.Read(b)
		for _, c := range base64.RawURLEncoding.EncodeToString(b) {
			if c != '-' && c != '_' && out.Len() < n {
				out.WriteRune(c)
			}
		}
	}
	return out.String()
}
