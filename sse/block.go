package sse

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"

	"cairn"
)

const (
	// KeyBytes is the length of data keys and of customers' keys.
	KeyBytes = 32
	// SaltBytes is the length of a body's salt.
	SaltBytes = 16

	blockBytes  = cairn.SealedBlockBytes
	sealedBlock = blockBytes + cairn.SealedTagBytes
	nonceBytes  = 12
	bodyLabel   = "cairn sealed body 1"
)

// NewSalt draws the salt of one body.
func NewSalt() []byte {
	salt := make([]byte, SaltBytes)
	rand.Read(salt) // never fails since Go 1.24
	return salt
}

// blocks seals and opens the blocks of one body.
type blocks struct {
	aead  cipher.AEAD
	nonce [nonceBytes]byte
}

func newBlocks(dataKey, salt []byte) (*blocks, error) {
	if len(dataKey) != KeyBytes || len(salt) != SaltBytes {
		return nil, fail("sse.body key", "", fmt.Errorf("key of %d bytes, salt of %d: %w", len(dataKey), len(salt), cairn.ErrCorrupt))
	}
	aead, err := newAEAD(derive(dataKey, bodyLabel, salt))
	if err != nil {
		return nil, err
	}
	return &blocks{aead: aead}, nil
}

// derive makes a key for one purpose of another key (HMAC as a pseudorandom function, NIST SP 800-108).
func derive(key []byte, label string, salt []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(salt)
	return h.Sum(nil)
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// number sets the nonce of block n.
func (b *blocks) number(n int64, last bool) []byte {
	b.nonce[0] = 0
	if last {
		b.nonce[0] = 1
	}
	binary.BigEndian.PutUint64(b.nonce[nonceBytes-8:], uint64(n))
	return b.nonce[:]
}

// Sealer reads a body sealed. It reads the plain one once, in order, and hands every plain byte to tee beside.
type Sealer struct {
	blocks *blocks
	plain  io.Reader
	tee    io.Writer
	buf    []byte // a block and the first byte of the next one, which tells whether the block is the last
	have   int    // plain bytes at the front of buf
	sealed []byte // what is still to be read of the current block
	out    []byte // its backing
	n      int64
	err    error // of plain: io.EOF at its end
}

// NewSealer returns a reader of what plain reads, sealed under a data key and salt; an empty body stays empty. tee may be nil.
func NewSealer(dataKey, salt []byte, plain io.Reader, tee io.Writer) (*Sealer, error) {
	b, err := newBlocks(dataKey, salt)
	if err != nil {
		return nil, err
	}
	if tee == nil {
		tee = io.Discard
	}
	return &Sealer{blocks: b, plain: plain, tee: tee, buf: make([]byte, blockBytes+1), out: make([]byte, 0, sealedBlock)}, nil
}

// Read implements io.Reader. An error of the plain body is passed on as it is.
func (s *Sealer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.sealed) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.sealed)
	s.sealed = s.sealed[n:]
	return n, nil
}

// next seals one block.
func (s *Sealer) next() error {
	for s.have < len(s.buf) && s.err == nil {
		var n int
		n, s.err = s.plain.Read(s.buf[s.have:])
		if _, err := s.tee.Write(s.buf[s.have : s.have+n]); err != nil {
			s.err = err
			return err
		}
		s.have += n
	}
	if s.err != nil && s.err != io.EOF {
		return s.err
	}
	if s.have == 0 {
		return io.EOF
	}
	size := min(s.have, blockBytes)
	last := s.have <= blockBytes
	s.sealed = s.blocks.aead.Seal(s.out[:0], s.blocks.number(s.n, last), s.buf[:size], nil)
	s.n++
	s.have = copy(s.buf, s.buf[size:s.have])
	return nil
}

// Range is the sealed bytes that hold length plain bytes from offset off of a body of size plain bytes.
func Range(size, off, length int64) (sealedOff, sealedLen int64) {
	if length == 0 {
		return 0, 0
	}
	first, last := off/blockBytes, (off+length-1)/blockBytes
	sealedOff = first * sealedBlock
	return sealedOff, min((last+1)*sealedBlock, cairn.SealedSize(size)) - sealedOff
}

// Opener takes the sealed bytes that Range names and writes the plain ones to w, each block only once it was found authentic.
// Used by one goroutine.
type Opener struct {
	blocks *blocks
	w      io.Writer
	size   int64 // of the plain body
	skip   int64 // plain bytes of the first block before the range
	left   int64 // plain bytes still to be written
	n      int64 // number of the block that is being gathered
	buf    []byte
}

// NewOpener returns a writer for the range of length bytes from off of a body of size plain bytes.
func NewOpener(dataKey, salt []byte, size, off, length int64, w io.Writer) (*Opener, error) {
	b, err := newBlocks(dataKey, salt)
	if err != nil {
		return nil, err
	}
	return &Opener{blocks: b, w: w, size: size, skip: off % blockBytes, left: length, n: off / blockBytes,
		buf: make([]byte, 0, sealedBlock)}, nil
}

// Write implements io.Writer. A block that does not open is ErrCorrupt.
func (o *Opener) Write(p []byte) (int, error) {
	taken := 0
	for taken < len(p) {
		want := o.blockLen()
		n := min(want-len(o.buf), len(p)-taken)
		if n <= 0 {
			return taken, fail("sse.open", "", fmt.Errorf("bytes behind the body's end: %w", cairn.ErrCorrupt))
		}
		o.buf = append(o.buf, p[taken:taken+n]...)
		taken += n
		if len(o.buf) < want {
			break
		}
		if err := o.open(); err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// blockLen is the sealed length of the current block.
func (o *Opener) blockLen() int {
	rest := o.size - o.n*blockBytes
	if rest <= 0 {
		return 0
	}
	return int(min(rest, blockBytes)) + cairn.SealedTagBytes
}

func (o *Opener) open() error {
	last := (o.n+1)*blockBytes >= o.size
	plain, err := o.blocks.aead.Open(o.buf[:0], o.blocks.number(o.n, last), o.buf, nil)
	if err != nil {
		return fail("sse.open", "", fmt.Errorf("block %d is not authentic: %w", o.n, cairn.ErrCorrupt))
	}
	o.n++
	o.buf = o.buf[:0]
	plain = plain[min(o.skip, int64(len(plain))):]
	o.skip = 0
	plain = plain[:min(o.left, int64(len(plain)))]
	o.left -= int64(len(plain))
	_, err = o.w.Write(plain)
	return err
}

// Close tells whether the whole range was written: ErrCorrupt if sealed bytes are missing.
func (o *Opener) Close() error {
	if o.left > 0 {
		return fail("sse.open", "", fmt.Errorf("%d bytes are missing: %w", o.left, cairn.ErrCorrupt))
	}
	return nil
}

func fail(op, subject string, cause error) error {
	return &cairn.Error{Op: op, Subject: subject, Err: cause}
}

// Seal seals a whole body in memory.
func Seal(dataKey, salt, plain []byte) ([]byte, error) {
	s, err := NewSealer(dataKey, salt, bytes.NewReader(plain), nil)
	if err != nil {
		return nil, err
	}
	out := bytes.NewBuffer(make([]byte, 0, cairn.SealedSize(int64(len(plain)))))
	_, err = io.Copy(out, s)
	return out.Bytes(), err
}
