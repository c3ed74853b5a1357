package blob

import (
	"io"

	"cairn/erasure"
)

const (
	// stripBytes is how much of a shard is written at once when the blob is longer.
	stripBytes = 1 << 20
	// batchBytes bounds the buffers of one batch: wide profiles write shorter pieces.
	batchBytes = 8 << 20
)

// batch holds some consecutive stripes of a blob, slot by slot: strip i goes to slot i as one piece.
type batch struct {
	g      erasure.Geometry
	code   *erasure.Code
	first  int64 // stripe
	count  int64 // stripes
	length int64 // bytes of each strip that are used
	strips []*strip
}

// stripesPerBatch is how many stripes of a volume make pieces of a good size.
func (s *Store) stripesPerBatch(g erasure.Geometry) int64 {
	room := min(batchBytes, s.cfg.MaxMemory/2) / int64(g.Width())
	return max(1, min(stripBytes, room)/g.Unit)
}

// batchCost is what the buffers of a batch with strips of n bytes take from the budget.
func batchCost(g erasure.Geometry, n int64) int64 { return int64(g.Width()) * bufferBytes(n) }

// newBatch takes buffers from the pool; the caller has taken batchCost from the budget. It holds every strip once.
func (s *Store) newBatch(g erasure.Geometry, code *erasure.Code, first, count int64) *batch {
	b := &batch{g: g, code: code, first: first, count: count}
	b.length = (count-1)*g.Unit + g.UnitLen(first+count-1)
	b.strips = make([]*strip, g.Width())
	for i := range b.strips {
		b.strips[i] = s.pool.get(b.length, s.writes)
	}
	return b
}

// release drops the holder's claim on every strip.
func (b *batch) release() {
	for _, s := range b.strips {
		s.release()
	}
}

// piece is what goes to a slot.
func (b *batch) piece(slot int) []byte { return b.strips[slot].b[:b.length] }

// each calls f with the data of every unit in the order of the blob's bytes.
func (b *batch) each(f func(p []byte) error) error {
	for s := b.first; s < b.first+b.count; s++ {
		at := (s - b.first) * b.g.Unit
		for i := range b.g.K {
			if n := b.g.DataLen(s, i); n > 0 {
				if err := f(b.strips[i].b[at : at+n]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fill reads the stripes from body and encodes each while it is warm in the cache.
func (b *batch) fill(body io.Reader) error {
	for s := b.first; s < b.first+b.count; s++ {
		at, unit := (s-b.first)*b.g.Unit, b.g.UnitLen(s)
		for i := range b.g.K {
			n := b.g.DataLen(s, i)
			if err := readFull(body, b.strips[i].b[at:at+n]); err != nil {
				return err
			}
			clear(b.strips[i].b[at+n : at+unit])
		}
		if err := b.encode(s); err != nil {
			return err
		}
	}
	return nil
}

// readFull fills p; a body that ends early was shorter than declared.
func readFull(body io.Reader, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	_, err := io.ReadFull(body, p)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (b *batch) encode(stripe int64) error {
	at, unit := (stripe-b.first)*b.g.Unit, b.g.UnitLen(stripe)
	units := make([][]byte, len(b.strips))
	for i, s := range b.strips {
		units[i] = s.b[at : at+unit]
	}
	return b.code.Encode(units)
}

// fillUnknown reads as much as the batch holds, or up to the body's end, and gives the batch the geometry of what came.
// It returns the number of bytes; with 0 the batch is empty and not to be written.
func (b *batch) fillUnknown(body io.Reader) (int64, error) {
	total, err := b.readUntilEnd(body)
	if err != nil || total == 0 {
		return 0, err
	}
	wide := b.g
	b.g.Length = total
	b.count = b.g.Stripes()
	last := b.count - 1
	b.length = b.g.ShardLen()
	if b.g.UnitLen(last) != wide.Unit {
		b.narrow(last)
	}
	for s := range b.count {
		at, unit := s*b.g.Unit, b.g.UnitLen(s)
		for i := range b.g.K {
			clear(b.strips[i].b[at+b.g.DataLen(s, i) : at+unit])
		}
		if err := b.encode(s); err != nil {
			return 0, err
		}
	}
	return total, nil
}

func (b *batch) readUntilEnd(body io.Reader) (total int64, err error) {
	err = b.each(func(p []byte) error {
		n, err := io.ReadFull(body, p)
		total += int64(n)
		if err == io.ErrUnexpectedEOF {
			return io.EOF
		}
		return err
	})
	if err == io.EOF {
		err = nil
	}
	return total, err
}

// narrow moves the bytes of the last stripe, which were read into units of full length, to where shorter units have them.
// Every byte moves to a higher slot, or up within its own: going backwards, none is overwritten before it has moved.
func (b *batch) narrow(last int64) {
	at, full, unit := last*b.g.Unit, b.g.Unit, b.g.UnitLen(last)
	for i := b.g.K - 1; i >= 0; i-- {
		lo, hi := int64(i)*unit, int64(i)*unit+b.g.DataLen(last, i)
		for hi > lo {
			from := (hi - 1) / full
			start := max(lo, from*full)
			dst := b.strips[i].b[at+start-int64(i)*unit : at+hi-int64(i)*unit]
			copy(dst, b.strips[from].b[at+start-from*full:])
			hi = start
		}
	}
}

// reader reads the batch's data again, for another layout.
func (b *batch) reader() io.Reader {
	var rest [][]byte
	b.each(func(p []byte) error { rest = append(rest, p); return nil })
	return &piecesReader{rest}
}

type piecesReader struct{ rest [][]byte }

func (r *piecesReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.rest[0])
	if r.rest[0] = r.rest[0][n:]; len(r.rest[0]) == 0 {
		r.rest = r.rest[1:]
	}
	return n, nil
}
