package link

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"cairn"

	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// Format is the version of a stream: frames of length u32, CRC32C of the payload u32, payload (little-endian); the payload
// is a raftpb.Message, or empty to say that the stream lives.
const Format = "1"

const (
	headerBytes = 8
	// maxFrameBytes bounds one message: the largest batch is an entry of its own.
	maxFrameBytes = 40 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// source is a stream's body: it encodes messages as the connection asks for bytes.
type source struct {
	stream *stream
	ctx    context.Context
	buf    []byte
	rest   []byte // of buf
}

// Read waits for messages and fills p with frames.
func (b *source) Read(p []byte) (int, error) {
	now := time.Now()
	b.stream.lastOK.Store(now.UnixNano())
	if len(b.rest) == 0 {
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Close is the connection's word that it needs no more.
func (b *source) Close() error { return nil }

func (b *source) fill() error {
	alive := time.NewTimer(keepAlive)
	defer alive.Stop()
	for {
		if list := b.stream.take(); len(list) > 0 {
			return b.encode(list)
		}
		select {
		case <-b.ctx.Done():
			return b.ctx.Err()
		case <-b.stream.wake:
		case <-alive.C:
			b.buf = append(b.buf[:0], make([]byte, headerBytes)...)
			b.rest = b.buf
			return nil
		}
	}
}

func (b *source) encode(list []*pb.Message) (err error) {
	if cap(b.buf) > 4*batchBytes {
		b.buf = nil // a giant came by
	}
	b.buf = b.buf[:0]
	for _, m := range list {
		if b.buf, err = appendFrame(b.buf, m); err != nil {
			return err
		}
	}
	b.rest = b.buf
	return nil
}

func appendFrame(buf []byte, m *pb.Message) ([]byte, error) {
	at := len(buf)
	buf = append(buf, 0, 0, 0, 0, 0, 0, 0, 0)
	buf, err := proto.MarshalOptions{}.MarshalAppend(buf, m)
	if err != nil {
		return nil, err
	}
	payload := buf[at+headerBytes:]
	binary.LittleEndian.PutUint32(buf[at:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(buf[at+4:], crc32.Checksum(payload, castagnoli))
	return buf, nil
}

// Receive reads a stream and hands each message to f, nil for a sign of life, until the stream or f ends it.
func Receive(r io.Reader, f func(m *pb.Message) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var h [headerBytes]byte
	var buf []byte
	for {
		if _, err := io.ReadFull(br, h[:]); err != nil {
			return err
		}
		n := binary.LittleEndian.Uint32(h[:])
		if n > maxFrameBytes {
			return fmt.Errorf("message of %d bytes: %w", n, cairn.ErrTooLarge)
		}
		var err error
		if buf, err = readPayload(br, buf[:0], int(n)); err != nil {
			return err
		}
		if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(h[4:]) {
			return fmt.Errorf("message does not match its checksum: %w", cairn.ErrCorrupt)
		}
		var m *pb.Message
		if n > 0 {
			m = &pb.Message{}
			if err := proto.Unmarshal(buf, m); err != nil {
				return fmt.Errorf("%w: %w", err, cairn.ErrCorrupt)
			}
		}
		if err := f(m); err != nil {
			return err
		}
		if cap(buf) > 4*batchBytes {
			buf = nil
		}
	}
}

// readPayload grows its buffer with what arrives, so that a length alone costs no memory.
func readPayload(r io.Reader, buf []byte, n int) ([]byte, error) {
	const step = 1 << 20
	for len(buf) < n {
		at := len(buf)
		more := min(n-at, step)
		if cap(buf) < at+more {
			grown := make([]byte, at, max(at+more, min(2*at, n)))
			copy(grown, buf)
			buf = grown
		}
		buf = buf[:at+more]
		if _, err := io.ReadFull(r, buf[at:]); err != nil {
			return nil, err
		}
	}
	return buf, nil
}
