package datanode

import (
	"fmt"
	"sync"
	"sync/atomic"

	"cairn"
	"cairn/internal/vfs"
)

type opKind uint8

const (
	opAppend opKind = iota // a whole shard, written beside its neighbours in the queue
	opCommit               // the header of a streamed shard whose data is written
	opDelete
	opFence
)

// op is one thing that the committer makes durable.
type op struct {
	kind   opKind
	h      header // of opAppend
	data   []byte // of opAppend: not changed until finish
	stream *stream
	ids    []key      // of opDelete: shards to delete
	dels   []deletion // of opDelete: what was found, or what compaction carries over
	fences []fence    // of opFence
	copied bool       // compaction's: keeps its seq and is not checked against fences
	done   func(error)
	once   atomic.Bool
	bytes  int64 // counted against the queue

	// Set by the committer.
	segment *segment
	at      int64
	err     error
}

// finish calls done the first time.
func (o *op) finish(err error) {
	if o.once.CompareAndSwap(false, true) {
		o.done(err)
	}
}

// opQueue holds what waits for the committer and what the committer has in hand.
type opQueue struct {
	maxOps   int
	maxBytes int64

	mu     sync.Mutex
	ops    []*op
	inHand []*op
	bytes  int64
	closed error
	wake   chan struct{} // capacity 1
}

// push adds o, or returns why it cannot. Compaction and commits of streams, whose data is written already, always fit.
func (q *opQueue) push(o *op) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	if !o.copied && o.kind != opCommit && (len(q.ops) >= q.maxOps || q.bytes+o.bytes > q.maxBytes) {
		return fmt.Errorf("%d writes of %d bytes wait: %w", len(q.ops), q.bytes, cairn.ErrOverloaded)
	}
	q.ops = append(q.ops, o)
	q.bytes += o.bytes
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return nil
}

// pop waits for work and takes up to maxBytes of it, at least one op; nil when the queue is closed.
func (q *opQueue) pop(maxBytes int64) []*op {
	for {
		q.mu.Lock()
		if q.closed != nil {
			q.mu.Unlock()
			return nil
		}
		n, sum := 0, int64(0)
		for n < len(q.ops) && (n == 0 || sum+q.ops[n].bytes <= maxBytes) {
			sum += q.ops[n].bytes
			n++
		}
		if n > 0 {
			batch := q.ops[:n:n]
			q.ops = q.ops[n:]
			if len(q.ops) == 0 {
				q.ops = nil
			}
			q.bytes -= sum
			q.inHand = batch
			q.mu.Unlock()
			return batch
		}
		q.mu.Unlock()
		<-q.wake
	}
}

// fail ends everything that waits or is in hand, so that nobody waits for a disk that does not answer.
func (q *opQueue) fail(err error) {
	q.mu.Lock()
	waits, inHand := q.ops, q.inHand
	q.ops, q.bytes = nil, 0
	q.mu.Unlock()
	for _, o := range waits {
		if o.stream != nil {
			o.stream.release()
		}
		o.finish(err)
	}
	for _, o := range inHand {
		o.finish(err)
	}
}

func (q *opQueue) close(err error) {
	q.mu.Lock()
	q.closed = err
	q.mu.Unlock()
	q.fail(err)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// piece is a part of a streamed shard on its way to the disk.
type piece struct {
	stream *stream
	data   []byte
	off    int64 // in the shard's data
	done   func(error)
	once   atomic.Bool
}

func (p *piece) finish(err error) {
	if p.once.CompareAndSwap(false, true) && p.done != nil {
		p.done(err)
	}
}

// pieceQueue feeds the piece writers.
type pieceQueue struct {
	maxBytes int64

	mu     sync.Mutex
	ready  sync.Cond
	waits  []*piece
	inHand map[*piece]struct{}
	bytes  int64 // waiting and in hand
	closed error
}

func (q *pieceQueue) init(maxBytes int64) {
	q.maxBytes, q.inHand = maxBytes, map[*piece]struct{}{}
	q.ready.L = &q.mu
}

func (q *pieceQueue) push(p *piece) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed != nil {
		return q.closed
	}
	if n := int64(len(p.data)); q.bytes > 0 && q.bytes+n > q.maxBytes {
		return fmt.Errorf("%d bytes wait: %w", q.bytes, cairn.ErrOverloaded)
	}
	q.bytes += int64(len(p.data))
	q.waits = append(q.waits, p)
	q.ready.Signal()
	return nil
}

// pop waits for a piece; nil when the queue is closed.
func (q *pieceQueue) pop() *piece {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waits) == 0 && q.closed == nil {
		q.ready.Wait()
	}
	if len(q.waits) == 0 {
		return nil
	}
	p := q.waits[0]
	q.waits = q.waits[1:]
	q.inHand[p] = struct{}{}
	return p
}

func (q *pieceQueue) written(p *piece) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.inHand, p)
	q.bytes -= int64(len(p.data))
}

// fail ends what waits, and calls back for what is in hand. The stream of a piece in hand is failed first, so whatever
// its caller does to the memory afterwards, the shard will never be committed.
func (q *pieceQueue) fail(err error) {
	q.mu.Lock()
	waits := q.waits
	q.waits = nil
	inHand := make([]*piece, 0, len(q.inHand))
	for p := range q.inHand {
		inHand = append(inHand, p)
	}
	for _, p := range waits {
		q.bytes -= int64(len(p.data))
	}
	q.mu.Unlock()
	for _, p := range waits {
		p.stream.pieceDone(err)
		p.finish(err)
	}
	for _, p := range inHand {
		p.stream.fail(err)
		p.finish(err)
	}
}

func (q *pieceQueue) close(err error) {
	q.mu.Lock()
	q.closed = err
	q.ready.Broadcast()
	q.mu.Unlock()
	q.fail(err)
}

// bufferPool lends aligned buffers of one size.
type bufferPool struct {
	size int
	pool sync.Pool
}

func newBufferPool(size int) *bufferPool { return &bufferPool{size: size} }

func (p *bufferPool) get() []byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return *b
	}
	return vfs.AlignedBuffer(p.size)
}

func (p *bufferPool) put(b []byte) { p.pool.Put(&b) }
