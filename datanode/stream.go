package datanode

import (
	"context"
	"fmt"
	"sync"

	"cairn"
	"cairn/internal/vfs"
)

// stream is a shard that is written in pieces into an extent that was reserved for it. The header is written last, by
// the committer, so that a crash leaves either no record or a whole one.
type stream struct {
	store   *store
	h       header
	segment *segment
	at      int64 // where the record begins in the segment
	handed  int64 // bytes of data taken from the writer so far; used by the writer alone
	copied  bool  // compaction's
	// waits is the context that the pieces of background work wait for their turn under; nil for a client's.
	waits context.Context

	mu       sync.Mutex
	underway int         // pieces that are not on the disk yet
	err      error       // the first failure
	commit   func(error) // set by Commit
	aborted  bool
	state    streamState
}

type streamState uint8

const (
	streamOpen   streamState = iota
	streamQueued             // handed to the committer
	streamEnded              // committed or given up: the extent is no longer the stream's
)

// create reserves the extent of a shard of size bytes.
func (s *store) create(ctx context.Context, h *cairn.ShardHeader, size int64) (*stream, error) {
	if err := s.admissible(h, size); err != nil {
		return nil, err
	}
	w, err := s.newStream(ctx, header{kind: kindShard, shard: *h, dataLen: size}, false)
	switch {
	case err != nil:
	case cairn.IsUrgent(ctx): // the caller's context may end before its pieces come
		w.waits = cairn.Urgent(s.bg)
	case cairn.IsBackground(ctx):
		w.waits = cairn.Background(s.bg)
	}
	return w, err
}

func (s *store) newStream(ctx context.Context, h header, copied bool) (*stream, error) {
	s.mu.Lock()
	if s.streams >= s.cfg.MaxStreams && !copied {
		s.mu.Unlock()
		return nil, fmt.Errorf("%d shards are being streamed: %w", s.cfg.MaxStreams, cairn.ErrOverloaded)
	}
	s.streams++
	s.mu.Unlock()
	h.place(true)
	h.crcs = make([]uint32, blocks(h.dataLen))
	g, at, err := s.reserve(ctx, h.recordBytes(), copied)
	if err != nil {
		s.mu.Lock()
		s.streams--
		s.mu.Unlock()
		return nil, err
	}
	h.segment, h.generation, h.tag = g.id, g.generation, g.tag
	return &stream{store: s, h: h, segment: g, at: at, copied: copied}, nil
}

// Write hands a piece to the drive's writers; see cairn.ShardWriter. Pieces of background work wait here for their turn.
func (w *stream) Write(p []byte, done func(error)) {
	n := int64(len(p))
	switch {
	case w.waits != nil:
		_ = w.store.limits.pace.take(w.waits, n) // it fails when the store closes, and so does the piece
	case !w.copied:
		done = w.store.limits.clients.measured(tookPiece, n, done)
	}
	piece := &piece{stream: w, data: p, off: w.handed, done: done}
	var err error
	switch {
	case w.handed+n > w.h.dataLen:
		err = fmt.Errorf("%d bytes do not fit a shard of %d: %w", w.handed+n, w.h.dataLen, cairn.ErrInvalid)
	case n%blockSize != 0 && w.handed+n != w.h.dataLen:
		err = fmt.Errorf("a piece of %d bytes is not the last: %w", n, cairn.ErrInvalid)
	default:
		err = w.store.failure()
	}
	w.handed += n
	w.mu.Lock()
	if err == nil {
		err = w.err
	}
	if err == nil && w.state != streamOpen {
		err = fmt.Errorf("write after commit or abort: %w", cairn.ErrInvalid)
	}
	if err == nil {
		w.underway++
	}
	w.mu.Unlock()
	if err == nil {
		if err = w.store.pieces.push(piece); err == nil {
			return
		}
		w.pieceDone(err)
	} else {
		w.fail(err)
	}
	piece.finish(err)
}

// Commit queues the header behind the pieces; see cairn.ShardWriter.
func (w *stream) Commit(done func(error)) {
	w.mu.Lock()
	if w.err == nil && w.handed != w.h.dataLen {
		w.err = fmt.Errorf("%d of %d bytes were written: %w", w.handed, w.h.dataLen, cairn.ErrInvalid)
	}
	if w.state != streamOpen || w.commit != nil {
		w.mu.Unlock()
		done(fmt.Errorf("commit after commit or abort: %w", cairn.ErrInvalid))
		return
	}
	w.commit = done
	w.next()
}

// Abort gives the extent up once no piece is on its way to it; see cairn.ShardWriter.
func (w *stream) Abort() {
	w.mu.Lock()
	if w.err == nil {
		w.err = fmt.Errorf("aborted: %w", cairn.ErrCanceled)
	}
	w.aborted = true
	w.next()
}

// fail makes the stream one that will never be committed.
func (w *stream) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
}

// pieceDone counts a piece that no longer touches the extent.
func (w *stream) pieceDone(err error) {
	w.mu.Lock()
	w.underway--
	if err != nil && w.err == nil {
		w.err = err
	}
	w.next()
}

// next goes on when no piece is under way: to the committer, or to the end. A stream whose piece failed waits for Commit
// or Abort, since the writer may still hand pieces over. The caller holds w.mu, which next releases.
func (w *stream) next() {
	commit, err := w.commit, w.err
	switch {
	case w.underway > 0 || w.state != streamOpen || (commit == nil && !w.aborted):
		w.mu.Unlock()
		return
	case err != nil:
		w.state = streamEnded
		w.mu.Unlock()
		w.release()
		if commit != nil {
			commit(err)
		}
		return
	}
	w.state = streamQueued
	w.mu.Unlock()
	o := &op{kind: opCommit, stream: w, copied: w.copied, bytes: w.h.dataOff}
	o.done = func(err error) {
		w.mu.Lock()
		w.state = streamEnded
		if w.err == nil && err != nil {
			w.err = err
		}
		w.mu.Unlock()
		commit(err)
	}
	if err := w.store.queue.push(o); err != nil {
		w.release()
		o.finish(err)
	}
}

// take lets the committer have the extent, which it settles from here on.
func (w *stream) take() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.store.mu.Lock()
	w.store.streams--
	w.store.mu.Unlock()
	return w.err
}

// release gives the extent up.
func (w *stream) release() {
	w.store.mu.Lock()
	defer w.store.mu.Unlock()
	w.store.streams--
	w.segment.settle(w.at)
}

// pieceWriter writes pieces to their extents. A store has Config.StreamWriters of them.
func (s *store) pieceWriter(number int) {
	defer s.wg.Done()
	for {
		p := s.pieces.pop()
		if p == nil {
			return
		}
		w := s.limits.watchWrite(number)
		err := p.stream.writePiece(p)
		w.end()
		if err != nil {
			err = s.writeFailed(err)
		}
		s.pieces.written(p)
		p.stream.pieceDone(err)
		p.finish(err)
	}
}

// writePiece computes the checksums of p and writes it: whole pages from where they are if they are aligned, the rest
// through a buffer.
func (w *stream) writePiece(p *piece) error {
	checksums(w.h.crcs[:p.off/blockSize], p.data)
	at := w.at + w.h.dataOff + p.off
	data := p.data
	if whole := len(data) / pageSize * pageSize; whole > 0 && vfs.Aligned(data[:whole], at) {
		if _, err := w.segment.direct.WriteAt(data[:whole], at); err != nil {
			return err
		}
		data, at = data[whole:], at+int64(whole)
	}
	for len(data) > 0 {
		buf := w.store.buffers.get()
		n := copy(buf, data)
		padded := int(pages(int64(n)) * pageSize)
		clear(buf[n:padded])
		_, err := w.segment.direct.WriteAt(buf[:padded], at)
		w.store.buffers.put(buf)
		if err != nil {
			return err
		}
		data, at = data[n:], at+int64(n)
	}
	return nil
}
