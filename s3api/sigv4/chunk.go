package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"strings"
)

const (
	maxChunkLine = 256     // a chunk's header line: 16 hexadecimal digits and one extension
	maxTrailer   = 4 << 10 // all trailer lines together
)

// ChunkReader decodes an aws-chunked body and verifies what is signed in it. Data is read straight into the caller's
// slice. The last bytes are handed out only after the final chunk and the trailer were read and found right, so a caller
// that got as many bytes as were declared has a verified body. Used by one goroutine at a time.
type ChunkReader struct {
	src     *bufio.Reader
	seed    *Seed // nil: chunks carry no signatures
	signed  bool
	left    int64 // bytes to come in this chunk
	want    int64 // bytes to come in all chunks
	in      bool  // inside a chunk
	done    bool
	err     error
	sum     hash.Hash
	claimed [64]byte // the signature that this chunk claims
	names   []string // announced trailers, lower case
	trailer []Param
}

// ChunkConfig says what a body was announced to be.
type ChunkConfig struct {
	Body    *bufio.Reader // its buffer must hold 4 KiB or more; large reads pass it by
	Length  int64         // x-amz-decoded-content-length in bytes
	Payload string        // SignedChunks, SignedTrailer or UnsignedTrailer
	Seed    Seed          // of the verified request
	Trailer string        // x-amz-trailer: names separated by commas
}

// NewChunkReader returns a reader of the decoded bytes.
func NewChunkReader(cfg ChunkConfig) *ChunkReader {
	r := &ChunkReader{src: cfg.Body, want: cfg.Length}
	if cfg.Payload != UnsignedTrailer {
		seed := cfg.Seed
		r.seed, r.sum, r.signed = &seed, sha256.New(), true
	}
	for name := range strings.SplitSeq(cfg.Trailer, ",") {
		if name = strings.ToLower(strings.Trim(name, " \t")); name != "" {
			r.names = append(r.names, name)
		}
	}
	return r
}

// Trailer returns the trailer headers once the body has been read to its end; it reads what is left of the framing if the
// declared length is zero. Before the end of the data it is an error.
func (r *ChunkReader) Trailer() ([]Param, error) {
	if !r.done && r.err == nil && r.want == 0 {
		r.finish()
	}
	if r.err != nil {
		return nil, r.err
	}
	if !r.done {
		return nil, refuse(WrongLength, "the body was not read to its end")
	}
	return r.trailer, nil
}

// Read implements io.Reader.
func (r *ChunkReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if r.want == 0 {
		if !r.done {
			r.finish()
		}
		if r.err != nil {
			return 0, r.err
		}
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if !r.in {
		if r.nextChunk(); r.err != nil {
			return 0, r.err
		}
	}
	n, err := r.src.Read(p[:min(int64(len(p)), r.left)])
	if r.signed {
		r.sum.Write(p[:n])
	}
	r.left -= int64(n)
	r.want -= int64(n)
	if err != nil && (r.left > 0 || !errors.Is(err, io.EOF)) {
		r.err = unexpected(err)
	} else if r.left == 0 {
		r.endChunk()
	}
	if r.err == nil && r.want == 0 {
		r.finish()
	}
	if r.err != nil {
		return 0, r.err // not even the bytes: they are not verified
	}
	return n, nil
}

// nextChunk reads the header of a chunk with data.
func (r *ChunkReader) nextChunk() {
	size := r.chunkHeader()
	switch {
	case r.err != nil:
	case size == 0:
		r.err = refuse(WrongLength, "the body ended before x-amz-decoded-content-length bytes")
	case size > r.want:
		r.err = refuse(WrongLength, "the body is longer than x-amz-decoded-content-length")
	default:
		r.left, r.in = size, true
	}
}

func (r *ChunkReader) chunkHeader() int64 {
	line, err := r.src.ReadSlice('\n')
	if err != nil {
		r.err = unexpected(err)
		return 0
	}
	head, crlf := bytes.CutSuffix(line, []byte("\r\n"))
	digits, ext, signed := bytes.Cut(head, []byte(";chunk-signature="))
	size, ok := parseHex(digits)
	if !ok || !crlf || len(line) > maxChunkLine || signed != r.signed || signed && len(ext) != 64 {
		r.err = refuse(BadChunk, "a chunk's header is malformed")
		return 0
	}
	copy(r.claimed[:], ext)
	return size
}

func parseHex(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | int64(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | int64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// endChunk reads the line end behind a chunk's data and checks the chunk's signature.
func (r *ChunkReader) endChunk() {
	r.in = false
	var crlf [2]byte
	if _, err := io.ReadFull(r.src, crlf[:]); err != nil {
		r.err = unexpected(err)
	} else if crlf != [2]byte{'\r', '\n'} {
		r.err = refuse(BadChunk, "a chunk is longer than its header says")
	} else if r.signed {
		r.verifyChunk()
	}
}

func (r *ChunkReader) verifyChunk() {
	var sum [32]byte
	r.sum.Sum(sum[:0])
	r.sum.Reset()
	b := r.seed.chain(make([]byte, 0, 384), chunkKind)
	b = append(b, EmptySHA256+"\n"...)
	r.verify(hex.AppendEncode(b, sum[:]), "a chunk's signature does not match")
}

func (r *ChunkReader) verify(stringToSign []byte, what string) {
	got := r.seed.key.hexSum(stringToSign)
	if subtle.ConstantTimeCompare(got[:], r.claimed[:]) != 1 {
		r.err = &Error{Reason: Mismatch, Detail: what, StringToSign: string(stringToSign)}
		return
	}
	r.seed.signature = got
}

// finish reads the final, empty chunk, the trailer and the end of the body.
func (r *ChunkReader) finish() {
	size := r.chunkHeader()
	switch {
	case r.err != nil:
		return
	case size != 0:
		r.err = refuse(WrongLength, "the body is longer than x-amz-decoded-content-length")
		return
	}
	if r.signed {
		if r.verifyChunk(); r.err != nil {
			return
		}
	}
	rest, err := io.ReadAll(io.LimitReader(r.src, maxTrailer+1))
	switch {
	case err != nil:
		r.err = unexpected(err)
	case len(rest) > maxTrailer:
		r.err = refuse(BadTrailer, "the trailer is too long")
	default:
		r.readTrailer(string(rest))
	}
	r.done = r.err == nil
}

// readTrailer takes the lines behind the final chunk. Clients end them with CRLF or LF, and some put an empty line before
// the signature.
func (r *ChunkReader) readTrailer(rest string) {
	var signature string
	var signedBytes []byte
	for line := range strings.SplitSeq(rest, "\n") {
		if line = strings.TrimRight(line, "\r"); line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.Trim(name, " \t")), strings.Trim(value, " \t")
		switch {
		case ok && name == "x-amz-trailer-signature" && signature == "":
			signature = value
		case ok && signature == "" && r.announced(name):
			r.trailer = append(r.trailer, Param{name, value})
			signedBytes = append(append(append(append(signedBytes, name...), ':'), value...), '\n')
		default:
			r.err = refuse(BadTrailer, "the trailer holds what x-amz-trailer did not announce")
			return
		}
	}
	if len(r.trailer) != len(r.names) {
		r.err = refuse(BadTrailer, "a trailer that x-amz-trailer announces is missing")
		return
	}
	if r.signed && len(r.names) > 0 {
		r.verifyTrailer(signature, signedBytes)
	}
}

// announced tells whether a trailer was announced and has not come yet.
func (r *ChunkReader) announced(name string) bool {
	for _, p := range r.trailer {
		if p.Key == name {
			return false
		}
	}
	for _, n := range r.names {
		if n == name {
			return true
		}
	}
	return false
}

func (r *ChunkReader) verifyTrailer(signature string, lines []byte) {
	if len(signature) != 64 {
		r.err = refuse(BadTrailer, "the trailer's signature is missing")
		return
	}
	copy(r.claimed[:], signature)
	sum := sha256.Sum256(lines)
	r.verify(hex.AppendEncode(r.seed.chain(make([]byte, 0, 384), trailerKind), sum[:]),
		"the trailer's signature does not match")
}

// unexpected makes an early end an io.ErrUnexpectedEOF and a line without end a refusal; other errors stay.
func unexpected(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, bufio.ErrBufferFull):
		return refuse(BadChunk, "a chunk's header is malformed")
	}
	return err
}
