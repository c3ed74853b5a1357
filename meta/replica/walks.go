package replica

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cairn"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// A walk of another node comes in pages, all of one state: a snapshot is held for it, for as long as the node goes on
// asking. Too many walks, or too long a pause, end it: the node then walks anew (ErrMoved).
const (
	maxWalks      = 256
	walkLease     = 15 * time.Second
	firstPage     = 32 << 10
	largestPage   = 512 << 10
	maxPageBytes  = 4 << 20 // what is asked for at most; one row more may be added
	walkRowsAtOne = 4096
)

type walks struct {
	mu   sync.Mutex
	list map[uint64]*walk
}

type walk struct {
	mu   sync.Mutex // held while a page is read
	view *View
	snap *pebble.Snapshot
	used time.Time // guarded by walks.mu
}

// end lets go of the state.
func (w *walk) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.snap != nil {
		_ = guard(w.snap.Close) // nothing was written through it
		w.snap = nil
		w.view.Close()
	}
}

func (ws *walks) find(id uint64) *walk {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.list[id]
	if w != nil {
		w.used = time.Now()
	}
	return w
}

// add keeps a walk, at the cost of the one that paused longest if there are too many.
func (ws *walks) add(w *walk) (id uint64) {
	id = draw() | 1
	ws.mu.Lock()
	if ws.list == nil {
		ws.list = make(map[uint64]*walk)
	}
	var oldest uint64
	if len(ws.list) >= maxWalks {
		for i, o := range ws.list {
			if oldest == 0 || o.used.Before(ws.list[oldest].used) {
				oldest = i
			}
		}
	}
	gone := ws.list[oldest]
	delete(ws.list, oldest)
	w.used = time.Now()
	ws.list[id] = w
	ws.mu.Unlock()
	if gone != nil {
		gone.end()
	}
	return id
}

func (ws *walks) remove(id uint64) {
	ws.mu.Lock()
	w := ws.list[id]
	delete(ws.list, id)
	ws.mu.Unlock()
	if w != nil {
		w.end()
	}
}

// sweep ends walks whose voter failed or whose node has stopped asking; all of them at the end.
func (ws *walks) sweep(all bool) {
	var gone []*walk
	ws.mu.Lock()
	for id, w := range ws.list {
		if all || time.Since(w.used) > walkLease || w.view.v.failed() {
			gone = append(gone, w)
			delete(ws.list, id)
		}
	}
	ws.mu.Unlock()
	for _, w := range gone {
		w.end()
	}
}

func (g *Group) serveWalk(ctx context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	r, err := decodeWalk(body)
	if err != nil {
		return nil, err
	}
	if r.walk != 0 {
		w := g.walks.find(r.walk)
		if w == nil {
			return nil, ErrMoved
		}
		p, err := w.page(r)
		return p.encode(), err
	}
	view, err := g.viewHere(ctx, r.index)
	if err != nil {
		return nil, err
	}
	w := &walk{view: view, snap: view.v.st.db.NewSnapshot()}
	p, err := w.page(r)
	if err != nil || p.done {
		w.end()
		return p.encode(), err
	}
	p.walk = g.walks.add(w)
	return p.encode(), nil
}

func (g *Group) serveUnwalk(_ context.Context, _ cairn.NodeID, body []byte) ([]byte, error) {
	r, err := decodeWalk(body)
	g.walks.remove(r.walk)
	return nil, err
}

// page reads rows from seek on, at least one if there is any.
func (w *walk) page(r walkRequest) (p walkPage, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.snap == nil || w.view.v.failed() {
		return p, ErrMoved
	}
	p = walkPage{index: w.view.Index, walk: r.walk}
	limit := int(min(r.bytes, maxPageBytes))
	return p, w.view.check(guard(func() error {
		it, err := w.snap.NewIter(&pebble.IterOptions{LowerBound: bound(r.from), UpperBound: bound(r.to)})
		if err != nil {
			return err
		}
		ok := it.SeekGE(r.seek)
		for n := 0; ok && (n == 0 || len(p.rows) < limit && n < walkRowsAtOne); n++ {
			value, e := it.ValueAndErr()
			if e != nil {
				err = e
				break
			}
			p.rows = protowire.AppendBytes(p.rows, it.Key())
			p.rows = protowire.AppendBytes(p.rows, value)
			ok = it.Next()
		}
		p.done = !ok
		if e := it.Error(); err == nil {
			err = e
		}
		if e := it.Close(); err == nil {
			err = e
		}
		return err
	}))
}

// bound is a limit of a walk as Pebble wants it: none is nil.
func bound(key []byte) []byte {
	if len(key) == 0 {
		return nil
	}
	return key
}

// farCursor walks rows of another node, page by page.
type farCursor struct {
	far   *farView
	req   walkRequest
	page  walkPage
	rest  []byte // of page.rows, behind the row that the cursor stands on
	key   []byte
	value []byte
	valid bool
	err   error
}

// seek moves to the first key that is not before key: in the page if that lies ahead in it, else in a page from there.
func (c *farCursor) seek(key []byte) bool {
	if c.err != nil {
		return false
	}
	if c.valid && string(key) >= string(c.key) {
		for c.valid && string(c.key) < string(key) {
			if !c.step() && !c.page.done {
				return c.fetch(key)
			}
		}
		return c.valid
	}
	if !c.valid && c.page.done && string(key) > string(c.key) {
		return false // the end was seen, and it lies behind
	}
	return c.fetch(key)
}

func (c *farCursor) next() bool {
	if !c.valid || c.step() {
		return c.valid
	}
	if c.page.done {
		return false
	}
	return c.fetch(append(append([]byte(nil), c.key...), 0))
}

// step moves within the page.
func (c *farCursor) step() bool {
	if c.valid = len(c.rest) > 0; !c.valid {
		return false
	}
	r := &reader{b: c.rest}
	key, value := r.bytes(), r.bytes()
	if r.err != nil {
		c.err, c.valid = r.err, false
		return false
	}
	c.key, c.value, c.rest = key, value, r.b
	return true
}

// fetch gets the page that begins at key.
func (c *farCursor) fetch(key []byte) bool {
	c.valid = false
	if c.page.done && c.page.walk == 0 && c.page.index != 0 {
		c.err = fmt.Errorf("walk back: %w", ErrMoved) // its state was let go of with the last page
		return false
	}
	c.req.seek, c.req.walk, c.req.index = key, c.page.walk, c.far.index
	c.req.bytes = max(firstPage, min(2*c.req.bytes, largestPage))
	var reply []byte
	if reply, c.err = c.far.call("walk", c.req.encode()); c.err != nil {
		return false
	}
	if c.page, c.err = decodePage(reply); c.err != nil {
		return false
	}
	c.far.saw(c.page.index)
	c.rest = c.page.rows
	return c.step()
}

// close lets the other node forget the walk.
func (c *farCursor) close() {
	if c.page.walk != 0 {
		_, _ = c.far.call("unwalk", c.req.encode()) // else its lease ends it
	}
}
