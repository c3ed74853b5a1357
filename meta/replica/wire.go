package replica

import (
	"encoding/binary"
	"fmt"

	"cairn"

	"google.golang.org/protobuf/encoding/protowire"
)

// wireFormat is the version of what nodes say to each other about metadata. A node refuses what it does not know.
const wireFormat = "1"

// reader decodes what another node sent; the first mistake sticks.
type reader struct {
	b   []byte
	err error
}

func (r *reader) bad() {
	if r.err == nil {
		r.err = fmt.Errorf("message is cut off or damaged: %w", cairn.ErrInvalid)
	}
	r.b = nil
}

func (r *reader) number() uint64 {
	v, n := protowire.ConsumeVarint(r.b)
	if n < 0 {
		r.bad()
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes() []byte {
	v, n := protowire.ConsumeBytes(r.b)
	if n < 0 {
		r.bad()
		return nil
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) fixed() uint64 {
	if len(r.b) < 8 {
		r.bad()
		return 0
	}
	v := binary.LittleEndian.Uint64(r.b)
	r.b = r.b[8:]
	return v
}

func (r *reader) more() bool { return r.err == nil && len(r.b) > 0 }

// encodeCommit is a batch on its way to the leader: the term in which it is asked for, read index, request ID, result,
// checked keys, touched keys, changes.
func encodeCommit(b *Batch, term uint64) []byte {
	buf := make([]byte, 0, len(b.ops)+len(b.checkKeys)+len(b.touchKeys)+len(b.Result)+64)
	buf = protowire.AppendVarint(buf, term)
	buf = protowire.AppendVarint(buf, b.ReadIndex)
	buf = binary.LittleEndian.AppendUint64(buf, b.RequestID)
	buf = protowire.AppendBytes(buf, b.Result)
	buf = protowire.AppendBytes(buf, b.checkKeys)
	buf = protowire.AppendBytes(buf, b.touchKeys)
	return protowire.AppendBytes(buf, b.ops)
}

// decodeCommit rebuilds a batch; it aliases body. Changes of the replica's own keys are refused.
func decodeCommit(body []byte) (b *Batch, term uint64, err error) {
	r := &reader{b: body}
	term = r.number()
	b = &Batch{ReadIndex: r.number(), RequestID: r.fixed(), Result: r.bytes()}
	checks, touches, ops := &reader{b: r.bytes()}, &reader{b: r.bytes()}, r.bytes()
	for checks.more() {
		b.Check(checks.bytes())
	}
	for touches.more() {
		b.Touch(touches.bytes())
	}
	for _, e := range []error{r.err, checks.err, touches.err} {
		if e != nil {
			return nil, 0, e
		}
	}
	err = decodeOps(ops, func(kind opKind, key, value []byte) error {
		if len(key) == 0 || key[0] == 0 {
			return fmt.Errorf("change of a key of the replica's own: %w", cairn.ErrInvalid)
		}
		switch kind {
		case opPut:
			b.Put(key, value)
		case opDelete:
			b.Delete(key)
		case opDeleteRange:
			b.DeleteRange(key, value)
		default:
			list, err := Counters(value)
			b.Add(key, list...)
			return err
		}
		return nil
	})
	return b, term, err
}

func encodeOutcome(o Outcome) []byte {
	buf := protowire.AppendVarint(nil, o.Index)
	buf = protowire.AppendVarint(buf, protowire.EncodeBool(o.Repeat))
	return protowire.AppendBytes(buf, o.Result)
}

func decodeOutcome(b []byte) (Outcome, error) {
	r := &reader{b: b}
	o := Outcome{Index: r.number(), Repeat: r.number() != 0, Result: r.bytes()}
	return o, r.err
}

// A read asks for one key: index that the state must hold (0: whatever was acknowledged by now), key. The answer: index of
// the state, found, value. An empty key asks for the index alone.
func encodeRead(index uint64, key []byte) []byte {
	return append(protowire.AppendVarint(make([]byte, 0, len(key)+10), index), key...)
}

func decodeRead(b []byte) (index uint64, key []byte, err error) {
	r := &reader{b: b}
	return r.number(), r.b, r.err
}

func encodeRow(index uint64, found bool, value []byte) []byte {
	buf := protowire.AppendVarint(make([]byte, 0, len(value)+16), index)
	buf = protowire.AppendVarint(buf, protowire.EncodeBool(found))
	return append(buf, value...)
}

func decodeRow(b []byte) (index uint64, found bool, value []byte, err error) {
	r := &reader{b: b}
	index, found = r.number(), r.number() != 0
	return index, found, r.b, r.err
}

// walkRequest asks for a page of the rows in [from, to), from the key seek on. walk names the state that an earlier page
// was read from, 0 for a new one.
type walkRequest struct {
	index, walk    uint64
	from, to, seek []byte
	bytes          uint64
}

func (w *walkRequest) encode() []byte {
	buf := protowire.AppendVarint(make([]byte, 0, len(w.from)+len(w.to)+len(w.seek)+40), w.index)
	buf = protowire.AppendVarint(buf, w.walk)
	buf = protowire.AppendVarint(buf, w.bytes)
	buf = protowire.AppendBytes(buf, w.from)
	buf = protowire.AppendBytes(buf, w.to)
	return protowire.AppendBytes(buf, w.seek)
}

func decodeWalk(b []byte) (w walkRequest, err error) {
	r := &reader{b: b}
	w = walkRequest{index: r.number(), walk: r.number(), bytes: r.number(), from: r.bytes(), to: r.bytes(), seek: r.bytes()}
	return w, r.err
}

// walkPage is the answer: rows in order, and whether they reach the end of the range.
type walkPage struct {
	index, walk uint64
	done        bool
	rows        []byte // keys and values in turn, each with its length
}

func (p *walkPage) encode() []byte {
	buf := protowire.AppendVarint(make([]byte, 0, len(p.rows)+32), p.index)
	buf = protowire.AppendVarint(buf, p.walk)
	buf = protowire.AppendVarint(buf, protowire.EncodeBool(p.done))
	return append(buf, p.rows...)
}

func decodePage(b []byte) (p walkPage, err error) {
	r := &reader{b: b}
	p = walkPage{index: r.number(), walk: r.number(), done: r.number() != 0}
	p.rows = r.b
	return p, r.err
}
