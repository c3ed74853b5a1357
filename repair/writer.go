package repair

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cairn"
)

const (
	// pieceBytes is how much of a shard is gathered before it is written, a multiple of 64 KiB. Each shard under repair
	// holds two pieces at most.
	pieceBytes = 1 << 20
	// abortWait bounds the wait for writes that a drive has in hand when a shard is given up.
	abortWait = 10 * time.Second
)

// shardWriter writes one rebuilt shard: in one append if it fits a piece, else as a stream in which one piece is gathered
// while the one before is written. It is used by one goroutine.
type shardWriter struct {
	shards Writer
	drive  cairn.DriveID
	header cairn.ShardHeader
	size   int64

	stream  cairn.ShardWriter // nil until a second piece is needed
	piece   []byte            // being gathered
	other   []byte            // empty, or being written if pending
	pending chan error        // result of the write under way; nil if none is
	written int64
}

func newShardWriter(w Writer, drive cairn.DriveID, h cairn.ShardHeader, size int64) *shardWriter {
	return &shardWriter{shards: w, drive: drive, header: h, size: size, piece: make([]byte, 0, min(size, pieceBytes))}
}

// write takes the next bytes of the shard; p is free again when it returns.
func (w *shardWriter) write(ctx context.Context, p []byte) error {
	if w.written += int64(len(p)); w.written > w.size {
		return w.fail(fmt.Errorf("rebuilt shard is longer than %d bytes: %w", w.size, cairn.ErrCorrupt))
	}
	for len(p) > 0 {
		if len(w.piece) == pieceBytes {
			if err := w.flush(ctx); err != nil {
				return err
			}
		}
		n := min(len(p), pieceBytes-len(w.piece))
		w.piece = append(w.piece, p[:n]...)
		p = p[n:]
	}
	return nil
}

// flush starts the write of the gathered piece, after the one before has ended.
func (w *shardWriter) flush(ctx context.Context) (err error) {
	if w.stream == nil {
		if w.stream, err = w.shards.Create(ctx, w.drive, &w.header, w.size); err != nil {
			return err
		}
	}
	if err := w.wait(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	w.pending = done
	w.stream.Write(w.piece, func(err error) { done <- err })
	if w.other == nil {
		w.other = make([]byte, 0, pieceBytes)
	}
	w.piece, w.other = w.other[:0], w.piece
	return nil
}

func (w *shardWriter) wait(ctx context.Context) error {
	if w.pending == nil {
		return nil
	}
	select {
	case err := <-w.pending:
		w.pending = nil
		return err
	case <-ctx.Done():
		return w.fail(errors.Join(cairn.ErrCanceled, ctx.Err()))
	}
}

// commit makes the shard durable.
func (w *shardWriter) commit(ctx context.Context) error {
	if w.written != w.size {
		return w.fail(fmt.Errorf("rebuilt shard has %d of %d bytes: %w", w.written, w.size, cairn.ErrCorrupt))
	}
	done := make(chan error, 1)
	if w.stream == nil {
		w.pending = done
		w.shards.Append(ctx, w.drive, &w.header, w.piece, func(err error) { done <- err })
		return w.wait(ctx)
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	if err := w.wait(ctx); err != nil {
		return err
	}
	w.pending = done
	w.stream.Commit(func(err error) { done <- err })
	return w.wait(ctx)
}

// abort drops an unfinished shard. The buffers are left to the garbage collector, never used again: a drive that does not
// answer may still read from them.
func (w *shardWriter) abort() {
	if w.pending != nil {
		late := time.NewTimer(abortWait)
		defer late.Stop()
		select {
		case <-w.pending:
		case <-late.C:
		}
	}
	if w.stream != nil {
		w.stream.Abort()
	}
}

func (w *shardWriter) fail(err error) error {
	return &cairn.Error{Op: "repair.write", Subject: w.header.ID.String(), Err: err}
}
