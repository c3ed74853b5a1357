package replica

import (
	"errors"
	"fmt"

	"cairn"

	"github.com/cockroachdb/pebble/v2"
)

// Close lets go of the voter.
func (w *View) Close() {
	if w.v != nil {
		w.v.release()
		w.v = nil
	}
}

// Get appends the value of key to buf; found is false if there is none.
func (w *View) Get(key, buf []byte) (value []byte, found bool, err error) {
	if w.far != nil {
		value, found, err = w.far.get(key, buf)
		w.Index = w.far.index
		return value, found, err
	}
	err = guard(func() error {
		row, closer, err := w.v.st.db.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, found = append(buf, row...), true
		return closer.Close()
	})
	return value, found, w.check(err)
}

// ErrMoved tells that the voter that was read from has failed meanwhile: another one has the bytes, read again.
var ErrMoved = fmt.Errorf("voter failed while it was read: %w", cairn.ErrUnavailable)

// check turns damage that a read met into the end of the voter.
func (w *View) check(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, pebble.ErrCorruption) {
		w.v.fail(err)
	}
	if w.v.failed() {
		return fmt.Errorf("%w: %w", ErrMoved, err)
	}
	return err
}

// Cursor walks keys in order. Its slices are valid until it moves.
type Cursor struct {
	it  *pebble.Iterator
	far *farCursor // instead of it, on another node
}

// SeekGE moves to the first key that is not before key.
func (c Cursor) SeekGE(key []byte) bool {
	if c.far != nil {
		return c.far.seek(key)
	}
	return c.it.SeekGE(key)
}

// Next moves to the next key.
func (c Cursor) Next() bool {
	if c.far != nil {
		return c.far.next()
	}
	return c.it.Next()
}

// Valid tells whether the cursor stands on a key.
func (c Cursor) Valid() bool {
	if c.far != nil {
		return c.far.valid
	}
	return c.it.Valid()
}

// Key returns the key.
func (c Cursor) Key() []byte {
	if c.far != nil {
		return c.far.key
	}
	return c.it.Key()
}

// Value returns the row.
func (c Cursor) Value() ([]byte, error) {
	if c.far != nil {
		return c.far.value, c.far.err
	}
	return c.it.ValueAndErr()
}

// Steps is how many steps the cursor has made inside the state, over deleted keys too; 0 on another node.
func (c Cursor) Steps() int {
	if c.far != nil {
		return 0
	}
	return c.it.Stats().ForwardStepCount[pebble.InternalIterCall]
}

// Walk calls f with a cursor over [from, to) that stands on the first key and shows one moment's state.
func (w *View) Walk(from, to []byte, f func(c Cursor) error) error {
	if w.far != nil {
		return w.walkFar(from, to, f)
	}
	return w.check(guard(func() error {
		it, err := w.v.st.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
		if err != nil {
			return err
		}
		it.First()
		err = f(Cursor{it: it})
		if e := it.Error(); e != nil {
			err = e
		} else {
			w.v.passed(it, from, to)
		}
		if e := it.Close(); err == nil {
			err = e
		}
		return err
	}))
}

func (w *View) walkFar(from, to []byte, f func(c Cursor) error) error {
	c := &farCursor{far: w.far, req: walkRequest{from: from, to: to}}
	c.fetch(from)
	w.Index = w.far.index
	defer c.close()
	if c.err != nil {
		return c.err
	}
	err := f(Cursor{far: c})
	if c.err != nil {
		return c.err
	}
	return err
}

// Settle fixes the state that the view reads, if no read has done so: then Index is set.
func (w *View) Settle() error {
	if w.far == nil || w.far.index != 0 {
		return nil
	}
	_, _, err := w.Get(nil, nil)
	return err
}
