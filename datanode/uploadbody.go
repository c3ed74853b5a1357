package datanode

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"cairn"
	"cairn/internal/rpc"
)

// uploadBody is a request's body: the pieces of an upload as they come, framed. The transport may close it while it reads.
type uploadBody struct {
	upload *upload

	mu     sync.Mutex
	piece  uploadPiece // being read; not finished yet
	rest   []byte      // of piece
	frame  bytes.Buffer
	ended  bool // all is in frame, or was read
	closed bool
}

var errBodyClosed = fmt.Errorf("the connection took no more: %w", cairn.ErrUnavailable)

// Read frames what the next piece holds, as much as fits into p; it waits for a piece only if it has nothing to return.
func (b *uploadBody) Read(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for n < len(p) {
		if b.frame.Len() > 0 {
			k, _ := b.frame.Read(p[n:])
			n += k
			continue
		}
		switch {
		case b.closed:
			return n, errBodyClosed
		case len(b.rest) > 0:
			n += b.data(p[n:])
		case b.ended && n == 0:
			return 0, io.EOF
		case n > 0:
			return n, nil
		default:
			if err := b.next(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

// data moves one frame of the piece into p, or into the buffer if p is too short for it.
func (b *uploadBody) data(p []byte) (n int) {
	k := min(len(b.rest), rpc.MaxFrameBytes)
	framed := rpc.AppendFrame(p[:0], b.rest[:k], len(p))
	if framed == nil {
		rpc.NewFrameWriter(&b.frame).Write(b.rest[:k]) // a buffer takes all
	}
	if b.rest = b.rest[k:]; len(b.rest) == 0 {
		b.piece.finish(nil)
		b.piece = uploadPiece{}
	}
	return len(framed)
}

// next waits for a piece, with the lock released.
func (b *uploadBody) next() error {
	b.mu.Unlock()
	piece, ok := b.upload.next()
	b.mu.Lock()
	switch {
	case ok && b.closed:
		piece.finish(wrap("write", b.upload.drive, b.upload.id, errBodyClosed))
		return errBodyClosed
	case ok && len(piece.data) == 0:
		piece.finish(nil)
		return nil
	case ok:
		b.piece, b.rest = piece, piece.data
		return nil
	}
	b.upload.mu.Lock()
	err := b.upload.err
	b.upload.mu.Unlock()
	if err != nil {
		return err // without an end the node drops what it got
	}
	b.ended = true
	return rpc.NewFrameWriter(&b.frame).End()
}

// Close lets the piece go that was not read to its end, and all that would have followed.
func (b *uploadBody) Close() error {
	b.mu.Lock()
	b.closed = true
	piece, cut := b.piece, len(b.rest) > 0
	b.piece, b.rest = uploadPiece{}, nil
	whole := b.ended && b.frame.Len() == 0
	b.mu.Unlock()
	if cut {
		piece.finish(wrap("write", b.upload.drive, b.upload.id, errBodyClosed))
	}
	if !whole {
		b.upload.fail(errBodyClosed)
	}
	return nil
}
