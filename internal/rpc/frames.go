package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"cairn"
)

// A framed body is a sequence of frames, the last of which is an end or an error, so that a body that was cut off is
// never taken for a whole one:
//
//	0 type u8   1 length u32   5 CRC32C of the payload u32   9 payload        (little-endian)
//
// The payload of a data frame is at most MaxFrameBytes; that of an error is the kind's number (u8) and its text.
const (
	frameData  = 1
	frameEnd   = 2
	frameError = 3

	frameHeaderBytes = 9

	// MaxFrameBytes is the most that one data frame carries.
	MaxFrameBytes = 64 << 10
)

// FramedBytes is how long n bytes of data become with frames around them, if they are written in pieces that are whole
// frames but for the last.
func FramedBytes(n int64) int64 {
	return n + frameHeaderBytes*((n+MaxFrameBytes-1)/MaxFrameBytes+1)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// FrameWriter writes a framed body. It is not safe for concurrent use.
type FrameWriter struct {
	w   io.Writer
	buf [frameHeaderBytes]byte
}

// NewFrameWriter returns a writer of frames to w, which should be buffered if the writes are small.
func NewFrameWriter(w io.Writer) *FrameWriter { return &FrameWriter{w: w} }

func (f *FrameWriter) frame(kind byte, p []byte) error {
	f.buf[0] = kind
	binary.LittleEndian.PutUint32(f.buf[1:], uint32(len(p)))
	binary.LittleEndian.PutUint32(f.buf[5:], crc32.Checksum(p, castagnoli))
	if _, err := f.w.Write(f.buf[:]); err != nil {
		return err
	}
	_, err := f.w.Write(p)
	return err
}

// Write sends p as data.
func (f *FrameWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		n := min(MaxFrameBytes, len(p)-sent)
		if err := f.frame(frameData, p[sent:sent+n]); err != nil {
			return sent, err
		}
		sent += n
	}
	return sent, nil
}

// End closes the body: what was written is all.
func (f *FrameWriter) End() error { return f.frame(frameEnd, nil) }

// Fail closes the body with an error that the reader will return.
func (f *FrameWriter) Fail(err error) error {
	return f.frame(frameError, append([]byte{byte(KindNumber(err))}, truncate(err.Error())...))
}

// FrameReader reads a framed body and verifies every frame. It returns io.EOF after the end frame alone; a body that is
// cut off is io.ErrUnexpectedEOF, a frame that does not match its checksum is cairn.ErrCorrupt, and an error frame is the
// *RemoteError in it. It is not safe for concurrent use.
type FrameReader struct {
	r    io.Reader
	buf  []byte // of one frame
	rest []byte // of buf, not read yet
	err  error
}

// NewFrameReader returns a reader of frames from r.
func NewFrameReader(r io.Reader) *FrameReader { return &FrameReader{r: r} }

// Read fills p with verified data.
func (f *FrameReader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		n := 0
		if n, f.err = f.next(p); f.err != nil {
			return 0, f.err
		}
		if n > 0 {
			return n, nil
		}
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next reads a frame: straight into p, whose length it returns, if all of its data fits there; into rest otherwise.
func (f *FrameReader) next(p []byte) (int, error) {
	var h [frameHeaderBytes]byte
	if _, err := io.ReadFull(f.r, h[:]); err != nil {
		return 0, cutOff(err)
	}
	n := int(binary.LittleEndian.Uint32(h[1:]))
	if n > MaxFrameBytes || h[0] < frameData || h[0] > frameError || (h[0] == frameEnd && n > 0) || (h[0] == frameError && n == 0) {
		return 0, fmt.Errorf("frame of type %d with %d bytes: %w", h[0], n, cairn.ErrCorrupt)
	}
	direct := h[0] == frameData && n <= len(p)
	if !direct {
		if cap(f.buf) < n {
			f.buf = make([]byte, n)
		}
		p = f.buf[:n]
	}
	p = p[:n]
	if _, err := io.ReadFull(f.r, p); err != nil {
		return 0, cutOff(err)
	}
	if crc32.Checksum(p, castagnoli) != binary.LittleEndian.Uint32(h[5:]) {
		return 0, fmt.Errorf("frame does not match its checksum: %w", cairn.ErrCorrupt)
	}
	switch {
	case h[0] == frameEnd:
		return 0, io.EOF
	case h[0] == frameError:
		return 0, NewRemoteError(int(p[0]), string(p[1:]))
	case direct:
		return n, nil
	}
	f.rest = p
	return 0, nil
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// AppendFrame appends one data frame with p, at most MaxFrameBytes, to b if the whole then has at most limit bytes; nil
// otherwise.
func AppendFrame(b, p []byte, limit int) []byte {
	if len(p) > MaxFrameBytes || len(b)+frameHeaderBytes+len(p) > limit {
		return nil
	}
	b = append(b, frameData)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(p, castagnoli))
	return append(b, p...)
}
